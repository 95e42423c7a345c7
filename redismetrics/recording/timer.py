"""Timers: context managers and decorators that measure durations."""

import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, ParamSpec, Protocol, TypeVar

from redismetrics.errors import InvalidMetric, InvalidValue, TypeMismatch, shown
from redismetrics.model.definition import define
from redismetrics.model.units import TIME_UNITS, duration_unit
from redismetrics.model.validation import MetricType

from .measured import measured
from .open_bodies import OpenBodies
from .recorder import Recorder

P = ParamSpec("P")
R = TypeVar("R")


class Measurement(Protocol):
    """What a timer measures: the metric, and how to record a duration."""

    def scale(self) -> float:
        """Return the factor from seconds to the unit."""

    def record(self, elapsed: float, error: BaseException | None) -> None:
        """Record a duration, and the error that ended the body, if any."""


class Body:
    """One measured run of a body or function, which begins when it is created.

    Attributes:
        elapsed: The duration in the metric's unit, once the body has ended.
    """

    __slots__ = ("_began", "_factor", "_measurement", "elapsed")

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        self.elapsed = 0.0
        self._factor = measurement.scale()
        self._began = perf_counter()

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Record the duration since the beginning."""
        self.elapsed = (perf_counter() - self._began) * self._factor
        self._measurement.record(self.elapsed, error)

    def pause(self) -> None:
        """Stop the clock until `resume`."""
        self._began = perf_counter() - self._began

    def resume(self) -> None:
        """Undo `pause`."""
        self._began = perf_counter() - self._began


class Timer:
    """The result of `metrics.measure(...)`: a context manager and a decorator.

    One timer may measure several bodies at the same time: in threads, tasks and generators, and
    recursively. A copy is a timer of the same metric; it can be pickled if its client can.

    Attributes:
        elapsed: The duration of the last finished body, in the metric's unit. If several bodies
            share a timer, use ``with timer as body`` and ``body.elapsed``.
    """

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        self._open: OpenBodies[Body] = OpenBodies()
        self.elapsed = 0.0

    def __reduce__(self) -> Any:
        return Timer, (self._measurement,)

    def __enter__(self) -> Body:
        body = Body(self._measurement)
        self._open.begin(body, sys._getframe(1))
        return body

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        now = perf_counter()
        body = self._open.end(sys._getframe(1))
        body.elapsed = self.elapsed = elapsed = (now - body._began) * body._factor
        body._measurement.record(elapsed, error)

    def _begin(self) -> Body:
        return Body(self._measurement)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or other callable: measure each run.

        A coroutine runs until it returns, a generator until it is exhausted or closed.
        """
        given: Any = function
        if not callable(given) and not isinstance(given, classmethod):
            raise InvalidMetric(f"measure() must decorate a function, got {shown(function)}")
        decorated: Callable[P, R] = measured(self._begin, given)
        return decorated

    def run(self, function: Callable[[], R]) -> R:
        """Call *function* and measure it, as if it were decorated."""
        return self(function)()


def check_unit(unit: str | None) -> None:
    """Raise `InvalidValue` unless *unit* is None or a time unit that timers support."""
    if unit is not None and unit not in TIME_UNITS:
        raise InvalidValue(f"unit must be one of {', '.join(TIME_UNITS)}, got {shown(unit)}")


def check_measurable(recorder: Recorder, name: str, unit: str | None) -> None:
    """Check that *name* can be measured, before the body runs. Has no side effects."""
    check_unit(unit)
    recorder.type_of(name, "histogram")


def time_scale(
    recorder: Recorder, name: str, unit: str | None, kind: MetricType = "histogram"
) -> float:
    """Return the factor from seconds to the unit of metric *name*.

    A new metric is declared with *kind* and *unit*, by default that of `duration_unit`.

    Raises:
        TypeMismatch: If the metric has another type.
    """
    known = recorder.metrics.get(name)
    if known is None or not known.is_fixed:
        full = "seconds" if _is_seconds(unit or duration_unit(name)) else "milliseconds"
        with suppress(TypeMismatch):  # another thread was first
            recorder.declare(name, define(name, kind, unit=full))
        known = recorder.metrics.get(name, known)
    if known is not None and known.definition.type != kind:
        raise TypeMismatch(f"{name!r} is a {known.definition.type}; a measured time needs a {kind}")
    if unit is None and known is not None:
        unit = known.definition.unit or duration_unit(name)
    return 1.0 if _is_seconds(unit) else 1000.0


def _is_seconds(unit: str | None) -> bool:
    return unit is not None and TIME_UNITS.get(unit) == TIME_UNITS["s"]
