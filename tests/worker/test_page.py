"""The worker's own page: metrics and health."""

import shutil
import subprocess
import time

import pytest
import redis

from redismetrics import Metrics
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import keys
from redismetrics.worker import Worker, page
from redismetrics.worker.commit import Result
from redismetrics.worker.limits import WorkerLimits
from tests.worker.tools import Make, record_many


def health(one: Worker) -> str:
    answers: list[str] = []
    page.status_app(one)({"PATH_INFO": "/healthz"}, lambda status, _: answers.append(status))
    return answers[0]


def test_promtool_accepts_the_page(make: Make, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    one.pass_once()
    body = b"".join(page.status_app(one)({"PATH_INFO": "/metrics"}, lambda *_: None))
    assert b"redismetrics_worker_samples_total 1\n" in body
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package: prometheus)")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_healthy_while_one_metric_fails(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    admin.set(
        keys.data(namespace, 0, "jobs", "minute", slot_of(int(time.time() * 1000), HOUR)), "no hash"
    )
    one = make()
    answers: list[str] = []
    fail = one._fail

    def failing(name: str, error: Exception) -> None:
        fail(name, error)
        # In the middle of the pass.
        answers.append(health(one))

    one._fail = failing  # type: ignore[method-assign]
    one.pass_once()
    assert one.counts.last_error is not None
    assert "WRONGTYPE" in one.counts.last_error
    assert [*answers, health(one)] == ["200 OK"] * 2


def test_long_pass_is_healthy_until_it_makes_no_progress(
    make: Make, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_many(metrics, 3)
    one = make(limits=WorkerLimits(metrics_at_once=1))
    assert health(one) == "200 OK"
    one.progressed_at -= 100
    assert health(one) == "503 Service Unavailable"
    answers: list[str] = []
    count = one._count

    def counted(result: Result) -> None:
        count(result)
        answers.append(health(one))
        one.progressed_at -= 100

    one._count = counted  # type: ignore[method-assign]
    one.pass_once()
    assert answers == ["200 OK"] * 3
    assert health(one) == "200 OK"
