"""The state of OpenTelemetry streams: points that were recorded, and last cumulative totals."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable

from .points import DataPoint, HistogramValue

log = logging.getLogger("redismetrics")

# A total with this many buckets takes the memory of one more stream.
_BUCKETS_PER_STREAM = 16


class StreamTotals:
    """The last point of each cumulative stream, and the identities of the latest other points.

    Both are bounded by *max_streams*; the longest idle streams are forgotten first.

    A stream is identified by its identity and its start time, so a restart begins a new stream, and
    two processes with the same identity are two streams. The first point of a stream that began at
    or after *since_ns* counts in full. If the stream began earlier, or its start is unknown, its
    total may already have been recorded by another process, and its first point only sets the
    starting value. Not thread-safe.
    """

    def __init__(self, max_streams: int, since_ns: int, clock_ns: Callable[[], int]) -> None:
        self._max_streams = max_streams
        self._since_ns = since_ns
        self._clock_ns = clock_ns
        # By stream and start: time and total of the last point.
        self._last: OrderedDict[tuple[bytes, int], tuple[int, float | HistogramValue]]
        self._last = OrderedDict()
        self._cost = 0
        self._recorded: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of cumulative streams."""
        return len(self._last)

    def was_recorded(self, point: DataPoint) -> bool:
        """Return whether this very point was recorded; False if it has no time."""
        return point.time_ns != 0 and _point_id(point) in self._recorded

    def add_recorded(self, point: DataPoint) -> None:
        """Remember that *point* was recorded."""
        if point.time_ns:
            self._recorded[_point_id(point)] = None
            if len(self._recorded) > self._max_streams:
                self._recorded.popitem(last=False)

    def change(self, point: DataPoint) -> float | HistogramValue | None:
        """Return what a cumulative *point* adds to its stream; None if nothing, or if unknown."""
        last = self._last.get((point.stream, point.start_ns))
        if last is None:
            is_complete = point.start_ns != 0 and point.start_ns >= self._since_ns
            return point.value if is_complete else None
        last_ns, earlier = last
        if point.time_ns <= last_ns:
            # A repeat, or an older point that arrives late: the newer total includes it.
            return None
        total = point.value
        if isinstance(total, HistogramValue) and isinstance(earlier, HistogramValue):
            added = total.subtract(earlier)
            return total if added is None else added
        assert isinstance(total, float), "BUG: a stream of two kinds"
        assert isinstance(earlier, float), "BUG: a stream of two kinds"
        if total == earlier:
            return None
        # A counter that decreases has restarted without a new start time.
        return total if point.monotonic and total < earlier else total - earlier

    def set_last(self, point: DataPoint) -> None:
        """Remember a cumulative *point* as the last one of its stream, unless a newer one came."""
        key = (point.stream, point.start_ns)
        time_ns, total = point.time_ns, point.value
        last = self._last.pop(key, None)
        if last is not None:
            self._cost -= _cost(last[1])
            if last[0] >= time_ns:
                time_ns, total = last
        self._last[key] = (time_ns, total)
        self._cost += _cost(total)
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Forget the longest idle streams beyond the bound; warn once at a time."""
        while self._cost > self._max_streams and len(self._last) > 1:
            _, (_, total) = self._last.popitem(last=False)
            self._cost -= _cost(total)
            now_ns = self._clock_ns()
            if self._since_ns < now_ns:
                log.warning(
                    "more than %d cumulative streams: the longest idle ones are forgotten; if they "
                    "return, they count from their next point",
                    self._max_streams,
                )
                self._since_ns = now_ns


def _cost(total: float | HistogramValue) -> int:
    buckets = total.buckets if isinstance(total, HistogramValue) else None
    return 1 if buckets is None else 1 + buckets.size // _BUCKETS_PER_STREAM


def _point_id(point: DataPoint) -> bytes:
    text = f"{point.start_ns} {point.time_ns} {point.value!r}"
    return hashlib.blake2b(point.stream + text.encode(), digest_size=16).digest()
