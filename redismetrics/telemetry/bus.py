"""The event bus: events, and the handlers attached to them.

    telemetry.attach_telemetry([(("work", "job", "completed"), "counter")])
    telemetry.execute(("work", "job", "completed"), {"count": 1}, {"tenant": "cns"})

Handlers run in the thread that executes the event. A handler that raises is detached and logged, so
the code that executes events is never affected. The table of handlers is replaced as a whole and
never changed, so that `execute` takes no lock.
"""

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redismetrics.errors import InvalidName, InvalidValue, shown
from redismetrics.recording.methods import Recording

if TYPE_CHECKING:
    from .event_metric import EventMetric

log = logging.getLogger("redismetrics")

Event = tuple[str, ...]
Measurements = Mapping[str, Any]
Metadata = Mapping[str, Any]
Handler = Callable[[Event, Measurements, Metadata], object]


@dataclass(frozen=True, slots=True, eq=False)
class Attachment:
    """The handlers attached under one id, and their events.

    *event_metrics* and *metrics* are the arguments of `attach_telemetry`; otherwise they are empty.
    """

    id: str
    handlers: Sequence[tuple[Event, Handler]]
    event_metrics: "tuple[EventMetric, ...]" = ()
    metrics: Recording | None = None


class EventBus:
    """All attachments of this process, and the resulting handlers of each event."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may attach while its thread is attaching.
        self.lock = threading.RLock()
        self.attachments: dict[str, Attachment] = {}
        # By event: the ids and functions of its handlers, in the order in which they were attached.
        self.table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
        self._numbers = itertools.count(1)

    def add(self, attachment: Attachment) -> None:
        """Attach. The caller holds the lock and has checked the id."""
        self.attachments[attachment.id] = attachment
        self._rebuild_table()

    def remove(self, handler_id: str) -> bool:
        """Detach; return False if nothing is attached under this id."""
        with self.lock:
            if self.attachments.pop(handler_id, None) is None:
                return False
            self._rebuild_table()
            return True

    def check_id(self, handler_id: object) -> None:
        """Raise `InvalidName` if the id is not text, or is in use."""
        if not isinstance(handler_id, str) or not handler_id:
            raise InvalidName(f"handler_id must be text, got {shown(handler_id)}")
        if handler_id in self.attachments:
            raise InvalidName(f"handler_id {shown(handler_id)} is in use; detach it first")

    def unused_id(self) -> str:
        """Return an id that is not in use."""
        ids = (f"redismetrics-{number}" for number in self._numbers)
        return next(each for each in ids if each not in self.attachments)

    def reset_lock(self) -> None:
        """Replace the lock in a forked child: another thread of the parent may have held it."""
        self.lock = threading.RLock()

    def _rebuild_table(self) -> None:
        table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
        for attachment in self.attachments.values():
            for event, handler in attachment.handlers:
                table[event] = (*table.get(event, ()), (attachment.id, handler))
        self.table = table


event_bus = EventBus()


def execute(
    event: Iterable[str], measurements: Measurements | None = None, metadata: Metadata | None = None
) -> None:
    """Call the handlers of *event*, in the order in which they were attached.

    Without handlers this costs one dict lookup. A handler that raises is detached and logged.

    Raises:
        InvalidName: If *event* is not a sequence of text.
    """
    # The fast path: an event that is a tuple.
    try:
        handlers = event_bus.table.get(event)  # type: ignore[call-overload]
    except TypeError:
        handlers = None
    if handlers is None:
        if event.__class__ is tuple:
            return
        event = check_event(event)
        handlers = event_bus.table.get(event, ())
    for handler_id, handler in handlers:
        try:
            handler(event, measurements or {}, metadata or {})
        except Exception:
            detach(handler_id)
            log.exception("telemetry handler %r failed on %s and is detached", handler_id, event)


def attach(handler_id: str, events: Iterable[Iterable[str]], function: Handler) -> None:
    """Call ``function(event, measurements, metadata)`` whenever one of *events* is executed.

    It is called in the thread that executes the event.

    Raises:
        InvalidName: If the id is in use, or an event is not a tuple of text.
        InvalidValue: If *function* is not callable.
    """
    if not callable(function):
        raise InvalidValue(
            "function must be callable as function(event, measurements, metadata), "
            f"got {shown(function)}"
        )
    with event_bus.lock:
        event_bus.check_id(handler_id)
        handlers = [(event, function) for event in dict.fromkeys(_check_events(events))]
        event_bus.add(Attachment(handler_id, handlers))


def detach(handler_id: str) -> bool:
    """Detach a handler; return False if there is none with this id."""
    return event_bus.remove(handler_id)


def list_handlers(prefix: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the handlers attached to events that begin with *prefix*.

    Each handler is a dict of `id`, `events`, `function` and `metrics`. If it was attached by
    `attach_telemetry`, `metrics` are the names of its metrics, and `function` is None.

    Raises:
        InvalidName: If *prefix* is not a sequence of text.
    """
    head = check_event(prefix) if prefix else ()
    return [
        {
            "id": attachment.id,
            "events": list(dict(attachment.handlers)),
            "function": None if attachment.event_metrics else attachment.handlers[0][1],
            "metrics": [each.metric_name for each in attachment.event_metrics],
        }
        for attachment in list(event_bus.attachments.values())
        if any(event[: len(head)] == head for event, _ in attachment.handlers)
    ]


def check_event(event: object) -> Event:
    """Return *event* as a tuple of text, or raise `InvalidName`."""
    parts: tuple[Any, ...] = ()
    if isinstance(event, Iterable) and not isinstance(event, str | bytes | Mapping):
        parts = tuple(event)
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise InvalidName(
            "event must be a tuple of text such as ('work', 'job', 'completed'), "
            f"got {shown(event, 80)}"
        )
    return parts


def _check_events(events: Iterable[Iterable[str]]) -> tuple[Event, ...]:
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise InvalidName(f"events must be a list of events, got {shown(events, 80)}")
    checked = tuple(check_event(event) for event in events)
    if not checked:
        raise InvalidName("events must hold at least one event, got none")
    return checked


os.register_at_fork(after_in_child=event_bus.reset_lock)
