"""Gauges whose value is a function, called before a flush and before a page of this process.

`Gauge.set_function` replaces the samples of one gauge. For pages of other processes, its value must
be recorded, so the function is also called before flushes, for a limited share of the time.
"""

import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redismetrics.model.time import monotonic

from .values import LocalValue, SharedGaugeValue

log = logging.getLogger("redismetrics")

# A function that takes 10 ms is called at most every 0.2 s.
SHARE = 0.05


@dataclass(slots=True)
class _Callback:
    """The function of one gauge. The gauge owns it, so that neither is kept alive here.

    Attributes:
        gauge: The child or metric; None once it has been garbage-collected.
        series: The series in which its value is recorded.
        due: When it may be called again, by the monotonic clock.
        has_failed: Whether it has raised, which is logged once.
    """

    gauge: Callable[[], Any]
    series: SharedGaugeValue
    due: float = 0.0
    has_failed: bool = False


class Callbacks:
    """All such functions in this process. `sample` is called by one thread, and by pages."""

    def __init__(self) -> None:
        self._callbacks: list[_Callback] = []

    def follow(self, gauge: Any, function: Callable[[], float]) -> None:
        """Record the result of *function* as the value of *gauge*, whose methods now do nothing."""
        gauge._redismetrics_function = function
        if isinstance(gauge._value, SharedGaugeValue):
            callback = _Callback(weakref.ref(gauge), gauge._value)
            gauge._value = LocalValue()
            self._callbacks.append(callback)
            # The first recording starts the threads that will call it.
            self._sample(callback, gauge)

    def sample(self) -> None:
        """Record the values of all functions that are due."""
        for callback in self._callbacks[:]:
            gauge = callback.gauge()
            if gauge is None:
                # Another thread may be faster.
                with suppress(ValueError):
                    self._callbacks.remove(callback)
            elif monotonic() >= callback.due:
                self._sample(callback, gauge)

    def _sample(self, callback: _Callback, gauge: Any) -> None:
        began = monotonic()
        try:
            callback.series.set(float(gauge._redismetrics_function()))
        except Exception:
            if not callback.has_failed:
                callback.has_failed = True
                log.exception("the function of gauge %r failed", callback.series.name)
        callback.due = monotonic() + (monotonic() - began) * (1 / SHARE - 1)
