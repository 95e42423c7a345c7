"""RQ, with a real worker and Redis as its broker: a process for each job, ended by `os._exit`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.jobs import RUN, Jobs
from tests.fixtures.servers import Server

ROOT = Path(__file__).parents[2]

APP = """
import redismetrics
from prometheus_client import Counter
counted = Counter("jobs_counted", "Jobs, by prometheus_client")
def works():
    redismetrics.increment("jobs_recorded")
    counted.inc()
    done("works")
def fails():
    works()
    raise ZeroDivisionError("mine")
"""
SEND = """
from redis import Redis
from rq import Queue
queue = Queue(connection=Redis.from_url(jobs.os.environ["BROKER"]))
for _ in range(3): queue.enqueue("jobs.works")
queue.enqueue("jobs.fails")
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_jobs_lose_nothing(
    url: str,
    namespace: str,
    fresh_server: Callable[..., Server],
    metrics: Metrics,
    tmp_path: Path,
) -> None:
    pytest.importorskip("rq")
    pytest.importorskip("prometheus_client")
    # A server of its own, because the keys of a broker belong to no namespace.
    broker = fresh_server().url
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BROKER": broker,
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        # So that samples are sent only when a process ends.
        "REDISMETRICS_FLUSH_INTERVAL": "3600",
    }
    jobs = Jobs(tmp_path, APP, environment)
    jobs.send(SEND)
    jobs.run(
        *(*RUN, sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", broker),
        *("--worker-class", "redismetrics.integrations.rq.MetricsWorker"),
    )
    assert jobs.done() == {"works": 4}
    assert len(jobs.processes()) == 4
    assert metrics.query("jobs_recorded", aggregation="sum") == 4
    assert metrics.live("jobs_counted_total")[0].series[0].value == 4


def test_missing_rq_is_named() -> None:
    code = "import sys; sys.modules['rq'] = None; import redismetrics.integrations.rq"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "MissingExtra" in done.stderr
    assert "pip install 'redismetrics[rq]'" in done.stderr
