"""Run an archiver until it is stopped."""

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

from redismetrics.errors import RedisMetricsError, one_line
from redismetrics.model.time import monotonic
from redismetrics.store.connection import Store

from .archiver import Archiver, PassReport, check_levels
from .target import Target

log = logging.getLogger("redismetrics")

# The longest pause after a failure, in seconds; the first is a hundredth of it.
MAX_PAUSE = 60.0


def new_holder() -> str:
    """Return an id for the leases of one archiver."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


@dataclass(slots=True)
class ArchiveCounts:
    """What a service has done since it started.

    Attributes:
        rows: Rows written, by level.
        failures: Passes that failed and were repeated.
        waiting, lag_seconds, skipped_metrics: As of the last pass; see `PassReport`.
    """

    passes: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    waiting: int = 0
    lag_seconds: float = 0.0
    skipped_metrics: int = 0

    def add(self, report: PassReport) -> None:
        """Count a pass."""
        self.passes += 1
        for level, count in report.rows.items():
            self.rows[level] = self.rows.get(level, 0) + count
        self.waiting, self.lag_seconds = report.waiting, report.lag_seconds
        self.skipped_metrics = len(report.skipped)


class ArchiveService:
    """Archives a namespace in repeated passes until it is stopped.

    Args:
        open_target: Opens the archive. If that fails, it is retried like a pass.
        interval: Seconds between two passes.
        report: Called with the report of each pass.

    Attributes:
        stop: Set it to stop the service, even during a pass.
        error: Why the last pass failed; empty if it did not.
        progressed_at: `monotonic` time at which a metric was last finished.

    Raises:
        InvalidSetting: If a level is unknown.
    """

    def __init__(
        self,
        store: Store,
        namespace: str,
        open_target: Callable[[], Target],
        levels: Sequence[str],
        *,
        interval: float = 60.0,
        report: Callable[[PassReport], None] = lambda report: None,
    ) -> None:
        self.stop = Event()
        self.counts = ArchiveCounts()
        self.error = ""
        self.interval = interval
        self.progressed_at = monotonic()
        self._store, self._namespace, self._levels = store, namespace, check_levels(levels)
        self._open_target, self._report = open_target, report
        self._holder = new_holder()
        self._target: Target | None = None
        self._archiver: Archiver | None = None

    def run(self) -> None:
        """Make a pass every `interval` seconds until `stop` is set.

        If Redis or the archive does not answer, log it and try again; nothing is lost.
        """
        pause = MAX_PAUSE / 100
        while not self.stop.is_set():
            try:
                self._pass()
            # If the thread ended, archiving would stop silently.
            except Exception as error:  # noqa: BLE001
                self._failed(error, pause)
                self.stop.wait(pause)
                pause = min(2 * pause, MAX_PAUSE)
            else:
                pause = MAX_PAUSE / 100
                self.stop.wait(self.interval)
        if self._target is not None:
            self._target.close()

    def _pass(self) -> None:
        if self._archiver is None:
            self._target = self._open_target()
            self._archiver = Archiver(
                self._store.client,
                self._namespace,
                self._target,
                self._levels,
                self._holder,
                self._progressed,
                self.stop.is_set,
            )
        report = self._archiver.pass_once()
        self._progressed()
        if self.error:
            log.warning("archiving works again")
            self.error = ""
        # A pass that was stopped early has not seen everything that waits.
        if not self.stop.is_set():
            self.counts.add(report)
            self._report(report)

    def _progressed(self, *_: int) -> None:
        self.progressed_at = monotonic()

    def _failed(self, error: Exception, pause: float) -> None:
        self.counts.failures += 1
        if isinstance(error, RedisMetricsError):
            log.warning("archiving failed, trying again in %.1f s: %s", pause, one_line(error))
        else:
            log.error("BUG: archiving failed, trying again in %.1f s", pause, exc_info=error)
        self.error = one_line(error)
