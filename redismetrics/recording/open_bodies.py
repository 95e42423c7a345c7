"""Find the beginning of a `with` body at its end, where one context manager has several bodies.

Bodies of threads, tasks and generators may overlap in any order, so a stack is not enough.
"""

import sys
from contextlib import suppress
from threading import get_ident
from types import CodeType, FrameType
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Place(NamedTuple):
    """Where a `with` body began: what its end has in common with its beginning."""

    # The identity of the frame, which another frame may have later, and its code.
    frame: int
    code: CodeType
    thread: int
    # The identity of the asyncio task; 0 outside of tasks.
    task: int

    @classmethod
    def of(cls, frame: FrameType) -> "_Place":
        # `ExitStack` begins and ends a body in frames of its own.
        while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
            frame = frame.f_back
        return cls(id(frame), frame.f_code, get_ident(), _current_task())

    def likeness(self, other: "_Place") -> int:
        """Return how likely *other* is the end of the body that began here, from 0 to 2."""
        if self.frame == other.frame and self.code is other.code:
            return 2
        return int(self.thread == other.thread and self.task == other.task)


def _current_task() -> int:
    asyncio = sys.modules.get("asyncio.tasks")
    if asyncio is None:
        return 0
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return 0 if task is None else id(task)


class OpenBodies(Generic[T]):
    """What is known of the bodies that have begun and not ended. Thread-safe."""

    def __init__(self) -> None:
        # The newest last.
        self._open: list[tuple[_Place, T]] = []

    def begin(self, body: T, frame: FrameType) -> None:
        """Keep *body*, which begins in *frame*, until its end."""
        self._open.append((_Place.of(frame), body))

    def end(self, frame: FrameType) -> T:
        """Remove and return the body that ends in *frame*.

        That is the newest one that began in the same frame; if there is none, the newest of the
        same thread and asyncio task; then the newest.

        Raises:
            RuntimeError: If no body has begun.
        """
        place = _Place.of(frame)
        while self._open:
            entries = self._open[:]
            found = max(range(len(entries)), key=lambda at: (entries[at][0].likeness(place), at))
            # Another thread may have removed it meanwhile, if none is like this place.
            with suppress(ValueError):
                self._open.remove(entries[found])
                return entries[found][1]
        raise RuntimeError("a timer or span must begin before it ends: use it in a `with` block")
