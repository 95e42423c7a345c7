"""Fixtures of the tests of clients."""

import asyncio
from collections.abc import Iterator

import pytest

from redismetrics import AsyncMetrics
from tests.client.async_helpers import NEVER, Run
from tests.fixtures.queries import grouped, nowhere, other

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
