"""Functions on windows of samples: counts, sums, extremes, first and last."""

from collections.abc import Callable

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints

from . import sums
from .windows import CALL_SAMPLES, WindowBlock

Result = tuple[Floats, Bools]

# Windows with more samples on average are assembled from parts. At this size, both ways take the
# same time.
_LONG_WINDOW = 64


def _filled(block: WindowBlock, values: Floats) -> Result:
    return values, block.sizes > 0


def _reduced(block: WindowBlock, operation: np.ufunc, values: Floats) -> Floats:
    """Return *operation* over each window; undefined where it is empty."""
    result = np.zeros(block.first.shape)
    first, last = block.first.reshape(-1), block.last.reshape(-1)
    if block.sizes.sum() > _LONG_WINDOW * block.sizes.size:
        block.budget.check()
        some = np.flatnonzero(block.sizes)
        result.reshape(-1)[some] = in_tree(operation, values, first[some], last[some])
        return result
    # One extra element, because an edge may be after the last sample.
    padded = np.append(values, 0.0)
    for part in block.parts(block.sizes > 0, CALL_SAMPLES):
        edges = np.stack([first[part], last[part]], axis=1).reshape(-1)
        result.reshape(-1)[part] = operation.reduceat(padded, edges)[::2]
    return result


def in_tree(operation: np.ufunc, values: Floats, first: Ints, last: Ints) -> Floats:
    """Return *operation* over each window ``first .. last - 1``, which must not be empty.

    Windows are assembled from the nodes of a segment tree over all values: at most two nodes per
    level, however long the window is.
    """
    identity = 0.0 if operation is np.add else np.nan
    result = np.full(len(first), identity)
    level = values
    while (first < last).any():
        if len(level) % 2:
            level = np.append(level, identity)
        odd = np.flatnonzero((first % 2 == 1) & (first < last))
        result[odd] = operation(result[odd], level[first[odd]])
        first = (first + 1) // 2
        odd = np.flatnonzero((last % 2 == 1) & (first * 2 < last))
        result[odd] = operation(result[odd], level[last[odd] - 1])
        last = last // 2
        level = operation(level[0::2], level[1::2])
    return result


def count(block: WindowBlock) -> Result:
    return _filled(block, block.sizes.astype(np.float64))


def present(block: WindowBlock) -> Result:
    return _filled(block, np.ones(block.first.shape))


def total(block: WindowBlock) -> Result:
    found = _reduced(block, np.add, block.values)
    if not sums.is_exact(block.values):
        absolute = _reduced(block, np.add, np.abs(block.values))
        for part in block.expanded(sums.cancels(found, absolute) & (block.sizes > 1)):
            found.reshape(-1)[part.cells] = sums.compensated(part.values, part.sizes)
    return _filled(block, found)


def average(block: WindowBlock) -> Result:
    found, filled = total(block)
    found /= block.sizes
    # Where only the sum overflows, the mean of the parts does not.
    for part in block.expanded(np.isinf(found) & filled):
        shares = part.values / part.spread(part.sizes.astype(np.float64))
        found.reshape(-1)[part.cells] = sums.compensated(shares, part.sizes)
    return found, filled


def minimum(block: WindowBlock) -> Result:
    return _filled(block, _reduced(block, np.fmin, block.values))


def maximum(block: WindowBlock) -> Result:
    return _filled(block, _reduced(block, np.fmax, block.values))


def first(block: WindowBlock) -> Result:
    return _filled(block, taken(block.values, block.first))


def last(block: WindowBlock) -> Result:
    return _filled(block, taken(block.values, block.last - 1))


def time_of_first(block: WindowBlock) -> Result:
    return _filled(block, taken(block.times, block.first) / 1000)


def time_of_last(block: WindowBlock) -> Result:
    return _filled(block, taken(block.times, block.last - 1) / 1000)


def taken(column: Floats | Ints, at: Ints) -> Floats:
    """Return elements of a column; undefined where *at* is out of range."""
    if not len(column):
        return np.zeros(at.shape)
    return column[np.clip(at, 0, len(column) - 1)].astype(np.float64)


def time_of_maximum(block: WindowBlock) -> Result:
    return _time_of(block, maximum(block)[0])


def time_of_minimum(block: WindowBlock) -> Result:
    return _time_of(block, minimum(block)[0])


def _time_of(block: WindowBlock, extremes: Floats) -> Result:
    """Return the time of the last extreme sample, or of the last sample if all are NaN."""
    result = np.zeros(block.first.shape)
    for part in block.expanded(block.sizes > 0):
        extreme = part.spread(extremes.reshape(-1)[part.cells])
        is_extreme = (part.values == extreme) | np.isnan(extreme)
        times = np.where(is_extreme, part.times, np.iinfo(np.int64).min)
        result.reshape(-1)[part.cells] = np.maximum.reduceat(times, part.starts) / 1000
    return _filled(block, result)


def changes(block: WindowBlock) -> Result:
    before, after = block.values[:-1], block.values[1:]
    return _events(block, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def resets(block: WindowBlock) -> Result:
    return _events(block, block.values[1:] < block.values[:-1])


def _events(block: WindowBlock, happened: Bools) -> Result:
    """Count events between neighbouring samples of each window."""
    counted = np.concatenate([[0], np.cumsum(happened)]) if len(block.values) else np.zeros(1)
    found = taken(counted, block.last - 1) - taken(counted, block.first)
    return _filled(block, np.where(block.sizes > 0, found, 0.0))


def variance(block: WindowBlock) -> Result:
    result = np.zeros(block.first.shape)
    for part in block.expanded(block.sizes > 0):
        # Relative to the first value, so that equal values have exactly 0.
        moved = part.values - part.spread(part.values[part.starts])
        distance = moved - part.spread(part.sums(moved) / part.sizes)
        result.reshape(-1)[part.cells] = part.sums(distance * distance) / part.sizes
    return _filled(block, result)


def deviation(block: WindowBlock) -> Result:
    found, filled = variance(block)
    return np.sqrt(found), filled


def median_distance(block: WindowBlock) -> Result:
    """Return the median of the distances from the median; NaN if any value is."""
    result = np.zeros(block.first.shape)
    for part in block.expanded(block.sizes > 0):
        middle = np.full(len(part.cells), 0.5)
        median = sorted_quantiles(part.values, part.sizes, middle)
        distance = np.abs(part.values - part.spread(median))
        found = sorted_quantiles(distance, part.sizes, middle)
        has_nan = np.logical_or.reduceat(np.isnan(part.values), part.starts)
        result.reshape(-1)[part.cells] = np.where(has_nan, np.nan, found)
    return _filled(block, result)


def quantile(block: WindowBlock, ranks: Floats) -> Result:
    """Return the quantile of each window; *ranks* has shape (windows,)."""
    result = np.zeros(block.first.shape)
    of_cells = np.broadcast_to(ranks, result.shape).reshape(-1)
    for part in block.expanded(block.sizes > 0):
        found = sorted_quantiles(part.values, part.sizes, of_cells[part.cells])
        result.reshape(-1)[part.cells] = found
    return _filled(block, result)


def sorted_quantiles(values: Floats, sizes: Ints, ranks: Floats) -> Floats:
    """Return the quantile of each run of *values*; NaN is the smallest value.

    A rank below 0 gives -Inf, one above 1 +Inf. Runs must not be empty.
    """
    begin = np.cumsum(sizes) - sizes
    rank = np.clip(np.nan_to_num(ranks), 0, 1) * (sizes - 1)
    lower = np.floor(rank).astype(np.int64)
    share = rank - lower
    result = np.zeros(len(sizes))
    # Runs of the same length are sorted as rows of one table, ten times faster than all by run.
    for size in np.unique(sizes).tolist():
        runs = np.flatnonzero(sizes == size)
        table = np.sort(values[begin[runs][:, None] + np.arange(size)], axis=1)
        # numpy sorts NaN to the end.
        numbers = size - np.isnan(table).sum(axis=1)
        place = lower[runs] - (size - numbers)
        before = _element(table, place)
        after = _element(table, np.minimum(place + 1, numbers - 1))
        result[runs] = before * (1 - share[runs]) + after * share[runs]
    result = np.where(ranks < 0, -np.inf, np.where(ranks > 1, np.inf, result))
    return np.where(np.isnan(ranks), np.nan, result)


def _element(table: Floats, place: Ints) -> Floats:
    """Return one element of each row; NaN before the first."""
    found = table[np.arange(len(table)), np.clip(place, 0, table.shape[1] - 1)]
    return np.where(place < 0, np.nan, found)


FUNCTIONS: dict[str, Callable[[WindowBlock], Result]] = {
    "avg_over_time": average,
    "changes": changes,
    "count_over_time": count,
    "first_over_time": first,
    "last_over_time": last,
    "mad_over_time": median_distance,
    "max_over_time": maximum,
    "min_over_time": minimum,
    "present_over_time": present,
    "absent_over_time": present,
    "resets": resets,
    "stddev_over_time": deviation,
    "stdvar_over_time": variance,
    "sum_over_time": total,
    "ts_of_first_over_time": time_of_first,
    "ts_of_last_over_time": time_of_last,
    "ts_of_max_over_time": time_of_maximum,
    "ts_of_min_over_time": time_of_minimum,
}
