"""Handle fork and exit of a process for its sinks."""

import atexit
import os
import sys
import threading
import weakref
from contextlib import suppress
from importlib import import_module

from redismetrics.errors import RedisMetricsError
from redismetrics.model.time import monotonic

from .sink import Sink

# Total seconds for all clients of a process to send their last samples.
EXIT_TIMEOUT = 2.0
# Lower than other priorities, so that samples from their finalizers are sent as usual.
EXIT_PRIORITY = -1_000

_sinks: "weakref.WeakSet[Sink]" = weakref.WeakSet()


class Ending:
    """How far the exit of this process has progressed.

    Attributes:
        begun: All clients have been closed. Exit handlers that were registered before ours,
            finalizers and threads may still record.
        closes: The clients are being closed because of the exit.
        seconds: What is left of `EXIT_TIMEOUT` for samples recorded after that.
        waits: A thread waits for the other threads of a multiprocessing child, to close the clients
            after them.
    """

    def __init__(self, begun: bool) -> None:
        self.begun = begun
        self.closes = False
        self.seconds = EXIT_TIMEOUT
        self.waits = False


# An exit handler may be the first to import this module: Python then runs no further handlers.
ending = Ending(not threading.main_thread().is_alive())


def register(sink: Sink) -> None:
    """Reset *sink* in forked children, and close it when the process exits."""
    _sinks.add(sink)


def close_at_exit() -> None:
    """Send what is left at exit, for at most 2 s over all clients.

    Samples recorded later are sent by the call that records them.
    """
    until = monotonic() + ending.seconds
    left = list(_sinks)
    used = [sink for sink in left if not sink.closed]
    ending.closes = True
    try:
        while left:
            left[-1].close(max(until - monotonic(), 0.05))
            left.pop()
    except BaseException:
        # Ctrl-C: stop waiting, but count and log what is left.
        for sink in left:
            sink.close(0)
        raise
    finally:
        ending.closes = False
    ending.begun = True
    ending.seconds = max(until - monotonic(), 0)
    if ending.seconds > 0:
        for sink in used:
            sink.send_each_call()


def is_ending() -> bool:
    """Return whether this process is exiting: threads and imports may no longer be possible."""
    return ending.begun or sys.is_finalizing() or not threading.main_thread().is_alive()


def close_in_multiprocessing_child() -> None:
    """Make `close_at_exit` run in multiprocessing children too.

    Such a child runs multiprocessing's finalizers but not atexit, waits for the remaining threads,
    and exits with `os._exit`.
    """
    process = sys.modules.get("multiprocessing.process")
    if ending.begun or ending.waits or process is None or process.parent_process() is None:
        return
    from multiprocessing import util

    # Not a finalizer of a sink, which would close all clients when one of them is collected.
    util.Finalize(None, _close_after_threads, exitpriority=EXIT_PRIORITY)
    if getattr(util, "_exiting", False):
        # It may be too late for a finalizer, or just in time; this is unknown.
        _close_after_threads()


def _close_after_threads() -> None:
    """Close the clients once the last thread that the process waits for has ended."""
    if ending.waits:
        return
    if _other_threads():
        # The process waits for this thread too, because it is not a daemon.
        with suppress(RuntimeError):
            closing = threading.Thread(target=_join_and_close, name="redismetrics-exit")
            closing.daemon = False
            closing.start()
            ending.waits = True
            return
    close_at_exit()


def _join_and_close() -> None:
    while others := _other_threads():
        for thread in others:
            thread.join()
    close_at_exit()


def _other_threads() -> list[threading.Thread]:
    """Return the running threads that the process waits for before it exits."""
    mine = (threading.main_thread(), threading.current_thread())
    return [each for each in threading.enumerate() if not each.daemon and each not in mine]


def allow_late_imports() -> None:
    """Allow an exit handler to import modules that redis-py needs.

    One of them, `concurrent.futures.thread`, registers a function that waits for threads, which
    Python refuses once it has waited for them. Without threads there is nothing to wait for.
    """
    try:
        import_module("concurrent.futures.thread")
    except RuntimeError:
        original = vars(threading)["_register_atexit"]
        vars(threading)["_register_atexit"] = lambda *_, **__: None
        try:
            import_module("concurrent.futures.thread")
        finally:
            vars(threading)["_register_atexit"] = original


def flush_all() -> None:
    """Send what is left while the process keeps running, for at most 2 s over all clients.

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
    ending.waits = False
    for sink in list(_sinks):
        sink.reset_after_fork()


_pid = os.getpid()
# True while sinks are reset some time after a fork by C code.
noticed_late = False


def reset_if_forked() -> bool:
    """Reset all sinks if C code forked this process without fork hooks; return whether it did."""
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
