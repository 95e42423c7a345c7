"""The module-level functions of `redismetrics`: the methods of a default client.

The client is created on first use, from the arguments of `configure` or the environment.
"""

import atexit
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from redismetrics.errors import InvalidSetting
from redismetrics.recording import instruments
from redismetrics.recording.lifecycle import EXIT_TIMEOUT, is_ending
from redismetrics.settings import Settings

from .metrics import Metrics

log = logging.getLogger("redismetrics")

P = ParamSpec("P")
R = TypeVar("R")

# Held by `configure` only: recording takes no lock, as a signal handler may record at any point.
_lock = threading.RLock()
_arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
_client: Metrics | None = None
# By the identity of the arguments: the arguments, which keeps their ids from being reused, and
# their client.
_candidates: dict[int, tuple[Any, Metrics]] = {}
# The threads that are currently in `client`.
_connecting: set[int] = set()


def client() -> Metrics:
    """Return the default client; create it on the first call.

    If a signal handler or `__del__` interrupts that, its samples go to the same client.
    """
    global _client
    while (found := _client) is None:
        arguments = _arguments
        candidate = _candidates.get(id(arguments))
        if candidate is None:
            made = Metrics._unconnected(*arguments[0], **arguments[1])
            candidate = _candidates.setdefault(id(arguments), (arguments, made))
        if not _connect(candidate[1]):
            return candidate[1]
        if arguments is _arguments:
            _client = candidate[1]
    return found


def _connect(candidate: Metrics) -> bool:
    """Connect a candidate; return False if this call interrupts code that it needs."""
    thread = threading.get_ident()
    if thread in _connecting:
        return False
    _connecting.add(thread)
    try:
        candidate._connect()
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ImportError) and _is_being_imported(error.name):
            return False
        if not is_ending():
            raise
        candidate._recorder.warn_once(
            "samples recorded at the end of the process are lost: %s", error
        )
        return False
    finally:
        _connecting.discard(thread)
    return True


def _is_being_imported(name: str | None) -> bool:
    """Return whether a signal handler interrupted the import of module *name*."""
    spec = getattr(sys.modules.get(name or ""), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def existing_client() -> Metrics | None:
    """Return the default client if it has been created."""
    return _client


def configure(*args: Any, **kwargs: Any) -> None:
    """Set the arguments of the default client, the same as those of `Metrics`. Makes no connection.

    Call this before the first sample is recorded or the first query is made; later, only a call
    with the same settings is allowed, and it does nothing. Metrics declared, and instruments and
    decorators created, before this call keep working.

    Raises:
        InvalidSetting: If a setting is invalid, or the default client is already in use with
            other settings.
    """
    global _arguments
    with _lock:
        made = Metrics(*args, **kwargs)
        if _client is not None and _client._used:
            different = _differences(_client, made)
            if different and _arguments != (args, kwargs):
                raise InvalidSetting(
                    "configure() must be called before the default client is first used; "
                    f"it has already recorded or queried, with a different {', '.join(different)}"
                )
            return
        _arguments = (args, kwargs)
        if _client is not None:
            _client._become(made)


def _differences(client: Metrics, other: Metrics) -> list[str]:
    """Return the names of the settings that differ."""
    if client._recorder is other._recorder:
        return []
    names = [each.name for each in fields(Settings)]
    ours, theirs = client.settings, other.settings
    different = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    if client._recorder.clock is not other._recorder.clock:
        different.append("clock")
    if client._own != other._own:
        different.append("metrics")
    return different


def _on_default_client(method: Callable[Concatenate[Metrics, P], R]) -> Callable[P, R]:
    """Return a function that calls *method* of the default client."""
    name = method.__name__

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = getattr(_client or client(), name)(*args, **kwargs)
        return result

    # For help(): the method's signature without `self`.
    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


increment = _on_default_client(Metrics.increment)
gauge = _on_default_client(Metrics.gauge)
histogram = _on_default_client(Metrics.histogram)
record = _on_default_client(Metrics.record)
measure = _on_default_client(Metrics.measure)
summary = _on_default_client(Metrics.summary)
info = _on_default_client(Metrics.info)
state_set = _on_default_client(Metrics.state_set)
declare = _on_default_client(Metrics.declare)
query = _on_default_client(Metrics.query)
time_series = _on_default_client(Metrics.time_series)
promql_query = _on_default_client(Metrics.promql_query)
promql_range = _on_default_client(Metrics.promql_range)
rollup = _on_default_client(Metrics.rollup)
heat_map = _on_default_client(Metrics.heat_map)
runs = _on_default_client(Metrics.runs)
get_metrics = _on_default_client(Metrics.get_metrics)
get_aggregation = _on_default_client(Metrics.get_aggregation)
get_time_series = _on_default_client(Metrics.get_time_series)
get_rollups = _on_default_client(Metrics.get_rollups)
get_stats = _on_default_client(Metrics.get_stats)
to_json = Metrics.to_json
to_arrow = _on_default_client(Metrics.to_arrow)
to_pandas = _on_default_client(Metrics.to_pandas)
list_metrics = _on_default_client(Metrics.list_metrics)
tag_values = _on_default_client(Metrics.tag_values)
exemplars = _on_default_client(Metrics.exemplars)
list_alerts = _on_default_client(Metrics.list_alerts)
list_rules = _on_default_client(Metrics.list_rules)
alert_history = _on_default_client(Metrics.alert_history)
silence_alerts = _on_default_client(Metrics.silence_alerts)
list_silences = _on_default_client(Metrics.list_silences)
expire_silence = _on_default_client(Metrics.expire_silence)
mark = _on_default_client(Metrics.mark)
marks = _on_default_client(Metrics.marks)
delete_mark = _on_default_client(Metrics.delete_mark)
subscribe = _on_default_client(Metrics.subscribe)
cardinality = _on_default_client(Metrics.cardinality)
delete_metric = _on_default_client(Metrics.delete_metric)
delete_series = _on_default_client(Metrics.delete_series)
mark_process_dead = _on_default_client(Metrics.mark_process_dead)
clear = _on_default_client(Metrics.clear)
stats = _on_default_client(Metrics.stats)
flush = _on_default_client(Metrics.flush)


def close(timeout: float = 5.0) -> None:
    """Close the default client, if there is one."""
    if _client is not None:
        _client.close(timeout)


@contextmanager
def restored() -> Iterator[None]:
    """Context manager that restores the default client at the end. For tests."""
    global _arguments
    before, arguments = _client, _arguments
    state = None if before is None else dict(before.__dict__)
    try:
        yield
    finally:
        _arguments = arguments
        if before is not None and state is not None:
            before._replace_attributes(state)
        elif _client is not None:
            # Decorated functions reference it, so it is kept in the state that it would be created
            # in now.
            _client._become(Metrics(*arguments[0], **arguments[1]))


def _after_fork() -> None:
    global _lock
    # Another thread of the parent may have held the old one.
    _lock = threading.RLock()
    _connecting.clear()
    for _, candidate in _candidates.values():
        if candidate is not _client:
            candidate._recorder.reset()


def _connect_at_exit() -> None:
    """Send samples that a signal handler recorded while the client was being created."""
    started = [made for _, made in _candidates.values() if made._recorder.started]
    if _client is not None or not started:
        return
    try:
        client().close(EXIT_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - such as of an import that is no longer possible
        waiting = sum(made._recorder.waiting() for made in started)
        log.warning("closed with %d samples never sent: %s", waiting, error)


instruments.default_client = client
os.register_at_fork(after_in_child=_after_fork)
atexit.register(_connect_at_exit)
