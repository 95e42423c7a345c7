"""The recorder: checks samples and appends them to the buffers of their series.

It never blocks and takes no lock, so a signal handler, a `__del__` or any thread may record at any
point. `methods.py` and `instruments.py` append to the buffers, `collector.py` drains them.
"""

import threading
import weakref
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from redismetrics.errors import InvalidMetric, InvalidTags, InvalidTimestamp, InvalidValue
from redismetrics.model.definition import Definition, check_amount, infer_type
from redismetrics.model.exemplar import check_exemplar
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.model.sample import Distribution, pack_and_promote
from redismetrics.model.time import Clock, steady_clock, system_clock, to_ms
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

from . import exemplars, label_values, lifecycle
from .bindings import Bindings, followed_by
from .buffers import Buffer, MetricBuffers
from .drops import Drops
from .recorder_state import RecorderState
from .registry import MetricRegistry
from .sink import Sink, StartingSink, set_silent

if TYPE_CHECKING:
    from .instruments import Instrument

_OVERFLOW = pack_tags(OVERFLOW_TAGS)


class Recorder:
    """All metrics of one client in this process. Thread-safe."""

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.clock = clock
        # For durations, such as how long samples wait: steps of `clock` don't change it.
        self.steady_clock = steady_clock
        self.sink: Sink = StartingSink()
        # A copy of the sink's attribute, which saves a lookup when recording.
        self.discards = False
        # Functions that record their own measurements before each flush.
        self.samplers: list[Callable[[], None]] = []
        # The clients that record with this recorder.
        self.clients: weakref.WeakSet[object] = weakref.WeakSet()
        # Names of metrics, and alternative names for storing them if Redis has another type.
        self.renames: dict[str, str] = {}
        self.bindings = Bindings()
        # Separate attributes, so that the fast paths need one lookup less.
        self.counters = self.bindings.counters
        self.gauges = self.bindings.gauges
        self.histograms = self.bindings.histograms
        self.summaries = self.bindings.summaries
        self.registry = MetricRegistry(self.now, self.bindings.unbind)
        self.reset()

    def reset(self, *, declared_only: bool = False) -> None:
        """Forget all samples, at the start and in a forked child.

        Definitions are kept: they may be declared once, before a server forks its workers. With
        *declared_only*, inferred ones are forgotten as well.
        """
        known = self.registry
        self.registry = MetricRegistry(self.now, self.bindings.unbind)
        self.registry.copy_definitions(known, declared_only=declared_only)
        self.drops = Drops(self.settings)
        self._starting = threading.Lock()
        self.started = self.closed = False
        # At the end of the process: called after each recording, instead of the threads.
        self.after_each: Callable[[], object] | None = None
        self.bindings.unbind()

    def now(self) -> float:
        """Return the time of the recorder's clock, in Unix seconds."""
        return self.clock()

    @property
    def metrics(self) -> dict[str, MetricBuffers]:
        """The metrics that this process knows, by name."""
        return self.registry.metrics

    # -- the sink ---------------------------------------------------------------------------------

    def attach(self, sink: Sink) -> None:
        """Send all samples to *sink* from now on."""
        changes, self.sink, self.discards = self.discards != sink.discards, sink, sink.discards
        if changes:
            for client in list(self.clients):
                self._set_silent(client)
        self.bindings.unbind()

    def add_client(self, client: object) -> None:
        """Register a client that records with this recorder."""
        self.clients.add(client)
        if self.discards:
            self._set_silent(client)

    def _set_silent(self, client: object) -> None:
        # The default client may have taken over another recorder.
        if getattr(client, "_recorder", None) is self:
            set_silent(client, self.discards)

    def suspend(self) -> RecorderState:
        """Return everything recorded so far and start empty; the definitions are kept."""
        state = RecorderState(
            self.registry, self.drops, self.started, self.closed, self.clock, self.sink
        )
        self.reset()
        return state

    def resume(self, state: RecorderState) -> None:
        """Undo `suspend`. Metrics declared in the meantime stay declared."""
        declared = self.registry.declared()
        self.registry, self.drops, self.clock = state.registry, state.drops, state.clock
        self.started, self.closed = state.started, state.closed
        for name, definition in declared.items():
            if name not in self.metrics:
                self.registry.declare(name, definition)
        self.attach(state.sink)

    # -- definitions ------------------------------------------------------------------------------

    def metric(self, name: str, kind: MetricType, *, explicit: bool) -> MetricBuffers:
        """Return the metric of this name: see `MetricRegistry.get_or_create`."""
        return self.registry.get_or_create(name, kind, explicit=explicit)

    def type_of(self, name: str, kind: MetricType | None) -> MetricType | None:
        """Return the type that a sample will have: see `MetricRegistry.type_of`."""
        return self.registry.type_of(name, kind)

    def declare(self, name: str, definition: Definition) -> None:
        """Declare a metric: see `MetricRegistry.declare`."""
        self.registry.declare(name, definition)

    def forget(self, name: str) -> None:
        """Forget a metric that Redis no longer holds; unsent samples are still sent."""
        if self.registry.forget(name):
            self.bindings.unbind()

    # -- series -----------------------------------------------------------------------------------

    def tags(self, name: str, tags: Tags | None, more: Tags | None = None) -> dict[str, str]:
        """Return the checked tags of a series: the client's own and *more*, overridden by *tags*.

        Raises:
            InvalidTags: Before anything is changed.
        """
        below = {**self.settings.tags, **(more or {})}
        clean = clean_tags({**below, **tags} if isinstance(tags, Mapping) else tags or below)
        known = self.registry.metrics.get(name)
        allowed = None if known is None else known.definition.tag_keys
        if allowed is not None:
            extra = set(clean) - set(allowed) - set(self.settings.tags)
            if extra:
                raise InvalidTags(
                    f"{name!r} is declared with the tags {list(allowed)}; got {sorted(extra)}"
                )
        return clean

    def buffer(self, metric: MetricBuffers, clean: dict[str, str]) -> Buffer:
        """Return the buffer of the series with these checked tags; create it if it is new.

        The first buffer starts the sink.
        """
        canonical = pack_tags(clean)
        buffer = metric.buffers.get(canonical)
        if buffer is None and self.started and lifecycle.reset_if_forked():
            # Its definitions are kept; its buffers belong to the parent.
            metric = self.registry.get_or_create(
                metric.name, metric.definition.type, explicit=metric.explicit
            )
        if buffer is None:
            is_full = metric.has_series(self.settings.max_series) and canonical != _OVERFLOW
            if is_full and not self._forget_sent(metric):
                self.drops.overflow(metric.name, "", 1)
                canonical = _OVERFLOW
            new = Buffer(canonical)
            buffer = metric.buffers.setdefault(canonical, new)
            if buffer is new:
                metric.nbytes += len(canonical)
        if not self.started and self.after_each is None and self._starting.acquire(blocking=False):
            try:
                if not self.started:
                    self.started = True
                    self.sink.start()
            finally:
                self._starting.release()
        return buffer

    def _forget_sent(self, metric: MetricBuffers) -> bool:
        """Forget the series that have no unsent samples; return whether there are any.

        They may have been deleted by now. Redis counts existing ones against `max_series`.
        """
        bound = self.bindings.buffers()
        gone = MetricBuffers(metric.name, metric.definition, explicit=metric.explicit)
        for canonical, buffer in list(metric.buffers.items()):
            if buffer.is_empty and buffer not in bound:
                found = metric.buffers.pop(canonical, None)
                if found is not None:
                    gone.buffers[canonical] = found
        if not gone.buffers:
            return False
        # Threads may be appending to one right now: it is drained a while longer.
        self.bindings.clear_caches()
        self.registry.retired.append(gone)
        return True

    def start_again(self) -> None:
        """Start the sink at the next recording of each series: it failed to start, or paused."""
        self.started = False
        self.bindings.unbind()

    def _is_drained(self, metric: MetricBuffers, buffer: Buffer) -> bool:
        """Return False if another thread has replaced or forgotten this buffer in the meantime."""
        known = (
            self.registry.metrics.get(metric.name) is metric
            and metric.buffers.get(buffer.canonical) is buffer
        )
        return known and self.started and not self.closed

    def bind(self, instrument: "Instrument") -> Callable[[Any], None]:
        """Bind an instrument to its buffer; return the function that records its current item."""
        # Added first, so that it is unbound if another thread replaces the buffer in the meantime.
        self.bindings.add(instrument)
        if self.discards:
            return instrument.bind_to(_ignore)
        if self.closed:
            return instrument.bind_to(self._drop_closed)
        try:
            clean = self.tags(instrument.name, instrument.tags)
            metric = self.metric(instrument.name, instrument.kind, explicit=True)
            buffer = self.buffer(metric, clean)
        except InvalidTags:
            if self.settings.on_invalid == "raise":
                raise
            return instrument.bind_to(self._drop_invalid)
        values = buffer.values
        append: Callable[[Any], None]
        append = values.append if instrument.kind == "counter" else values.extend
        instrument.bind_to(append, buffer, self.clock)
        if not self._is_drained(metric, buffer):
            instrument.unbind()
            if self.after_each is not None:
                append = followed_by(append, self.after_each)
            return self._drop_closed if self.closed else append
        return append

    def _drop_closed(self, _: Any = None, count: int = 1) -> None:
        self.drop("closed", count)
        if not self.discards:
            self.warn_once(
                "samples are dropped as `closed`: they were recorded after close(), or too late "
                "at the end of the process"
            )

    def _drop_invalid(self, _: Any) -> None:
        self.drop("invalid")

    # -- the checked path -------------------------------------------------------------------------

    def add(
        self,
        kind: MetricType | None,
        name: str,
        value: Any,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        exemplar: Mapping[str, Any] | None = None,
        *,
        change: bool = False,
        buffer: Buffer | None = None,
    ) -> None:
        """Check everything, then record one sample.

        A *kind* of None is inferred. With *change*, *value* is added to a gauge's shared value.
        """
        if self.closed or self.discards:
            self._drop_closed()
            return
        check_name(name)
        explicit = kind is not None
        try:
            kind, amount, time_ms, packed, clean = self.checked(
                kind, name, value, tags, metadata, timestamp, bound=buffer is not None
            )
            labels = None if exemplar is None else check_exemplar(name, kind, exemplar)
        except (InvalidValue, InvalidTags, InvalidTimestamp) as error:
            self.refuse(error)
            return
        metric = self.registry.get_or_create(name, kind, explicit=explicit)
        kind = metric.definition.type
        if buffer is None:
            assert clean is not None, "BUG: tags that were not checked"
            buffer = self.buffer(metric, clean)
            if kind in LABEL_TYPES:
                label_values.clear_replaced(self, metric, clean, buffer, time_ms)
        if time_ms is not None or packed is not None:
            now_ms = int(self.clock() * 1000)
            buffer.extra.append(
                (now_ms if time_ms is None else time_ms, time_ms is not None, amount, packed)
            )
        elif kind == "counter":
            buffer.values.append(amount)
        else:
            buffer.values.extend((-self.clock() if change else self.clock(), amount))
        if labels is not None:
            at_ms = int(self.clock() * 1000) if time_ms is None else time_ms
            exemplars.note(metric, buffer.canonical, at_ms, amount, labels)
        if packed is None and time_ms is None and explicit:
            self._remember(metric, tags, buffer)
        if self.after_each is not None:
            self.after_each()

    def add_distribution(
        self,
        name: str,
        distribution: Distribution,
        tags: Tags | None = None,
        timestamp: Any = None,
        kind: MetricType = "histogram",
    ) -> None:
        """Record many values of a histogram or summary at once, aggregated elsewhere.

        Raises as `add` does.
        """
        if self.closed or self.discards:
            self._drop_closed(count=distribution.count)
            return
        check_name(name)
        try:
            time_ms = int(self.clock() * 1000) if timestamp is None else to_ms(timestamp)
            clean = self.tags(name, tags)
        except (InvalidTags, InvalidTimestamp) as error:
            self.refuse(error, distribution.count)
            return
        self.buffer(self.metric(name, kind, explicit=True), clean).distributions.append(
            (time_ms, distribution)
        )
        if self.after_each is not None:
            self.after_each()

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
        """Return type, value, time in ms, packed metadata and tags of one sample.

        Has no side effects. The tags of a *bound* series are not checked.

        Raises:
            InvalidMetric: A subclass of it, for the first argument that is not valid.
        """
        kind = self.registry.type_of(name, kind)
        if kind in LABEL_TYPES:
            return label_values.checked(self, kind, name, value, tags, metadata, timestamp)
        amount = check_number(value)
        time_ms = to_ms(timestamp) if timestamp is not None else None
        packed, promoted = pack_and_promote(metadata, self.settings.promoted_tags)
        clean = None if bound else self.tags(name, tags, promoted)
        kind = kind or infer_type(name, value)
        check_amount(name, kind, amount)
        return kind, amount, time_ms, packed, clean

    def _remember(self, metric: MetricBuffers, tags: Tags | None, buffer: Buffer) -> None:
        """Let the next unbound call find the buffer with one lookup."""
        undo = self.bindings.remember(metric.name, metric.definition.type, tags, buffer)
        if not self._is_drained(metric, buffer):
            undo()

    # -- drops ------------------------------------------------------------------------------------

    def refuse(self, error: InvalidMetric, count: int = 1) -> None:
        """Raise *error* or count the samples as dropped, depending on the setting `on_invalid`."""
        if self.settings.on_invalid == "raise":
            raise error
        self.drop("invalid", count)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count samples as dropped."""
        if not self.discards:
            self.drops.drop(reason, count)

    def dropped(self) -> Tally[str]:
        """Return the number of samples dropped so far, by reason."""
        return self.drops.totals()

    def warn_once(self, message: str, *arguments: Any) -> None:
        """Log a warning, but only the first time."""
        self.drops.warn_once(message, *arguments)

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Count further samples as dropped; instruments notice on their next use."""
        self.closed = True
        self.after_each = None
        self.bindings.unbind()

    def send_each_call(self, send: Callable[[], object]) -> None:
        """Reopen after `close`: each call records, then calls *send*."""
        self.after_each = send
        self.started = self.closed = False
        self.bindings.unbind()

    def holds(self) -> bool:
        """Return whether there is a sample in the buffers."""
        return any(
            not buffer.is_empty
            for metric in [*list(self.metrics.values()), *self.registry.retired]
            for buffer in list(metric.buffers.values())
        )

    def waiting(self) -> int:
        """Return the number of samples in the buffers."""
        return sum(metric.waiting() for metric in self.registry.all())

    def take_waiting(self) -> int:
        """Empty the buffers; return the number of samples removed."""
        total = self.waiting()
        for metric in self.registry.all():
            for buffer in list(metric.buffers.values()):
                buffer.clear()
        return total


def _ignore(_: Any) -> None:
    """The recording function of instruments whose sink discards everything."""
