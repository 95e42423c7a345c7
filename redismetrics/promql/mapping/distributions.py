"""Histograms under their own name: distributions of observations, like native histograms."""

from typing import NamedTuple

import numpy as np

from redismetrics.columnar import summaries as summary_columns
from redismetrics.columnar.arrays import Ints, ragged
from redismetrics.columnar.percentiles import SortedPoints
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Table
from redismetrics.columnar.samples import CENTROID, Samples, summarise
from redismetrics.columnar.summaries import Summaries
from redismetrics.promql.budget import Budget
from redismetrics.promql.source import DistributionSeries, Selector
from redismetrics.queries.slots import SeriesSlots

from .chosen import named
from .increments import increments, is_known, place
from .reads import MappingOptions

_COLUMNS = frozenset({"count", "total", "m2", "low", "high"})


class _Spread(NamedTuple):
    """Rows, each repeated for every window that contains it, and the cell of each."""

    row: Ints
    cell: Ints


def distributions(
    selector: Selector, slots: SeriesSlots, name: str, options: MappingOptions, budget: Budget
) -> DistributionSeries:
    """Return the distribution of the observations in each window, for `increase` and `rate`.

    For an instant selector: of everything stored up to each time.
    """
    labels, count = named(slots.series, name), selector.count
    cells = len(labels) * count
    budget.hold(cells)
    parts: list[tuple[Ints, Summaries]] = []
    points: list[SortedPoints] = []
    for table, width in slots.tables:
        end = np.maximum(np.minimum(table.slot + width, slots.now_ms), table.slot + 1)
        first, size = _windows(selector, table.slot, end)
        # Before the arrays are created, because a row may be in thousands of windows.
        budget.read(int((size * (table.size + 1)).sum()))
        spread = _spread(selector, table.series, first, size)
        chosen = table.rows(spread.row)
        parts.append((spread.cell, chosen.summaries))
        points += _points_of(chosen, spread.cell)
    owners, of_samples = summarise(slots.samples)
    first, size = _windows(selector, of_samples.last_ms, of_samples.last_ms + 1)
    budget.read(int(size.sum()))
    spread = _spread(selector, owners, first, size)
    parts.append((spread.cell, of_samples.take(spread.row)))
    points.append(_sample_points(selector, slots.samples, budget))
    merged = summary_columns.merge_all(parts, cells, _COLUMNS)
    scale = 1000 / selector.range if selector.function == "rate" else 1.0
    rows = increments(slots)
    latest = place(rows, len(labels), selector.times).latest
    horizon = max(selector.range, options.idle_ms)
    shape = len(labels), count
    return DistributionSeries(
        labels,
        is_known(latest, selector.times, horizon),
        merged.count.reshape(shape).astype(np.float64) * scale,
        merged.total.reshape(shape) * scale,
        merged.m2.reshape(shape) * scale,
        merged.low.reshape(shape),
        merged.high.reshape(shape),
        points,
        scale,
    )


def _windows(selector: Selector, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return for each row the number of its first window, and of the windows that contain it.

    A row that is cut by an edge belongs where most of it is.
    """
    step = max(selector.step, 1)
    first = _times_from(selector, end, step)
    last = np.full(len(end), selector.count)
    if selector.range:
        middle = (begin + end + 1) // 2
        last = _times_from(selector, end + selector.range, step)
        begins = _times_from(selector, begin + 1, step)
        leaves = _times_from(selector, begin + 1 + selector.range, step)
        is_cut = (first != begins) | (last != leaves)
        first = np.where(is_cut, _times_from(selector, middle, step), first)
        last = np.where(is_cut, _times_from(selector, middle + selector.range, step), last)
    return first, np.maximum(last - first, 0)


def _spread(selector: Selector, series: Ints, first: Ints, size: Ints) -> _Spread:
    row = np.repeat(np.arange(len(series)), size)
    return _Spread(row, series[row] * selector.count + ragged(first, size))


def _times_from(selector: Selector, at: Ints, step: int) -> Ints:
    """Return the number of the first time that is not before *at*, at most the count of times."""
    found: Ints = np.clip(-((selector.start - at) // step), 0, selector.count)
    return found


def _points_of(table: Table, cell: Ints) -> list[SortedPoints]:
    points, is_clustered = table.points, table.kind == CLUSTERED
    found = [SortedPoints(cell, table.size, points.values, points.weights, is_clustered)]
    uniform = np.flatnonzero(table.kind == UNIFORM)
    if len(uniform):
        values, counts = table.summaries.low[uniform], table.summaries.count[uniform]
        plain = np.zeros(len(uniform), np.bool_)
        found.append(SortedPoints(cell[uniform], None, values, counts, plain))
    return found


def _sample_points(selector: Selector, samples: Samples, budget: Budget) -> SortedPoints:
    first, size = _windows(selector, samples.time, samples.time + 1)
    budget.read(int(size.sum()))
    spread = _spread(selector, samples.series, first, size)
    weights = samples.weight[spread.row]
    centroid = ((samples.flags[spread.row] & CENTROID) != 0) & (weights > 1)
    return SortedPoints(spread.cell, None, samples.value[spread.row], weights, centroid)
