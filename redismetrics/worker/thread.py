"""A worker in a thread of a recording process."""

import threading
from typing import Any

from redismetrics.settings import Settings
from redismetrics.store.connection import Store

from .limits import DEFAULT_LIMITS, WorkerLimits
from .worker import Worker


class Thread:
    """Runs a worker inside a recording process.

    It starts with the first recording and stops with the client. A forked child has none until it
    records.
    """

    def __init__(
        self, settings: Settings, store: Store, limits: WorkerLimits | None = None
    ) -> None:
        self._settings, self._store = settings, store
        self._limits = DEFAULT_LIMITS if limits is None else limits
        self.reset()

    def reset(self) -> None:
        """In a forked child, forget the worker, which belongs to the parent."""
        self.worker: Worker | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the worker if the settings ask for one and it is not running yet.

        Raises:
            RuntimeError: If no thread can be started.
        """
        enabled = self._settings.worker
        if enabled is None:
            enabled = self._store.url.startswith("embedded:")
        if enabled and (self._thread is None or not self._thread.is_alive()):
            self.worker = Worker(self._settings, self._store, warn=False, limits=self._limits)
            self._thread = threading.Thread(
                target=self._work, name="redismetrics-worker", daemon=True
            )
            self._thread.start()

    def _work(self) -> None:
        """Run the worker after one interval.

        Before that, there is nothing to seal, and a short script needs no second connection.
        """
        worker = self.worker
        if worker is not None:
            worker.stop.wait(self._limits.interval)
            worker.run()

    def stop(self) -> None:
        """Signal the worker to stop after the current commit."""
        if self.worker is not None:
            self.worker.stop.set()

    def counts(self) -> dict[str, Any] | None:
        """Return the worker's counts; None before it has started."""
        return None if self.worker is None else self.worker.counts.as_dict()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, at most *timeout* seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
