"""Attach and detach handlers that record events as metrics."""

from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.errors import InvalidName, InvalidValue, shown
from redismetrics.model.validation import MetricType
from redismetrics.recording.methods import Recording

from .bus import Attachment, detach, event_bus
from .event_metric import EventMetric
from .event_recorder import EventRecorder

EventSpec = EventMetric | tuple[Iterable[str], MetricType | Mapping[str, MetricType]]


def attach_telemetry(
    events: Iterable[EventSpec], *, handler_id: str | None = None, metrics: Recording | None = None
) -> str:
    """Record telemetry events as metrics.

    A sample that cannot be recorded, for example because its measurement is missing, is counted as
    dropped (``invalid``) and logged once.

    Args:
        events: Each an ``(event, type)``, an ``(event, {measurement: type, ...})`` for several
            metrics of one event, or an `EventMetric`. The type does not depend on the value.
        handler_id: The id for `detach_telemetry`; by default a new one. Attaching the same list to
            the same client again, with the same id or without one, has no effect, so that an
            application factory may run twice.
        metrics: The client that records; by default the default client, even if it is configured
            later.

    Returns:
        The handler's id.

    Raises:
        InvalidMetric: If an event, type, unit or name is invalid, the id is in use for something
            else, or a metric has another type. Nothing is attached.
    """
    if isinstance(events, str | Mapping) or not isinstance(events, Iterable):
        raise InvalidName(f"events must be a list of (event, type), got {shown(events, 80)}")
    specs = tuple(spec for item in events for spec in _event_metrics(item))
    if not specs:
        raise InvalidName("events must hold at least one (event, type), got none")
    if metrics is not None and not isinstance(metrics, Recording):
        raise InvalidValue(f"metrics must be a client, got {shown(metrics)}")
    with event_bus.lock:
        if handler_id is None:
            for attachment in event_bus.attachments.values():
                if attachment.metrics is metrics and attachment.event_metrics == specs:
                    return attachment.id
            handler_id = event_bus.unused_id()
        elif _is_attached(handler_id, specs, metrics):
            return handler_id
        event_bus.check_id(handler_id)
        recorders = [EventRecorder(spec, metrics) for spec in specs]
        for recorder in recorders:
            recorder.check()
        for recorder in recorders:
            recorder.declare()
        handlers = [(recorder.event, recorder) for recorder in recorders]
        event_bus.add(Attachment(handler_id, handlers, specs, metrics))
    return handler_id


def _is_attached(
    handler_id: str, specs: tuple[EventMetric, ...], metrics: Recording | None
) -> bool:
    """Return whether the same list is attached to the same client under this id."""
    found = event_bus.attachments.get(handler_id) if isinstance(handler_id, str) else None
    return found is not None and found.metrics is metrics and found.event_metrics == specs


def detach_telemetry(handler_id: str | None = None) -> bool:
    """Detach a handler, or everything that `attach_telemetry` attached.

    Return False if there was nothing to detach.
    """
    if handler_id is not None:
        return detach(handler_id)
    attachments = list(event_bus.attachments.values())
    return sum(detach(each.id) for each in attachments if each.event_metrics) > 0


def _event_metrics(item: Any) -> Iterable[EventMetric]:
    """Return the metrics described by one item of the list."""
    if isinstance(item, EventMetric):
        return (item,)
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InvalidName(
            "events must hold (event, type), (event, {measurement: type}) or EventMetric, "
            f"got {shown(item, 80)}"
        )
    event, types = item
    if isinstance(types, Mapping):
        return [
            EventMetric(event, kind, measurement=measurement) for measurement, kind in types.items()
        ]
    return (EventMetric(event, types),)
