"""The two metrics of HTTP requests that all middleware records."""

from collections.abc import Callable
from time import perf_counter

from redismetrics.model.validation import check_name
from redismetrics.recording.methods import Recording

from .safe_recorder import SafeRecorder, flush_all

# Methods that appear as the tag `method`; all others are "other".
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)
UNMATCHED = "unmatched"
OTHER = "other"


class RequestMetrics:
    """``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.

    Both have the tags `method`, `endpoint` (the route template) and `status`, all bounded: an
    unknown method is ``other``, a request without a route is ``unmatched``.
    """

    def __init__(self, metrics: Recording | None, prefix: str) -> None:
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

    def endpoint(self, find: Callable[[], str | None]) -> str | None:
        """Return the result of *find*, or None if it raises. Never raises."""
        try:
            return find()
        # Broad: it is the application's function, and the error is logged.
        except Exception as error:  # noqa: BLE001
            self._safe.on_error(error)
            return None

    def flush(self) -> None:
        """Send unsent samples, for at most 2 s. Never raises.

        For servers that end by a signal, which skips `atexit`.
        """
        self._safe.run(lambda _: flush_all())

    def finish(self, began: float, method: str, endpoint: str | None, status: int) -> None:
        """Record a request that ends now. *began* is a `perf_counter()`. Never raises."""
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
