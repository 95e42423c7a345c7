"""A log that requests cannot flood: each message is logged only a few times per minute."""

import logging
import threading
from collections.abc import Callable
from time import monotonic

# Records with the same message that pass per interval, and its length in seconds.
_MAX_RECORDS = 10
_INTERVAL_SECONDS = 60.0
# Maximum number of remembered messages. These are texts in the program, so there are few.
_MAX_MESSAGES = 1_000


class RepeatFilter(logging.Filter):
    """Passes ten records with the same message text per minute, and counts the others.

    The first record of a later minute says how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # When the interval began, and the records in it, by message.
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is logged."""
        message, now = str(record.msg), self._clock()
        with self._lock:
            began, count = self._seen.get(message, (now, 0))
            left_out = 0
            if now - began >= _INTERVAL_SECONDS:
                left_out = max(count - _MAX_RECORDS, 0)
                began, count = now, 0
            if message not in self._seen and len(self._seen) >= _MAX_MESSAGES:
                self._seen.clear()
            self._seen[message] = began, count + 1
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} more like it before)"
            record.args = None
        return count < _MAX_RECORDS


_FILTER = RepeatFilter()

# The log of the HTTP server's own messages.
log = logging.getLogger("redismetrics.api")
log.addFilter(_FILTER)


def limit_uvicorn_log() -> None:
    """Limit uvicorn's warnings about requests as well. May be called again."""
    logging.getLogger("uvicorn.error").addFilter(_FILTER)
