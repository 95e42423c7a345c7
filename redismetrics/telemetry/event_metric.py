"""`EventMetric`: how one measurement of an event becomes a metric."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redismetrics.errors import InvalidTags, InvalidValue, TypeMismatch, shown
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.model.units import SECONDS_PER_UNIT
from redismetrics.model.validation import MetricType, check_name, check_type

from .bus import Metadata, check_event

TagSelection = (
    Iterable[str] | Mapping[str, str | None] | Callable[[Metadata], Mapping[str, Any]] | None
)

# Units that can be converted into each other, with their sizes.
_UNITS: Final = {
    "time": SECONDS_PER_UNIT,
    "size": {
        "B": 1.0,
        "bytes": 1.0,
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
        "kilobytes": 1e3,
        "megabytes": 1e6,
        "gigabytes": 1e9,
    },
    "ratio": {"ratio": 1.0, "percent": 0.01},
}


@dataclass(frozen=True, slots=True)
class EventMetric:
    """How one measurement of an event becomes a metric, for `attach_telemetry`.

    Attributes:
        event: The event, a tuple of text.
        type: The type of the metric.
        measurement: The measurement to use as the value. By default, for a counter ``count`` or
            ``total``, otherwise 1; for a gauge ``value``, ``size``, ``depth`` or ``active``; for a
            histogram or summary ``duration``, ``latency``, ``time`` or ``value``; otherwise the
            only measurement.
        name: The name of the metric; by default the parts of the event and *measurement*, if given,
            joined with ``_``.
        unit: The unit of the value, or a pair of the measurement's unit and the unit to record,
            such as ``("ns", "ms")``. The metric is declared with it.
        tags: Which metadata become tags. None: the keys in the setting `promoted_tags`. An iterable
            of keys: only these. A mapping: the default keys, and these under another name
            (``{"queue_name": "queue"}``), or dropped if the name is None. A function: its result
            for the metadata.
        keep: Keys to keep as the sample's metadata, or True for all. Each event then becomes a
            separate sample.

    Raises:
        InvalidMetric: If an attribute is invalid.
    """

    event: Iterable[str]
    type: MetricType
    measurement: str | None = None
    name: str | None = None
    unit: str | tuple[str, str] | None = None
    tags: TagSelection = None
    keep: Iterable[str] | bool = False

    def __post_init__(self) -> None:
        set_attribute = object.__setattr__
        set_attribute(self, "event", check_event(self.event))
        if check_type(self.type) in LABEL_TYPES:
            raise TypeMismatch(f"type must be one whose values are numbers, got {self.type!r}")
        if self.measurement is not None and not isinstance(self.measurement, str):
            raise InvalidValue(f"measurement must be text, got {shown(self.measurement)}")
        conversion(self.unit)
        set_attribute(self, "tags", _check_tags(self.tags))
        if not isinstance(self.keep, bool):
            if isinstance(self.keep, str):
                raise InvalidTags(f"keep must be a list of keys or a bool, got {shown(self.keep)}")
            set_attribute(self, "keep", tuple(self.keep))
        check_name(self.metric_name)

    @property
    def metric_name(self) -> str:
        """The name of the metric."""
        if self.name is not None:
            return self.name
        parts = self.event if self.measurement is None else (*self.event, self.measurement)
        return "_".join(parts)


def _check_tags(tags: TagSelection) -> TagSelection:
    """Return an immutable copy of *tags*, with its tag keys checked."""
    if tags is None or callable(tags):
        return tags
    if isinstance(tags, str):
        raise InvalidTags(
            f"tags must be a list of keys, a mapping or a function, got {shown(tags)}"
        )
    copied: dict[str, str | None] | tuple[str, ...]
    if isinstance(tags, Mapping):
        copied = dict(tags)
        names = [name for name in copied.values() if name is not None]
    else:
        copied = tuple(tags)
        names = list(copied)
    for name in names:
        check_name(name, "tag key")
    return copied


def conversion(unit: Any) -> tuple[float, str]:
    """Return the factor for values with this `EventMetric.unit`, and the resulting unit.

    Raises:
        InvalidMetric: If it is neither a unit nor a pair of convertible units.
    """
    if unit is None:
        return 1.0, ""
    if isinstance(unit, str):
        return 1.0, check_name(unit, "unit")
    if isinstance(unit, tuple) and len(unit) == 2 and all(isinstance(part, str) for part in unit):
        for sizes in _UNITS.values():
            if unit[0] in sizes and unit[1] in sizes:
                return sizes[unit[0]] / sizes[unit[1]], unit[1]
    known = "; ".join(", ".join(sizes) for sizes in _UNITS.values())
    raise InvalidValue(
        "unit must be a unit, or a pair of one kind such as ('ns', 'ms') of: "
        f"{known}; got {shown(unit)}"
    )
