"""What a caller touches to record: the verbs, timers, and handles, which are series worked out once.

The fast paths take int and float within bounds that are written out there, since a global would cost 10 ns; whatever else a
number can be goes the checked way, `Recorder.add`.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from math import copysign
from time import perf_counter
from typing import Any, ParamSpec, TypeVar, overload

from .errors import InvalidMetric, InvalidTags, InvalidValue, TypeMismatch
from .model import (
    MetricType,
    Tags,
    check_name,
    check_type,
    clean_tags,
    define,
)
from .recorder import Buffer, Recorder
from .slots import Clock, system_clock

ONE = 1  # what most counters count: known by its identity, it needs no check, which is a third of a call

P = ParamSpec("P")
R = TypeVar("R")


class Timer:
    """What `with metrics.measure(...) as t` gives: `t.elapsed` in the unit that is recorded, once the body has ended."""

    def __init__(self, record: Callable[[float, BaseException | None], None], scale: Callable[[], float]) -> None:
        self._record = record
        self._scale = scale  # asked when it runs: a function is often decorated before its metric is declared
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


class Recording:
    """The recording verbs, the same plain functions for `Metrics` and `AsyncMetrics`. None of them waits for Redis.

    All raise branches of `InvalidMetric` at the call, before anything is recorded.
    """

    _recorder: Recorder

    def increment(
        self,
        name: str,
        amount: float = 1,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> None:
        """Add *amount* (at least 0; 0 makes the series known) to a counter."""
        recorder = self._recorder
        if (
            (amount is ONE or ((amount.__class__ is int or amount.__class__ is float) and 0 <= amount <= 1.7e308))
            and metadata is None
            and timestamp is None
        ):  # the fast path: a series seen before
            try:
                recorder.counters[(name, *tags, *tags.values()) if tags else name](amount)
                return
            except (KeyError, TypeError, AttributeError):
                pass
        recorder.add("counter", name, amount, tags, metadata, timestamp)

    def gauge(
        self,
        name: str,
        value: float,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> None:
        """Set a gauge: the value now, or at *timestamp* (aware datetime or Unix seconds)."""
        self._pair(self._recorder.gauges, "gauge", name, value, tags, metadata, timestamp)

    def histogram(
        self,
        name: str,
        value: float,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> None:
        """Record one value of a distribution."""
        self._pair(self._recorder.histograms, "histogram", name, value, tags, metadata, timestamp)

    def _pair(
        self,
        cache: dict[Any, Any],
        kind: MetricType,
        name: str,
        value: Any,
        tags: Tags | None,
        metadata: Any,
        timestamp: Any,
    ) -> None:
        if (
            (value.__class__ is int or value.__class__ is float)
            and -1.7e308 <= value <= 1.7e308
            and metadata is None
            and timestamp is None
        ):  # the fast path: a series seen before
            try:
                extend = cache[(name, *tags, *tags.values()) if tags else name]
                extend((self._recorder.clock(), value))
                return
            except (KeyError, TypeError, AttributeError):
                pass
        self._recorder.add(kind, name, value, tags, metadata, timestamp)

    def record(
        self,
        name: str,
        value: Any = 1,
        *,
        type: MetricType | None = None,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> None:
        """Record a sample whose type is *type*, or declared, or guessed from name and value (`infer_type`).

        *value* may be a mapping, as in the original: `value` (default 1), `tags`, `metadata`; its other keys become metadata,
        and those in the setting `promoted_tags` become tags too.
        """
        kind = None if type is None else check_type(type)
        if isinstance(value, Mapping):
            try:
                value, tags, metadata = _taken_apart(value, tags, metadata)
            except InvalidTags as error:
                check_name(name)
                self._recorder.refuse(error)
                return
        self._recorder.add(kind, name, value, tags, metadata, timestamp)

    def check(
        self,
        name: str,
        value: Any = 1,
        *,
        type: MetricType | None = None,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> MetricType:
        """Raise what is wrong with these arguments of `record`, whatever `on_invalid` says; return the type it would have.

        Nothing is recorded. So a batch can be checked as a whole before its first sample is recorded.
        """
        kind = None if type is None else check_type(type)
        check_name(name)
        if isinstance(value, Mapping):
            value, tags, metadata = _taken_apart(value, tags, metadata)
        return self._recorder.checked(kind, name, value, tags, metadata, timestamp)[0]

    @overload
    def measure(
        self,
        name: str,
        fn: None = None,
        *,
        tags: Tags | None = ...,
        unit: str | None = ...,
        outcome_tag: str | None = ...,
    ) -> Timer: ...

    @overload
    def measure(
        self,
        name: str,
        fn: Callable[[], R],
        *,
        tags: Tags | None = ...,
        unit: str | None = ...,
        outcome_tag: str | None = ...,
    ) -> R: ...

    def measure(
        self,
        name: str,
        fn: Callable[[], Any] | None = None,
        *,
        tags: Tags | None = None,
        unit: str | None = None,
        outcome_tag: str | None = None,
    ) -> Any:
        """Record how long something takes, as a histogram, also when it raises.

        With *fn*: run it and return its result. Without: a `Timer`, which is a context manager and a decorator for plain,
        async and generator functions. In milliseconds, unless the metric is declared in seconds or *unit* says ``"s"``;
        *outcome_tag* names a tag that holds ``ok`` or the class of the error.
        """
        if fn is not None and not callable(fn):
            raise InvalidMetric(f"fn: wanted a function of no arguments, got {fn!r:.60}")
        if outcome_tag is not None:
            check_name(outcome_tag, "outcome_tag")
        check_timed(self._recorder, check_name(name), unit)
        wrong = None
        try:
            self._recorder.tags(name, tags, None if outcome_tag is None else {outcome_tag: "ok"})
        except InvalidTags as error:
            wrong = error
            if self._recorder.settings.on_invalid == "raise":
                raise

        def record(elapsed: float, error: BaseException | None) -> None:
            if wrong is not None:
                self._recorder.refuse(wrong)
                return
            labels = tags
            if outcome_tag is not None:
                labels = {**(tags or {}), outcome_tag: "ok" if error is None else type(error).__name__}
            self.histogram(name, elapsed, tags=labels)

        timer = Timer(record, lambda: timed(self._recorder, name, unit))
        if fn is None:
            return timer
        with timer:
            return fn()

    def declare(
        self,
        name: str,
        type: MetricType,
        *,
        help: str = "",
        unit: str = "",
        buckets: Iterable[float] | None = None,
        tag_keys: Iterable[str] | None = None,
    ) -> None:
        """Say what a metric is: HELP and UNIT of the Prometheus page, a histogram's bounds, the only tags allowed.

        The first definition wins; a different one raises `TypeMismatch` where it is known in this process, and is logged and
        counted where another process made it.
        """
        definition = define(name, type, help=help, unit=unit, buckets=buckets, tag_keys=tag_keys)
        self._recorder.declare(name, definition)


def _taken_apart(
    value: Mapping[str, Any], tags: Tags | None, metadata: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The value, tags and metadata of the mapping that `record` takes; raises `InvalidTags` where a part is none."""
    data = dict(value)
    for what, given in (("tags", tags), ("metadata", metadata)):
        for part in (data.get(what), given):
            if part is not None and not isinstance(part, Mapping):
                raise InvalidTags(f"{what}: wanted a mapping, got {part!r:.60}")
    amount = data.pop("value", 1)
    below, beside = data.pop("tags", None) or {}, data.pop("metadata", None) or {}
    return amount, {**below, **(tags or {})}, {**beside, **data, **(metadata or {})}


def check_unit(unit: str | None) -> None:
    if unit is not None and unit not in _SECONDS + _MILLISECONDS:
        raise InvalidValue(f"unit: wanted one of {', '.join(_SECONDS + _MILLISECONDS)}, got {unit!r:.60}")


def check_timed(recorder: Recorder, name: str, unit: str | None) -> None:
    """Raise what is known to be wrong about measuring as *name*, before it runs; touches nothing."""
    check_unit(unit)
    recorder.type_of(name, "histogram")


def timed(recorder: Recorder, name: str, unit: str | None) -> float:
    """Return what seconds are multiplied by for the unit of histogram *name*, which is made one of that unit when new."""
    known = recorder.metrics.get(name)
    if known is None or not (known.explicit or known.learned):
        full = "seconds" if unit in _SECONDS else "milliseconds"
        with suppress(TypeMismatch):  # another thread was first
            recorder.declare(name, define(name, "histogram", unit=full))
        known = recorder.metrics.get(name, known)
    if known is not None and known.definition.type != "histogram":
        raise TypeMismatch(f"{name!r} is a {known.definition.type}; got a measured time, which makes a histogram")
    if unit is not None:
        return 1.0 if unit in _SECONDS else 1000.0
    return 1.0 if known is not None and known.definition.unit in _SECONDS else 1000.0


def _no_default() -> Recording:
    raise RuntimeError("BUG: redismetrics.default was never imported")


default_client: Callable[[], Recording] = _no_default  # of handles made without a client; default.py puts its own here


# -- handles ------------------------------------------------------------------------------------------------------


class _Handle:
    """A series worked out once. Binds to its client at first use, so that `configure()` may come after it is made."""

    __slots__ = ("__weakref__", "_append", "_buffer", "_clock", "_metrics", "name", "tags")
    kind: MetricType

    def __init__(self, name: str, tags: Tags | None = None, *, metrics: "Recording | None" = None) -> None:
        self.name = check_name(name)
        self.tags = clean_tags(tags)
        self._metrics = metrics
        self._unbind()

    def with_tags(self, tags: Tags | None = None, /, **more: Any) -> Any:
        """A handle of the same metric with these tags added."""
        return type(self)(self.name, {**self.tags, **(tags or {}), **more}, metrics=self._metrics)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.tags!r})"

    def _unbind(self) -> None:
        self._buffer: Buffer | None = None
        self._clock: Clock = system_clock
        self._append: Callable[[Any], None] = self._first

    def _recorder_in_use(self) -> Recorder:
        return (default_client() if self._metrics is None else self._metrics)._recorder

    def _first(self, item: Any) -> None:
        """Stands for the list operation until the handle is bound, and with it gets its client's clock."""
        append = self._recorder_in_use().bind(self)
        if self._clock is not system_clock and item.__class__ is tuple:
            item = (copysign(self._clock(), item[0]), item[1])
        append(item)

    def _slow(self, value: Any, *, change: bool = False) -> None:
        self._recorder_in_use().add(self.kind, self.name, value, self.tags, change=change, buffer=self._buffer)


class Counter(_Handle):
    """A bound counter: `.increment(amount=1)`. Make it once, at import or wherever, and use it from any thread."""

    __slots__ = ()
    kind = "counter"

    def increment(self, amount: int | float = 1) -> None:
        """Add *amount*, at least 0."""
        if amount is ONE or (amount.__class__ is int and 0 <= amount <= 1 << 53):
            self._append(amount)
        else:
            self._slow(amount)


class Gauge(_Handle):
    """A bound gauge: `.set(value)`, `.add(delta)`."""

    __slots__ = ()
    kind = "gauge"

    def set(self, value: float) -> None:
        """Set the value now."""
        if value.__class__ is float and -1.7e308 <= value <= 1.7e308:
            self._append((self._clock(), value))
        else:
            self._slow(value)

    def add(self, delta: float) -> None:
        """Change the value that all processes share. One flush stores the net change as one sample."""
        if delta.__class__ is float and -1.7e308 <= delta <= 1.7e308:
            self._append((-self._clock(), delta))
        else:
            self._slow(delta, change=True)


class Histogram(_Handle):
    """A bound histogram: `.record(value)`, `.time()`."""

    __slots__ = ()
    kind = "histogram"

    def record(self, value: float) -> None:
        """Record one value."""
        if value.__class__ is float and -1.7e308 <= value <= 1.7e308:
            self._append((self._clock(), value))
        else:
            self._slow(value)

    def time(self, unit: str | None = None) -> Timer:
        """Measure a `with` body or decorate a function, as `Metrics.measure` does."""
        check_unit(unit)
        return Timer(
            lambda elapsed, error: self.record(elapsed), lambda: timed(self._recorder_in_use(), self.name, unit)
        )
