"""Processes that evaluate and notify are killed and stopped: no alert is lost, few come twice."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter as Tally
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, Server, wait_until

from .receivers import receiving

RULES = """\
groups:
  - name: g
    interval: 1s
    rules:
      - alert: Deep
        expr: queue_depth > 10
        for: 2s
        annotations: {summary: "{{ $value }}"}
"""
NOTIFY = """\
route: {receiver: w, group_by: [episode], group_wait: 0s, group_interval: 1s, repeat_interval: 1d}
receivers: [{name: w, webhook_configs: [{url: 'URL', send_resolved: false}]}]
"""
EPISODES = 6


def start(url: str, namespace: str, folder: Path) -> "subprocess.Popen[bytes]":
    options = ["--rules", str(folder / "rules.yml"), "--notify-config", str(folder / "notify.yml")]
    options += ["--lease", "2s", "--url", url, "--namespace", namespace]
    return subprocess.Popen(
        [sys.executable, "-m", "redismetrics", "alerts", "run", *options], stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_alerts_survive_their_evaluators(
    metrics: Metrics, url: str, namespace: str, tmp_path: Path, number: signal.Signals
) -> None:
    chance = random.Random(int(number))
    (tmp_path / "rules.yml").write_text(RULES)
    with receiving() as web:
        (tmp_path / "notify.yml").write_text(NOTIFY.replace("URL", web.url))
        processes = [start(url, namespace, tmp_path) for _ in range(2)]
        hits, next_hit = 0, math.inf

        def hit() -> None:
            """Kill one of the processes, or stop it for longer than its lease."""
            nonlocal hits
            hits += 1
            place = chance.randrange(len(processes))
            victim = processes[place]
            if number == signal.SIGKILL:
                victim.kill()
                victim.wait(PATIENCE)
                processes[place] = start(url, namespace, tmp_path)
            else:
                os.kill(victim.pid, signal.SIGSTOP)
                time.sleep(3)
                os.kill(victim.pid, signal.SIGCONT)

        def notified(episode: int) -> bool:
            nonlocal next_hit
            metrics.gauge("queue_depth", 20, tags={"episode": str(episode)})
            metrics.flush()
            if time.monotonic() > next_hit:
                hit()
                next_hit = math.inf
            labels = {each["groupLabels"]["episode"] for each in web.bodies}
            return str(episode) in labels

        try:
            for episode in range(EPISODES):
                # Somewhere between the start of the alert and its notification, or after it.
                next_hit = time.monotonic() + chance.uniform(0, 5)
                wait_until(lambda: notified(episode), "the alert came", PROCESS_PATIENCE)  # noqa: B023
                metrics.gauge("queue_depth", 0, tags={"episode": str(episode)})
                metrics.flush()
            assert hits
            counts = Tally(each["groupLabels"]["episode"] for each in web.bodies)
            assert set(counts) == {str(episode) for episode in range(EPISODES)}
            assert sum(counts.values()) - EPISODES <= hits, counts
        finally:
            for process in processes:
                process.kill()
                process.wait(PATIENCE)


@pytest.mark.slow
def test_alerts_survive_a_restart_of_redis(second_server: Server, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    with receiving() as web, Metrics(second_server.url, namespace="alerts") as metrics:
        (tmp_path / "notify.yml").write_text(NOTIFY.replace("URL", web.url))
        process = start(second_server.url, "alerts", tmp_path)
        try:
            metrics.gauge("queue_depth", 20, tags={"episode": "1"})
            metrics.flush()
            wait_until(
                lambda: [a["state"] for a in metrics.list_alerts()] == ["pending"], "it is pending"
            )
            since = metrics.list_alerts()[0]["activeAt"]
            second_server.restart()
            web.wait_for(1, PROCESS_PATIENCE)
            (alert,) = metrics.list_alerts()
            # `for` went on.
            assert (alert["state"], alert["activeAt"]) == ("firing", since)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait(PATIENCE)
