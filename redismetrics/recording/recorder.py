"""The buffers that recording fills, and what this process knows of its metrics. Never waits, never takes a lock.

A buffer is a plain list, and recording is one atomic operation on it: an amount for counters, `time, value` in one flat list
for the others. verbs.py appends, flusher.py drains. So a signal handler, a `__del__` or a thread may record at any point.
"""

import logging
import threading
import weakref
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import Any

from redismetrics.errors import (
    InvalidMetric,
    InvalidTags,
    InvalidTimestamp,
    InvalidValue,
    TypeMismatch,
)
from redismetrics.model.definition import Definition, define, infer_type
from redismetrics.model.sample import Distribution, pack_metadata
from redismetrics.model.time import Clock, system_clock, to_ms
from redismetrics.model.validation import (
    OVERFLOW_TAGS,
    MetricType,
    Tags,
    check_name,
    check_number,
    clean_tags,
    pack_tags,
)
from redismetrics.settings import Settings

from .buffers import Buffer, Handle, MetricBuffers

log = logging.getLogger("redismetrics")

# Series that are looked up by name and tags, and buffers kept of series that are idle: beyond it the idle ones go.
CACHED = 50_000
OVERFLOWS = 1_000  # metrics and tags that are counted apart


_OVERFLOW = pack_tags(OVERFLOW_TAGS)


class Recorder:
    """All metrics of one client in this process. Thread-safe without locks, since it only appends and `setdefault`s."""

    def __init__(
        self, settings: Settings, start: Callable[[], None], clock: Clock = system_clock
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.samplers: list[Callable[[], None]] = []  # record how things stand, before each drain
        self._start = start
        self._drop_lock, self._starting = threading.Lock(), threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all that was recorded: at the start, and in the child of a fork, whose parent keeps it.

        What the metrics are is not forgotten: they may be declared once, before a server forks its workers.
        """
        known: dict[str, MetricBuffers] = getattr(self, "metrics", {})
        self.metrics: dict[str, MetricBuffers] = {
            name: MetricBuffers(
                name, metric.definition, explicit=metric.explicit, declared=metric.declared
            )
            for name, metric in known.items()
        }
        self.retired: list[MetricBuffers] = []
        # By name and tags of a series: what takes an amount, and what takes (time, value).
        self.counters: dict[Any, Callable[[float], None]] = {}
        self.gauges: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self.histograms: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self._starting = threading.Lock()
        self.started = self.closed = False
        self._drop_lock = threading.Lock()
        self._drops: list[tuple[str, int]] = []
        self._dropped: Tally[str] = Tally()
        self._told: set[str] = set()
        self.overflows: dict[tuple[str, str], int] = {}
        for handle in list(getattr(self, "_handles", ())):
            handle._unbind()
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()

    # -- definitions --------------------------------------------------------------------------------------------

    def metric(self, name: str, kind: MetricType, *, explicit: bool) -> MetricBuffers:
        """Return the metric of that name, made when new; raises `TypeMismatch` as `type_of` does."""
        known = self.metrics.get(name)
        if known is None:
            known = self.metrics.setdefault(
                name, MetricBuffers(name, define(name, kind), explicit=explicit)
            )
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
        known = self.metrics.setdefault(
            name, MetricBuffers(name, definition, explicit=True, declared=True)
        )
        if known.definition == definition:
            known.explicit = known.declared = True
        elif (
            known.declared
            or known.learned
            or (known.explicit and known.definition.type != definition.type)
        ):
            raise TypeMismatch(f"{name!r} is declared as {known.definition}; got {definition}")
        else:
            self._replace(known, definition, declared=True)

    def _replace(
        self, old: MetricBuffers, definition: Definition, *, declared: bool
    ) -> MetricBuffers:
        new = MetricBuffers(old.name, definition, explicit=True, declared=declared)
        self.metrics[old.name] = new
        self.retire(
            old
        )  # what it still holds goes out, and so does what a thread is just appending
        self.forget_series()
        for handle in list(self._handles):
            if handle.name == old.name:
                handle._unbind()
        return new

    def forget(self, name: str) -> None:
        """Know nothing of a metric any more, since the store doesn't either; what it still holds goes out."""
        known = self.metrics.pop(name, None)
        if known is not None:
            self.retire(known)
            self._unbind_all()

    def retire(self, metric: MetricBuffers) -> None:
        """Drain a metric a while longer after another took its place."""
        metric.until_ms = int(self.clock() * 1000)
        self.retired.append(metric)

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
                raise InvalidTags(
                    f"{name!r} is declared with the tags {list(allowed)}; got {sorted(extra)}"
                )
        return clean

    def buffer(self, metric: MetricBuffers, clean: dict[str, str]) -> Buffer:
        """Return the buffer of the series with these checked tags, made when new; starts the process's flusher at the first."""
        canonical = pack_tags(clean)
        buffer = metric.buffers.get(canonical)
        if buffer is None:
            if len(metric.buffers) >= self.settings.max_series and canonical != _OVERFLOW:
                self.overflow(metric.name, "", 1)
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
        self.forget_series()
        for handle in list(self._handles):
            handle._unbind()

    def forget_series(self) -> None:
        """Let every unbound call find its buffer anew."""
        for cache in (self.counters, self.gauges, self.histograms):
            cache.clear()

    def _is_drained(self, metric: MetricBuffers, buffer: Buffer) -> bool:
        """Will this buffer be drained as long as it is used? Not when another thread replaced or forgot it meanwhile."""
        known = (
            self.metrics.get(metric.name) is metric
            and metric.buffers.get(buffer.canonical) is buffer
        )
        return known and self.started and not self.closed

    def bind(self, handle: "Handle") -> Callable[[Any], None]:
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
        append: Callable[[Any], None] = (
            buffer.values.append if handle.kind == "counter" else buffer.values.extend
        )
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
            kind, amount, time_ms, packed, clean = self.checked(
                kind, name, value, tags, metadata, timestamp, bound=buffer is not None
            )
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
            buffer.extra.append(
                (now_ms if time_ms is None else time_ms, time_ms is not None, amount, packed)
            )
        elif kind == "counter":
            buffer.values.append(amount)
        else:
            buffer.values.extend((-self.clock() if change else self.clock(), amount))
        if packed is None and time_ms is None and explicit:
            self._remember(metric, tags, buffer)

    def add_distribution(
        self, name: str, distribution: Distribution, tags: Tags | None = None, timestamp: Any = None
    ) -> None:
        """Record many values of a histogram at once, as somebody else counted them; raises as `add` does."""
        if self.closed:
            self.drop("closed", distribution.count)
            return
        check_name(name)
        try:
            time_ms = int(self.clock() * 1000) if timestamp is None else to_ms(timestamp)
            clean = self.tags(name, tags)
        except (InvalidTags, InvalidTimestamp) as error:
            self.refuse(error, distribution.count)
            return
        self.buffer(self.metric(name, "histogram", explicit=True), clean).wholes.append(
            (time_ms, distribution)
        )

    def checked(
        self,
        kind: MetricType | None,
        name: str,
        value: Any,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        *,
        bound: bool = False,
    ) -> tuple[MetricType, float, int | None, bytes | None, dict[str, str] | None]:
        """Type, value, time in ms, packed metadata and tags of one sample, or what is wrong with it; touches nothing.

        The tags of a *bound* series are not looked at.
        """
        amount = check_number(value)
        time_ms = to_ms(timestamp) if timestamp is not None else None
        packed, promoted = self._metadata(metadata)
        clean = None if bound else self.tags(name, tags, promoted)
        kind = self.type_of(name, kind) or infer_type(name, value)
        if kind == "counter" and amount < 0:
            raise InvalidValue(
                f"{name!r} is a counter: wanted an amount of at least 0, got {amount:g}"
            )
        return kind, amount, time_ms, packed, clean

    def _metadata(self, metadata: Mapping[str, Any] | None) -> tuple[bytes | None, dict[str, Any]]:
        if not metadata:
            return None, {}
        packed = pack_metadata(metadata)
        return packed, {
            key: metadata[key]
            for key in self.settings.promoted_tags
            if metadata.get(key) is not None
        }

    def _remember(self, metric: MetricBuffers, tags: Tags | None, buffer: Buffer) -> None:
        """Let the next unbound call find the buffer by one look-up. Only text is a key: 1, 1.0 and True are equal in Python."""
        kind = metric.definition.type
        caches: dict[MetricType, dict[Any, Any]] = {
            "counter": self.counters, "gauge": self.gauges, "histogram": self.histograms
        }  # fmt: skip
        cache = caches[kind]
        if tags and any(value.__class__ is not str for value in tags.values()):
            return
        if len(cache) >= CACHED:
            cache.clear()
        key: Any = (metric.name, *tags, *tags.values()) if tags else metric.name
        cache[key] = buffer.values.append if kind == "counter" else buffer.values.extend
        if not self._is_drained(metric, buffer):
            cache.pop(key, None)

    # -- drops --------------------------------------------------------------------------------------------------

    def refuse(self, error: InvalidMetric, count: int = 1) -> None:
        """Raise a fault in data, or count the samples as dropped where the setting says so."""
        if self.settings.on_invalid == "raise":
            raise error
        self.drop("invalid", count)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count samples that are not kept."""
        self._drops.append((reason, count))
        if len(self._drops) > 1000:
            self.dropped()

    def dropped(self) -> Tally[str]:
        """How many samples were dropped so far, by reason."""
        if self._drop_lock.acquire(
            blocking=False
        ):  # else another thread, or the one this interrupts, is at it
            try:
                for _ in range(len(self._drops)):
                    reason, count = self._drops.pop()
                    self._dropped[reason] += count
            finally:
                self._drop_lock.release()
        return self._dropped

    def overflow(self, name: str, tag: str, count: int) -> None:
        """Count series that share one, since the metric has too many, or *tag* too many values; told once a metric and tag."""
        limits = self.settings
        if tag:
            self.warn_once(
                "%s: tag %s has more than max_tag_values=%d values: further series share one",
                name,
                tag,
                limits.max_tag_values,
            )
        else:
            self.warn_once(
                "%s has more than max_series=%d series: the rest share one", name, limits.max_series
            )
        if (name, tag) in self.overflows or len(self.overflows) < OVERFLOWS:
            self.overflows[name, tag] = self.overflows.get((name, tag), 0) + count

    def warn_once(self, message: str, *arguments: Any) -> None:
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

    def holds(self) -> bool:
        """Is there a sample in the buffers?"""
        for metric in [*list(self.metrics.values()), *self.retired]:
            for buffer in list(metric.buffers.values()):
                if buffer.values or buffer.extra or buffer.wholes:
                    return True
        return False

    def waiting(self) -> int:
        """How many samples are in the buffers."""
        total = 0
        for metric in [*list(self.metrics.values()), *self.retired]:
            width = 1 if metric.definition.type == "counter" else 2
            for buffer in list(metric.buffers.values()):
                total += len(buffer.values) // width + len(buffer.extra)
                if buffer.wholes:
                    total += sum(whole.count for _, whole in buffer.wholes[:])
        return total

    def take_waiting(self) -> int:
        """Empty the buffers, at the end, and return how many samples were in them."""
        total = self.waiting()
        for metric in [*self.retired, *list(self.metrics.values())]:
            for buffer in list(metric.buffers.values()):
                buffer.values.clear()
                buffer.extra.clear()
                buffer.wholes.clear()
        return total


class NullRecorder(Recorder):
    """What `none://` records with: nothing, at next to no cost and unchecked."""

    def add(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def add_distribution(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def bind(self, handle: "Handle") -> Callable[[Any], None]:
        self._handles.add(handle)
        handle._append = _ignore
        return _ignore

    def drop(self, reason: str, count: int = 1) -> None:
        """Nothing."""


def _ignore(_: Any) -> None:
    pass
