"""The functions of the module `redismetrics`: the methods of a default client.

The client is made at the first use, from the arguments of `configure` or the environment.
"""

import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Return the default client; make it at the first call."""
    global _client
    found = _client
    if found is None:
        with _lock:
            if _client is None:
                _client = Metrics(*_arguments[0], **_arguments[1])
            found = _client
    return found


def existing_client() -> Metrics | None:
    """Return the default client if it was made already."""
    return _client


def configure(*args: Any, **kwargs: Any) -> None:
    """Set the arguments of the default client, which are those of `Metrics`. Makes no connection.

    Call it before the first sample is recorded and the first query is made. Metrics that are
    declared and instruments and decorators that are made before keep working.

    Raises:
        InvalidSetting: If a setting is invalid, or the default client is already in use.
    """
    global _arguments
    with _lock:
        if _client is not None and _client._used:
            raise InvalidSetting(
                "configure() must be called before the default client is first used; "
                "it has recorded or queried already"
            )
        made = Metrics(*args, **kwargs)
        _arguments = (args, kwargs)
        if _client is not None:
            _client._become(made)


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
declare = _on_default_client(Metrics.declare)
query = _on_default_client(Metrics.query)
time_series = _on_default_client(Metrics.time_series)
rollup = _on_default_client(Metrics.rollup)
get_metrics = _on_default_client(Metrics.get_metrics)
get_aggregation = _on_default_client(Metrics.get_aggregation)
get_time_series = _on_default_client(Metrics.get_time_series)
get_rollups = _on_default_client(Metrics.get_rollups)
get_stats = _on_default_client(Metrics.get_stats)
to_json = Metrics.to_json
list_metrics = _on_default_client(Metrics.list_metrics)
tag_values = _on_default_client(Metrics.tag_values)
subscribe = _on_default_client(Metrics.subscribe)
cardinality = _on_default_client(Metrics.cardinality)
delete_metric = _on_default_client(Metrics.delete_metric)
delete_series = _on_default_client(Metrics.delete_series)
clear = _on_default_client(Metrics.clear)
stats = _on_default_client(Metrics.stats)
flush = _on_default_client(Metrics.flush)


def close(timeout: float = 5.0) -> None:
    """Close the default client, if there is one."""
    if _client is not None:
        _client.close(timeout)


@contextmanager
def restored() -> Iterator[None]:
    """Undo at the end what `configure` and the first use did to the default client. For tests."""
    global _arguments
    before, arguments = _client, _arguments
    state = None if before is None else dict(before.__dict__)
    try:
        yield
    finally:
        _arguments = arguments
        if before is not None and state is not None:
            before.__dict__.clear()
            before.__dict__.update(state)
        elif _client is not None:
            # Decorated functions hold it, so it stays, as it would be created now.
            _client._become(Metrics(*arguments[0], **arguments[1]))


def _after_fork() -> None:
    global _lock
    # Another thread of the parent may have held the old one.
    _lock = threading.Lock()


instruments.default_client = client
os.register_at_fork(after_in_child=_after_fork)
