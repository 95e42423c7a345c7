"""Fixtures of the tests of recording."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.recording.backoff import Backoff
from redismetrics.recording.redis_sink import DEFAULT_BACKOFF
from tests.recording.helpers import Make


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes clients of this test's namespace, closed at its end."""
    made: list[Metrics] = []

    def client(to: str = url, *, backoff: Backoff = DEFAULT_BACKOFF, **settings: Any) -> Metrics:
        made.append(Metrics(to, namespace=namespace, **settings))
        made[-1]._sink.sending.backoff = backoff
        return made[-1]

    yield client
    for client_ in made:
        client_.close(0.2)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Return a function that lets time pass for `measure`; nothing else moves its clock."""
    now = [100.0]
    monkeypatch.setattr("redismetrics.recording.timer.perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    return tick
