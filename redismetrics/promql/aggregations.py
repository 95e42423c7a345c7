"""Aggregations that return one number per group: `sum`, `avg`, `min`, `quantile`, ..."""

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats

from . import sums
from .budget import Budget
from .grouping import Groups, group_labels
from .nodes import Aggregation
from .over_time import sorted_quantiles
from .vectors import Scalar, Vector
from .windows import BLOCK_CELLS


def aggregate(
    vector: Vector, node: Aggregation, parameter: Scalar | None, budget: Budget
) -> Vector:
    """Return the aggregation of the floats of each group."""
    groups = group_labels(vector.labels, node)
    budget.hold(len(groups) * vector.steps)
    if not len(groups):
        return Vector.empty(vector.steps)
    counts = _counts(vector, groups)
    present = counts > 0
    drop = groups.any_of(vector.drop & vector.present.any(axis=1))
    match node.operator:
        case "count":
            values = counts
        case "group":
            values = np.ones(counts.shape)
        case "sum":
            values = _sum(vector, groups)
        case "avg":
            values = _average(vector, groups, counts)
        case "min":
            values = _extreme(vector, groups, np.fmin, np.inf)
        case "max":
            values = _extreme(vector, groups, np.fmax, -np.inf)
        case "stdvar":
            values = _variance(vector, groups, counts)
        case "stddev":
            values = np.sqrt(_variance(vector, groups, counts))
        case _:
            assert parameter is not None
            values = _quantile(vector, groups, parameter, budget)
    return Vector(groups.labels, values, present, drop)


def _counts(vector: Vector, groups: Groups) -> Floats:
    """Return the number of series present in each group at each step, shape (groups, steps)."""
    if vector.present.all():
        sizes = np.bincount(groups.number, minlength=len(groups)).astype(np.float64)
        return np.repeat(sizes[:, None], vector.steps, axis=1)
    return _summed(vector.present.astype(np.float64), groups)


def _summed(values: Floats, groups: Groups) -> Floats:
    """Return the sum of each group at each step, shape (groups, steps)."""
    if len(groups) == 1:
        # Twice as fast as reduceat.
        single: Floats = values.sum(axis=0, keepdims=True)
        return single
    order, starts = groups.ordered()
    found: Floats = np.empty((len(groups), values.shape[1]))
    # A few steps at a time, so that their values stay in the CPU cache.
    width = max(1, BLOCK_CELLS // 2 // len(order))
    for step in range(0, values.shape[1], width):
        part = slice(step, step + width)
        np.add.reduceat(values[order, part], starts, axis=0, out=found[:, part])
    return found


def _held(vector: Vector) -> Floats:
    """Return the values, 0 where there are none."""
    if vector.present.all():
        return vector.values
    return np.where(vector.present, vector.values, 0.0)


def _sum(vector: Vector, groups: Groups) -> Floats:
    held = _held(vector)
    found = _summed(held, groups)
    # Numbers of one sign do not cancel out.
    if len(groups) == len(vector) or held.min() >= 0 or sums.is_exact(held):
        return found
    absolute = _summed(np.abs(held), groups)
    return _corrected(held, groups, found, sums.cancels(found, absolute))


def _corrected(held: Floats, groups: Groups, found: Floats, wrong: Bools) -> Floats:
    """Return *found* with the sums where *wrong* is true recomputed with compensation."""
    if not wrong.any():
        return found
    found = found.copy()
    order, starts = groups.ordered()
    sizes = np.append(starts[1:], len(order)) - starts
    for group in np.flatnonzero(wrong.any(axis=1)).tolist():
        steps = np.flatnonzero(wrong[group])
        rows = order[starts[group] : starts[group] + sizes[group]]
        columns = held[np.ix_(rows, steps)].T
        found[group, steps] = sums.compensated(
            columns.reshape(-1), np.full(len(steps), len(rows), np.int64)
        )
    return found


def _average(vector: Vector, groups: Groups, counts: Floats) -> Floats:
    total = _sum(vector, groups)
    found = total / counts
    if not np.isinf(total).any():
        return found
    # Where only the sum overflows, the sum of the shares does not.
    shares = _held(vector) / np.maximum(counts, 1)[groups.number]
    return np.where(np.isfinite(total), found, _summed(shares, groups))


def _extreme(vector: Vector, groups: Groups, operation: np.ufunc, nothing: float) -> Floats:
    """Return the extreme of each group: NaN only if there is nothing else."""
    order, starts = groups.ordered()
    is_nan = np.isnan(vector.values)
    held = np.where(vector.present & ~is_nan, vector.values, nothing)
    found: Floats = operation.reduceat(held[order], starts, axis=0)
    if not (is_nan & vector.present).any():
        return found
    numbers = _summed((vector.present & ~is_nan).astype(np.float64), groups)
    return np.where(numbers > 0, found, np.nan)


def _variance(vector: Vector, groups: Groups, counts: Floats) -> Floats:
    counts = np.maximum(counts, 1)
    # Relative to the smallest value, so that equal values have exactly 0.
    least = _extreme(vector, groups, np.fmin, np.inf)
    moved = np.where(vector.present, vector.values - least[groups.number], 0.0)
    mean = _summed(moved, groups) / counts
    distance = np.where(vector.present, moved - mean[groups.number], 0.0)
    return _summed(distance * distance, groups) / counts


def _quantile(vector: Vector, groups: Groups, ranks: Scalar, budget: Budget) -> Floats:
    """Return the quantile of each group at each step; *ranks* has shape (steps,)."""
    result = np.full((len(groups), vector.steps), np.nan)
    for numbers, rows in groups.stacks():
        width = max(1, BLOCK_CELLS // rows.size)
        for step in range(0, vector.steps, width):
            budget.check()
            part = slice(step, step + width)
            # Shape (groups, steps, size): runs of the present values of one group and step.
            values = np.swapaxes(vector.values[rows, part], 1, 2)
            present = np.swapaxes(vector.present[rows, part], 1, 2)
            sizes = present.sum(axis=2)
            some = sizes > 0
            of_cells = np.broadcast_to(ranks[part], sizes.shape)
            found = np.full(sizes.shape, np.nan)
            found[some] = sorted_quantiles(values[present], sizes[some], of_cells[some])
            result[numbers, part] = found
    return result
