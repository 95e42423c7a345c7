"""The same rules and data in a real Prometheus and here: the same alerts at the same times."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.alerts.receivers import receiving
from tests.alerts.test_service import running as running_command
from tests.fixtures.prometheus import running_prometheus
from tests.fixtures.servers import (
    PATIENCE,
    PROCESS_PATIENCE,
    free_port,
    seconds_beside,
    wait_until,
)
from tests.fixtures.webserver import running

ALERTMANAGER = shutil.which("prometheus-alertmanager")
INTERVAL = 1.0
# Values of the gauge, and for how long: one alert fires twice, the other one once.
CYCLE = ((1, 3), (20, 9), (1, 8), (30, 2), (1, 5))

RULES = """\
groups:
  - name: g
    interval: 1s
    rules:
      - record: depth:max
        expr: max by (queue) (queue_depth)
      - alert: Deep
        expr: depth:max > 10
        labels: {severity: page}
        annotations: {summary: "{{ $labels.queue }} has {{ $value }}"}
      - alert: DeepForLong
        expr: queue_depth > 10
        for: 4s
        keep_firing_for: 3s
"""


def get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return json.loads(reply.read())
    except urllib.error.URLError:
        return None


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Run an Alertmanager that sends all to *webhook*; yield its URL."""
    port = free_port()
    (folder / "alertmanager.yml").write_text(
        "route: {receiver: w, group_wait: 0s, group_interval: 1s, group_by: ['...']}\n"
        f"receivers: [{{name: w, webhook_configs: [{{url: '{webhook}'}}]}}]\n"
    )
    command = [
        str(ALERTMANAGER),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    log = (folder / "alertmanager.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: get(f"{url}/api/v2/status"), "Alertmanager answers")
        yield url
    finally:
        process.terminate()
        process.wait(PROCESS_PATIENCE)
        log.close()


def firing_times(at: str, alert: str, start: float, end: float) -> list[tuple[float, float]]:
    """Return when an alert started and stopped firing, by the series `ALERTS`."""
    query = urllib.parse.urlencode(
        {
            "query": f'sum(ALERTS{{alertname="{alert}",alertstate="firing"}})',
            "start": start,
            "end": end,
            "step": 0.5,
            "lookback_delta": "2s",
        }
    )
    series = get(f"{at}/api/v1/query_range?{query}")["data"]["result"]
    times = [each[0] for each in series[0]["values"]] if series else []
    spans: list[tuple[float, float]] = []
    for each in times:
        if spans and each - spans[-1][1] <= 2 * INTERVAL:
            spans[-1] = (spans[-1][0], each)
        else:
            spans.append((each, each))
    return spans


@pytest.mark.slow
@pytest.mark.skipif(ALERTMANAGER is None, reason="needs prometheus-alertmanager")
def test_the_same_alerts_at_the_same_times(
    metrics: Metrics, url: str, namespace: str, tmp_path: Path
) -> None:
    cycles = max(1, round(seconds_beside(0) / sum(seconds for _, seconds in CYCLE)))
    (tmp_path / "rules.yml").write_text(RULES)
    port = free_port()
    config = f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}
rule_files: [{tmp_path}/rules.yml]
scrape_configs:
  - job_name: api
    metric_relabel_configs: [{{source_labels: [__name__], regex: queue_depth, action: keep}}]
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
    labels = {"job": "api", "instance": f"127.0.0.1:{port}"}
    with (
        receiving() as hook,
        receiving() as own_hook,
        alertmanager(tmp_path, hook.url) as manager,
        running(create_app(metrics, external_labels=labels), port) as ours,
        running_prometheus(tmp_path, config) as theirs,
    ):
        options = ["--rules", str(tmp_path / "rules.yml"), "--alertmanager", manager]
        options += ["--webhook", own_hook.url, "--resend-delay", "1s"]
        server = ["--url", url, "--namespace", namespace]

        def depth(value: float, seconds: float) -> None:
            """Record *value* every quarter of a second."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                metrics.gauge("queue_depth", value, tags={"queue": "mail"})
                metrics.flush()
                time.sleep(0.25)

        depth(1, 2)
        with running_command("alerts", "run", *options, *server):
            began = time.time()
            wait_until(metrics.list_rules, "it evaluates")
            for value, seconds in cycles * CYCLE:
                depth(value, seconds)
            ended = time.time()
            # Both alerts came to the webhook and to Alertmanager, and are over there.
            names = {each["commonLabels"]["alertname"] for each in own_hook.bodies}
            assert names == {"Deep", "DeepForLong"}
            wait_until(
                lambda: (
                    {(b["status"], b["commonLabels"]["alertname"]) for b in hook.bodies}
                    >= {(s, n) for s in ("firing", "resolved") for n in ("Deep", "DeepForLong")}
                ),
                "Alertmanager got the alert",
            )
        for alert, count in (("Deep", 2 * cycles), ("DeepForLong", cycles)):
            expected = firing_times(theirs, alert, began, ended)
            found = firing_times(ours, alert, began, ended)
            assert len(expected) == len(found) == count, (alert, expected, found)
            apart = [
                abs(one - two)
                for both in zip(expected, found, strict=True)
                for one, two in zip(*both, strict=True)
            ]
            print(f"{alert}: {count} times, begin and end at most {max(apart):.1f} s apart")
            # Flushes, scrapes and both evaluations have intervals of their own, and a busy machine
            # delays each of them.
            assert max(apart) <= 5 * INTERVAL, (alert, expected, found)
        history = [each for each in metrics.alert_history() if each["rule"] == "DeepForLong"]
        assert [each["after"] for each in reversed(history)][:2] == ["pending", "firing"]
        assert all(isinstance(each["at"], datetime) for each in history)
