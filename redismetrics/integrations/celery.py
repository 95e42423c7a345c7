"""Celery: tasks by name and state, their durations, and the number of tasks sent.

from redismetrics.integrations.celery import instrument
instrument()     # where the application is created, in its producers and its workers
"""

import time
from typing import Any

from redismetrics.model.validation import check_name
from redismetrics.recording.methods import Recording

from .safe_recorder import SafeRecorder

try:
    from billiard.exceptions import TimeLimitExceeded, WorkerLostError
    from celery import signals
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra(
        "Celery's signals need Celery: pip install 'redismetrics[celery]'"
    ) from error


_instrumented: dict[str, "_TaskMetrics"] = {}


def instrument(*, metrics: Recording | None = None, prefix: str = "celery") -> None:
    """Record Celery's tasks in this process and its forked children. A second call has no effect.

    ``<prefix>_tasks`` counts by `task` and `state` (SUCCESS, FAILURE, RETRY, REVOKED, IGNORED,
    REJECTED), ``<prefix>_tasks_sent`` by `task`, and ``<prefix>_task_duration_seconds`` is a
    histogram by `task` and `state`.

    A pool process sends its unsent samples when it exits, for at most 2 s, so nothing is lost even
    if it exits after each task. If a pool process is killed, the samples of its last flush interval
    are lost, and the worker counts its task as FAILURE.
    """
    if check_name(prefix, "prefix") not in _instrumented:
        _instrumented[prefix] = _TaskMetrics(metrics, prefix)


class _TaskMetrics:
    def __init__(self, metrics: Recording | None, prefix: str) -> None:
        self._tasks, self._sent = f"{prefix}_tasks", f"{prefix}_tasks_sent"
        self._duration = f"{prefix}_task_duration_seconds"
        duration_help = "Tasks, from their start in a worker"
        self._safe = SafeRecorder(
            metrics,
            {
                self._tasks: ("counter", {"help": "Tasks that ended, by state"}),
                self._sent: ("counter", {"help": "Tasks sent to the broker"}),
                self._duration: ("histogram", {"unit": "seconds", "help": duration_help}),
            },
        )
        self._began: dict[str, float] = {}
        for signal, receiver in (
            (signals.after_task_publish, self._on_publish),
            (signals.task_prerun, self._on_start),
            (signals.task_postrun, self._on_end),
            (signals.task_failure, self._on_failure),
            (signals.task_revoked, self._on_revoked),
            (signals.worker_process_shutdown, self._on_child_shutdown),
        ):
            signal.connect(
                receiver, weak=False, dispatch_uid=f"redismetrics-{prefix}-{signal.name}"
            )

    def _count(self, name: str, **tags: str) -> None:
        self._safe.run(lambda client: client.increment(name, tags=tags))

    def _on_publish(self, sender: Any = None, **_: Any) -> None:
        self._count(self._sent, task=str(sender))

    def _on_start(self, task_id: str = "", **_: Any) -> None:
        self._began[task_id] = time.perf_counter()

    def _on_end(self, task_id: str = "", task: Any = None, state: Any = None, **_: Any) -> None:
        began = self._began.pop(task_id, None)
        tags = {"task": _task_name(task), "state": str(state or "UNKNOWN")}
        self._count(self._tasks, **tags)
        if began is not None:
            seconds = time.perf_counter() - began
            self._safe.run(lambda client: client.histogram(self._duration, seconds, tags=tags))

    def _on_failure(self, sender: Any = None, exception: Any = None, **_: Any) -> None:
        """Count a task whose process was killed. This runs in the worker."""
        if isinstance(exception, WorkerLostError | TimeLimitExceeded):
            self._count(self._tasks, task=_task_name(sender), state="FAILURE")

    def _on_revoked(self, sender: Any = None, **_: Any) -> None:
        self._count(self._tasks, task=_task_name(sender), state="REVOKED")

    def _on_child_shutdown(self, **_: Any) -> None:
        """Send unsent samples before the child calls `os._exit`, which skips `atexit`."""
        from redismetrics.recording.lifecycle import close_at_exit

        close_at_exit()


def _task_name(task: Any) -> str:
    return str(getattr(task, "name", task))
