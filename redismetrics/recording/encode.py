"""Encode a metric's batch for record.lua."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import msgpack
import numpy as np

from redismetrics.columnar import block_codec, totals
from redismetrics.columnar.arrays import bounds, is_zero, saturated
from redismetrics.columnar.samples import OWN_TIME, compress
from redismetrics.columnar.small_totals import GAUGE, SHARED
from redismetrics.store import keys

from .batch import MetricBatch, changes_of, merge_gauge_changes
from .totals_changes import Changes, CounterChanges, GaugeChanges, SummaryChanges

# Rows of a series and minute in a batch that was merged of very many flushes.
ROWS_WHEN_MERGED = 100


# Samples, oldest_ms, newest_ms, epoch, number of series, doubles in a row of totals, rows in a
# field of them, whether the series are msgpack, whether shared values change.
_HEAD = struct.Struct("<ddddIHBBB")


class EncodedBatch(NamedTuple):
    """A metric's batch as arguments of record.lua; see there."""

    name: str
    definition: bytes
    head: bytes
    series: bytes
    change: bytes
    body: bytes


def encode(batch: MetricBatch, ids: Mapping[bytes, int], epoch: int) -> EncodedBatch:
    """Encode a batch for record.lua.

    *ids* are the numbers of the series that Redis is known to have, which are valid in *epoch*.
    """
    samples, changes = batch.samples, batch.changes
    if changes is None and batch.kind == "gauge":
        samples = merge_gauge_changes(samples)
    if len(samples) > block_codec.MAX_ROWS:
        # Merged of many flushes: more than a reader accepts.
        samples, changes = compress(samples, ROWS_WHEN_MERGED), None
    # The mean of a centroid may exceed the range of a float.
    value = saturated(samples.value)
    if value is not samples.value:
        samples = replace(samples, value=value)
    if changes is None:
        changes = changes_of(batch, samples)
    newest_own = 0
    if not is_zero(samples.flags):
        own = samples.time[(samples.flags & OWN_TIME) != 0]
        newest_own = int(own.max()) if len(own) else 0
    series = list(map(ids.get, batch.canonicals))
    is_list = None in series
    if is_list:
        mixed = [
            canonical if known is None else known
            for canonical, known in zip(batch.canonicals, series, strict=True)
        ]
        packed_series = msgpack.packb(mixed, use_bin_type=False)
    else:
        packed_series = np.array(series, "<u4").tobytes()
    change = _pack(changes)
    head = _HEAD.pack(
        samples.count,
        bounds(samples.time)[0],
        newest_own,
        epoch,
        len(series),
        *keys.totals_shape(batch.kind, len(batch.definition.buckets)),
        is_list,
        change[:2] == bytes([GAUGE, SHARED]),
    )
    body = block_codec.pack(samples)
    return EncodedBatch(batch.name, batch.definition.pack(), head, packed_series, change, body)


def _pack(changes: Changes) -> bytes:
    """Return how the totals of each series change, without stamp and ids."""
    if isinstance(changes, CounterChanges):
        return totals.pack_counter(changes.amount)
    if isinstance(changes, GaugeChanges):
        return totals.pack_gauge(
            changes.code, changes.time, changes.value, changes.change_time, changes.change
        )
    if isinstance(changes, SummaryChanges):
        return totals.pack_summary(changes.count, changes.total)
    buckets = changes.buckets
    cells = np.bincount(buckets.series, minlength=len(changes.count))
    return totals.pack_histogram(
        changes.count, changes.total, cells, buckets.bucket + 1, buckets.count
    )
