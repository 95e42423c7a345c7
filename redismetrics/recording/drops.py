"""Counts of dropped samples and merged series."""

import logging
import threading
from collections import Counter as Tally
from typing import Any

from redismetrics.settings import Settings

log = logging.getLogger("redismetrics")

# Metrics and tags whose merged series are counted separately.
MAX_OVERFLOWS = 1_000
# Maximum number of different warnings to remember, so that each is logged once.
MAX_WARNINGS = 1_000


class Drops:
    """Dropped samples by reason, and series that were merged into the overflow series.

    `drop` never blocks, because a signal handler or a `__del__` may call it at any point.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._new: list[tuple[str, int]] = []
        self._totals: Tally[str] = Tally()
        self._warnings: set[str] = set()
        # By metric and tag; the tag is empty if the metric itself has too many series.
        self.overflows: dict[tuple[str, str], int] = {}

    def drop(self, reason: str, count: int = 1) -> None:
        """Count samples as dropped."""
        self._new.append((reason, count))
        if len(self._new) > 1000:
            self.totals()

    def totals(self) -> Tally[str]:
        """Return the number of samples dropped so far, by reason."""
        # If the lock is held, another thread, or the code interrupted by this call, is counting.
        if self._lock.acquire(blocking=False):
            try:
                for _ in range(len(self._new)):
                    reason, count = self._new.pop()
                    self._totals[reason] += count
            finally:
                self._lock.release()
        return self._totals

    def overflow(self, name: str, tag: str, count: int) -> None:
        """Count series that were merged into the overflow series; warn once per metric and tag.

        If *tag* is empty, the metric has more than `max_series` series; otherwise *tag* has more
        than `max_tag_values` values.
        """
        if tag:
            self.warn_once(
                "%s: tag %s has more than max_tag_values=%d values: further series share one",
                name,
                tag,
                self._settings.max_tag_values,
            )
        else:
            self.warn_once(
                "%s has more than max_series=%d series: the rest share one",
                name,
                self._settings.max_series,
            )
        if (name, tag) in self.overflows or len(self.overflows) < MAX_OVERFLOWS:
            self.overflows[name, tag] = self.overflows.get((name, tag), 0) + count

    def warn_once(self, message: str, *arguments: Any) -> None:
        """Log a warning, but only the first time."""
        text = message % arguments
        if text not in self._warnings and len(self._warnings) < MAX_WARNINGS:
            self._warnings.add(text)
            log.warning("%s", text)
