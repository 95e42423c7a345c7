"""One timer may measure several bodies at the same time."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from redismetrics import Metrics
from redismetrics.testing import Captured
from tests.recording.test_measured import captured, metrics, runs

__all__ = ["captured", "metrics"]


def test_a_timer_may_begin_again_inside_itself(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    timer = metrics.measure("took")
    with timer as outer:
        ticks(1)
        with timer as inner:
            ticks(2)
    assert (outer.elapsed, inner.elapsed, timer.elapsed) == (3000, 2000, 3000)
    assert [elapsed for elapsed, _ in runs(captured)] == [2000, 3000]


def test_a_timer_may_be_used_by_recursion(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    timer = metrics.measure("took")

    def down(depth: int) -> None:
        with timer:
            ticks(1)
            if depth:
                down(depth - 1)
            ticks(1)

    down(2)
    assert [elapsed for elapsed, _ in runs(captured)] == [2000, 4000, 6000]


@pytest.mark.parametrize("stack", [False, True], ids=["with", "ExitStack"])
def test_a_timer_may_be_shared_by_tasks(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None], stack: bool
) -> None:
    timer = metrics.measure("took")

    async def long(other: asyncio.Event) -> None:
        with contextlib.ExitStack() if stack else timer as entered:
            if stack:
                entered.enter_context(timer)
            ticks(1)
            await other.wait()

    async def short(other: asyncio.Event) -> None:
        with timer:
            ticks(10)
            await asyncio.sleep(0)
        other.set()

    async def main() -> None:
        other = asyncio.Event()
        await asyncio.gather(long(other), short(other))

    asyncio.run(main())
    assert [elapsed for elapsed, _ in runs(captured)] == [10_000, 11_000]


def test_a_timer_may_be_shared_by_threads(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    timer = metrics.measure("took")
    inside, ended = threading.Event(), threading.Event()

    def long() -> None:
        with timer:
            ticks(1)
            inside.set()
            ended.wait()

    thread = threading.Thread(target=long)
    thread.start()
    inside.wait()
    with timer:
        ticks(10)
    ended.set()
    thread.join()
    assert [elapsed for elapsed, _ in runs(captured)] == [10_000, 11_000]


def test_a_timer_may_be_shared_by_generators(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    timer = metrics.measure("took")

    @contextlib.contextmanager
    def body() -> Iterator[None]:
        with timer:
            yield

    first, second = body(), body()
    first.__enter__()
    ticks(1)
    second.__enter__()
    ticks(10)
    first.__exit__(None, None, None)
    ticks(100)
    second.__exit__(None, None, None)
    assert [elapsed for elapsed, _ in runs(captured)] == [11_000, 110_000]


def test_a_timer_may_end_in_another_function_and_thread(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    timer = metrics.measure("took")

    def begin() -> None:
        timer.__enter__()

    begin()
    ticks(1)
    thread = threading.Thread(target=timer.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert [elapsed for elapsed, _ in runs(captured)] == [1000]
    with pytest.raises(RuntimeError, match="begin before it ends"):
        timer.__exit__(None, None, None)
