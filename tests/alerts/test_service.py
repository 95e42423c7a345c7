"""End to end: samples in Redis, rules in a file, a notification over HTTP."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.alerts.engine import RuleAnswer
from redismetrics.alerts.options import AlertOptions
from redismetrics.alerts.page import status_of
from redismetrics.alerts.service import AlertService
from redismetrics.alerts.start import AlertThread
from redismetrics.errors import InvalidSetting
from redismetrics.exposition.status_page import status_app
from redismetrics.store import keys
from redismetrics.store.connection import Store
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, free_port, wait_until

from .engines import ScriptedEngine
from .receivers import Receiver, receiving

RULES = """\
groups:
  - name: jobs
    interval: 1s
    rules:
      - record: job:failed:increase1m
        expr: sum by (queue) (increase(jobs_failed_total[1m]))
      - alert: JobsFail
        expr: job:failed:increase1m > 5
        labels: {severity: page}
        annotations: {summary: "{{ $value }} of {{ $labels.queue }} failed"}
"""


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of redismetrics, and end it by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "redismetrics", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
        process.terminate()
        _, err = process.communicate(timeout=PROCESS_PATIENCE)
        assert (process.returncode, "Traceback" in err) == (0, False), err
    finally:
        process.kill()


def states(web: Receiver) -> list[str]:
    return [each["status"] for each in web.bodies]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["alerts", "run"], ["worker", "--interval", "0.5"]])
def test_an_alert_fires_and_is_resolved(
    metrics: Metrics, url: str, namespace: str, web: Receiver, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    for _ in range(7):
        metrics.increment("jobs_failed", tags={"queue": "mail"})
    metrics.increment("jobs_failed", tags={"queue": "other"})
    metrics.flush()
    options = ["--rules", str(tmp_path / "*.yml"), "--webhook", web.url]
    with running(*command, "--url", url, "--namespace", namespace, *options):
        web.wait_for(1)
        (alert,) = web.bodies[0]["alerts"]
        assert (alert["status"], alert["labels"]) == (
            "firing",
            {"alertname": "JobsFail", "queue": "mail", "severity": "page"},
        )
        assert alert["annotations"] == {"summary": "7 of mail failed"}
        (listed,) = metrics.list_alerts()
        assert (listed["state"], listed["labels"]) == ("firing", alert["labels"])
        found = metrics.promql_query('ALERTS{alertstate="firing"}')
        assert [each["labels"]["queue"] for each in found] == ["mail"]
    # Another process goes on, and what was sent is not sent again.
    before = metrics.list_rules()[0]["lastEvaluation"]
    with running(*command, "--url", url, "--namespace", namespace, *options):
        wait_until(lambda: metrics.list_rules()[0]["lastEvaluation"] > before, "it evaluates")
    assert states(web) == ["firing"]


@pytest.mark.slow
def test_a_client_evaluates_rules(
    make_metrics: Any, web: Receiver, tmp_path: Path, namespace: str
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    got: list[dict[str, Any]] = []
    options = AlertOptions((str(tmp_path / "rules.yml"),), notify=got.append)
    client = make_metrics(worker=True, rules=options)
    for _ in range(7):
        client.increment("jobs_failed", tags={"queue": "mail"})
    client.flush()
    wait_until(lambda: got, "it fires")
    assert got[0]["commonLabels"]["alertname"] == "JobsFail"
    client.close()


@pytest.mark.slow
def test_a_bad_file_keeps_the_old_rules_and_sighup_reads_a_good_one(
    metrics: Metrics, url: str, namespace: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)

    def names() -> set[str]:
        return {rule["name"] for group in metrics.list_rules() for rule in group["rules"]}

    options = ["--rules", str(rules), "--url", url, "--namespace", namespace]
    with running("alerts", "run", *options) as process:
        wait_until(lambda: names() == {"job:failed:increase1m", "JobsFail"}, "it evaluates")
        rules.write_text("groups: [{name: jobs, rulez: []}]")
        process.send_signal(signal.SIGHUP)
        evaluated = metrics.list_rules()[0]["lastEvaluation"]
        wait_until(lambda: metrics.list_rules()[0]["lastEvaluation"] > evaluated, "it goes on")
        assert "JobsFail" in names()
        rules.write_text(RULES.replace("JobsFail", "Renamed"))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Renamed" in names(), "the file is read")


@pytest.mark.slow
def test_a_heartbeat_is_sent_after_each_whole_pass(
    url: str, namespace: str, web: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    options = ["--rules", str(tmp_path / "rules.yml"), "--heartbeat-url", f"{web.url}/beat"]
    with running("alerts", "run", *options, "--url", url, "--namespace", namespace):
        web.wait_for(2)
        assert {path for path, _, _ in web.posts} == {"/beat"}


@pytest.mark.slow
def test_the_page_of_the_service(url: str, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    port = free_port()

    def page(path: str) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}{path}", timeout=PATIENCE
            ) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""

    options = ["--rules", str(tmp_path / "rules.yml"), "--url", url, "--namespace", namespace]
    with running("alerts", "run", *options, "--metrics-port", str(port)):
        wait_until(lambda: page("/healthz") == "ok\n", "it is healthy")
        wait_until(
            lambda: "redismetrics_rule_evaluations_total 0" not in page("/metrics"), "counts"
        )
        assert "redismetrics_rule_evaluations_total" in page("/metrics")


def test_the_page_names_bad_files_and_patterns_without_files(
    url: str, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    options = AlertOptions((str(rules), str(tmp_path / "more" / "*.yml")))
    service = AlertService(namespace, Store(url, 5.0), options, ScriptedEngine)
    assert f"no rule file matches {tmp_path}/more/*.yml" in caplog.text
    app = status_app(status_of(service))
    shown: list[str] = []

    def page(path: str) -> str:
        parts = app({"PATH_INFO": path}, lambda status, _: shown.append(status))
        return b"".join(parts).decode()

    assert page("/healthz") == f"ok\nno rule file matches {tmp_path}/more/*.yml\n"
    assert "redismetrics_rule_files_valid 1\n" in page("/metrics")
    rules.write_text("groups: [{name: jobs, rulez: []}]")
    service.reload.set()
    service.reload_if_changed()
    assert "rulez not found" in page("/healthz")
    assert "redismetrics_rule_files_valid 0\n" in page("/metrics")
    assert set(shown) == {"200 OK"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [("groups: [{name: g, rulez: []}]", "rulez not found"), (None, "no such file")],
)
def test_bad_rules_are_refused_at_the_start(
    url: str, namespace: str, tmp_path: Path, text: str | None, problem: str
) -> None:
    if text is not None:
        (tmp_path / "rules.yml").write_text(text)
    with pytest.raises(InvalidSetting, match=problem):
        Metrics(url, namespace=namespace, rules=str(tmp_path / "rules.yml"))


class Failing(ScriptedEngine):
    """Raises an unexpected error as long as `fails` is set."""

    fails = True

    def instant(self, expressions: Sequence[str], at_ms: int) -> list[RuleAnswer]:
        if self.fails:
            raise KeyError("x")
        return super().instant(expressions, at_ms)


@pytest.mark.slow
def test_an_internal_error_does_not_end_the_evaluation(
    url: str, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    engine = Failing()
    options = AlertOptions((str(tmp_path / "rules.yml"),))
    service = AlertService(namespace, Store(url, 5.0), options, lambda: engine)
    thread = AlertThread(service)
    wait_until(lambda: service.status.errors, "it fails")
    engine.fails = False
    wait_until(lambda: service.runner.counts.evaluations, "it goes on")
    wait_until(lambda: not service.status.errors, "it is healthy")
    thread.stop(10)
    assert caplog.text.count("BUG: alerts failed; retrying") == 1


@pytest.mark.slow
def test_no_heartbeat_is_sent_while_notifications_cannot(
    url: str, namespace: str, web: Receiver, tmp_path: Path, admin: redis.Redis
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    silences = keys.alerts(namespace).silences
    admin.set(silences, "not a hash")
    options = AlertOptions(
        (str(tmp_path / "rules.yml"),), notify=lambda _: None, heartbeat_url=f"{web.url}/beat"
    )
    service = AlertService(namespace, Store(url, 5.0), options, ScriptedEngine)
    thread = AlertThread(service)
    wait_until(lambda: "notifications" in service.status.errors, "they fail")
    before = service.runner.counts.evaluations
    wait_until(lambda: service.runner.counts.evaluations > before + 2, "rules are evaluated")
    assert list(service.status.errors) == ["notifications"]
    count = len(web.posts)
    assert count <= 1
    admin.delete(silences)
    web.wait_for(count + 1)
    assert not service.status.errors
    thread.stop(10)


def test_a_child_of_a_fork_does_not_stop_the_evaluation(
    url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    options = AlertOptions((str(tmp_path / "rules.yml"),))
    service = AlertService(namespace, Store(url, 5.0), options, ScriptedEngine)
    thread = AlertThread(service)
    # As the child sees it.
    own, thread._pid = thread._pid, -1
    thread.stop(10)
    assert not service.stop.is_set()
    thread._pid = own
    thread.stop(10)
    assert service.stop.is_set()
