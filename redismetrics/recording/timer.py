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

_SECONDS = ("s", "seconds")
_MILLISECONDS = ("ms", "milliseconds")


class Timer:
    """The result of `metrics.measure(...)`: a context manager and a decorator.

    Args:
        record: Called with the duration and the error that ended the body, if any.
        scale: Returns what seconds are multiplied by. It is called when the body begins, because
            a function is often decorated before its metric is declared.

    Attributes:
        elapsed: The duration of the body in the metric's unit, once it has ended.
    """

    def __init__(
        self, record: Callable[[float, BaseException | None], None], scale: Callable[[], float]
    ) -> None:
        self._record = record
        self._scale = scale
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

    def _new(self) -> "Timer":
        return Timer(self._record, self._scale)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a plain, async, generator or async generator function: measure each run."""
        if not callable(function):
            raise InvalidMetric(f"measure() must decorate a function, got {function!r:.60}")
        wrapped: Any
        if inspect.iscoroutinefunction(function):

            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._new():
                    return await function(*args, **kwargs)

        elif inspect.isasyncgenfunction(function):

            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._new():
                    async with aclosing(function(*args, **kwargs)) as items:
                        async for item in items:
                            yield item

        elif inspect.isgeneratorfunction(function):

            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._new():
                    return (yield from function(*args, **kwargs))

        else:

            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._new():
                    return function(*args, **kwargs)

        return functools.wraps(function)(wrapped)


def check_unit(unit: str | None) -> None:
    """Raise `InvalidValue` unless *unit* is None or a unit of time that timers know."""
    if unit is not None and unit not in _SECONDS + _MILLISECONDS:
        raise InvalidValue(
            f"unit must be one of {', '.join(_SECONDS + _MILLISECONDS)}, got {unit!r:.60}"
        )


def check_measurable(recorder: Recorder, name: str, unit: str | None) -> None:
    """Raise what is wrong about measuring as *name*, before the body runs. Changes nothing."""
    check_unit(unit)
    recorder.type_of(name, "histogram")


def time_scale(recorder: Recorder, name: str, unit: str | None) -> float:
    """Return what seconds are multiplied by for the unit of histogram *name*.

    A new histogram is declared with *unit*, or in milliseconds.

    Raises:
        TypeMismatch: If the metric is not a histogram.
    """
    known = recorder.metrics.get(name)
    if known is None or not known.is_fixed:
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
