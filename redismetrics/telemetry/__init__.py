"""An event bus inside one process, and handlers that turn its events into metrics."""

from .bus import (
    Event,
    Handler,
    Measurements,
    Metadata,
    attach,
    detach,
    execute,
    list_handlers,
    span,
)
from .event_metrics import EventMetric, attach_telemetry, detach_telemetry

__all__ = [
    "Event",
    "EventMetric",
    "Handler",
    "Measurements",
    "Metadata",
    "attach",
    "attach_telemetry",
    "detach",
    "detach_telemetry",
    "execute",
    "list_handlers",
    "span",
]
