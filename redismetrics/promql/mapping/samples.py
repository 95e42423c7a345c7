"""Recorded samples as `SampledSeries`: of gauges, and of counters as points of running totals."""

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints, starts
from redismetrics.columnar.samples import summarise
from redismetrics.promql.source import Labels, SampledSeries
from redismetrics.queries.slots import SeriesSlots

from .chosen import named
from .increments import Increments


def gauge_samples(slots: SeriesSlots, name: str, lookback_ms: int) -> SampledSeries:
    """Return the samples of a gauge; the last one of each slot that was read whole."""
    series, times, values = [], [], []
    for table, _ in slots.tables:
        series.append(table.series)
        times.append(table.summaries.last_ms)
        values.append(table.summaries.last)
    owners, summaries = summarise(slots.samples)
    series.append(owners)
    times.append(summaries.last_ms)
    values.append(summaries.last)
    owner, time, value = np.concatenate(series), np.concatenate(times), np.concatenate(values)
    order = np.lexsort((time, owner))
    owner, time, value = owner[order], time[order], value[order]
    # Of equal times, the last one to arrive counts.
    is_last = np.ones(len(owner), np.bool_)
    is_last[:-1] = (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])
    return _recorded(
        named(slots.series, name), owner[is_last], time[is_last], value[is_last], lookback_ms
    )


def running_points(
    labels: list[Labels], rows: Increments, amounts: Floats, current: Floats
) -> SampledSeries:
    """Return the running total of each series at the end of each row.

    *current* are the totals now, shape (series,); *rows* must hold all that was recorded from the
    first point on.
    """
    order = np.lexsort((rows.end, rows.series))
    owner, time = rows.series[order], rows.end[order]
    sums = np.cumsum(amounts[order])
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
