"""Summaries of samples as columns. They remain exact however the samples are compressed.

Summaries can be merged in any order and any grouping.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, Ints, sum_whole


@dataclass(slots=True, eq=False)
class Summaries:
    """One row per summarised set of values; all columns have shape (n,).

    Attributes:
        count: Number of values.
        total: Their sum.
        m2: Sum of squared distances from the mean: count x population variance.
        low: Smallest value.
        high: Largest value.
        last: Value with the latest time; among several, the last to arrive.
        last_ms: Its time in ms.
    """

    count: Ints
    total: Floats
    m2: Floats
    low: Floats
    high: Floats
    last: Floats
    last_ms: Ints

    def __len__(self) -> int:
        return len(self.count)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Summaries":
        """Return these rows; each column is taken on first use."""
        length = int(rows.sum()) if rows.dtype == np.bool_ else len(rows)
        return Deferred(length, lambda name: getattr(self, name)[rows])

    def run(self, rows: slice) -> "Summaries":
        """Return the rows from the slice's start to before its stop, as views."""
        return Deferred(rows.stop - rows.start, lambda name: getattr(self, name)[rows])


ALL = frozenset(column.name for column in fields(Summaries))


class Deferred(Summaries):
    """Summaries whose columns are created on first use: most queries need two or three of seven.

    *load* takes a column's name and returns the column.
    """

    __slots__ = ("_length", "_load")

    def __init__(self, length: int, load: Callable[[str], NDArray[Any]]) -> None:
        self._length, self._load = length, load

    def __len__(self) -> int:
        return self._length

    def __getattr__(self, name: str) -> NDArray[Any]:
        # Only called while the attribute of a column is not set.
        if name not in ALL:
            raise AttributeError(name)
        column = self._load(name)
        setattr(self, name, column)
        return column


def empty() -> Summaries:
    whole, real = np.zeros(0, np.int64), np.zeros(0)
    return Summaries(whole, real, real, real, real, real, whole)


def of_points(values: Floats, weights: Ints, times_ms: Ints) -> Summaries:
    """Return one summary per point, of *weight* equal values; all arguments have shape (n,)."""
    with np.errstate(over="ignore"):
        totals = values * weights
    return Summaries(weights, totals, np.zeros(len(values)), values, values, values, times_ms)


def concat(parts: list[Summaries]) -> Summaries:
    if len(parts) == 1:
        return parts[0]
    return Deferred(
        sum(map(len, parts)), lambda name: np.concatenate([getattr(part, name) for part in parts])
    )


def merge(group: Ints, groups: int, rows: Summaries, columns: frozenset[str] = ALL) -> Summaries:
    """Merge *rows* by group into one summary per group, with count 0 for an empty group.

    m2 is merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", 1979. Sums that overflow are inf, without a warning.

    Args:
        group: Group id of each row, shape (rows,).
        groups: Number of groups; ids are from 0 to *groups* - 1.
        rows: Summaries in order of arrival.
        columns: Columns to compute; the others are as for no rows. m2 needs count and total.
    """
    return merge_all([(group, rows)], groups, columns)


def merge_all(
    parts: Sequence[tuple[Ints, Summaries]], groups: int, columns: frozenset[str] = ALL
) -> Summaries:
    """Merge several (group, rows), in order of arrival, without concatenating them first."""
    parts = [part for part in parts if len(part[0])]
    nothing, zero = np.full(groups, np.nan), np.zeros(groups)
    result = Summaries(
        np.zeros(groups, np.int64),
        zero,
        zero,
        nothing,
        nothing,
        nothing,
        np.zeros(groups, np.int64),
    )
    # Each part only affects the groups from its lowest to its highest, such as one hour's minutes.
    reaches = [slice(int(group.min()), int(group.max()) + 1) for group, _ in parts]
    near = [
        (reach, group - reach.start if reach.start else group, rows)
        for reach, (group, rows) in zip(reaches, parts, strict=True)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        if "count" in columns:
            for reach, group, rows in near:
                result.count[reach] += sum_whole(group, reach.stop - reach.start, rows.count)
        if "total" in columns:
            result.total = np.zeros(groups)
            for reach, group, rows in near:
                result.total[reach] += np.bincount(group, rows.total)
        if "m2" in columns:
            mean = result.total / np.maximum(result.count, 1)
            result.m2 = np.zeros(groups)
            for reach, group, rows in near:
                away = rows.total / np.maximum(rows.count, 1) - mean[reach][group]
                result.m2[reach] += np.bincount(group, rows.m2 + rows.count * away * away)
        if "low" in columns:
            result.low = nothing.copy()
            for reach, group, rows in near:
                np.fmin.at(result.low[reach], group, rows.low)
        if "high" in columns:
            result.high = nothing.copy()
            for reach, group, rows in near:
                np.fmax.at(result.high[reach], group, rows.high)
        if "last" in columns:
            result.last, result.last_ms = nothing.copy(), np.full(groups, -1, np.int64)
            for reach, group, rows in near:
                last, last_ms = result.last[reach], result.last_ms[reach]
                np.maximum.at(last_ms, group, rows.last_ms)
                newest = np.flatnonzero(rows.last_ms == last_ms[group])
                # With several rows, the last assignment wins: the latest to arrive.
                last[group[newest]] = rows.last[newest]
            np.maximum(result.last_ms, 0, out=result.last_ms)
    return result
