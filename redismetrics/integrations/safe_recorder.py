"""Recording that cannot disturb the host program."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from redismetrics.errors import InvalidMetric
from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType
from redismetrics.recording import instruments
from redismetrics.recording.internals import RecordingInternals
from redismetrics.recording.methods import Recording

log = logging.getLogger("redismetrics")

# Maximum number of different errors to log.
_MAX_LOGGED = 100

# Type and options of `declare`, by metric name.
Definitions = Mapping[str, tuple[MetricType, dict[str, Any]]]


class SafeRecorder:
    """Records for a host program without affecting it: errors are logged once, never raised.

    An invalid sample is counted as dropped, whatever the setting of `on_invalid`.

    Args:
        metrics: The client. None means the default client, which is looked up at each use, because
            `configure()` may replace it.
        definitions: Metrics to declare before the first use of a client, unless the application has
            declared them.
    """

    def __init__(self, metrics: Recording | None, definitions: Definitions) -> None:
        self._metrics = metrics
        self._definitions = {
            name: define(name, kind, **options) for name, (kind, options) in definitions.items()
        }
        # Identifies the client whose metrics are declared.
        self._internals: RecordingInternals | None = None
        self._logged: set[str] = set()

    def prepare(self) -> None:
        """Make the default client now, if this uses it; log any error.

        That imports numpy and the Redis client, which takes some tenths of a second. It declares
        nothing, so that the application may do so later.
        """
        if self._metrics is None:
            try:
                instruments.default_client()
            # Broad: as in `run`.
            except Exception as error:  # noqa: BLE001
                self.on_error(error)

    def client(self) -> Recording:
        """Return the client, with the metrics declared. May raise."""
        client = instruments.default_client() if self._metrics is None else self._metrics
        internals = client.internals
        if internals is not self._internals:
            for name, definition in self._definitions.items():
                internals.declare_default(name, definition)
            self._internals = internals
        return client

    def run(self, record: Callable[[Recording], None]) -> None:
        """Call *record* with the client; log any error."""
        try:
            record(self.client())
        # Broad: the host must not notice, and the error is logged.
        except Exception as error:  # noqa: BLE001
            self.on_error(error)

    def on_error(self, error: Exception) -> None:
        """Count and log a sample that could not be recorded."""
        is_invalid = isinstance(error, InvalidMetric)
        if is_invalid and self._internals is not None:
            self._internals.count_invalid()
        text = f"{type(error).__name__}: {error}"
        if text not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(text)
            log.warning("not recorded: %s", text, exc_info=None if is_invalid else error)


def flush_all() -> None:
    """Flush every client of this process, for at most 2 s in all.

    Raises:
        StoreError: If a client could not send everything; the others are still flushed.
    """
    # The module is loaded if anything was recorded. Importing it could load Redis for nothing.
    lifecycle = sys.modules.get("redismetrics.recording.lifecycle")
    if lifecycle is not None:
        lifecycle.flush_all()
