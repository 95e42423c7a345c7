"""Pause Python's cyclic garbage collector while replies about many metrics are decoded."""

import gc
import os


class pausing_gc:  # noqa: N801
    """Pause the collector; a context manager for code that creates many objects and never waits.

    A page of 5,000 metrics has some 200,000 containers that are in use until the page is complete.
    The collector visited each of them several times, which took 40 % of the page's CPU time. With
    several threads, the first one to enter ends the pause.
    """

    __slots__ = ("_ends",)

    def __enter__(self) -> None:
        self._ends = gc.isenabled()
        if self._ends:
            _pauses.add(self)
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._ends:
            gc.enable()
            _pauses.discard(self)


# Pauses that keep the collector off. A set, because one may begin while another one ends.
_pauses: set[pausing_gc] = set()


def _after_fork() -> None:
    """End the pauses in a child, which lacks the threads that would end them."""
    if _pauses:
        gc.enable()
        _pauses.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
