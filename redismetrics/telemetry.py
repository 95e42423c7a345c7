"""Events and what is attached to them: an event bus inside one process, and handlers that make metrics of its events.

    telemetry.attach_telemetry([(("work", "job", "completed"), "counter")])
    telemetry.execute(("work", "job", "completed"), {"count": 1}, {"tenant": "cns"})

Who executes an event knows nothing of who listens, and feels nothing of it: handlers run in the caller's thread, and one that
raises is detached and logged. The table of handlers is replaced as a whole and never changed, so that `execute` takes no lock.
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import verbs
from .errors import InvalidMetric, InvalidName, InvalidTags, InvalidValue
from .model import MetricType, check_name, check_type, define, number
from .recorder import Recorder
from .verbs import Recording

log = logging.getLogger("redismetrics")

Event = tuple[str, ...]
Measurements = Mapping[str, Any]
Metadata = Mapping[str, Any]
Handler = Callable[[Event, Measurements, Metadata], object]
TagsOf = Iterable[str] | Mapping[str, str | None] | Callable[[Metadata], Mapping[str, Any]] | None

# The measurement that is the value where none is named: the first that is there, as in the original.
_USUAL: Final[dict[MetricType, tuple[str, ...]]] = {
    "counter": ("count", "total"),
    "gauge": ("value", "size", "depth", "active"),
    "histogram": ("duration", "latency", "time", "value"),
}

_UNITS: Final = {
    "time": {
        "ns": 1e-9, "nanoseconds": 1e-9, "us": 1e-6, "microseconds": 1e-6, "ms": 1e-3, "milliseconds": 1e-3,
        "s": 1.0, "seconds": 1.0, "min": 60.0, "minutes": 60.0, "h": 3600.0, "hours": 3600.0,
    },
    "size": {
        "B": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
        "kilobytes": 1e3, "megabytes": 1e6, "gigabytes": 1e9,
    },
    "share": {"ratio": 1.0, "percent": 0.01},
}  # fmt: skip


# -- the bus ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Attached:
    """What stands under one id: a function for each event, or several."""

    id: str
    functions: Sequence[tuple[Event, Handler]]
    specs: "tuple[EventMetric, ...]" = ()
    metrics: Recording | None = None


_lock = threading.RLock()  # reentrant: a signal's handler may attach while its thread is at it
_attached: dict[str, _Attached] = {}
_table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
_numbers = itertools.count(1)


def execute(event: Iterable[str], measurements: Measurements | None = None, metadata: Metadata | None = None) -> None:
    """Run every handler of *event*, in the order in which they were attached. Costs next to nothing where there is none.

    Raises:
        InvalidName: *event* is not a sequence of texts. Whatever a handler does is not felt here.
    """
    try:
        handlers = _table.get(event)  # type: ignore[call-overload]  # the fast path: a tuple
    except TypeError:
        handlers = None
    if handlers is None:
        if event.__class__ is tuple:
            return
        event = _event(event)
        handlers = _table.get(event, ())
    for handler_id, function in handlers:
        try:
            function(event, measurements or {}, metadata or {})
        except Exception:
            detach(handler_id)
            log.exception("telemetry handler %r failed on %s and is detached", handler_id, event)


def attach(handler_id: str, events: Iterable[Iterable[str]], function: Handler) -> None:
    """Let *function* be called as ``function(event, measurements, metadata)`` for each of *events*, in the executing thread.

    Raises:
        InvalidMetric: the id is in use, an event is not a tuple of texts, or *function* is no function.
    """
    if not callable(function):
        raise InvalidValue(f"function: wanted function(event, measurements, metadata), got {function!r:.60}")
    with _lock:
        _check_id(handler_id)
        _attach(_Attached(handler_id, [(event, function) for event in dict.fromkeys(_events(events))]))


def detach(handler_id: str) -> bool:
    """Detach a handler; False when there is none of that id."""
    with _lock:
        if _attached.pop(handler_id, None) is None:
            return False
        _rebuild()
        return True


def list_handlers(prefix: Iterable[str] = ()) -> list[dict[str, Any]]:
    """What is attached to the events that begin with *prefix*: dicts of `id`, `events`, `function` and `metrics`.

    `metrics` are the names that `attach_telemetry` records, and then there is no `function`.
    """
    head = _event(prefix) if prefix else ()
    return [
        {
            "id": found.id,
            "events": list(dict(found.functions)),
            "function": None if found.specs else found.functions[0][1],
            "metrics": [spec.metric_name for spec in found.specs],
        }
        for found in list(_attached.values())
        if any(event[: len(head)] == head for event, _ in found.functions)
    ]


def _attach(new: _Attached) -> None:
    _attached[new.id] = new
    _rebuild()


def _rebuild() -> None:
    global _table
    table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
    for found in _attached.values():
        for event, function in found.functions:
            table[event] = (*table.get(event, ()), (found.id, function))
    _table = table


def _event(event: object) -> Event:
    """An event as a tuple of texts."""
    parts = tuple(event) if isinstance(event, Iterable) and not isinstance(event, str | bytes | Mapping) else ()
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise InvalidName(f"event: wanted a tuple of texts such as ('work', 'job', 'completed'), got {event!r:.80}")
    return parts


def _events(events: Iterable[Iterable[str]]) -> tuple[Event, ...]:
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise InvalidName(f"events: wanted several events, got {events!r:.80}")
    found = tuple(_event(event) for event in events)
    if not found:
        raise InvalidName("events: wanted at least one, got none")
    return found


def _check_id(handler_id: object) -> None:
    if not isinstance(handler_id, str) or not handler_id or handler_id in _attached:
        raise InvalidName(f"handler_id: wanted text that is not in use, got {handler_id!r:.60}")


# -- a span -------------------------------------------------------------------------------------------------------


class span:  # noqa: N801  # used as a function
    """``with telemetry.span(("db", "query"), {"table": "users"}) as metadata:`` as three events.

    ``(..., "start")`` with `system_time` (Unix time in ns); then ``(..., "stop")`` with `duration` in ns, or, where the body
    raised, ``(..., "exception")`` with `duration` and in its metadata `error`, the class of what was raised, which goes on.
    What the body puts into *metadata* comes with the second event.
    """

    __slots__ = ("_began", "_event", "_metadata")

    def __init__(self, event: Iterable[str], metadata: Metadata | None = None) -> None:
        self._event = _event(event)
        self._metadata = dict(metadata or {})

    def __enter__(self) -> dict[str, Any]:
        execute((*self._event, "start"), {"system_time": time.time_ns()}, dict(self._metadata))
        self._began = time.perf_counter_ns()
        return self._metadata

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        measurements = {"duration": time.perf_counter_ns() - self._began}
        if kind is None:
            execute((*self._event, "stop"), measurements, self._metadata)
        else:
            execute((*self._event, "exception"), measurements, {**self._metadata, "error": kind.__name__})


# -- events become metrics ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventMetric:
    """How one measurement of one event becomes one metric, for `attach_telemetry`.

    *measurement* is the one that is the value. Without it: of a counter ``count`` or ``total``, else 1; of a gauge ``value``,
    ``size``, ``depth`` or ``active``; of a histogram ``duration``, ``latency``, ``time`` or ``value``; else the only one there
    is. *name* is by default the event's parts joined by ``_``, and a named measurement's name after them.

    *unit* is the unit of the value, or a pair: the one it comes in and the one that is recorded, such as ``("ns", "ms")``. The
    metric is declared with it.

    *tags* are taken from the event's metadata. By default those of the setting `promoted_tags`; an iterable of keys: those
    alone; a mapping: the default ones and these renamed (``{"queue_name": "queue"}``) or, by None, dropped; a function of the
    metadata: what it returns. *keep* are metadata keys, or True for all, that stay with the sample as its metadata, which
    makes each event a sample of its own.
    """

    event: Iterable[str]
    type: MetricType
    measurement: str | None = None
    name: str | None = None
    unit: str | tuple[str, str] | None = None
    tags: TagsOf = None
    keep: Iterable[str] | bool = False

    def __post_init__(self) -> None:
        set_to = object.__setattr__
        set_to(self, "event", _event(self.event))
        check_type(self.type)
        if self.measurement is not None and not isinstance(self.measurement, str):
            raise InvalidValue(f"measurement: wanted text, got {self.measurement!r:.60}")
        _factor(self.unit)
        if isinstance(self.tags, str):
            raise InvalidTags(f"tags: wanted several keys, a mapping or a function, got the text {self.tags!r:.60}")
        if isinstance(self.tags, Mapping):
            set_to(self, "tags", dict(self.tags))
            names: list[Any] = [name for name in self.tags.values() if name is not None]
        elif self.tags is None or callable(self.tags):
            names = []
        else:
            set_to(self, "tags", tuple(self.tags))
            names = list(self.tags)
        for name in names:
            check_name(name, "tag key")
        if not isinstance(self.keep, bool):
            if isinstance(self.keep, str):
                raise InvalidTags(f"keep: wanted several keys or a bool, got the text {self.keep!r:.60}")
            set_to(self, "keep", tuple(self.keep))
        check_name(self.metric_name)

    @property
    def metric_name(self) -> str:
        """The name of the metric."""
        parts = self.event if self.measurement is None else (*self.event, self.measurement)
        return self.name if self.name is not None else "_".join(parts)


EventSpec = EventMetric | tuple[Iterable[str], MetricType | Mapping[str, MetricType]]


def attach_telemetry(
    events: Iterable[EventSpec], *, handler_id: str | None = None, metrics: Recording | None = None
) -> str:
    """Record telemetry events as metrics.

    Args:
        events: each an ``(event, type)``, an ``(event, {measurement: type, ...})`` for several metrics of one event, or an
            `EventMetric`. The type is what is recorded, whatever the value looks like.
        handler_id: what `detach_telemetry` is told; made up when None. Without one, the same list attached again to the
            same client stays attached once, so an app factory may run twice.
        metrics: the client that records; the default client when None, also one that is configured later.

    Returns:
        The handler's id.

    Raises:
        InvalidMetric: a branch of it: a wrong event, type, unit or name, an id in use, or a metric of another type.

    A sample that can't be recorded (a measurement missing, no number) is counted as dropped, ``invalid``, and logged once.
    """
    if isinstance(events, str | Mapping) or not isinstance(events, Iterable):
        raise InvalidName(f"events: wanted a list of (event, type), got {events!r:.80}")
    specs = tuple(spec for item in events for spec in _specs(item))
    if not specs:
        raise InvalidName("events: wanted at least one (event, type), got none")
    if metrics is not None and not isinstance(metrics, Recording):
        raise InvalidValue(f"metrics: wanted a client, got {metrics!r:.60}")
    with _lock:
        if handler_id is None:
            for found in _attached.values():
                if found.metrics is metrics and found.specs == specs:
                    return found.id
            handler_id = next(made for n in _numbers if (made := f"redismetrics-{n}") not in _attached)
        _check_id(handler_id)
        recorders = [_EventRecorder(spec, metrics) for spec in specs]
        for recorder in recorders:
            recorder.check()
        for recorder in recorders:
            recorder.declare()
        functions = [(recorder.event, recorder) for recorder in recorders]
        _attach(_Attached(handler_id, functions, specs, metrics))
    return handler_id


def detach_telemetry(handler_id: str | None = None) -> bool:
    """Detach what `attach_telemetry` attached under that id, or all that it ever attached; False when there was nothing."""
    if handler_id is not None:
        return detach(handler_id)
    ours = [found.id for found in list(_attached.values()) if found.specs]
    return sum(map(detach, ours)) > 0


def _specs(item: Any) -> Iterable[EventMetric]:
    if isinstance(item, EventMetric):
        return (item,)
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InvalidName(
            f"events: wanted (event, type), (event, {{measurement: type}}) or EventMetric, got {item!r:.80}"
        )
    event, kind = item
    if isinstance(kind, Mapping):
        return [EventMetric(event, of, measurement=measurement) for measurement, of in kind.items()]
    return (EventMetric(event, kind),)


def _factor(unit: Any) -> tuple[float, str]:
    """What values are multiplied by, and the unit that they then have."""
    if unit is None:
        return 1.0, ""
    if isinstance(unit, str):
        return 1.0, check_name(unit, "unit")
    if isinstance(unit, tuple) and len(unit) == 2 and all(isinstance(part, str) for part in unit):
        for known in _UNITS.values():
            if unit[0] in known and unit[1] in known:
                return known[unit[0]] / known[unit[1]], unit[1]
    known_units = ", ".join(name for of_a_kind in _UNITS.values() for name in of_a_kind)
    raise InvalidValue(
        f"unit: wanted a unit, or a pair of one kind such as ('ns', 'ms') of {known_units}; got {unit!r:.60}"
    )


class _EventRecorder:
    """Records one `EventMetric`. The client is looked up at each event: the default one may be another by then."""

    def __init__(self, spec: EventMetric, metrics: Recording | None) -> None:
        self.event: Event = tuple(spec.event)
        self.name, self.kind, self.measurement = spec.metric_name, spec.type, spec.measurement
        self._metrics = metrics
        self._factor, self._unit = _factor(spec.unit)
        self._tags, self._keep = spec.tags, spec.keep
        self._function = spec.tags if callable(spec.tags) else None
        self._usual = _USUAL[spec.type]
        self._first = self._usual[0] if spec.measurement is None else spec.measurement
        self._recorder: Recorder | None = None
        self._write: Callable[..., None]
        self._renamed: dict[str, str]

    def _client(self) -> Recording:
        return verbs.default_client() if self._metrics is None else self._metrics

    def check(self) -> None:
        """Raise `TypeMismatch` where the metric is known as another type; touches nothing."""
        self._client()._recorder.type_of(self.name, self.kind)

    def declare(self) -> None:
        """Let the type be known, and the unit where there is one and none was declared."""
        recorder = self._client()._recorder
        known = recorder.metrics.get(self.name)
        if self._unit and (known is None or not (known.explicit or known.learned)):
            recorder.declare(self.name, define(self.name, self.kind, unit=self._unit))
        else:
            recorder.metric(self.name, self.kind, explicit=True)

    def __call__(self, event: Event, measurements: Measurements, metadata: Metadata) -> None:
        """Handle one event."""
        metrics = self._metrics
        client = verbs.default_client() if metrics is None else metrics
        if client._recorder is not self._recorder:
            self._bind(client)
        try:
            value = measurements.get(self._first)  # the fast path
            if value is None:
                value = self._value(measurements)
            if self._factor != 1.0:
                value = number(value) * self._factor
            tags: Mapping[str, Any]
            if self._function is not None:
                tags = self._function(metadata)
            else:
                renamed = self._renamed
                tags = {renamed[key]: metadata[key] for key in metadata if key in renamed}
            if self._keep:
                alone = {**dict.fromkeys(client._recorder.settings.promoted_tags), **tags}  # none beside these
                client.record(self.name, value, type=self.kind, tags=alone, metadata=self._kept(metadata))
            else:
                self._write(self.name, value, tags=tags)
        except InvalidMetric as error:
            client._recorder.drop("invalid")
            client._recorder.tell_once("%s is not recorded as %s: %s", "/".join(self.event), self.name, str(error))

    def _bind(self, client: Recording) -> None:
        """Work out what is the same for all events of one client."""
        wanted: Any = {key: key for key in client._recorder.settings.promoted_tags}
        if isinstance(self._tags, dict):
            wanted.update(self._tags)
        elif isinstance(self._tags, tuple):
            wanted = {key: key for key in self._tags}
        self._renamed = {key: tag for key, tag in wanted.items() if tag is not None}
        self._write = getattr(client, "increment" if self.kind == "counter" else self.kind)
        self._recorder = client._recorder

    def _value(self, measurements: Measurements) -> Any:
        if self.measurement is not None:
            if self.measurement in measurements:
                return measurements[self.measurement]
            raise InvalidValue(f"wanted the measurement {self.measurement!r}, got {sorted(measurements)!r:.80}")
        for key in self._usual:
            value = measurements.get(key)
            if value is not None:
                return value
        if self.kind == "counter":
            return 1
        if len(measurements) == 1:
            return next(iter(measurements.values()))
        raise InvalidValue(f"wanted one of the measurements {', '.join(self._usual)}, got {sorted(measurements)!r:.80}")

    def _kept(self, metadata: Metadata) -> Metadata:
        if isinstance(self._keep, bool):
            return metadata
        return {key: metadata[key] for key in self._keep if key in metadata}


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
