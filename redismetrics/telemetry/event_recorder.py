"""The handler that records one `EventMetric`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from redismetrics.errors import InvalidMetric, InvalidValue, shown
from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType, check_number
from redismetrics.recording import instruments
from redismetrics.recording.internals import RecordingInternals
from redismetrics.recording.methods import Recording

from .bus import Event, Measurements, Metadata
from .event_metric import EventMetric, conversion

# If no measurement is named, the first of these that exists is the value. The names follow
# MetricsEx.
_USUAL_MEASUREMENTS: Final[dict[MetricType, tuple[str, ...]]] = {
    "counter": ("count", "total"),
    "gauge": ("value", "size", "depth", "active"),
    "histogram": ("duration", "latency", "time", "value"),
    "summary": ("duration", "latency", "time", "value"),
}


class EventRecorder:
    """Records one `EventMetric`.

    The client is looked up for each event, because `configure()` may replace the default one.
    """

    def __init__(self, spec: EventMetric, metrics: Recording | None) -> None:
        self.event: Event = tuple(spec.event)
        self.name, self.kind, self.measurement = spec.metric_name, spec.type, spec.measurement
        self._metrics = metrics
        self._factor, self._unit = conversion(spec.unit)
        self._tags, self._keep = spec.tags, spec.keep
        self._tags_function = spec.tags if callable(spec.tags) else None
        self._usual = _USUAL_MEASUREMENTS[spec.type]
        self._first = self._usual[0] if spec.measurement is None else spec.measurement
        # Determined for one client by `_bind`.
        self._internals: RecordingInternals | None = None
        self._write: Callable[..., None]
        self._renamed: dict[str, str]

    def _client(self) -> Recording:
        return instruments.default_client() if self._metrics is None else self._metrics

    def check(self) -> None:
        """Raise `TypeMismatch` if the metric has another type. Has no side effects."""
        self._client().internals.check_type(self.name, self.kind)

    def declare(self) -> None:
        """Declare the type of the metric, and its unit if there is one and none was declared."""
        internals = self._client().internals
        if self._unit:
            internals.declare_default(self.name, define(self.name, self.kind, unit=self._unit))
        internals.declare_type(self.name, self.kind)

    def __call__(self, event: Event, measurements: Measurements, metadata: Metadata) -> None:
        """Record one event."""
        metrics = self._metrics
        client = instruments.default_client() if metrics is None else metrics
        if client.internals is not self._internals:
            self._bind(client)
        try:
            # The fast path: the usual measurement exists.
            value = measurements.get(self._first)
            if value is None:
                value = self._find_value(measurements)
            if self._factor != 1.0:
                value = check_number(value) * self._factor
            tags: Mapping[str, Any]
            if self._tags_function is not None:
                tags = self._tags_function(metadata)
            else:
                renamed = self._renamed
                tags = {renamed[key]: metadata[key] for key in metadata if key in renamed}
            if self._keep:
                self._record_with_metadata(client, value, tags, metadata)
            else:
                self._write(self.name, value, tags=tags)
        except InvalidMetric as error:
            client.internals.count_invalid(
                "%s is not recorded as %s: %s", "/".join(self.event), self.name, str(error)
            )

    def _bind(self, client: Recording) -> None:
        """Prepare everything that is the same for all events of one client."""
        tags: dict[str, str | None] = {key: key for key in client.internals.settings.promoted_tags}
        if isinstance(self._tags, dict):
            tags.update(self._tags)
        elif isinstance(self._tags, tuple):
            tags = {key: key for key in self._tags}
        self._renamed = {key: tag for key, tag in tags.items() if tag is not None}
        if self.kind == "summary":
            self._write = partial(client.record, type=self.kind)
        else:
            self._write = getattr(client, "increment" if self.kind == "counter" else self.kind)
        self._internals = client.internals

    def _record_with_metadata(
        self, client: Recording, value: Any, tags: Mapping[str, Any], metadata: Metadata
    ) -> None:
        # `record` promotes metadata to tags; a tag of None prevents this.
        no_promotion = dict.fromkeys(client.internals.settings.promoted_tags)
        if not isinstance(self._keep, bool):
            metadata = {key: metadata[key] for key in self._keep if key in metadata}
        client.record(
            self.name, value, type=self.kind, tags={**no_promotion, **tags}, metadata=metadata
        )

    def _find_value(self, measurements: Measurements) -> Any:
        """Find the value, if it is not the first usual measurement."""
        if self.measurement is not None:
            if self.measurement in measurements:
                return measurements[self.measurement]
            raise InvalidValue(
                f"the event must have the measurement {self.measurement!r}, "
                f"got {shown(list(measurements), 80)}"
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
            f"the event must have one of the measurements {', '.join(self._usual)}, "
            f"got {shown(list(measurements), 80)}"
        )
