"""Waiting for a flush: in threads and event loops, also where a test has stopped the time."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from redismetrics import AsyncMetrics, Metrics, StoreUnavailable
from tests.fixtures.servers import wait_until
from tests.fixtures.stopped_time import stopped_time
from tests.recording.helpers import NOWHERE, Make, only

Clock = Callable[[], AbstractContextManager[None]]


@pytest.mark.slow
@pytest.mark.parametrize("clock", [nullcontext, stopped_time], ids=["running", "stopped"])
def test_flush_raises_when_its_time_is_up(clock: Clock) -> None:
    metrics = Metrics(NOWHERE)
    with clock():
        metrics.increment("jobs")
        with pytest.raises(StoreUnavailable, match=r"1 samples are not confirmed after 0\.1 s"):
            metrics.flush(0.1)
        with pytest.raises(StoreUnavailable, match="did not answer"):
            metrics.query("jobs")
        metrics.close(0.1)
    assert metrics.stats()["dropped"] == {"unsent": 1}


@pytest.mark.parametrize("clock", [nullcontext, stopped_time], ids=["running", "stopped"])
def test_flush_of_asyncio_raises_when_its_time_is_up(clock: Clock) -> None:
    async def main() -> None:
        metrics = AsyncMetrics(NOWHERE)
        metrics.increment("jobs")
        with pytest.raises(StoreUnavailable, match=r"1 samples are not confirmed after 0\.1 s"):
            await metrics.flush(0.1)
        await metrics.aclose(0.1)

    with clock():
        asyncio.run(main())


def test_samples_are_sent_while_the_time_is_stopped(make: Make) -> None:
    now = time.time()
    metrics = make(flush_interval=0.02, clock=lambda: now)
    metrics.increment("jobs")
    wait_until(lambda: metrics.stats()["stored"] == 1, "the collector")
    assert only(metrics, "jobs").timestamp.timestamp() <= now


@pytest.mark.parametrize("clock", [nullcontext, stopped_time], ids=["running", "stopped"])
def test_reading_a_stream_ends_when_its_time_is_up(url: str, namespace: str, clock: Clock) -> None:
    async def main() -> None:
        metrics = AsyncMetrics(url, namespace=namespace)
        async with metrics.subscribe() as stream:
            with clock():
                assert await stream.get(0.05) is None
                assert await stream.get(0) is None
        await metrics.aclose()

    asyncio.run(main())
