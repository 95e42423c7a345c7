"""What every integration needs: recording that can't disturb its host, and what is said of one HTTP request."""

import logging
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from redismetrics.errors import InvalidMetric
from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType, check_name
from redismetrics.recording import instruments
from redismetrics.recording.methods import Recording
from redismetrics.recording.recorder import Recorder

log = logging.getLogger("redismetrics")

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)
UNMATCHED = "unmatched"
OTHER = "other"

_TELL = 100  # different faults that are logged


class SafeRecorder:
    """Records for a host that must not feel it: what fails is logged once and counted as dropped, whatever `on_invalid` says.

    *metrics* None is the default client, looked up at each use. *definitions* are declared before a client's first use, by
    name: type and what else `declare` takes.
    """

    def __init__(
        self,
        metrics: Recording | None,
        definitions: Mapping[str, tuple[MetricType, dict[str, Any]]],
    ) -> None:
        self._metrics = metrics
        self._definitions = {
            name: define(name, kind, **options) for name, (kind, options) in definitions.items()
        }
        self._declared: Recorder | None = None
        self._told: set[str] = set()

    def client(self) -> Recording:
        """The client, with the metrics declared."""
        client = instruments.default_client() if self._metrics is None else self._metrics
        recorder = client._recorder
        if recorder is not self._declared:
            for name, definition in self._definitions.items():
                known = recorder.metrics.get(name)
                if known is None or not (
                    known.explicit or known.learned
                ):  # else what the application said holds
                    recorder.declare(name, definition)
            self._declared = recorder
        return client

    def run(self, record: Callable[[Recording], None]) -> None:
        """Let *record* record."""
        try:
            record(self.client())
        except Exception as error:  # noqa: BLE001  # it is logged
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Count and log what could not be recorded."""
        if isinstance(error, InvalidMetric) and self._declared is not None:
            self._declared.drop("invalid")
        text = f"{type(error).__name__}: {error}"
        if text not in self._told and len(self._told) < _TELL:
            self._told.add(text)
            log.warning(
                "not recorded: %s",
                text,
                exc_info=None if isinstance(error, InvalidMetric) else error,
            )


def flush_all() -> None:
    """Flush every client of this process, for 2 s at most in all; what Redis doesn't take in time stays unsent."""
    flusher = sys.modules.get(
        "redismetrics.recording.flusher"
    )  # it is there where anything was recorded
    if flusher is not None:
        flusher.flush_all()


class Requests:
    """The two metrics of HTTP requests: ``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.

    Both by `method`, `endpoint` (the template of the route) and `status`, all bounded: an unknown method is ``other``, a request
    that no route takes ``unmatched``.
    """

    def __init__(self, metrics: Recording | None, prefix: str) -> None:
        self._requests, self._duration = (
            f"{check_name(prefix, 'prefix')}_requests",
            f"{prefix}_request_duration_seconds",
        )
        self._quiet = SafeRecorder(
            metrics,
            {
                self._requests: ("counter", {"help": "HTTP requests"}),
                self._duration: (
                    "histogram",
                    {
                        "unit": "seconds",
                        "help": "HTTP requests, until the last chunk was given to the server",
                    },
                ),
            },
        )

    def endpoint(self, find: Callable[[], str | None]) -> str | None:
        """What *find* finds; None where it fails. Never raises."""
        try:
            return find()
        except Exception as error:  # noqa: BLE001  # it is logged
            self._quiet.failed(error)
            return None

    def at_the_end(self) -> None:
        """Send what is left, for 2 s at most: some servers end by a signal, which runs no `atexit`. Never raises."""
        self._quiet.run(lambda _: flush_all())

    def finished(self, began: float, method: str, endpoint: str | None, status: int) -> None:
        """Record a request that began at this `perf_counter()` and ends now. Never raises."""
        try:
            seconds = perf_counter() - began
            tags = {
                "method": method if method in METHODS else OTHER,
                "endpoint": endpoint or UNMATCHED,
                "status": str(status) if 100 <= status <= 599 else OTHER,
            }
            client = self._quiet.client()
            client.increment(self._requests, tags=tags)
            client.histogram(self._duration, seconds, tags=tags)
        except Exception as error:  # noqa: BLE001  # it is logged
            self._quiet.failed(error)
