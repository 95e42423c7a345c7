"""Rollup rows as a table: one row per slot and series, with its summary and digest points."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import arrays, summaries
from .arrays import Bools, Floats, Ints
from .digest import cluster
from .summaries import Summaries

# The kind of a row. UNIFORM: all values are equal and it has no points. EXACT: its points are all
# values with their counts. CLUSTERED: its points are centroids.
UNIFORM, EXACT, CLUSTERED = 0, 1, 2

# Values beyond _HUGE are scaled down before clustering, because sums would overflow otherwise.
_HUGE, _SCALE = 2.0**900, 2.0**-100


@dataclass(slots=True, eq=False)
class Points:
    """The points of a table's rows, one row after another, sorted by value; shape (points,)."""

    values: Floats
    weights: Ints


@dataclass(slots=True, eq=False)
class GroupedPoints:
    """Points of several groups, in any order; all columns have shape (points,).

    Attributes:
        group: Group id of each point.
        exact: True for a value, False for a centroid.
    """

    group: Ints
    values: Floats
    weights: Ints
    exact: Bools


@dataclass(slots=True, eq=False)
class Table:
    """Rows of one resolution of one metric, sorted by series, then slot; columns of shape (rows,).

    Attributes:
        slot: Start of the slot, in ms.
        series: Series id.
        kind: UNIFORM, EXACT or CLUSTERED, as uint8.
        size: Number of the row's points.
        points: Points of all rows; decoded on first use, because most queries need none.
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
        """Approximate memory with all points decoded, in bytes."""
        return 96 * len(self) + 16 * int(self.size.sum())

    def take(self, keep: Bools) -> "Table":
        """Return the rows where the mask *keep* is True."""
        if keep.all():
            return self
        kept = np.flatnonzero(keep)
        return self.rows(kept)

    def rows(self, numbers: NDArray[np.intp]) -> "Table":
        """Return these rows, in this order; their points are read on first use."""
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

    def runs(self, edges: list[int]) -> list["Table"]:
        """Return the rows of each [edge, next edge), as views."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.size)])[edges].tolist()
        return [
            self._run(slice(begin, end), slice(first, last))
            for begin, end, first, last in zip(
                edges[:-1], edges[1:], ends[:-1], ends[1:], strict=True
            )
        ]

    def _run(self, rows: slice, points: slice) -> "Table":
        return Table(
            self.slot[rows],
            self.series[rows],
            self.summaries.run(rows),
            self.kind[rows],
            self.size[rows],
            lambda: Points(self.points.values[points], self.points.weights[points]),
        )

    def spread(self) -> tuple[NDArray[np.intp], Floats, Ints]:
        """Return row, value and weight of every point; a uniform row becomes one point."""
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

    def grouped_points(self, group: Ints) -> GroupedPoints:
        """Return all points, including those of uniform rows; *group* has shape (rows,)."""
        rows, values, weights = self.spread()
        return GroupedPoints(group[rows], values, weights, self.kind[rows] != CLUSTERED)


def empty() -> Table:
    whole = np.zeros(0, np.int64)
    return Table(
        whole, whole, summaries.empty(), np.zeros(0, np.uint8), whole, Points(np.zeros(0), whole)
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
        summaries.concat([part.summaries for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.size for part in parts]),
        points,
    )


def merge(
    slot: Ints,
    series: Ints,
    group: Ints,
    rows: Summaries,
    points: GroupedPoints,
    *,
    budget: int,
    limit: int | None = None,
) -> Table:
    """Merge summaries and points into one row per group.

    Args:
        slot: Slot of each group, shape (groups,).
        series: Series of each group, shape (groups,).
        group: Group id of each of *rows*, shape (rows,).
        rows: Summaries in order of arrival.
        points: Points of all groups.
        budget: Maximum number of centroids of a clustered group.
        limit: Maximum number of points of a group that is not clustered (default: *budget*).
    """
    groups = len(slot)
    merged = summaries.merge(group, groups, rows)
    uniform = merged.low == merged.high
    clustered = np.zeros(groups, np.bool_)
    owner, values, weights = points.group, points.values, points.weights
    if not points.exact.all():
        centroids = np.flatnonzero(~points.exact)
        clustered[owner[centroids]] = True
        values = _clamp(points, centroids, merged)
    several = ~uniform[owner]
    if not several.all():
        owner, values, weights = owner[several], values[several], weights[several]
    size = np.bincount(owner, minlength=groups)
    crowded = size > (budget if limit is None else limit)
    if not crowded.any():
        found = [_distinct(owner, values, weights, groups)]
    else:
        order = arrays.by_group(owner, groups)
        owner, values, weights = owner[order], values[order], weights[order]
        few = ~crowded[owner]
        found = [_distinct(owner[few], values[few], weights[few], groups)]
    ends = np.cumsum(size)
    for number in np.flatnonzero(crowded).tolist():
        of_group = slice(int(ends[number] - size[number]), int(ends[number]))
        means, masses, clustered[number] = _squeeze(
            values[of_group],
            weights[of_group],
            bool(clustered[number]),
            budget,
            (float(merged.low[number]), float(merged.high[number])),
        )
        found.append((np.full(len(means), number), means, masses))
    owner, values, weights = found[0]
    if len(found) > 1:
        owner, values, weights = (np.concatenate(columns) for columns in zip(*found, strict=True))
        order = arrays.by_group(owner, groups)
        owner, values, weights = owner[order], values[order], weights[order]
    return Table(
        slot,
        series,
        merged,
        np.where(uniform, UNIFORM, np.where(clustered, CLUSTERED, EXACT)).astype(np.uint8),
        np.bincount(owner, minlength=groups),
        Points(values, weights),
    )


def _clamp(points: GroupedPoints, centroids: NDArray[np.intp], merged: Summaries) -> Floats:
    """Return the values, with *centroids* clamped to the extremes of their group.

    A mean may be inf or NaN if the sum of the values overflows a float.
    """
    owner = points.group[centroids]
    values = points.values.copy()
    values[centroids] = np.fmin(np.fmax(values[centroids], merged.low[owner]), merged.high[owner])
    return values


def _distinct(owner: Ints, values: Floats, weights: Ints, groups: int) -> tuple[Ints, Floats, Ints]:
    """Return the points sorted by group, then value; equal values of a group become one point."""
    # Not a stable sort, because equal values of a group are joined. Several times faster than
    # lexsort.
    order = np.argsort(values)
    order = order[arrays.by_group(owner[order], groups)]
    owner, values, weights = owner[order], values[order], weights[order]
    first = np.empty(len(order), np.bool_)
    first[:1] = True
    first[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    at = np.flatnonzero(first)
    return owner[at], values[at], np.add.reduceat(weights, at) if len(at) else weights


def _squeeze(
    values: Floats,
    weights: Ints,
    is_clustered: bool,
    budget: int,
    extremes: tuple[float, float],
) -> tuple[Floats, Ints, bool]:
    """Return at most *budget* points, sorted and within *extremes*, and whether they are centroids.

    A group with few distinct values remains exact, however many samples it has.
    """
    # A set is several times faster than np.unique for this few.
    if not is_clustered and len(set(values[: 4 * budget].tolist())) <= budget:
        distinct, inverse = np.unique(values, return_inverse=True)
        if len(distinct) <= budget:
            masses = np.zeros(len(distinct), np.int64)
            np.add.at(masses, inverse, weights)
            return distinct, masses, False
    low, high = extremes
    scale = _SCALE if max(-low, high) > _HUGE else 1.0
    means, masses = cluster(values * scale, None if int(weights.max()) == 1 else weights, budget)
    # Rounded means may be out of order by their last digit.
    return np.maximum.accumulate(np.clip(means / scale, low, high)), masses, True


def squeeze(table: Table, budget: int) -> Table:
    """Return the same rows, each with at most *budget* points."""
    if not (table.size > budget).any():
        return table
    rows = np.arange(len(table))
    points = table.grouped_points(rows)
    return merge(table.slot, table.series, rows, table.summaries, points, budget=budget)
