"""Prometheus remote write 1.0 requests from a snapshot.

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

import struct
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from redismetrics.exposition.families import SeriesState
from redismetrics.exposition.named_families import NamedFamily
from redismetrics.exposition.number_format import format_bound
from redismetrics.exposition.remote_write_message import encode, new_request
from redismetrics.exposition.text import help_text
from redismetrics.model.validation import MetricType

from .ended_series import ended_series
from .request import MAX_SAMPLES, PushRequest
from .snapshot import TotalsSnapshot

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
# MetricMetadata.MetricType of the protocol.
_TYPES: dict[MetricType, int] = {
    "counter": 1,
    "gauge": 2,
    "histogram": 3,
    "summary": 5,
    "info": 6,
    "stateset": 7,
}

# The protocol: it ends a series, so that receivers do not show its last value for five minutes.
(STALE,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))

# Suffix of the name, additional labels, and the value.
_Sample = tuple[str, dict[str, str], float]


def make_requests(
    snapshot: TotalsSnapshot, labels: Mapping[str, str], before: TotalsSnapshot | None = None
) -> Iterator[PushRequest]:
    """Yield the requests that push *snapshot*. Series that lack any of *labels* get them.

    All samples of a family, and its help and type, are adjacent, and each series is in one request.
    They end with staleness markers of series that were only in *before*.
    """
    request, count = new_request(), 0
    described: NamedFamily | None = None
    for named, own, samples in _all_samples(snapshot, before):
        if count and count + len(samples) > MAX_SAMPLES:
            yield PushRequest(encode(request), count, snapshot.time_ms)
            request, count = new_request(), 0
        if named is not described:
            _describe(request, named)
            described = named
        for suffix, more, value in samples:
            full = {"__name__": named.base + suffix, **labels, **own, **more}
            _add(request, full, value, snapshot.time_ms)
        count += len(samples)
    if count:
        yield PushRequest(encode(request), count, snapshot.time_ms)


def _all_samples(
    snapshot: TotalsSnapshot, before: TotalsSnapshot | None
) -> Iterator[tuple[NamedFamily, dict[str, str], list[_Sample]]]:
    """Yield family, labels and samples of each series, then of each ended one."""
    for named in snapshot.families:
        for labels, state in named.series():
            yield named, labels, _samples(named, state)
    for named, labels, state in ended_series(before, snapshot):
        markers = [(suffix, more, STALE) for suffix, more, _ in _samples(named, state)]
        yield named, labels, markers


def _samples(named: NamedFamily, state: SeriesState) -> list[_Sample]:
    """Return the samples of a series."""
    kind = named.family.definition.type
    if kind in ("gauge", "stateset"):
        return [("", {}, state.value)]
    if kind in ("counter", "info"):
        return [("_total" if kind == "counter" else "_info", {}, state.value)]
    sums: list[_Sample] = [("_sum", {}, state.value), ("_count", {}, state.count)]
    if kind == "summary":
        return sums
    bounds = [*map(format_bound, named.family.definition.buckets), "+Inf"]
    counts = [*accumulate(state.buckets), state.count]
    buckets = [
        ("_bucket", {"le": bound}, float(count))
        for bound, count in zip(bounds, counts, strict=True)
    ]
    return [*buckets, *sums]


def _add(request: Any, labels: Mapping[str, str], value: float, time_ms: int) -> None:
    series = request.timeseries.add()
    # The protocol: sorted by name.
    for name in sorted(labels):
        series.labels.add(name=name, value=labels[name])
    series.samples.add(value=value, timestamp=time_ms)


def _describe(request: Any, named: NamedFamily) -> None:
    request.metadata.add(
        type=_TYPES[named.family.definition.type],
        metric_family_name=named.name,
        help=help_text(named.family),
        unit=named.unit,
    )
