"""Process exits that bypass Python's `atexit`: the last counts are sent there too.

Those of multiprocessing are handled by `redismetrics.recording.lifecycle`.
"""

import functools
import os
import signal
import sys
import threading
from typing import Any

from redismetrics.recording.lifecycle import close_at_exit

# Classes of billiard, Celery's multiprocessing, and their last method in a child before `os._exit`.
_BILLIARD = (
    ("billiard.process", "BaseProcess", "_bootstrap", False),
    ("billiard.pool", "Worker", "_do_exit", True),
)


def watch_endings() -> None:
    """Send what is left when this process or a forked child is ended by a signal or by Celery.

    SIGTERM is left alone if the program handles it, because the program then exits normally.
    """
    # In a child that was spawned, billiard is loaded already.
    _watch_billiard()
    os.register_at_fork(before=_watch_billiard)
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: Any) -> None:
    """Send what is left, then end with the signal, as without a handler.

    Uvicorn raises the signal again, with the previous handlers restored, once it has answered the
    last request.
    """
    try:
        close_at_exit()
    finally:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _watch_billiard() -> None:
    for module, owner, name, is_before in _BILLIARD:
        found: Any = getattr(sys.modules.get(module), owner, None)
        original = getattr(found, name, None)
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(found, name, _closing(original, is_before=is_before))


def _closing(original: Any, *, is_before: bool) -> Any:
    """Return *original* with the clients closed before or after it."""

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        if is_before:
            close_at_exit()
            return original(*args, **kwargs)
        try:
            return original(*args, **kwargs)
        finally:
            close_at_exit()

    return run
