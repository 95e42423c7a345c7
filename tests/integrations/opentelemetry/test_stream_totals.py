"""The state of cumulative streams: starts, clocks of two machines, moved start times."""

from typing import Any

import pytest

from redismetrics.integrations.opentelemetry.buckets import ExplicitBuckets
from redismetrics.integrations.opentelemetry.points import DataPoint, HistogramValue
from redismetrics.integrations.opentelemetry.stream_totals import StreamTotals

SECOND = 1_000_000_000
MS = 1_000_000
# A start time of a process that counts in nanoseconds.
START = 1_700_000_000_123_456_789


def cumulative_point(
    value: float | HistogramValue,
    *,
    start: int = 100,
    at: int = 200,
    stream: bytes = b"s",
    monotonic: bool = True,
) -> DataPoint:
    """Return a point of a cumulative stream."""
    kind: Any = "histogram" if isinstance(value, HistogramValue) else "sum"
    return DataPoint("m", kind, "", "", stream, {}, start, at, value, monotonic, "cumulative")


def histogram_value(count: int) -> HistogramValue:
    """Return a total of *count* values of 0.5, as a Collector sends it."""
    return HistogramValue(count, count * 0.5, None, None, ExplicitBuckets((1.0,), (count, 0)))


def in_kind(kind: str, total: float) -> float | HistogramValue:
    return histogram_value(int(total)) if kind == "histogram" else float(total)


class Receiver:
    """Totals of a receiver on a machine with its own clock; `sum` is what it recorded."""

    def __init__(self, now: int, recorded: float = 0) -> None:
        self.now, self.sum, self.begun = now, recorded, now
        self.totals = StreamTotals(1000, now, lambda: self.now, lambda: self.now - self.begun)

    def restart(self) -> "Receiver":
        return Receiver(self.now, self.sum)

    def get(self, kind: str, total: float, *, start: int, at: int, arrives: int = 0) -> float:
        """Record a point that arrives at its own time, or at *arrives*; return the sum so far."""
        self.now = arrives or at
        value = in_kind(kind, total)
        point = cumulative_point(value, start=start, at=at, monotonic=kind != "up-down")
        change = self.totals.change(point)
        self.totals.set_last(point)
        if change is not None:
            self.sum += change.count if isinstance(change, HistogramValue) else change
        return self.sum


kinds = pytest.mark.parametrize("kind", ["counter", "up-down", "histogram"])


@kinds
def test_first_point_with_an_unknown_start_contributes_nothing(kind: str) -> None:
    receiver = Receiver(START)
    first = START + 10 * SECOND
    sums = [
        receiver.get(kind, 1_000_000 + 10 * n, start=first, at=first + n * 15 * SECOND)
        for n in range(3)
    ]
    assert sums == [0, 10, 20]
    # The Collector restarts and starts over, again with a point of no duration.
    second = START + 60 * SECOND
    sums = [
        receiver.get(kind, 1_000_030 + 10 * n, start=second, at=second + n * 15 * SECOND)
        for n in range(2)
    ]
    assert sums == [20, 30]
    # A start time after the time is no start time either.
    assert receiver.get(kind, 7, start=START + 500 * SECOND, at=START + 400 * SECOND) == 30


@kinds
def test_true_reset_counts_from_zero(kind: str) -> None:
    receiver = Receiver(START)
    assert receiver.get(kind, 5, start=START + SECOND, at=START + 10 * SECOND) == 5
    assert receiver.get(kind, 8, start=START + SECOND, at=START + 20 * SECOND) == 8
    # A restart of the sender that the receiver has seen.
    assert receiver.get(kind, 3, start=START + 21 * SECOND, at=START + 30 * SECOND) == 11


@kinds
@pytest.mark.parametrize("ahead", [-120, -3, 0, 1, 3, 120])
def test_receiver_restarts_and_the_clocks_of_two_machines_differ(kind: str, ahead: int) -> None:
    skew = ahead * SECOND
    start = START + 10 * SECOND

    def get(receiver: Receiver, total: float, after: int) -> float:
        at = start + after * SECOND
        return receiver.get(kind, total, start=start + skew, at=at + skew, arrives=at)

    receiver = Receiver(START)
    get(receiver, 50, 10)
    assert get(receiver, 100, 20) == 100
    receiver.now = start + 25 * SECOND
    receiver = receiver.restart()
    # What was added in between is unknown: 10 until here.
    assert get(receiver, 110, 30) == 100
    assert get(receiver, 120, 40) == 110
    assert get(receiver, 130, 50) == 120


@kinds
@pytest.mark.parametrize("ahead", [-120, -3, 3, 120])
def test_sender_with_another_clock_counts_in_full(kind: str, ahead: int) -> None:
    skew = ahead * SECOND
    receiver = Receiver(START)
    start = START + 30 * SECOND
    for n, total in enumerate((50, 70, 90), 1):
        at = start + n * 10 * SECOND
        recorded = receiver.get(kind, total, start=start + skew, at=at + skew, arrives=at)
    assert recorded == 90


@kinds
def test_late_points_of_an_older_stream_count_their_changes_only(kind: str) -> None:
    # A Collector could not send while the receiver was restarted; the total at first is stored.
    receiver = Receiver(START)
    old = START - 60 * SECOND
    assert receiver.get(kind, 90, start=old, at=old + 40 * SECOND, arrives=START + 50 * SECOND) == 0
    assert receiver.get(kind, 95, start=old, at=old + 50 * SECOND, arrives=START + 51 * SECOND) == 5
    assert receiver.get(kind, 99, start=old, at=START + 52 * SECOND) == 9


def test_steps_of_the_receiver_clock_do_not_count_a_total_twice() -> None:
    now, monotonic = START, 0
    totals = StreamTotals(1000, now, lambda: now, lambda: monotonic)
    # The clock was 1 hour behind, and is corrected; the stream began before the receiver.
    now, monotonic = now + 3600 * SECOND, 5 * SECOND
    point = cumulative_point(100.0, start=now - 30 * SECOND, at=now + 3 * SECOND)
    assert totals.change(point) is None


@kinds
@pytest.mark.parametrize(
    "moves",
    [(0, 1, 2), (0, 1, 0, 1), (0, -1, 1, 0), (0, 1000, 0, 1000, 2000), (0, 0.000128, 0, 0.000256)],
    ids=str,
)
def test_moving_start_time_is_one_stream(kind: str, moves: tuple[float, ...]) -> None:
    receiver = Receiver(START - 60 * SECOND)
    for n, move in enumerate(moves):
        at = START + (n + 1) * 15 * SECOND
        recorded = receiver.get(kind, 130 + 10 * n, start=START + int(move * MS), at=at)
    assert recorded == 130 + 10 * (len(moves) - 1)
    # A point that was sent before and arrives late.
    assert receiver.get(kind, 130, start=START, at=START + 15 * SECOND) == recorded
    # A true restart.
    later = START + 500 * SECOND
    assert receiver.get(kind, 4, start=later, at=later + SECOND) == recorded + 4


@kinds
def test_late_point_with_a_moved_start_time_adds_nothing(kind: str) -> None:
    if kind == "up-down":
        pytest.skip("a lower total of an up-down counter may be another process")
    receiver = Receiver(START - 60 * SECOND)
    receiver.get(kind, 130, start=START, at=START + 15 * SECOND)
    receiver.get(kind, 150, start=START + 2 * MS, at=START + 45 * SECOND)
    assert receiver.get(kind, 140, start=START + MS, at=START + 30 * SECOND) == 150


@kinds
def test_processes_that_start_within_milliseconds_are_told_apart(kind: str) -> None:
    receiver = Receiver(START - 60 * SECOND)
    starts = [START, START + 1_234_567, START + 3_456_789]
    # Three workers of one server, all as busy as the others, without an instance id.
    for n in range(1, 6):
        for worker, start in enumerate(starts):
            at = START + n * 10 * SECOND + worker * SECOND
            recorded = receiver.get(kind, 100 * n + worker, start=start, at=at)
    assert recorded == 500 + 501 + 502


def test_total_that_decreases_shows_two_processes() -> None:
    receiver = Receiver(START - 60 * SECOND)
    # Start times of whole milliseconds, which could be one that is rounded differently.
    starts = [START, START + MS]
    for n, total in enumerate((10, 20, 15, 30, 40, 45)):
        at = START + (n + 1) * 10 * SECOND
        recorded = receiver.get("counter", total, start=starts[n % 2], at=at)
    assert recorded == 40 + 45


def test_points_without_a_time_count_their_changes() -> None:
    receiver = Receiver(START)
    for n, total in enumerate((100, 105, 105, 112)):
        arrives = START + (n + 1) * SECOND
        recorded = receiver.get("counter", total, start=0, at=0, arrives=arrives)
    assert recorded == 12


def test_forgotten_streams_never_count_twice() -> None:
    totals = StreamTotals(3, since_ns=50, clock_ns=lambda: 1000)
    for number in range(4):
        point = cumulative_point(10.0, stream=bytes([number]))
        assert totals.change(point) == 10.0
        totals.set_last(point)
    assert len(totals) == 3
    # The first stream was forgotten, but its 10 were counted.
    assert totals.change(cumulative_point(12.0, stream=b"\0", at=300)) is None
    totals.set_last(cumulative_point(12.0, stream=b"\0", at=300))
    assert totals.change(cumulative_point(15.0, stream=b"\0", at=400)) == 3.0
    # Began after the first stream was forgotten.
    assert totals.change(cumulative_point(4.0, stream=b"\1", start=2000, at=2100)) == 4.0
    many = HistogramValue(
        0, None, None, None, ExplicitBuckets(tuple(map(float, range(1000))), (0,) * 1001)
    )
    totals.set_last(cumulative_point(many, stream=b"wide"))
    # The last stream is kept, however many buckets it has.
    assert len(totals) == 1
