"""What a caller touches to record: verbs, handles, and the buffers that they fill. Never waits, never takes a lock.

A buffer is a plain list, and recording is one atomic operation on it: an amount for counters, `time, value` in one flat list
for the others. flusher.py drains them. So a signal handler, a `__del__` or a thread may record at any point.
"""

import functools
import inspect
import logging
import threading
import weakref
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any, ParamSpec, TypeVar, overload

from .errors import InvalidMetric, InvalidTags, InvalidTimestamp, InvalidValue, TypeMismatch
from .model import (
    OVERFLOW_TAGS,
    Definition,
    MetricType,
    Tags,
    check_name,
    check_type,
    clean_tags,
    define,
    infer_type,
    number,
    pack_metadata,
    pack_tags,
    to_ms,
)
from .settings import Settings
from .slots import Clock, system_clock

log = logging.getLogger("redismetrics")

P = ParamSpec("P")
R = TypeVar("R")

# The fast paths take int and float within bounds that are written out there, since a global would cost 10 ns; whatever else
# a number can be goes the checked way, `Recorder.add`.

# Series that are looked up by name and tags, and buffers kept of series that are idle: beyond it the idle ones go.
CACHED = 50_000


class Buffer:
    """The unsent samples of one series.

    *values* holds a counter's amounts, or `time, value, time, value, ...`, where a negative time marks a change of a gauge's
    shared value. *extra* holds the samples with a time of their own or metadata: (time in ms, own time?, value, JSON or
    None). *idle* counts the flushes that found it empty.
    """

    __slots__ = ("canonical", "extra", "idle", "values")

    def __init__(self, canonical: bytes) -> None:
        self.canonical = canonical
        self.values: list[float] = []
        self.extra: list[tuple[int, bool, float, bytes | None]] = []
        self.idle = 0


class Metric:
    """What this process knows of one metric, with the buffers of its series.

    *explicit*: the type was said, not guessed. *declared*: by `declare`. *learned*: the definition is the catalogue's. *ids* are
    the store's numbers of series, by canonical tags, as far as the flusher learned them.
    """

    __slots__ = ("buffers", "declared", "definition", "explicit", "ids", "learned", "name")

    def __init__(self, name: str, definition: Definition, *, explicit: bool, declared: bool = False) -> None:
        self.name = name
        self.definition = definition
        self.explicit = explicit
        self.declared = declared
        self.learned = False
        self.buffers: dict[bytes, Buffer] = {}
        self.ids: dict[bytes, bytes] = {}


_OVERFLOW = pack_tags(OVERFLOW_TAGS)


class Recorder:
    """All metrics of one client in this process. Thread-safe without locks, since it only appends and `setdefault`s."""

    def __init__(self, settings: Settings, start: Callable[[], None], clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        self._start = start
        self._drop_lock, self._starting = threading.Lock(), threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all that was recorded: at the start, and in the child of a fork, whose parent keeps it.

        What the metrics are is not forgotten: they may be declared once, before a server forks its workers.
        """
        known: dict[str, Metric] = getattr(self, "metrics", {})
        self.metrics: dict[str, Metric] = {
            name: Metric(name, metric.definition, explicit=metric.explicit, declared=metric.declared)
            for name, metric in known.items()
        }
        self.retired: list[Metric] = []
        self.counters: dict[Any, Callable[[float], None]] = {}
        self.pairs: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self._starting = threading.Lock()
        self.started = self.closed = False
        self._drop_lock = threading.Lock()
        self._drops: list[tuple[str, int]] = []
        self._dropped: Tally[str] = Tally()
        self._told: set[str] = set()
        for handle in list(getattr(self, "_handles", ())):
            handle._unbind()
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()

    # -- definitions --------------------------------------------------------------------------------------------

    def metric(self, name: str, kind: MetricType, *, explicit: bool) -> Metric:
        """Return the metric of that name, made when new; raises `TypeMismatch` as `type_of` does."""
        known = self.metrics.get(name)
        if known is None:
            known = self.metrics.setdefault(name, Metric(name, define(name, kind), explicit=explicit))
        if not explicit:
            return known
        if known.definition.type != self.type_of(name, kind):  # what was guessed yields
            return self._replace(known, define(name, kind), declared=False)
        known.explicit = True
        return known

    def type_of(self, name: str, kind: MetricType | None) -> MetricType | None:
        """The type that a sample will have: *kind* where it is explicit, else the known one, if any; touches nothing.

        Raises `TypeMismatch` when an explicit type contradicts a known one that is not a guess.
        """
        known = self.metrics.get(name)
        if known is None:
            return kind
        if kind is not None and kind != known.definition.type and (known.explicit or known.learned):
            raise TypeMismatch(f"{name!r} is a {known.definition.type}; got a {kind}")
        return kind or known.definition.type

    def declare(self, name: str, definition: Definition) -> None:
        """Make *definition* the one of *name*; the first one wins, a different one raises `TypeMismatch`."""
        known = self.metrics.setdefault(name, Metric(name, definition, explicit=True, declared=True))
        if known.definition == definition:
            known.explicit = known.declared = True
        elif known.declared or known.learned or (known.explicit and known.definition.type != definition.type):
            raise TypeMismatch(f"{name!r} is declared as {known.definition}; got {definition}")
        else:
            self._replace(known, definition, declared=True)

    def _replace(self, old: Metric, definition: Definition, *, declared: bool) -> Metric:
        new = Metric(old.name, definition, explicit=True, declared=declared)
        self.metrics[old.name] = new
        self.retired.append(old)  # what it still holds goes out, and so does what a thread is just appending
        self.counters.clear()
        self.pairs.clear()
        for handle in list(self._handles):
            if handle.name == old.name:
                handle._unbind()
        return new

    # -- buffers ------------------------------------------------------------------------------------------------

    def tags(self, name: str, tags: Tags | None, more: Tags | None = None) -> dict[str, str]:
        """Return *tags* checked, with the client's own and *more* below them; raises before anything is touched."""
        below = {**self.settings.tags, **(more or {})}
        clean = clean_tags({**below, **tags} if isinstance(tags, Mapping) else tags or below)
        known = self.metrics.get(name)
        allowed = None if known is None else known.definition.tag_keys
        if allowed is not None:
            extra = set(clean) - set(allowed) - set(self.settings.tags)
            if extra:
                raise InvalidTags(f"{name!r} is declared with the tags {list(allowed)}; got {sorted(extra)}")
        return clean

    def buffer(self, metric: Metric, clean: dict[str, str]) -> Buffer:
        """Return the buffer of the series with these checked tags, made when new; starts the process's flusher at the first."""
        canonical = pack_tags(clean)
        buffer = metric.buffers.get(canonical)
        if buffer is None:
            if len(metric.buffers) >= self.settings.max_series and canonical != _OVERFLOW:
                self.tell_once(
                    "%s has more than max_series=%d series: the rest share one", metric.name, self.settings.max_series
                )
                canonical = _OVERFLOW
            buffer = metric.buffers.setdefault(canonical, Buffer(canonical))
        if not self.started and self._starting.acquire(blocking=False):
            try:
                if not self.started:
                    self.started = True
                    self._start()
            finally:
                self._starting.release()
        return buffer

    def start_again(self) -> None:
        """The threads could not start: the next recording of each series tries anew."""
        self.started = False
        self._unbind_all()

    def _unbind_all(self) -> None:
        self.counters.clear()
        self.pairs.clear()
        for handle in list(self._handles):
            handle._unbind()

    def _is_drained(self, metric: Metric, buffer: Buffer) -> bool:
        """Will this buffer be drained as long as it is used? Not when another thread replaced or forgot it meanwhile."""
        known = self.metrics.get(metric.name) is metric and metric.buffers.get(buffer.canonical) is buffer
        return known and self.started and not self.closed

    def bind(self, handle: "_Handle") -> Callable[[Any], None]:
        """Give a handle its buffer, at its first use in this process; return what takes the item at hand."""
        self._handles.add(handle)
        if self.closed:
            handle._append = self._drop_closed
            return handle._append
        try:
            clean = self.tags(handle.name, handle.tags)
            metric = self.metric(handle.name, handle.kind, explicit=True)
            buffer = self.buffer(metric, clean)
        except InvalidTags:
            if self.settings.on_invalid == "raise":
                raise
            handle._append = self._drop_invalid
            return handle._append
        handle._buffer, handle._clock = buffer, self.clock
        append: Callable[[Any], None] = buffer.values.append if handle.kind == "counter" else buffer.values.extend
        handle._append = append
        if not self._is_drained(metric, buffer):
            handle._unbind()
            return self._unless_closed(append)
        return append

    def _unless_closed(self, append: Callable[[Any], None]) -> Callable[[Any], None]:
        return self._drop_closed if self.closed else append

    def _drop_closed(self, _: Any) -> None:
        self.drop("closed")

    def _drop_invalid(self, _: Any) -> None:
        self.drop("invalid")

    def bound_buffers(self) -> set[Buffer]:
        """The buffers that handles hold; they stay however long they are idle."""
        return {handle._buffer for handle in list(self._handles) if handle._buffer is not None}

    # -- the checked way of every verb --------------------------------------------------------------------------

    def add(
        self,
        kind: MetricType | None,
        name: str,
        value: Any,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        *,
        change: bool = False,
        buffer: Buffer | None = None,
    ) -> None:
        """Check everything, then record one sample. *kind* None is a guess; *change* adds to a gauge's shared value."""
        if self.closed:
            self.drop("closed")
            return
        check_name(name)
        explicit = kind is not None
        try:
            amount = number(value)
            time_ms = to_ms(timestamp) if timestamp is not None else None
            packed, promoted = self._metadata(metadata)
            clean = self.tags(name, tags, promoted) if buffer is None else None
            kind = self.type_of(name, kind) or infer_type(name, value)
            if kind == "counter" and amount < 0:
                raise InvalidValue(f"{name!r} is a counter: wanted an amount of at least 0, got {amount:g}")
        except (InvalidValue, InvalidTags, InvalidTimestamp) as error:
            self.refuse(error)
            return
        metric = self.metric(name, kind, explicit=explicit)
        kind = metric.definition.type
        if buffer is None:
            assert clean is not None, "BUG: tags that were not checked"
            buffer = self.buffer(metric, clean)
        if time_ms is not None or packed is not None:
            now_ms = int(self.clock() * 1000)
            buffer.extra.append((now_ms if time_ms is None else time_ms, time_ms is not None, amount, packed))
        elif kind == "counter":
            buffer.values.append(amount)
        else:
            buffer.values.extend((-self.clock() if change else self.clock(), amount))
        if packed is None and time_ms is None and explicit:
            self._remember(metric, tags, buffer)

    def _metadata(self, metadata: Mapping[str, Any] | None) -> tuple[bytes | None, dict[str, Any]]:
        if not metadata:
            return None, {}
        packed = pack_metadata(metadata)
        return packed, {key: metadata[key] for key in self.settings.promoted_tags if metadata.get(key) is not None}

    def _remember(self, metric: Metric, tags: Tags | None, buffer: Buffer) -> None:
        """Let the next unbound call find the buffer by one look-up. Only text is a key: 1, 1.0 and True are equal in Python."""
        kind, name = metric.definition.type, metric.name
        cache: dict[Any, Any] = self.counters if kind == "counter" else self.pairs
        if tags and any(value.__class__ is not str for value in tags.values()):
            return
        if len(cache) >= CACHED:
            cache.clear()
        names = (name, *tags, *tags.values()) if tags else (name,)
        key: Any = names if kind == "counter" else (kind, *names)
        cache[key] = buffer.values.append if kind == "counter" else buffer.values.extend
        if not self._is_drained(metric, buffer):
            cache.pop(key, None)

    # -- drops --------------------------------------------------------------------------------------------------

    def refuse(self, error: InvalidMetric) -> None:
        """Raise a fault in data, or count the sample as dropped where the setting says so."""
        if self.settings.on_invalid == "raise":
            raise error
        self.drop("invalid")

    def drop(self, reason: str, count: int = 1) -> None:
        """Count samples that are not kept."""
        self._drops.append((reason, count))
        if len(self._drops) > 1000:
            self.dropped()

    def dropped(self) -> Tally[str]:
        """How many samples were dropped so far, by reason."""
        if self._drop_lock.acquire(blocking=False):  # else another thread, or the one this interrupts, is at it
            try:
                for _ in range(len(self._drops)):
                    reason, count = self._drops.pop()
                    self._dropped[reason] += count
            finally:
                self._drop_lock.release()
        return self._dropped

    def tell_once(self, message: str, *arguments: Any) -> None:
        """Log a warning the first time only."""
        text = message % arguments
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            log.warning("%s", text)

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """From now on samples are counted as dropped; handles learn it at their next use."""
        self.closed = True
        self._unbind_all()

    def waiting(self) -> int:
        """How many samples are in the buffers."""
        total = 0
        for metric in [*list(self.metrics.values()), *self.retired]:
            width = 1 if metric.definition.type == "counter" else 2
            for buffer in list(metric.buffers.values()):
                total += len(buffer.values) // width + len(buffer.extra)
        return total

    def take_waiting(self) -> int:
        """Empty the buffers, at the end, and return how many samples were in them."""
        total = self.waiting()
        for metric in [*self.retired, *list(self.metrics.values())]:
            for buffer in list(metric.buffers.values()):
                buffer.values.clear()
                buffer.extra.clear()
        return total


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
            (amount.__class__ is int or amount.__class__ is float)
            and 0 <= amount <= 1.7e308
            and metadata is None
            and timestamp is None
        ):  # the fast path: a series seen before
            try:
                recorder.counters[(name, *tags, *tags.values()) if tags else (name,)](amount)
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
        self._pair("gauge", name, value, tags, metadata, timestamp)

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
        self._pair("histogram", name, value, tags, metadata, timestamp)

    def _pair(self, kind: MetricType, name: str, value: Any, tags: Tags | None, metadata: Any, timestamp: Any) -> None:
        recorder = self._recorder
        if (
            (value.__class__ is int or value.__class__ is float)
            and -1.7e308 <= value <= 1.7e308
            and metadata is None
            and timestamp is None
        ):  # the fast path: a series seen before
            try:
                extend = recorder.pairs[(kind, name, *tags, *tags.values()) if tags else (kind, name)]
                extend((recorder.clock(), value))
                return
            except (KeyError, TypeError, AttributeError):
                pass
        recorder.add(kind, name, value, tags, metadata, timestamp)

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
            data = dict(value)
            value = data.pop("value", 1)
            for what, given in (("tags", tags), ("metadata", metadata)):
                inner = data.get(what)
                for part in (inner, given):
                    if part is not None and not isinstance(part, Mapping):
                        check_name(name)
                        self._recorder.refuse(InvalidTags(f"{what}: wanted a mapping, got {part!r:.60}"))
                        return
            tags = {**(data.pop("tags", None) or {}), **(tags or {})}
            metadata = {**(data.pop("metadata", None) or {}), **data, **(metadata or {})}
        self._recorder.add(kind, name, value, tags, metadata, timestamp)

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
            self._pair("histogram", name, elapsed, labels, None, None)

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


class NullRecorder(Recorder):
    """What `none://` records with: nothing, at next to no cost and unchecked."""

    def add(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def bind(self, handle: "_Handle") -> Callable[[Any], None]:
        handle._append = _ignore
        return _ignore

    def drop(self, reason: str, count: int = 1) -> None:
        """Nothing."""


def _ignore(_: Any) -> None:
    pass


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
        """Stands for the list operation until the handle is bound."""
        self._recorder_in_use().bind(self)(item)

    def _slow(self, value: Any, *, change: bool = False) -> None:
        self._recorder_in_use().add(self.kind, self.name, value, self.tags, change=change, buffer=self._buffer)


class Counter(_Handle):
    """A bound counter: `.increment(amount=1)`. Make it once, at import or wherever, and use it from any thread."""

    __slots__ = ()
    kind = "counter"

    def increment(self, amount: int | float = 1) -> None:
        """Add *amount*, at least 0."""
        if amount.__class__ is int and 0 <= amount <= 1 << 53:
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
