"""Turn telemetry events into metrics."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redismetrics.errors import InvalidMetric, InvalidName, InvalidTags, InvalidValue
from redismetrics.model.definition import define
from redismetrics.model.units import SECONDS_PER_UNIT
from redismetrics.model.validation import MetricType, check_name, check_number, check_type
from redismetrics.recording import instruments
from redismetrics.recording.methods import Recording
from redismetrics.recording.recorder import Recorder

from .bus import (
    Attached,
    Event,
    Measurements,
    Metadata,
    _attached,
    _lock,
    _numbers,
    attach_checked,
    check_event,
    check_id,
    detach,
)

TagsOf = Iterable[str] | Mapping[str, str | None] | Callable[[Metadata], Mapping[str, Any]] | None

# The measurement that is the value where none is named: the first that is there, as in the original.
_USUAL: Final[dict[MetricType, tuple[str, ...]]] = {
    "counter": ("count", "total"),
    "gauge": ("value", "size", "depth", "active"),
    "histogram": ("duration", "latency", "time", "value"),
}

_UNITS: Final = {
    "time": SECONDS_PER_UNIT,
    "size": {
        "B": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
        "kilobytes": 1e3, "megabytes": 1e6, "gigabytes": 1e9,
    },
    "share": {"ratio": 1.0, "percent": 0.01},
}  # fmt: skip


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
        set_to(self, "event", check_event(self.event))
        check_type(self.type)
        if self.measurement is not None and not isinstance(self.measurement, str):
            raise InvalidValue(f"measurement: wanted text, got {self.measurement!r:.60}")
        _factor(self.unit)
        if isinstance(self.tags, str):
            raise InvalidTags(
                f"tags: wanted several keys, a mapping or a function, got the text {self.tags!r:.60}"
            )
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
                raise InvalidTags(
                    f"keep: wanted several keys or a bool, got the text {self.keep!r:.60}"
                )
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
            handler_id = next(
                made for n in _numbers if (made := f"redismetrics-{n}") not in _attached
            )
        check_id(handler_id)
        recorders = [_EventRecorder(spec, metrics) for spec in specs]
        for recorder in recorders:
            recorder.check()
        for recorder in recorders:
            recorder.declare()
        functions = [(recorder.event, recorder) for recorder in recorders]
        attach_checked(Attached(handler_id, functions, specs, metrics))
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
        return instruments.default_client() if self._metrics is None else self._metrics

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
        client = instruments.default_client() if metrics is None else metrics
        if client._recorder is not self._recorder:
            self._bind(client)
        try:
            value = measurements.get(self._first)  # the fast path
            if value is None:
                value = self._value(measurements)
            if self._factor != 1.0:
                value = check_number(value) * self._factor
            tags: Mapping[str, Any]
            if self._function is not None:
                tags = self._function(metadata)
            else:
                renamed = self._renamed
                tags = {renamed[key]: metadata[key] for key in metadata if key in renamed}
            if self._keep:
                alone = {
                    **dict.fromkeys(client._recorder.settings.promoted_tags),
                    **tags,
                }  # none beside these
                client.record(
                    self.name, value, type=self.kind, tags=alone, metadata=self._kept(metadata)
                )
            else:
                self._write(self.name, value, tags=tags)
        except InvalidMetric as error:
            client._recorder.drop("invalid")
            client._recorder.warn_once(
                "%s is not recorded as %s: %s", "/".join(self.event), self.name, str(error)
            )

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
            raise InvalidValue(
                f"wanted the measurement {self.measurement!r}, got {sorted(measurements)!r:.80}"
            )
        for key in self._usual:
            value = measurements.get(key)
            if value is not None:
                return value
        if self.kind == "counter":
            return 1
        if len(measurements) == 1:
            return next(iter(measurements.values()))
        raise InvalidValue(
            f"wanted one of the measurements {', '.join(self._usual)}, got {sorted(measurements)!r:.80}"
        )

    def _kept(self, metadata: Metadata) -> Metadata:
        if isinstance(self._keep, bool):
            return metadata
        return {key: metadata[key] for key in self._keep if key in metadata}
