"""Fixtures of the tests of clients."""

import asyncio
from collections.abc import Iterator

import pytest

from redismetrics import AsyncMetrics, Metrics
from tests.client.async_helpers import NEVER, Run
from tests.fixtures.queries import grouped, nowhere, other
from tests.fixtures.servers import Server

__all__ = ["grouped", "nowhere", "other"]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine in a new event loop."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop", reason="no uvloop here: pip install uvloop")
    runs: Run = uvloop.run
    return runs


@pytest.fixture
def ametrics(url: str, namespace: str) -> Iterator[AsyncMetrics]:
    made = AsyncMetrics(url, namespace=namespace, flush_interval=NEVER)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
def clients(moving_server: Server, namespace: str) -> Iterator[list[Metrics]]:
    """Three clients, as in three processes, of a server whose clock is stopped."""
    made = [
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        )
        for _ in range(3)
    ]
    yield made
    for metrics in made:
        metrics.close(0.5)
