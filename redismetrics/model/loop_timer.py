"""Timeouts in event loops whose clock may have been stopped by a test."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from .time import monotonic

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

# Seconds by which the clock of an event loop may differ from the system's monotonic clock.
_SLACK = 1.0


def call_later(
    loop: "AbstractEventLoop", seconds: float, callback: Callable[[], object]
) -> Callable[[], None]:
    """Call *callback* in *loop* after *seconds*; return a function that cancels it.

    If freezegun, for example, has stopped the loop's clock, the loop's own timers never fire.
    """
    if abs(loop.time() - monotonic()) < _SLACK:
        return loop.call_later(seconds, callback).cancel

    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(callback)

    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer.cancel
