"""Bound instruments, whose name and tags are checked once: `Counter`, `Gauge`, `Histogram`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import copysign
from typing import Any, Self

from redismetrics.model.definition import define
from redismetrics.model.time import Clock, system_clock
from redismetrics.model.validation import MetricType, Tags, check_name, clean_tags

from .buffers import Buffer
from .methods import ONE, Recording
from .recorder import Recorder
from .timer import Timer, check_unit, time_scale


def _no_default() -> Recording:
    raise RuntimeError("BUG: redismetrics.client.default was never imported")


# The client of instruments created without one. `client/default.py` sets it.
default_client: Callable[[], Recording] = _no_default


class Instrument:
    """A series with a name and tags.

    It binds to its client on first use, so `configure()` may be called after it is created. A copy,
    even a pickled one, is a handle of the same series and binds where it is used.

    Attributes:
        buffer: The buffer for its samples, once it is bound.
    """

    __slots__ = ("__weakref__", "_append", "_clock", "_metrics", "buffer", "name", "tags")
    kind: MetricType

    def __init__(
        self, name: str, tags: Tags | None = None, *, metrics: "Recording | None" = None
    ) -> None:
        self.name = check_name(name)
        self.tags = clean_tags(tags)
        self._metrics = metrics
        self.unbind()

    def with_tags(self, tags: Tags | None = None, /, **more: Any) -> Self:
        """Return an instrument of the same metric with these tags added."""
        return type(self)(self.name, {**self.tags, **(tags or {}), **more}, metrics=self._metrics)

    def __reduce__(self) -> Any:
        # The buffer belongs to this process, so it is left out.
        state: Any = object.__getstate__(self)
        own, slots = state
        added = {name: value for name, value in slots.items() if name not in Instrument.__slots__}
        state = (own, added) if own or added else None
        return _rebuild, (type(self), self.name, self.tags, self._metrics), state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.tags!r})"

    def bind_to(
        self,
        append: Callable[[Any], None],
        buffer: Buffer | None = None,
        clock: Clock = system_clock,
    ) -> Callable[[Any], None]:
        """Record through *append* from now on; return it. For `Recorder.bind`."""
        self.buffer = buffer
        self._clock = clock
        self._append = append
        return append

    def unbind(self) -> None:
        """Look up the buffer again on the next use."""
        self.bind_to(self._first)

    def _recorder(self) -> Recorder:
        return (default_client() if self._metrics is None else self._metrics)._recorder

    def _first(self, item: Any) -> None:
        """Bind to the client's buffer, and record *item* with the client's clock."""
        append = self._recorder().bind(self)
        if self._clock is not system_clock and item.__class__ is tuple:
            item = (copysign(self._clock(), item[0]), item[1])
        append(item)

    def _slow(self, value: Any, *, change: bool = False, exemplar: Any = None) -> None:
        """Check *value* and record it. The slow path: the fast ones accept only plain numbers."""
        self._recorder().add(
            self.kind,
            self.name,
            value,
            self.tags,
            exemplar=exemplar,
            change=change,
            buffer=self.buffer,
        )


def _rebuild(
    kind: type[Instrument], name: str, tags: dict[str, str], metrics: Recording | None
) -> Instrument:
    """Return an unbound copy of an instrument."""
    made = kind.__new__(kind)
    Instrument.__init__(made, name, tags, metrics=metrics)
    return made


class Counter(Instrument):
    """A bound counter: `.increment(amount=1)`. Create it once and use it from any thread."""

    __slots__ = ()
    kind = "counter"

    def increment(self, amount: int | float = 1, exemplar: Mapping[str, Any] | None = None) -> None:
        """Add *amount*, which must be at least 0. For *exemplar*, see `Metrics.increment`."""
        if exemplar is None and (
            amount is ONE or (amount.__class__ is int and 0 <= amount <= 1 << 53)
        ):
            self._append(amount)
        else:
            self._slow(amount, exemplar=exemplar)


class Gauge(Instrument):
    """A bound gauge: `.set(value)`, `.add(delta)`.

    With ``per="process"``, each process has its own value, and *merge* says how they are combined
    when they are read; see `Metrics.declare`.
    """

    __slots__ = ("_merge", "_per")
    kind = "gauge"

    def __init__(
        self,
        name: str,
        tags: Tags | None = None,
        *,
        metrics: "Recording | None" = None,
        per: str | None = None,
        merge: str | None = None,
    ) -> None:
        super().__init__(name, tags, metrics=metrics)
        define(name, "gauge", per=per, merge=merge)
        self._per, self._merge = per, merge

    def with_tags(self, tags: Tags | None = None, /, **more: Any) -> Self:
        """Return a gauge of the same metric with these tags added."""
        added = {**self.tags, **(tags or {}), **more}
        return type(self)(self.name, added, metrics=self._metrics, per=self._per, merge=self._merge)

    def _first(self, item: Any) -> None:
        self._declare()
        super()._first(item)

    def _slow(self, value: Any, *, change: bool = False, exemplar: Any = None) -> None:
        if self.buffer is None:
            self._declare()
        super()._slow(value, change=change, exemplar=exemplar)

    def _declare(self) -> None:
        if self._per is not None:
            registry = self._recorder().registry
            registry.give_options(self.name, "gauge", per=self._per, merge=self._merge)

    def set(self, value: float) -> None:
        """Set the value."""
        if value.__class__ is float and -1.7e308 <= value <= 1.7e308:
            self._append((self._clock(), value))
        else:
            self._slow(value)

    def add(self, delta: float) -> None:
        """Change the value that all processes share, or this process's own value.

        One flush stores the net change as one sample.
        """
        if delta.__class__ is float and -1.7e308 <= delta <= 1.7e308:
            self._append((-self._clock(), delta))
        else:
            self._slow(delta, change=True)


class Histogram(Instrument):
    """A bound histogram: `.record(value)`, `.time()`."""

    __slots__ = ()
    kind = "histogram"

    def record(self, value: float, exemplar: Mapping[str, Any] | None = None) -> None:
        """Record one value. For *exemplar*, see `Metrics.histogram`."""
        if exemplar is None and value.__class__ is float and -1.7e308 <= value <= 1.7e308:
            self._append((self._clock(), value))
        else:
            self._slow(value, exemplar=exemplar)

    def time(self, unit: str | None = None) -> Timer:
        """Measure a `with` body or decorate a function, like `Metrics.measure`."""
        check_unit(unit)
        return Timer(_MeasuredSeries(self, unit))


@dataclass(frozen=True, slots=True)
class _MeasuredSeries:
    """The series of one `Histogram.time` or `SummaryInstrument.time`."""

    instrument: "Histogram | SummaryInstrument"
    unit: str | None

    def scale(self) -> float:
        """Return the factor from seconds to the metric's unit."""
        measured = self.instrument
        return time_scale(measured._recorder(), measured.name, self.unit, measured.kind)

    def record(self, elapsed: float, error: BaseException | None) -> None:
        """Record a duration."""
        self.instrument.record(elapsed)


class InfoInstrument(Instrument):
    """An info, as returned by `Metrics.info`: `.set(labels)`."""

    __slots__ = ()
    kind = "info"

    def set(self, labels: Mapping[str, Any], **tags: Any) -> None:
        """Set the labels of the series with these *tags*, replacing those set before."""
        self._recorder().add(self.kind, self.name, labels, {**self.tags, **tags})


class StateSetInstrument(Instrument):
    """A state set, as returned by `Metrics.state_set`: `.set(state)`."""

    __slots__ = ()
    kind = "stateset"

    def set(self, state: str, **tags: Any) -> None:
        """Set the state of the series with these *tags*; all other states are 0."""
        self._recorder().add(self.kind, self.name, state, {**self.tags, **tags})


class SummaryInstrument(Instrument):
    """A bound summary, as returned by `Metrics.summary`: `.record(value)`, `.time()`."""

    __slots__ = ()
    kind = "summary"

    def record(self, value: float, **tags: Any) -> None:
        """Record one value, in the series with these additional *tags*."""
        if tags:
            client = default_client() if self._metrics is None else self._metrics
            client._record_value(
                client._recorder.summaries,
                "summary",
                self.name,
                value,
                {**self.tags, **tags},
                None,
                None,
            )
        elif value.__class__ is float and -1.7e308 <= value <= 1.7e308:
            self._append((self._clock(), value))
        else:
            self._slow(value)

    def time(self, unit: str | None = None) -> Timer:
        """Measure a `with` body or decorate a function, like `Histogram.time`."""
        check_unit(unit)
        return Timer(_MeasuredSeries(self, unit))
