"""The two metrics of HTTP requests that every middleware records."""

import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from redismetrics.model.validation import check_name
from redismetrics.recording.methods import Recording

from .safe_recorder import SafeRecorder, flush_all

# Methods that appear as the tag `method`; all others are "other".
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)
UNMATCHED = "unmatched"
OTHER = "other"
# As in nginx: the client disconnected before the response was complete.
CANCELLED = 499
FAILED = 500


def error_status(error: BaseException) -> int:
    """Return the status of a request that ends with *error*: 499 if it was cancelled, else 500."""
    if isinstance(error, GeneratorExit):
        # A coroutine that was closed before it finished.
        return CANCELLED
    for library, name in (("asyncio", "CancelledError"), ("trio", "Cancelled")):
        cancelled = getattr(sys.modules.get(library), name, None)
        if cancelled is not None and isinstance(error, cancelled):
            return CANCELLED
    return FAILED


@dataclass(slots=True)
class OngoingRequest:
    """A request that a middleware records; other middleware inside it only set the *endpoint*."""

    metrics: Recording | None
    endpoint: str | None = None


class RequestMetrics:
    """``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.

    Both have the tags `method`, `endpoint` (the route template) and `status`, all bounded: an
    unknown method is ``other``, a request without a route is ``unmatched``.
    """

    def __init__(self, metrics: Recording | None, prefix: str) -> None:
        self._metrics = metrics
        self._requests = f"{check_name(prefix, 'prefix')}_requests"
        self._duration = f"{prefix}_request_duration_seconds"
        duration_help = "HTTP requests, until the last chunk was passed to the server"
        self._safe = SafeRecorder(
            metrics,
            {
                self._requests: ("counter", {"help": "HTTP requests"}),
                self._duration: ("histogram", {"unit": "seconds", "help": duration_help}),
            },
        )
        # Otherwise the first request of each process would wait for it.
        self._safe.prepare()

    def endpoint(self, find: Callable[[], str | None]) -> str | None:
        """Return the result of *find*, or None if it raises. Never raises."""
        try:
            return find()
        # Broad: it is the application's function, and the error is logged.
        except Exception as error:  # noqa: BLE001
            self._safe.on_error(error)
            return None

    def begin(self, carrier: MutableMapping[str, Any]) -> OngoingRequest | None:
        """Mark a request as recorded here; return None if an outer middleware records it.

        *carrier* is the object shared by all middleware of a request: its scope or environ. So a
        request counts once if an application and another one mounted in it both have middleware.
        Middleware with another client or prefix records separate metrics.
        """
        key = f"redismetrics.{self._requests}"
        known = carrier.get(key)
        if isinstance(known, OngoingRequest) and known.metrics is self._metrics:
            return None
        ongoing = carrier[key] = OngoingRequest(self._metrics)
        return ongoing

    def set_inner_endpoint(self, carrier: MutableMapping[str, Any], endpoint: str | None) -> None:
        """Pass the endpoint to the outer middleware, in case that cannot find it."""
        ongoing = carrier.get(f"redismetrics.{self._requests}")
        if isinstance(ongoing, OngoingRequest) and endpoint:
            ongoing.endpoint = endpoint

    def flush(self) -> None:
        """Send unsent samples, for at most 2 s. Never raises.

        For servers that end themselves with a signal, which skips `atexit`.
        """
        self._safe.run(lambda _: flush_all())

    def finish(self, began: float, method: str, endpoint: str | None, status: int) -> None:
        """Record a request that ends now. *began* is a `perf_counter()` value. Never raises."""
        try:
            seconds = perf_counter() - began
            tags = {
                "method": method if method in METHODS else OTHER,
                "endpoint": endpoint or UNMATCHED,
                "status": str(status) if 100 <= status <= 599 else OTHER,
            }
            client = self._safe.client()
            client.increment(self._requests, tags=tags)
            client.histogram(self._duration, seconds, tags=tags)
        # Broad: the host must not notice, and the error is logged.
        except Exception as error:  # noqa: BLE001
            self._safe.on_error(error)
