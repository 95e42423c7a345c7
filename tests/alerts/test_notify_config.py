"""The file of routes and receivers."""

from pathlib import Path

import pytest

from redismetrics.alerts.notify.config import load_config
from redismetrics.alerts.yaml_nodes import InvalidFile

FULL = """\
route:
  receiver: team
  group_by: [alertname, job]
  group_wait: 10s
  routes:
    - matchers: ['severity="page"', team=~"db|web"]
      receiver: phone
      repeat_interval: 1h
      continue: true
receivers:
  - name: team
    webhook_configs:
      - {url: "http://localhost/hook", send_resolved: false, max_alerts: 5, timeout: 3s}
  - name: phone
    apprise_configs:
      - {url_file: secret, title: "{{ .Status }}"}
templates: ["*.tmpl"]
"""


def load(folder: Path, text: str) -> object:
    path = folder / "notify.yml"
    path.write_text(text)
    return load_config(path)


def test_everything_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("json://token@host\n")
    (tmp_path / "a.tmpl").write_text('{{ define "a" }}x{{ end }}')
    config = load(tmp_path, FULL)
    assert config.templates == ('{{ define "a" }}x{{ end }}',)  # type: ignore[attr-defined]
    root = config.route  # type: ignore[attr-defined]
    (below,) = root.routes
    assert (root.group_by, root.group_wait, root.group_interval) == (
        ("alertname", "job"),
        10_000,
        300_000,
    )
    # What a route does not say, it has from the one above.
    assert (below.group_by, below.group_wait, below.repeat_interval, below.goes_on) == (
        *(("alertname", "job"), 10_000, 3_600_000),
        True,
    )
    assert below.path == '{}/{severity="page",team=~"db|web"}'
    (webhook,) = config.receivers["team"].webhooks  # type: ignore[attr-defined]
    assert (webhook.send_resolved, webhook.max_alerts, webhook.timeout_s) == (False, 5, 3.0)
    (apprise,) = config.receivers["phone"].apprises  # type: ignore[attr-defined]
    assert apprise.url == "json://token@host"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("json://token@host\n")
    (tmp_path / "a.tmpl").write_text("")
    assert "token" not in repr(load(tmp_path, FULL))
    assert "localhost" not in repr(load(tmp_path, FULL))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("route:", "global: {}\nroute:", "line 1: field global not found"),
        ("route:", "inhibit_rules: []\nroute:", "field inhibit_rules not found"),
        ("receiver: team", "receiver: nobody", "receiver must be one of team, phone, got 'nobody'"),
        ("group_wait: 10s", "group_wait: soon", "not a valid duration"),
        ("repeat_interval: 1h", "repeat_interval: 0s", "must be longer than 0"),
        ("team=~", "team=", "matchers must be"),
        ("http://localhost/hook", "file:///etc/passwd", "must begin with http:// or https://"),
        ("url_file: secret", "url_file: nosuch", "the file cannot be read"),
        ("url_file: secret", "url: a, url_file: b", "exactly one of url and url_file"),
        ("url_file: secret, ", "", "exactly one of url and url_file"),
        ("name: phone", "name: team", "receiver 'team' is repeated"),
        ('["*.tmpl"]', '["*.nosuch"]', "no file matches"),
        ("continue: true", "continue: maybe", "into bool"),
        ("webhook_configs", "email_configs", "field email_configs not found"),
    ],
)
def test_rejected_inputs(tmp_path: Path, old: str, new: str, problem: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "a.tmpl").write_text("")
    assert old in FULL
    text = FULL.replace(old, new, 1)
    if old == "team=~":
        text = FULL.replace('team=~"db|web"', "team")
    with pytest.raises(InvalidFile) as raised:
        load(tmp_path, text)
    assert problem in str(raised.value)


def test_an_empty_file_reports_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="a route and receivers"):
        load(tmp_path, "")
    with pytest.raises(InvalidFile, match="route must be given"):
        load(tmp_path, "receivers: []")
