"""Rollup rows as a table: one row a slot and series, its summary, and the points of its digest."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import arrays
from .arrays import Bools, Floats, Ints
from .digest import cluster
from .summaries import Summaries
from .summaries import concat as summaries_concat
from .summaries import empty as summaries_empty
from .summaries import merge as summaries_merge

CLUSTERED, EXACT, UNIFORM = 2, 1, 0
"""What a row's points are: none, since all its values are equal; every value and how often it came; or centroids."""

_HUGE, _SCALE = 2.0**900, 2.0**-100


@dataclass(slots=True, eq=False)
class Points:
    """The points of all rows of a table, one row's after another's, sorted by value: shape (points,)."""

    values: Floats
    weights: Ints


@dataclass(slots=True, eq=False)
class Table:
    """Rows of one level of one metric, sorted by series, then slot; all columns have shape (rows,).

    *slot* is the start in ms, *kind* one of UNIFORM, EXACT, CLUSTERED, *size* how many points a row has. The points are read
    when first asked for, since most questions don't.
    """

    slot: Ints
    series: Ints
    summaries: Summaries
    kind: NDArray[np.uint8]
    size: Ints
    _points: Points | Callable[[], Points]

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def points(self) -> Points:
        if not isinstance(self._points, Points):
            self._points = self._points()
        return self._points

    @property
    def nbytes(self) -> int:
        """About how much memory this takes, its points read."""
        return 96 * len(self) + 16 * int(self.size.sum())

    def take(self, keep: Bools) -> "Table":
        if keep.all():
            return self
        kept = np.flatnonzero(keep)
        return self.rows(kept)

    def rows(self, numbers: NDArray[np.intp]) -> "Table":
        """These rows, in this order; their points are read when they are."""
        size = self.size[numbers]

        def points() -> Points:
            at = arrays.ragged((np.cumsum(self.size) - self.size)[numbers], size)
            return Points(self.points.values[at], self.points.weights[at])

        return Table(
            self.slot[numbers],
            self.series[numbers],
            self.summaries.take(numbers),
            self.kind[numbers],
            size,
            points,
        )

    def spread(self) -> tuple[NDArray[np.intp], Floats, Ints]:
        """The row, value and weight of every point, those of uniform rows put in."""
        uniform = self.kind == UNIFORM
        rows = np.repeat(np.arange(len(self)), self.size)
        if not uniform.any():
            return rows, self.points.values, self.points.weights
        alone = np.flatnonzero(uniform)
        return (
            np.concatenate([rows, alone]),
            np.concatenate([self.points.values, self.summaries.low[alone]]),
            np.concatenate([self.points.weights, self.summaries.count[alone]]),
        )


def empty() -> Table:
    whole = np.zeros(0, np.int64)
    return Table(
        whole, whole, summaries_empty(), np.zeros(0, np.uint8), whole, Points(np.zeros(0), whole)
    )


def concat(parts: list[Table]) -> Table:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty()

    def points() -> Points:
        return Points(
            np.concatenate([part.points.values for part in parts]),
            np.concatenate([part.points.weights for part in parts]),
        )

    return Table(
        np.concatenate([part.slot for part in parts]),
        np.concatenate([part.series for part in parts]),
        summaries_concat([part.summaries for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.size for part in parts]),
        points,
    )


def merge(
    group: Ints, slot: Ints, series: Ints, rows: Summaries,
    point_group: Ints, values: Floats, weights: Ints, exact: Bools, budget: int, limit: int,
) -> Table:  # fmt: skip
    """Merge summaries (in order of arrival) and points by group into one row each.

    *slot* and *series* are each group's, shape (groups,); *exact* tells of each point whether it is a value rather than a
    centroid. A group with more than *limit* points gets at most *budget* centroids.
    """
    groups = len(slot)
    whole = summaries_merge(group, groups, rows)
    uniform = whole.low == whole.high
    clustered = np.zeros(groups, np.bool_)
    if not exact.all():
        centroids = np.flatnonzero(~exact)
        owner = point_group[centroids]
        clustered[owner] = True
        values = (
            values.copy()
        )  # a recorder's mean may be inf or NaN: of values whose sum is beyond the largest float
        values[centroids] = np.fmin(np.fmax(values[centroids], whole.low[owner]), whole.high[owner])
    wanted = ~uniform[point_group]
    if not wanted.all():
        point_group, values, weights = point_group[wanted], values[wanted], weights[wanted]
    order = arrays.by_group(point_group, groups)
    values, weights = values[order], weights[order]
    size = np.bincount(point_group, minlength=groups)
    crowded = size > limit

    # Rows with few points: sorted, equal values become one.
    owner = np.repeat(np.arange(groups), size)
    few = ~crowded[owner]
    owner_few, values_few, weights_few = owner[few], values[few], weights[few]
    order = np.argsort(
        values_few
    )  # not stable, as equal values of a row become one; several times faster than lexsort
    order = order[arrays.by_group(owner_few[order], groups)]
    values_few, weights_few = values_few[order], weights_few[order]
    first = np.empty(len(order), np.bool_)
    first[:1] = True
    first[1:] = (values_few[1:] != values_few[:-1]) | (owner_few[1:] != owner_few[:-1])
    at = np.flatnonzero(first)
    owner_few, values_few = owner_few[at], values_few[at]
    weights_few = np.add.reduceat(weights_few, at) if len(at) else weights_few
    if not crowded.any():
        return Table(
            slot, series, whole, _kinds(uniform, clustered), np.bincount(owner_few, minlength=groups),
            Points(values_few, weights_few),
        )  # fmt: skip

    owners, means, masses = [owner_few], [values_few], [weights_few]
    ends = np.cumsum(size)
    for number in np.flatnonzero(crowded).tolist():
        of_group = slice(int(ends[number] - size[number]), int(ends[number]))
        low, high = float(whole.low[number]), float(whole.high[number])
        mean, mass, is_exact = _squeezed(
            values[of_group], weights[of_group], not clustered[number], budget, low, high
        )
        clustered[number] = not is_exact
        owners.append(np.full(len(mean), number))
        means.append(mean)
        masses.append(mass)
    owner = np.concatenate(owners)
    order = arrays.by_group(owner, groups)
    return Table(
        slot, series, whole, _kinds(uniform, clustered), np.bincount(owner, minlength=groups),
        Points(np.concatenate(means)[order], np.concatenate(masses)[order]),
    )  # fmt: skip


def _squeezed(
    values: Floats, weights: Ints, is_exact: bool, budget: int, low: float, high: float
) -> tuple[Floats, Ints, bool]:
    """At most *budget* points from *low* to *high*, sorted, and whether they still are every value."""
    if (
        is_exact and len(np.unique(values[: 4 * budget])) <= budget
    ):  # few distinct values, however many samples
        distinct, inverse = np.unique(values, return_inverse=True)
        if len(distinct) <= budget:
            masses = np.zeros(len(distinct), np.int64)
            np.add.at(masses, inverse, weights)
            return distinct, masses, True
    # Clustering sums up, and beyond the largest float the means would be inf.
    scale = _SCALE if max(-low, high) > _HUGE else 1.0
    mean, mass = cluster(values * scale, None if int(weights.max()) == 1 else weights, budget)
    inside = np.clip(mean / scale, low, high)
    return (
        np.maximum.accumulate(inside),
        mass,
        False,
    )  # rounded means may be out of order by their last digit


def _kinds(uniform: Bools, clustered: Bools) -> NDArray[np.uint8]:
    return np.where(uniform, UNIFORM, np.where(clustered, CLUSTERED, EXACT)).astype(np.uint8)


def squeeze(table: Table, budget: int) -> Table:
    """The same rows, none with more than *budget* points."""
    if not (table.size > budget).any():
        return table
    rows, values, weights = table.spread()
    exact = table.kind[rows] != CLUSTERED
    numbers = np.arange(len(table))
    return merge(
        numbers,
        table.slot,
        table.series,
        table.summaries,
        rows,
        values,
        weights,
        exact,
        budget,
        budget,
    )
