"""What happens to the sinks of a process when it forks or ends."""

import atexit
import os
import sys
import weakref

from redismetrics.errors import RedisMetricsError
from redismetrics.model.time import monotonic

from .sink import Sink

# Seconds that all clients of a process have together for their last samples.
EXIT_TIMEOUT = 2.0

_sinks: "weakref.WeakSet[Sink]" = weakref.WeakSet()


def register(sink: Sink) -> None:
    """Reset *sink* in forked children, and close it at the end of the process."""
    _sinks.add(sink)


def close_at_exit() -> None:
    """Send what is left at the end of the process; 2 s at most for all clients together."""
    until = monotonic() + EXIT_TIMEOUT
    left = list(_sinks)
    try:
        while left:
            left[-1].close(max(until - monotonic(), 0.05))
            left.pop()
    except BaseException:
        # Ctrl-C: wait no longer, but count and log what is left.
        for sink in left:
            sink.close(0)
        raise


def close_in_multiprocessing_child() -> None:
    """Let `close_at_exit` run in a child of multiprocessing too.

    Such a child ends by `os._exit`, which runs multiprocessing's finalizers but not atexit.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        # Not a finalizer of a sink: it would close all clients when one of them is collected.
        Finalize(None, close_at_exit, exitpriority=100)


def flush_all() -> None:
    """Send what is left while the process goes on; 2 s at most for all clients together.

    The application's next `flush` reports the result.

    Raises:
        RedisMetricsError: The last error, after all clients were tried.
    """
    until = monotonic() + EXIT_TIMEOUT
    failed: RedisMetricsError | None = None
    for sink in list(_sinks):
        try:
            sink.settle(max(until - monotonic(), 0.05))
        except RedisMetricsError as error:
            failed = error
    if failed is not None:
        raise failed


def _after_fork() -> None:
    global _pid
    _pid = os.getpid()
    for sink in list(_sinks):
        sink.reset_after_fork()


_pid = os.getpid()
# True while sinks are reset some time after a fork by C code.
noticed_late = False


def reset_if_forked() -> bool:
    """Reset all sinks if C code forked this process, which runs no hooks; return whether it did."""
    global noticed_late
    if os.getpid() == _pid:
        return False
    noticed_late = True
    try:
        _after_fork()
    finally:
        noticed_late = False
    return True


atexit.register(close_at_exit)
os.register_at_fork(after_in_child=_after_fork)
