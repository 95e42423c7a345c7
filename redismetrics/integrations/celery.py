"""Celery: tasks by name and state, how long they run, and how many were sent.

from redismetrics.integrations.celery import instrument
instrument()     # where the application is made: in its producers and in its workers
"""

import time
from typing import Any

from redismetrics.model.validation import check_name
from redismetrics.recording.methods import Recording

from .common import SafeRecorder

try:
    from billiard.exceptions import TimeLimitExceeded, WorkerLostError
    from celery import signals
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra(
        "Celery's signals need Celery: pip install 'redismetrics[celery]'"
    ) from error


_instrumented: dict[str, "_Tasks"] = {}


def instrument(*, metrics: Recording | None = None, prefix: str = "celery") -> None:
    """Record what Celery's signals tell, in this process and in those that it forks; a second call changes nothing.

    ``<prefix>_tasks`` counts by `task` and `state` (SUCCESS, FAILURE, RETRY, REVOKED, IGNORED, REJECTED), ``<prefix>_tasks_sent``
    by `task`, and ``<prefix>_task_duration_seconds`` is a histogram by `task` and `state`. A pool's child sends what it holds
    when it ends, for 2 s at most, so one that ends after each task loses nothing; one that is killed loses the last flush
    interval, and its task is counted by the worker, as FAILURE.
    """
    if check_name(prefix, "prefix") not in _instrumented:
        _instrumented[prefix] = _Tasks(metrics, prefix)


class _Tasks:
    def __init__(self, metrics: Recording | None, prefix: str) -> None:
        self._tasks, self._sent = f"{prefix}_tasks", f"{prefix}_tasks_sent"
        self._duration = f"{prefix}_task_duration_seconds"
        self._quiet = SafeRecorder(
            metrics,
            {
                self._tasks: ("counter", {"help": "Tasks that ended, by state"}),
                self._sent: ("counter", {"help": "Tasks sent to the broker"}),
                self._duration: (
                    "histogram",
                    {"unit": "seconds", "help": "Tasks, from their start in a worker"},
                ),
            },
        )
        self._began: dict[str, float] = {}
        for signal, receiver in (
            (signals.after_task_publish, self._published),
            (signals.task_prerun, self._starts),
            (signals.task_postrun, self._ended),
            (signals.task_failure, self._failed),
            (signals.task_revoked, self._revoked),
            (signals.worker_process_shutdown, self._child_ends),
        ):
            signal.connect(
                receiver, weak=False, dispatch_uid=f"redismetrics-{prefix}-{signal.name}"
            )

    def _count(self, name: str, **tags: str) -> None:
        self._quiet.run(lambda client: client.increment(name, tags=tags))

    def _published(self, sender: Any = None, **_: Any) -> None:
        self._count(self._sent, task=str(sender))

    def _starts(self, task_id: str = "", **_: Any) -> None:
        self._began[task_id] = time.perf_counter()

    def _ended(self, task_id: str = "", task: Any = None, state: Any = None, **_: Any) -> None:
        began = self._began.pop(task_id, None)
        tags = {"task": str(getattr(task, "name", task)), "state": str(state or "UNKNOWN")}
        self._count(self._tasks, **tags)
        if began is not None:
            seconds = time.perf_counter() - began
            self._quiet.run(lambda client: client.histogram(self._duration, seconds, tags=tags))

    def _failed(self, sender: Any = None, exception: Any = None, **_: Any) -> None:
        """The worker tells of a child that was killed: the child itself can't."""
        if isinstance(exception, WorkerLostError | TimeLimitExceeded):
            self._count(self._tasks, task=str(getattr(sender, "name", sender)), state="FAILURE")

    def _revoked(self, sender: Any = None, **_: Any) -> None:
        self._count(self._tasks, task=str(getattr(sender, "name", sender)), state="REVOKED")

    def _child_ends(self, **_: Any) -> None:
        """A pool's child is about to leave by `os._exit`, which runs no `atexit`."""
        from redismetrics.recording.flusher import close_at_exit

        close_at_exit()
