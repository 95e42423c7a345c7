"""Run a function such that no exception from a signal handler can interrupt it."""

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Job(Generic[T]):
    """One call of a function in another thread."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._result: T | None = None
        self._error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._error = error

    def wait(self) -> T:
        with self.done:
            if self._error is not None:
                raise self._error
            return self._result  # type: ignore[return-value]


class _Helper:
    """A thread that runs functions for the main thread, one at a time."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        threading.Thread(target=self._run, name="redismetrics-helper", daemon=True).start()

    def _run(self) -> None:
        while True:
            job = self.jobs.get()
            job.run()
            _idle.append(self)
            job.done.release()
            # Release what the function refers to, such as a client.
            del job


# There are several only if a call was interrupted and its function is still running.
_idle: list[_Helper] = []
_pid = os.getpid()


def uninterrupted(function: Callable[[], T]) -> T:
    """Call *function* and return its result; in the main thread, use another thread to call it.

    Python runs signal handlers only in the main thread, between any two bytecodes. If one raises,
    as Ctrl-C does, this call ends, but *function* runs to completion.
    """
    global _pid
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
        return function()
    if _pid != os.getpid():
        # The threads are the parent's.
        _pid = os.getpid()
        _idle.clear()
    try:
        helper = _idle.pop() if _idle else _Helper()
    except RuntimeError:  # no thread can be started, such as at the end of the process
        return function()
    job = _Job(function)
    helper.jobs.put(job)
    return job.wait()
