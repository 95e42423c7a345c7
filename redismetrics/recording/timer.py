"""Timers: context managers and decorators that measure durations."""

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from redismetrics.errors import InvalidMetric, InvalidValue, TypeMismatch
from redismetrics.model.definition import define

from .recorder import Recorder

P = ParamSpec("P")
R = TypeVar("R")


class Timer:
    """What `with metrics.measure(...) as t` gives: `t.elapsed` in the unit that is recorded, once the body has ended."""

    def __init__(
        self, record: Callable[[float, BaseException | None], None], scale: Callable[[], float]
    ) -> None:
        self._record = record
        self._scale = (
            scale  # asked when it runs: a function is often decorated before its metric is declared
        )
        self._factor = 1.0
        self._began = 0.0
        self.elapsed = 0.0

    def __enter__(self) -> "Timer":
        self._factor = self._scale()
        self._began = perf_counter()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.elapsed = (perf_counter() - self._began) * self._factor
        self._record(self.elapsed, error)

    def _again(self) -> "Timer":
        return Timer(self._record, self._scale)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a plain, async, generator or async generator function: each run is measured."""
        if not callable(function):
            raise InvalidMetric(f"measure: wanted a function to decorate, got {function!r:.60}")
        wrapped: Any
        if inspect.iscoroutinefunction(function):

            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

        elif inspect.isasyncgenfunction(function):

            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    async with aclosing(function(*args, **kwargs)) as items:
                        async for item in items:
                            yield item

        elif inspect.isgeneratorfunction(function):

            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    return (yield from function(*args, **kwargs))

        else:

            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    return function(*args, **kwargs)

        return functools.wraps(function)(wrapped)


_SECONDS = ("s", "seconds")
_MILLISECONDS = ("ms", "milliseconds")


def check_unit(unit: str | None) -> None:
    if unit is not None and unit not in _SECONDS + _MILLISECONDS:
        raise InvalidValue(
            f"unit: wanted one of {', '.join(_SECONDS + _MILLISECONDS)}, got {unit!r:.60}"
        )


def check_measurable(recorder: Recorder, name: str, unit: str | None) -> None:
    """Raise what is known to be wrong about measuring as *name*, before it runs; touches nothing."""
    check_unit(unit)
    recorder.type_of(name, "histogram")


def time_scale(recorder: Recorder, name: str, unit: str | None) -> float:
    """Return what seconds are multiplied by for the unit of histogram *name*, which is made one of that unit when new."""
    known = recorder.metrics.get(name)
    if known is None or not (known.explicit or known.learned):
        full = "seconds" if unit in _SECONDS else "milliseconds"
        with suppress(TypeMismatch):  # another thread was first
            recorder.declare(name, define(name, "histogram", unit=full))
        known = recorder.metrics.get(name, known)
    if known is not None and known.definition.type != "histogram":
        raise TypeMismatch(
            f"{name!r} is a {known.definition.type}; got a measured time, which makes a histogram"
        )
    if unit is not None:
        return 1.0 if unit in _SECONDS else 1000.0
    return 1.0 if known is not None and known.definition.unit in _SECONDS else 1000.0
