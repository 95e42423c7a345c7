"""The progress bar of `worker --once` on a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from rich.console import Console

from redismetrics.errors import RedisMetricsError

from .printing import BAR

if TYPE_CHECKING:
    from redismetrics.worker.worker import Worker

# Seconds between updates of the bar.
_UPDATE_SECONDS = 0.2


@contextmanager
def shown_progress(worker: "Worker") -> Iterator[None]:
    """Show a bar while *worker* does all due work, if standard error is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.fields[samples]:,} samples sealed"),
        TimeElapsedColumn(),
    )
    queue = _QueueLength(worker)
    ended = Event()

    def keep_updating() -> None:
        while not ended.wait(_UPDATE_SECONDS):
            update()

    with Progress(*columns, console=console) as progress:
        task = progress.add_task("working", total=0, samples=0)

        def update() -> None:
            largest, left = queue.read()
            progress.update(
                task, total=largest, completed=largest - left, samples=worker.counts.samples
            )

        update()
        updating = Thread(target=keep_updating, name="redismetrics-progress", daemon=True)
        updating.start()
        # Lines of the log are printed above the bar.
        handlers = [
            each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)
        ]
        streams = [each.setStream(sys.stderr) for each in handlers]
        try:
            yield
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                if stream is not None:
                    handler.setStream(stream)
            ended.set()
            updating.join()
            update()


class _QueueLength:
    """The length of the work queue: the largest seen, and the current one."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._largest = self._left = 0

    def read(self) -> tuple[int, int]:
        from redismetrics.store.driver import run
        from redismetrics.worker import queue

        # The worker reports the error itself.
        with suppress(RedisMetricsError):
            namespace = self._worker.settings.namespace
            self._left = run(self._worker.store.client(), queue.waiting(namespace))
            self._largest = max(self._largest, self._left)
        return self._largest, self._left
