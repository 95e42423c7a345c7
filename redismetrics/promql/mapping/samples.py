"""Recorded samples as `SampledSeries`: gauges, and counters as points of running totals."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, starts
from redismetrics.columnar.samples import CENTROID, Samples, summarise
from redismetrics.model.sample import pack_metadata
from redismetrics.promql.source import Labels, SampledSeries
from redismetrics.queries.slots import SeriesSlots

from .chosen import named
from .increments import IncrementRows

# The metadata of a sample that ends its series, as in remote write; it repeats the last value.
STALE_METADATA = {"stale": True}
_STALE = pack_metadata(STALE_METADATA)


def gauge_samples(slots: SeriesSlots, name: str, lookback_ms: int) -> SampledSeries:
    """Return the samples of a gauge; for slots read as a whole, only the last one."""
    owners, summaries = summarise(slots.samples)
    parts = [(table.series, table.summaries) for table, _ in slots.tables] + [(owners, summaries)]
    owner = np.concatenate([series for series, _ in parts])
    time = np.concatenate([rows.last_ms for _, rows in parts])
    value = np.concatenate([rows.last for _, rows in parts])
    order = np.lexsort((time, owner))
    owner, time, value = owner[order], time[order], value[order]
    # Of equal times, the last one to arrive counts.
    is_last = np.ones(len(owner), np.bool_)
    is_last[:-1] = (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])
    found = _recorded(
        named(slots.series, name), owner[is_last], time[is_last], value[is_last], lookback_ms
    )
    if slots.samples.metadata:
        stale = np.zeros(len(order), np.bool_)
        stale[len(order) - len(owners) :] = _stale_rows(slots.samples)
        found = replace(found, stale=stale[order][is_last])
    return found


def _stale_rows(samples: Samples) -> Bools:
    """Return which rows of `summarise` end their series, shape (rows,)."""
    ends = np.zeros(len(samples), np.bool_)
    ends[[row for row, text in samples.metadata.items() if text == _STALE]] = True
    exact = (samples.flags & CENTROID) == 0
    return np.concatenate([ends[exact], np.zeros(len(samples.summed), np.bool_)])


def running_points(
    labels: list[Labels], rows: Sequence[IncrementRows], amounts: Sequence[Floats], current: Floats
) -> SampledSeries:
    """Return the running total of each series at the end of each row.

    *current* are the current totals, shape (series,); *rows* must contain everything recorded from
    the first point on.
    """
    series, end = (
        np.concatenate([getattr(part, name) for part in rows]) for name in ("series", "end")
    )
    order = np.lexsort((end, series))
    owner, time = series[order], end[order]
    sums = np.cumsum(np.concatenate(amounts)[order])
    is_last = np.ones(len(owner), np.bool_)
    is_last[:-1] = (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])
    last_of_series = np.append(starts(owner)[1:], len(owner)) - 1
    behind = np.zeros(len(current))
    behind[owner[last_of_series]] = sums[last_of_series] if len(owner) else 0.0
    totals = np.maximum(current[owner] - (behind[owner] - sums), 0.0)
    return _recorded(labels, owner[is_last], time[is_last], totals[is_last])


def _recorded(
    labels: list[Labels], owner: Ints, time: Ints, value: Floats, lookback_ms: int | None = None
) -> SampledSeries:
    offsets = np.searchsorted(owner, np.arange(len(labels) + 1))
    lookback = None if lookback_ms is None else np.full(len(labels), lookback_ms)
    return SampledSeries(labels, offsets, time, value, None, lookback)
