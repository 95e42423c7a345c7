"""Encode a metric's batch for record.lua."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np

from redismetrics.columnar import block_codec
from redismetrics.columnar.arrays import saturated
from redismetrics.columnar.samples import OWN_TIME, compress
from redismetrics.store import keys

from .batch import MetricBatch, changes_of, merge_gauge_changes
from .totals_changes import Changes, CounterChanges, GaugeChanges

# Rows of a series and minute in a batch that was merged of very many flushes.
ROWS_WHEN_MERGED = 100


def encode(batch: MetricBatch, ids: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """Return the head and the body of a batch; see record.lua.

    *ids* are the numbers of the series that Redis is known to have.
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
    own = (samples.flags & OWN_TIME) != 0
    head: list[Any] = [
        batch.kind,
        batch.definition.pack(),
        samples.count,
        int(samples.time.min()),
        int(samples.time[own].max()) if own.any() else 0,
        [ids.get(canonical, canonical) for canonical in batch.canonicals],
        _flat(changes),
        *keys.totals_shape(batch.kind, len(batch.definition.buckets)),
    ]
    return msgpack.packb(head, use_bin_type=False), block_codec.pack(samples)


def _flat(changes: Changes) -> list[float]:
    """Return the changes of each series' totals as a flat list; see record.lua."""
    if isinstance(changes, CounterChanges):
        return list(changes.amount.tolist())
    if isinstance(changes, GaugeChanges):
        columns = (
            changes.code,
            changes.time,
            changes.value,
            changes.change_time,
            changes.change,
        )
        return list(np.stack(columns, axis=1).ravel().tolist())
    buckets = changes.buckets
    cells = np.bincount(buckets.series, minlength=len(changes.count))
    sizes = 3 + 2 * cells
    begin = np.cumsum(sizes) - sizes
    flat = np.empty(int(sizes.sum()))
    flat[begin], flat[begin + 1], flat[begin + 2] = changes.count, changes.total, cells
    place = np.arange(len(buckets.series)) - np.repeat(np.cumsum(cells) - cells, cells)
    pair = begin[buckets.series] + 3 + 2 * place
    flat[pair], flat[pair + 1] = buckets.bucket + 1, buckets.count
    return list(flat.tolist())
