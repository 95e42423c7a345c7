"""Capture what a block of code records, in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from redismetrics.client import default
from redismetrics.model.time import Clock as ReadClock
from redismetrics.recording.recorder import Recorder
from redismetrics.recording.redirect import redirect_sinks

from .captured import Captured
from .memory_sink import MemorySink


@contextmanager
def capture(*, clock: ReadClock | None = None) -> Iterator[Captured]:
    """Keep what this process records meanwhile in memory; send nothing, start no thread.

    The default client, instruments that are bound already, clients that are created meanwhile, and
    those of ``none://`` are all captured. *clock* is the time of every client that has none of its
    own. Queries raise `StoreUnavailable`. Afterwards everything is as before, except that metrics
    declared meanwhile stay declared.
    """
    captured = Captured()

    def make_sink(recorder: Recorder) -> MemorySink:
        sink = MemorySink(recorder)
        captured.add_sink(sink)
        return sink

    with redirect_sinks(make_sink, clock), default.restored():
        try:
            yield captured
        finally:
            captured.end()
