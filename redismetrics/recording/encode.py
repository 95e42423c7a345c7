"""Encode a metric's batch for record.lua."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np

from redismetrics.columnar import block_codec, summaries
from redismetrics.columnar.arrays import saturated
from redismetrics.columnar.samples import CHANGE, OWN_TIME, Samples, compress, summarise
from redismetrics.store import keys

from .batch import MetricBatch, merge_gauge_changes

# Rows of a series and minute in a batch that was merged of very many flushes.
ROWS_WHEN_MERGED = 100


def encode(batch: MetricBatch, ids: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """Return the head and the body of a batch; see record.lua.

    *ids* are the numbers of the series that Redis is known to have.
    """
    samples = merge_gauge_changes(batch.samples) if batch.kind == "gauge" else batch.samples
    if len(samples) > block_codec.MAX_ROWS:
        # Merged of many flushes: more than a reader accepts.
        samples = compress(samples, ROWS_WHEN_MERGED)
    # The mean of a centroid may exceed the range of a float.
    samples = replace(samples, value=saturated(samples.value))
    own = (samples.flags & OWN_TIME) != 0
    head: list[Any] = [
        batch.kind,
        batch.definition.pack(),
        samples.count,
        int(samples.time.min()),
        int(samples.time[own].max()) if own.any() else 0,
        [ids.get(canonical, canonical) for canonical in batch.canonicals],
        _totals_changes(batch, samples),
        *keys.totals_shape(batch.kind, len(batch.definition.buckets)),
    ]
    return msgpack.packb(head, use_bin_type=False), block_codec.pack(samples)


def _totals_changes(batch: MetricBatch, samples: Samples) -> list[float]:
    """Return the changes of each series' totals as a flat list; see record.lua."""
    n = len(batch.canonicals)
    if batch.kind == "gauge":
        return _gauge_changes(samples, n)
    series, rows = summarise(samples)
    whole = summaries.merge(series, n, rows, frozenset({"count", "total"}))
    total = saturated(whole.total)
    if batch.kind == "counter":
        return list(total.tolist())
    assert batch.buckets is not None, "BUG: a histogram's batch without bucket counts"
    row, column = np.nonzero(batch.buckets)
    cells = np.bincount(row, minlength=n)
    sizes = 3 + 2 * cells
    begin = np.cumsum(sizes) - sizes
    flat = np.empty(int(sizes.sum()))
    flat[begin], flat[begin + 1], flat[begin + 2] = whole.count, total, cells
    pair = begin[row] + 3 + 2 * (np.arange(len(row)) - (np.cumsum(cells) - cells)[row])
    flat[pair], flat[pair + 1] = column + 1, batch.buckets[row, column]
    return list(flat.tolist())


def _gauge_changes(samples: Samples, n: int) -> list[float]:
    changed = (samples.flags & CHANGE) != 0
    change, change_ms = np.zeros(n), np.zeros(n, np.int64)
    change[samples.series[changed]], change_ms[samples.series[changed]] = (
        samples.value[changed],
        samples.time[changed],
    )
    needs_base = np.zeros(n, np.int64)
    needs_base[samples.series[changed]] = 1

    sets = (
        samples.take(~changed, np.ones(len(samples.summed), np.bool_)) if changed.any() else samples
    )
    series, rows = summarise(sets)
    whole = summaries.merge(series, n, rows, frozenset({"count", "last"}))
    has_set = whole.count > 0
    newest_own, newest = np.full(n, -1), np.full(n, -1)
    own = (sets.flags & OWN_TIME) != 0
    np.maximum.at(newest_own, sets.series[own], sets.time[own])
    np.maximum.at(newest, sets.series[~own], sets.time[~own])
    code = needs_base + 2 * has_set + 4 * (newest_own > newest)
    value = np.where(has_set, whole.last, 0.0)
    return list(np.stack([code, whole.last_ms, value, change_ms, change], axis=1).ravel().tolist())
