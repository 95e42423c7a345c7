"""Match the end of a `with` body to its beginning, if a context manager is used concurrently.

Bodies in threads, tasks and generators may overlap in any order, so a stack is not enough.
"""

import contextlib
import sys
from collections.abc import Callable
from threading import get_ident
from types import CodeType, FrameType
from typing import Generic, TypeVar

T = TypeVar("T")


_CONTEXTLIB = vars(contextlib)


def _user_frame(frame: FrameType) -> FrameType:
    """Return the frame that uses a context manager, skipping the frames of `ExitStack`."""
    while frame.f_globals is _CONTEXTLIB and frame.f_back is not None:
        frame = frame.f_back
    return frame


# Asyncio's function that returns the loop of this thread, once asyncio has been imported.
_running_loop: Callable[[], object] | None = None


def _current_task() -> int:
    """Return the identity of the asyncio task running in this thread, 0 if there is none."""
    global _running_loop
    if _running_loop is None:
        events = sys.modules.get("asyncio.events")
        _running_loop = getattr(events, "_get_running_loop", None)
    # `current_task` raises without a loop, which takes longer than the rest of a measurement.
    if _running_loop is None or _running_loop() is None:
        return 0
    task = sys.modules["asyncio"].current_task()
    return 0 if task is None else id(task)


class OpenBodies(Generic[T]):
    """The bodies that have begun and not yet ended. Thread-safe."""

    def __init__(self) -> None:
        # Newest last: the identity of its frame, which another frame may have later, the code of
        # the frame, the thread, the asyncio task (0 outside of tasks), and the body.
        self._open: list[tuple[int, CodeType, int, int, T]] = []

    def begin(self, body: T, frame: FrameType) -> None:
        """Remember *body*, which begins in *frame*, until its end."""
        if frame.f_globals is _CONTEXTLIB:
            frame = _user_frame(frame)
        find = _running_loop
        task = 0 if find is not None and find() is None else _current_task()
        self._open.append((id(frame), frame.f_code, get_ident(), task, body))

    def end(self, frame: FrameType) -> T:
        """Remove and return the body that ends in *frame*.

        This is the newest body that began in the same frame; otherwise, the newest in the same
        thread and asyncio task; otherwise, the newest of all.

        Raises:
            RuntimeError: If no body has begun.
        """
        if len(self._open) == 1:
            # The fast path: only this end removes it, and bodies that begin in the meantime come
            # after it.
            return self._open.pop(0)[4]
        user = _user_frame(frame)
        identity, code = id(user), user.f_code
        while newest_first := self._open[::-1]:
            for found in newest_first:
                if found[0] == identity and found[1] is code:
                    break
            else:
                place = (get_ident(), _current_task())
                same = (each for each in newest_first if each[2:4] == place)
                found = next(same, newest_first[0])
            try:
                self._open.remove(found)
            except ValueError:  # another thread has already removed it
                continue
            return found[4]
        raise RuntimeError("a timer or span must begin before it ends: use it as `with ...:`")
