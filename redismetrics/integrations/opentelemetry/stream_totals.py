"""The state of OpenTelemetry streams: recorded points, and the last cumulative totals."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from .points import DataPoint, HistogramValue

log = logging.getLogger("redismetrics")

# A total with this many buckets takes as much memory as another stream.
_BUCKETS_PER_STREAM = 16
_MS = 1_000_000
_SECOND = 1_000_000_000
# A start time computed as "now minus uptime" varies by its rounding error, at most 1 s, or by a
# clock correction. Two start times closer than this may be the same.
_START_TOLERANCE_NS = 2 * _SECOND
# Two processes do not start this close to each other; such differences come from float arithmetic.
_SAME_START_NS = 10_000
# Rounding error of a start time in seconds as a float.
_FLOAT_ERROR_NS = 1_000
# Clocks that differ by less than this are considered equal.
_CLOCK_TOLERANCE_NS = 2 * _SECOND
# The time between measurement and arrival is constant if it changes less than this, and less than
# a quarter of the interval between two points.
_CONSTANT_DELAY_NS = _SECOND

Total = float | HistogramValue
# The stream, and its start time.
_Key = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class _Last:
    """The last point of a stream.

    Attributes:
        is_complete: Whether all of *total* is recorded; otherwise an unknown part is not, because
            it may belong to another receiver.
        is_continued: Whether a stream with a slightly different start time continues from *total*.
        delay_ns: If not None, it is not yet known whether the stream began before the receiver,
            because its clock may be behind or the point late. The value is the difference of the
            two clocks minus the transit time.
    """

    time_ns: int
    total: Total
    is_complete: bool
    is_continued: bool = False
    delay_ns: int | None = None


@dataclass(slots=True)
class _Writers:
    """The newest start time of a stream, and whether several processes write it."""

    newest_start_ns: int
    are_several: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """The amount that a point adds to its stream, and the state of the stream afterwards.

    Attributes:
        continues: The stream with another start time that the point continues.
        shows_writers: Whether the point shows that several processes write the stream.
    """

    added: Total | None
    is_complete: bool
    delay_ns: int | None = None
    continues: _Key | None = None
    shows_writers: bool = False


class StreamTotals:
    """The last point of each cumulative stream, and the identities of the latest other points.

    Both are bounded by *max_streams*; the streams idle for longest are forgotten first. Follows the
    OpenTelemetry data model, sections "Resets and gaps" and "Cumulative streams: handling unknown
    start time":

    - A point whose start time differs from its time begins with a true reset: its stream began at
      0. If it began after this object did, its first point counts in full. If it began earlier,
      its total may already be recorded by another process, and the first point only sets the
      starting value.
    - A first point whose start time equals its time, or is unknown, contributes nothing.

    The sender's clock may differ from ours. So the age of a stream by its own clock is compared
    with our uptime, and start times are compared with our own time only to recognise late points.

    A stream is identified by its identity and its start time, so a restart begins a new stream, and
    two processes with the same identity are two streams. A start time that moves a little while the
    total continues is the same stream, until the old start time returns. Not thread-safe.

    Args:
        max_streams: The bound.
        since_ns: When this object was created, by *clock_ns*; 0 means that all streams began later.
        clock_ns: Unix time.
        monotonic_ns: A clock that is never set.
    """

    def __init__(
        self,
        max_streams: int,
        since_ns: int,
        clock_ns: Callable[[], int],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._max_streams = max_streams
        self._since_ns = since_ns
        self._clock_ns = clock_ns
        self._monotonic_ns = monotonic_ns
        self._since_monotonic_ns = monotonic_ns() if since_ns else None
        self._last: OrderedDict[_Key, _Last] = OrderedDict()
        self._writers: dict[bytes, _Writers] = {}
        self._cost = 0
        self._recorded: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of cumulative streams."""
        return len(self._last)

    def was_recorded(self, point: DataPoint) -> bool:
        """Return whether exactly this point was recorded; False if it has no time."""
        return point.time_ns != 0 and _point_id(point) in self._recorded

    def add_recorded(self, point: DataPoint) -> None:
        """Remember that *point* was recorded."""
        if point.time_ns:
            self._recorded[_point_id(point)] = None
            if len(self._recorded) > self._max_streams:
                self._recorded.popitem(last=False)

    def change(self, point: DataPoint) -> Total | None:
        """Return the amount that a cumulative *point* adds to its stream; None if unknown."""
        step = self._step(point)
        return None if step is None else step.added

    def set_last(self, point: DataPoint) -> None:
        """Remember a cumulative *point* as the last of its stream, unless a newer one arrived."""
        key = (point.stream, point.start_ns)
        step = self._step(point)
        if step is None:
            if key in self._last:
                self._last.move_to_end(key)
            return
        writers = self._writers.setdefault(point.stream, _Writers(point.start_ns))
        writers.newest_start_ns = point.start_ns
        writers.are_several |= step.shows_writers
        if step.continues is not None:
            self._last[step.continues] = replace(self._last[step.continues], is_continued=True)
        last = self._last.pop(key, None)
        self._cost += _cost(point.value) - (0 if last is None else _cost(last.total))
        self._last[key] = _Last(
            point.time_ns or self._clock_ns(),
            point.value,
            step.is_complete,
            delay_ns=step.delay_ns,
        )
        self._forget_idle()

    def _step(self, point: DataPoint) -> _Step | None:
        """Return the step of *point*; None if a newer point of its stream arrived before."""
        key = (point.stream, point.start_ns)
        time_ns = point.time_ns or self._clock_ns()
        last = self._last.get(key)
        if last is not None and time_ns <= last.time_ns:
            # A repeat, or an older point that arrives late: the newer total includes it.
            return None
        if last is not None and not last.is_continued:
            return self._next(point, last)
        newest_key, newest = self._newest(point)
        if newest is None or newest_key == key:
            return self._first(point)
        if newest.time_ns <= point.start_ns < time_ns:
            # A restart observed by this object.
            return _Step(point.value, is_complete=True)
        added = _difference(point, newest.total)
        is_one = self._may_be_one(point, newest_key[1], last)
        if time_ns <= newest.time_ns:
            is_late = last is not None or (is_one and _is_below(point, newest.total))
            return None if is_late else self._first(point)
        if is_one and added is not None:
            return _Step(added or None, newest.is_complete, newest.delay_ns, continues=newest_key)
        if last is None:
            return self._first(point)
        # Both start times are in use, so there are two processes. The other one continued from our
        # total, so all of it must still be counted.
        step = self._next(point, last)
        total = point.value if last.is_complete else step.added
        return replace(step, added=total, shows_writers=True)

    def _newest(self, point: DataPoint) -> tuple[_Key, _Last | None]:
        """Return the key and the last point of the newest start time of this stream."""
        writers = self._writers.get(point.stream)
        key = (point.stream, point.start_ns if writers is None else writers.newest_start_ns)
        return key, self._last.get(key)

    def _may_be_one(self, point: DataPoint, newest_start_ns: int, last: _Last | None) -> bool:
        """Return whether the start time of *point* may be the newest one, which has moved."""
        if not point.start_ns or not newest_start_ns:
            return False
        if abs(point.start_ns - newest_start_ns) > _START_TOLERANCE_NS:
            return False
        if self._writers[point.stream].are_several:
            return False
        return last is None or _is_rounded(point.start_ns, newest_start_ns)

    def _first(self, point: DataPoint) -> _Step:
        """Return the step of the first point of a stream."""
        age_ns = point.time_ns - point.start_ns
        if not point.start_ns or age_ns <= 0:
            return _Step(None, is_complete=False)
        delay_ns = point.time_ns - self._clock_ns()
        is_younger = age_ns <= self._uptime_ns()
        if point.start_ns >= self._since_ns:
            is_complete = is_younger or delay_ns <= _CLOCK_TOLERANCE_NS
            return _Step(point.value if is_complete else None, is_complete)
        # If it may be younger, the sender's clock is behind ours, or the point is late.
        return _Step(None, is_complete=False, delay_ns=delay_ns if is_younger else None)

    def _next(self, point: DataPoint, last: _Last) -> _Step:
        """Return the step from *last* to a newer point of the same stream."""
        if last.delay_ns is not None:
            change_ns = abs(point.time_ns - self._clock_ns() - last.delay_ns)
            interval_ns = point.time_ns - last.time_ns
            if change_ns < min(_CONSTANT_DELAY_NS, interval_ns // 4):
                # Late points would catch up, so the clock is behind, and the stream is complete.
                return _Step(point.value, is_complete=True)
        added = _difference(point, last.total)
        # A total that decreases has restarted without a new start time.
        if added is None:
            return _Step(point.value, is_complete=True)
        return _Step(added or None, last.is_complete)

    def _uptime_ns(self) -> float:
        if self._since_monotonic_ns is None:
            return float("inf")
        return self._monotonic_ns() - self._since_monotonic_ns

    def _forget_idle(self) -> None:
        """Forget the streams idle for longest beyond the bound; warn once per call."""
        while self._cost > self._max_streams and len(self._last) > 1:
            (stream, start_ns), last = self._last.popitem(last=False)
            self._cost -= _cost(last.total)
            writers = self._writers.get(stream)
            if writers is not None and writers.newest_start_ns == start_ns:
                del self._writers[stream]
            now_ns = self._clock_ns()
            if self._since_ns < now_ns:
                log.warning(
                    "more than %d cumulative streams: the longest idle ones are forgotten; if they "
                    "return, they count from their next point",
                    self._max_streams,
                )
                self._since_ns = now_ns
            self._since_monotonic_ns = self._monotonic_ns()


def _difference(point: DataPoint, earlier: Total) -> Total | None:
    """Return the amount added after *earlier*; None if the total decreased (a restart)."""
    total = point.value
    if isinstance(total, HistogramValue) and isinstance(earlier, HistogramValue):
        return total.subtract(earlier)
    assert isinstance(total, float), "BUG: a stream of two kinds"
    assert isinstance(earlier, float), "BUG: a stream of two kinds"
    return None if point.monotonic and total < earlier else total - earlier


def _is_below(point: DataPoint, later: Total) -> bool:
    """Return whether *later* may be a later total of the stream of *point*."""
    total = point.value
    if isinstance(total, HistogramValue) and isinstance(later, HistogramValue):
        return later.subtract(total) is not None
    return (
        point.monotonic
        and isinstance(total, float)
        and isinstance(later, float)
        and (total <= later)
    )


def _is_rounded(start_ns: int, other_ns: int) -> bool:
    """Return whether two start times may be roundings of the same start time.

    Start times of different processes have nanoseconds, and do not differ by whole milliseconds.
    """
    distance = abs(start_ns - other_ns)
    error = (distance + _FLOAT_ERROR_NS) % _MS
    return distance <= _SAME_START_NS or error <= 2 * _FLOAT_ERROR_NS


def _cost(total: Total) -> int:
    buckets = total.buckets if isinstance(total, HistogramValue) else None
    return 1 if buckets is None else 1 + buckets.size // _BUCKETS_PER_STREAM


def _point_id(point: DataPoint) -> bytes:
    text = f"{point.start_ns} {point.time_ns} {point.value!r}"
    return hashlib.blake2b(point.stream + text.encode(), digest_size=16).digest()
