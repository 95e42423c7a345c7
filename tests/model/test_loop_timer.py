"""Timers of event loops whose clock runs or is stopped."""

import asyncio

import pytest

from redismetrics.model.loop_timer import call_later
from redismetrics.model.time import monotonic
from tests.fixtures.stopped_time import stopped_time


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_timer_of_a_loop_fires_even_if_time_is_frozen(stopped: bool) -> None:
    async def main() -> None:
        called = asyncio.Event()
        call_later(asyncio.get_running_loop(), 0.01, called.set)
        await called.wait()

    if stopped:
        with stopped_time():
            asyncio.run(main())
    else:
        asyncio.run(main())


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_cancelled_timer_never_fires(stopped: bool) -> None:
    async def main() -> None:
        first, last = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        call_later(loop, 0.01, first.set)()
        call_later(loop, 0.05, last.set)
        await last.wait()
        assert not first.is_set()

    if stopped:
        with stopped_time():
            asyncio.run(main())
    else:
        asyncio.run(main())


def test_the_monotonic_clock_goes_on_when_the_time_is_stopped() -> None:
    with stopped_time():
        began = monotonic()
        while monotonic() == began:
            pass
