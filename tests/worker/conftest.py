"""Fixtures of the worker's tests."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.worker import Worker
from redismetrics.worker import thread as thread_module
from redismetrics.worker.limits import WorkerLimits
from tests.fixtures import workers
from tests.fixtures.servers import Server
from tests.fixtures.workers import new_worker
from tests.worker.tools import NEVER, Make

SHORT = {
    "raw_retention": 3_600,
    "minute_retention": 7_200,
    "hour_retention": 7_200,
    "day_retention": 7_200,
    "max_age": 3_600,
}


# Seconds until nothing is kept: retention of days, the partition of their key, and the margin.
ALL_KEPT = 2 * 3_600 + 32 * 86_400 + 3_600


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=NEVER) as metrics:
        yield metrics


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes workers of this test's namespace."""
    made: list[Worker] = []

    def make_worker(to: str = url, limits: WorkerLimits | None = None, **settings: Any) -> Worker:
        made.append(new_worker(to, namespace, limits, **settings))
        return made[-1]

    yield make_worker
    for each in made:
        each.leave()
        each.store.close()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers run passes and retry much more often than by default."""
    limits = WorkerLimits(interval=0.02, backoff=0.02)
    monkeypatch.setattr(thread_module, "DEFAULT_LIMITS", limits)
    monkeypatch.setattr(workers, "LIMITS", limits)


@pytest.fixture
def swept(moving_server: Server, namespace: str) -> Iterator[tuple[Metrics, redis.Redis]]:
    """Yield a client with short retentions, and two series whose data has all expired."""
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
            **SHORT,
        ) as metrics,
        moving_server.client() as admin,
    ):
        for tag in "xy":
            metrics.increment("jobs", 2, tags={"tag": tag})
        metrics.flush()
        first = new_worker(moving_server.url, namespace)
        first.pass_once()
        for _ in range(2):
            moving_server.advance(ALL_KEPT / 2 - 60)
            first.pass_once()
        assert metrics.tag_values("jobs", "tag") == ["x", "y"]
        moving_server.advance(180)
        first.leave()
        first.store.close()
        yield metrics, admin
