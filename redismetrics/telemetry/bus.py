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
from typing import TYPE_CHECKING, Any

from redismetrics.errors import InvalidName, InvalidValue
from redismetrics.recording.methods import Recording

if TYPE_CHECKING:
    from .event_metrics import EventMetric

log = logging.getLogger("redismetrics")

Event = tuple[str, ...]
Measurements = Mapping[str, Any]
Metadata = Mapping[str, Any]
Handler = Callable[[Event, Measurements, Metadata], object]


@dataclass(frozen=True, slots=True, eq=False)
class Attached:
    """What stands under one id: a function for each event, or several."""

    id: str
    functions: Sequence[tuple[Event, Handler]]
    specs: "tuple[EventMetric, ...]" = ()
    metrics: Recording | None = None


_lock = threading.RLock()  # reentrant: a signal's handler may attach while its thread is at it
_attached: dict[str, Attached] = {}
_table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
_numbers = itertools.count(1)


def execute(
    event: Iterable[str], measurements: Measurements | None = None, metadata: Metadata | None = None
) -> None:
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
        event = check_event(event)
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
        raise InvalidValue(
            f"function: wanted function(event, measurements, metadata), got {function!r:.60}"
        )
    with _lock:
        check_id(handler_id)
        attach_checked(
            Attached(handler_id, [(event, function) for event in dict.fromkeys(_events(events))])
        )


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
    head = check_event(prefix) if prefix else ()
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


def attach_checked(new: Attached) -> None:
    _attached[new.id] = new
    _rebuild()


def _rebuild() -> None:
    global _table
    table: dict[Event, tuple[tuple[str, Handler], ...]] = {}
    for found in _attached.values():
        for event, function in found.functions:
            table[event] = (*table.get(event, ()), (found.id, function))
    _table = table


def check_event(event: object) -> Event:
    """An event as a tuple of texts."""
    parts = (
        tuple(event)
        if isinstance(event, Iterable) and not isinstance(event, str | bytes | Mapping)
        else ()
    )
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise InvalidName(
            f"event: wanted a tuple of texts such as ('work', 'job', 'completed'), got {event!r:.80}"
        )
    return parts


def _events(events: Iterable[Iterable[str]]) -> tuple[Event, ...]:
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise InvalidName(f"events: wanted several events, got {events!r:.80}")
    found = tuple(check_event(event) for event in events)
    if not found:
        raise InvalidName("events: wanted at least one, got none")
    return found


def check_id(handler_id: object) -> None:
    if not isinstance(handler_id, str) or not handler_id or handler_id in _attached:
        raise InvalidName(f"handler_id: wanted text that is not in use, got {handler_id!r:.60}")


class span:  # noqa: N801  # used as a function
    """``with telemetry.span(("db", "query"), {"table": "users"}) as metadata:`` as three events.

    ``(..., "start")`` with `system_time` (Unix time in ns); then ``(..., "stop")`` with `duration` in ns, or, where the body
    raised, ``(..., "exception")`` with `duration` and in its metadata `error`, the class of what was raised, which goes on.
    What the body puts into *metadata* comes with the second event.
    """

    __slots__ = ("_began", "_event", "_metadata")

    def __init__(self, event: Iterable[str], metadata: Metadata | None = None) -> None:
        self._event = check_event(event)
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
            execute(
                (*self._event, "exception"),
                measurements,
                {**self._metadata, "error": kind.__name__},
            )


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
