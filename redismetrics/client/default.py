"""The verbs on a default client, made at their first use from `configure`'s arguments or the environment."""

import inspect
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from redismetrics.errors import InvalidSetting
from redismetrics.recording import instruments

from .metrics import Metrics

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
_client: Metrics | None = None


def client() -> Metrics:
    """The default client; made now if it was not yet."""
    global _client
    found = _client
    if found is None:
        with _lock:
            if _client is None:
                _client = Metrics(*_arguments[0], **_arguments[1])
            found = _client
    return found


def configure(*args: Any, **kwargs: Any) -> None:
    """Settle what the default client is made with: `Metrics`' arguments, checked now. Makes no connection.

    What was declared, decorated or bound before stays; what was recorded or asked before makes it too late.

    Raises:
        InvalidSetting: a setting that is not usable, or the default client is already in use.
    """
    global _arguments
    with _lock:
        if _client is not None and _client._used:
            raise InvalidSetting("configure() comes too late: the default client is already in use")
        made = Metrics(*args, **kwargs)
        _arguments = (args, kwargs)
        if _client is not None:
            _client._become(made)


def _verb(method: Callable[Concatenate[Metrics, P], R]) -> Callable[P, R]:
    """A module-level verb of the method of that name."""
    name = method.__name__

    @wraps(method)
    def verb(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = getattr(_client or client(), name)(*args, **kwargs)
        return result

    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()
    verb.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # without self, for help()
    return verb


increment = _verb(Metrics.increment)
gauge = _verb(Metrics.gauge)
histogram = _verb(Metrics.histogram)
record = _verb(Metrics.record)
measure = _verb(Metrics.measure)
declare = _verb(Metrics.declare)
query = _verb(Metrics.query)
time_series = _verb(Metrics.time_series)
rollup = _verb(Metrics.rollup)
get_metrics = _verb(Metrics.get_metrics)
get_aggregation = _verb(Metrics.get_aggregation)
get_time_series = _verb(Metrics.get_time_series)
get_rollups = _verb(Metrics.get_rollups)
get_stats = _verb(Metrics.get_stats)
to_json = Metrics.to_json
list_metrics = _verb(Metrics.list_metrics)
tag_values = _verb(Metrics.tag_values)
subscribe = _verb(Metrics.subscribe)
cardinality = _verb(Metrics.cardinality)
delete_metric = _verb(Metrics.delete_metric)
delete_series = _verb(Metrics.delete_series)
clear = _verb(Metrics.clear)
stats = _verb(Metrics.stats)
flush = _verb(Metrics.flush)


def close(timeout: float = 5.0) -> None:
    """Close the default client, if there is one."""
    if _client is not None:
        _client.close(timeout)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


instruments.default_client = client
os.register_at_fork(after_in_child=_after_fork)
