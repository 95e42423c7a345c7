"""An event bus within one process, and handlers that record its events as metrics.

Code that executes an event does not know who listens; `attach_telemetry` turns events into metrics,
and `attach` calls any function.
"""

from .bus import Event, Handler, Measurements, Metadata, attach, detach, execute, list_handlers
from .event_metric import EventMetric
from .event_span import span
from .handlers import attach_telemetry, detach_telemetry

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
