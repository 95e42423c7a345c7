"""Summaries of samples, as columns: what is exact whatever was compacted. They merge in any order and any grouping."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Summaries:
    """One row for each summarised set of values, all columns of shape (n,).

    *m2* is the sum of squared distances from the mean (count x population variance); *last* the value with the greatest
    *last_ms*, of equal ones the latest to arrive.
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
        return Summaries(*(getattr(self, column.name)[rows] for column in fields(self)))


def empty() -> Summaries:
    whole, real = np.zeros(0, np.int64), np.zeros(0)
    return Summaries(whole, real, real, real, real, real, whole)


def of_points(values: Floats, weights: Ints, times_ms: Ints) -> Summaries:
    """Each point as a summary of *weight* equal values."""
    with np.errstate(over="ignore"):
        totals = values * weights
    return Summaries(weights, totals, np.zeros(len(values)), values, values, values, times_ms)


def concat(parts: list[Summaries]) -> Summaries:
    if len(parts) == 1:
        return parts[0]
    return Summaries(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Summaries)))


def starts(ordered: Ints) -> NDArray[np.intp]:
    """Where each run of equal numbers begins."""
    changes = np.empty(len(ordered), np.bool_)
    changes[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def merge(group: Ints, groups: int, rows: Summaries) -> Summaries:
    """Merge *rows* (in order of arrival) by *group*, ids from 0 to *groups* - 1: one summary for each, count 0 for empty ones.

    Sums are numpy's pairwise sums; m2 is merged as in Chan, Golub and LeVeque, Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances, 1979. Beyond the largest float they are inf, without a warning.
    """
    result = Summaries(
        np.zeros(groups, np.int64), np.zeros(groups), np.zeros(groups), np.full(groups, np.nan), np.full(groups, np.nan),
        np.full(groups, np.nan), np.zeros(groups, np.int64),
    )  # fmt: skip
    if not len(rows):
        return result
    order = np.lexsort((rows.last_ms, group))  # stable: equal times stay in order of arrival
    if not np.array_equal(order, np.arange(len(order))):
        group, rows = group[order], rows.take(order)
    first = starts(group)
    last = np.append(first[1:], len(group)) - 1
    at = group[first]
    with np.errstate(over="ignore", invalid="ignore"):
        result.count[at] = np.add.reduceat(rows.count, first)
        result.total[at] = np.add.reduceat(rows.total, first)
        result.low[at] = np.minimum.reduceat(rows.low, first)
        result.high[at] = np.maximum.reduceat(rows.high, first)
        result.last[at], result.last_ms[at] = rows.last[last], rows.last_ms[last]
        counts = np.maximum(rows.count, 1)
        mean = result.total[at] / np.maximum(result.count[at], 1)
        away = rows.total / counts - np.repeat(mean, last - first + 1)
        result.m2[at] = np.add.reduceat(rows.m2 + rows.count * away * away, first)
    return result
