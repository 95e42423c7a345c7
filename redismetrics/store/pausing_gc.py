"""Let Python's cyclic garbage collector rest while replies about many metrics are decoded."""

import gc


class pausing_gc:  # noqa: N801
    """Pause the collector; a context manager for code that makes many objects and never waits.

    A page of 5,000 metrics has some 200,000 containers that are in use until the page is made. The
    collector looked at each of them several times, which was 40 % of the page's CPU. With several
    threads, the first one to enter ends the pause.
    """

    __slots__ = ("_ends",)

    def __enter__(self) -> None:
        self._ends = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._ends:
            gc.enable()
