"""Exemplars between the recording call and the batch: the newest of each series and bucket."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgpack

from redismetrics.model.definition import Definition

from .buffers import MetricBuffers

# Maximum number of series and buckets per metric with an exemplar in one flush. Others are left
# out: an exemplar is only an example.
MAX_EXEMPLARS = 1_000


class RecordedExemplar(NamedTuple):
    """An exemplar of the series at a position of the batch: time in ms, value, packed labels."""

    series: int
    time: int
    value: float
    labels: bytes

    def unpacked(self) -> dict[str, str]:
        """Return the labels."""
        labels: dict[str, str] = msgpack.unpackb(self.labels)
        return labels


def bucket_of(definition: Definition, value: float) -> int:
    """Return the bucket number of a value, from 1; 0 for a counter."""
    return bisect_left(definition.buckets, value) + 1 if definition.type == "histogram" else 0


def note(
    metric: MetricBuffers, canonical: bytes, time_ms: int, value: float, labels: bytes
) -> None:
    """Keep an exemplar until the next flush. Call it after its sample is in the buffer."""
    key = (canonical, bucket_of(metric.definition, value))
    before = metric.exemplars.get(key)
    if before is None and len(metric.exemplars) >= MAX_EXEMPLARS:
        return
    if before is None or time_ms >= before[0]:
        metric.exemplars[key] = (time_ms, value, labels)


def take(metric: MetricBuffers) -> dict[tuple[bytes, int], tuple[int, float, bytes]]:
    """Remove and return the exemplars of a metric. Call it before its samples are drained."""
    taken, metric.exemplars = metric.exemplars, {}
    # Copied at once, because another thread may still add to it.
    return dict(taken)


def of_batch(
    taken: dict[tuple[bytes, int], tuple[int, float, bytes]], canonicals: Sequence[bytes]
) -> tuple[RecordedExemplar, ...]:
    """Return the exemplars of the series in a batch."""
    places = {canonical: place for place, canonical in enumerate(canonicals)}
    return tuple(
        RecordedExemplar(places[canonical], *exemplar)
        for (canonical, _), exemplar in taken.items()
        if canonical in places
    )


def pack(exemplars: Iterable[RecordedExemplar], definition: Definition) -> bytes:
    """Return the newest exemplar of each series and bucket in the format of record.lua."""
    newest: dict[tuple[int, int], RecordedExemplar] = {}
    for each in exemplars:
        key = (each.series, bucket_of(definition, each.value))
        if key not in newest or each.time >= newest[key].time:
            newest[key] = each
    packed: bytes = msgpack.packb(
        [
            [series, bucket, each.value, each.time, each.labels]
            for (series, bucket), each in list(newest.items())[:MAX_EXEMPLARS]
        ],
        use_bin_type=False,
    )
    return packed
