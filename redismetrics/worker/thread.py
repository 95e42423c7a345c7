"""A worker in a thread of a recording process."""

import threading
from typing import Any

from redismetrics.settings import Settings
from redismetrics.store.connection import Store

from .worker import INTERVAL, Worker


class Thread:
    """The worker inside a recording process: starts with its first recording, ends with its client. A fork leaves it behind."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.reset()

    def reset(self) -> None:
        """The child's side of a fork: the worker is the parent's."""
        self.worker: Worker | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, where it is wanted and doesn't run yet; raises RuntimeError where no thread can be started."""
        wanted = self._settings.worker
        if wanted is None:
            wanted = self._store.url.startswith("embedded:")
        if wanted and (self._thread is None or not self._thread.is_alive()):
            self.worker = Worker(self._settings, self._store, tells=False)
            self._thread = threading.Thread(
                target=self._work, name="redismetrics-worker", daemon=True
            )
            self._thread.start()

    def _work(self) -> None:
        """Begin after one interval: before it there is nothing to seal, and a short script needs no second connection."""
        worker = self.worker
        if worker is not None:
            worker.stop.wait(INTERVAL)
            worker.run()

    def stop(self) -> None:
        """Let it end after the commit in hand."""
        if self.worker is not None:
            self.worker.stop.set()

    def counts(self) -> dict[str, Any] | None:
        """Return what the worker has done; None before it started."""
        return None if self.worker is None else self.worker.counts.as_dict()

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
