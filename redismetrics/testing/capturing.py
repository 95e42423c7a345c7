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
    """Keep everything that this process records in memory; send nothing, start no thread.

    The default client, bound instruments, clients created inside the block, and clients of
    ``none://`` are all captured. *clock* is used by every client without its own clock. Queries
    raise `StoreUnavailable`. Afterwards everything is as before, except that metrics declared
    inside the block stay declared.
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
