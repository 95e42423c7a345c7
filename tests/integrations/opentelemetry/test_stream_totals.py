"""The state of cumulative streams."""

from typing import Any

from redismetrics.integrations.opentelemetry.buckets import ExplicitBuckets
from redismetrics.integrations.opentelemetry.points import DataPoint, HistogramValue
from redismetrics.integrations.opentelemetry.stream_totals import StreamTotals


def cumulative_point(
    value: float | HistogramValue, *, start: int = 100, at: int = 200, stream: bytes = b"s"
) -> DataPoint:
    """Return a point of a cumulative stream."""
    kind: Any = "histogram" if isinstance(value, HistogramValue) else "sum"
    return DataPoint("m", kind, "", "", stream, {}, start, at, value, True, "cumulative")


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
