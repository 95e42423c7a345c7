"""The state of cumulative streams."""

from redismetrics.integrations.opentelemetry.buckets import ExplicitBuckets
from redismetrics.integrations.opentelemetry.points import DataPoint, HistogramValue
from redismetrics.integrations.opentelemetry.stream_totals import StreamTotals


def total(
    value: float | HistogramValue, *, start: int = 100, at: int = 200, stream: bytes = b"s"
) -> DataPoint:
    kind = "histogram" if isinstance(value, HistogramValue) else "sum"
    return DataPoint("m", kind, "", "", stream, {}, start, at, value, True, "cumulative")  # type: ignore[arg-type]


def test_forgotten_streams_never_count_twice() -> None:
    streams = StreamTotals(3, since_ns=50, clock_ns=lambda: 1000)
    for number in range(4):
        point = total(10.0, stream=bytes([number]))
        assert streams.change(point) == 10.0
        streams.set_last(point)
    assert len(streams) == 3
    assert (
        streams.change(total(12.0, stream=b"\0", at=300)) is None
    )  # forgotten: its 10 were counted
    streams.set_last(total(12.0, stream=b"\0", at=300))
    assert streams.change(total(15.0, stream=b"\0", at=400)) == 3.0
    assert streams.change(total(4.0, stream=b"\1", start=2000, at=2100)) == 4.0  # began after that
    many = HistogramValue(
        0, None, None, None, ExplicitBuckets(tuple(map(float, range(1000))), (0,) * 1001)
    )
    streams.set_last(total(many, stream=b"wide"))
    assert len(streams) == 1  # the last one stays, however wide
