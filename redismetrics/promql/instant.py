"""Instant selectors on recorded samples: the last one within the lookback, unless it is stale."""

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints

from .budget import Budget
from .source import LOOKBACK_MS, SampledSeries, Selector
from .vectors import Grid, Vector
from .windows import BLOCK_CELLS, counts_until


def at_steps(series: SampledSeries, selector: Selector, budget: Budget) -> tuple[Vector, Floats]:
    """Return the value of each series at each time, and the time of its sample in ms."""
    grid = Grid(selector.start, selector.step, selector.count)
    count = len(series.labels)
    budget.hold(count * grid.count)
    values = np.zeros((count, grid.count))
    seen = np.zeros((count, grid.count))
    present = np.zeros((count, grid.count), np.bool_)
    lookback = _lookback(series, selector)
    rows = max(1, BLOCK_CELLS // grid.count)
    for row in range(0, count if len(series.times) else 0, rows):
        budget.check()
        part = slice(row, row + rows)
        offsets = series.offsets[row : row + rows + 1]
        found = counts_until(offsets, series.times, grid)
        at = np.maximum(found - 1, 0) + offsets[:-1, None]
        at = np.minimum(at, len(series.times) - 1)
        seen[part] = series.times[at]
        values[part] = series.values[at]
        present[part] = (found > 0) & (seen[part] > grid.times - lookback[part, None])
        if series.stale is not None:
            present[part] &= ~series.stale[at]
    return Vector(list(series.labels), values, present, np.zeros(count, np.bool_)), seen


def _lookback(series: SampledSeries, selector: Selector) -> Ints:
    """Return the lookback of each series, in ms."""
    if series.lookback is not None:
        return series.lookback
    default = LOOKBACK_MS if selector.lookback is None else selector.lookback
    return np.full(len(series.labels), default, np.int64)
