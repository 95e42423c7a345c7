"""Classic histograms: series with the label `le` and cumulative counts of observations."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints

from .budget import Budget
from .grouping import Groups
from .source import Labels
from .vectors import Vector, key_of, number_keys, without_labels
from .windows import BLOCK_CELLS

# Counts that differ less than this are equal up to rounding.
_TOLERANCE = 1e-12


@dataclass(slots=True, eq=False)
class ClassicHistograms:
    """Classic histograms of a vector.

    Attributes:
        vector: The buckets, sorted by bound within each histogram, bounds merged if equal.
        bounds: Upper bound of each bucket, shape (buckets,).
        groups: The histogram of each bucket, with its labels except name and `le`.
        names: Name of each histogram.
    """

    vector: Vector
    bounds: Floats
    groups: Groups
    names: list[str]


def parse_bound(text: str) -> float | None:
    """Parse a label `le`; None if it is not a number. Go accepts fewer forms than Python."""
    if text != text.strip() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def classic_histograms(vector: Vector) -> tuple[ClassicHistograms, list[tuple[str, str]]]:
    """Return the histograms, and name and `le` of series whose `le` is not a number."""
    bounds = [parse_bound(labels.get("le", "")) for labels in vector.labels]
    wrong = [
        (vector.labels[row].get("__name__", ""), vector.labels[row].get("le", ""))
        for row, bound in enumerate(bounds)
        if bound is None and vector.present[row].any()
    ]
    rows = [row for row, bound in enumerate(bounds) if bound is not None]
    buckets = vector.take(np.array(rows, np.int64))
    bound_of = np.array([bounds[row] for row in rows], np.float64)
    keys = [key_of(labels) for labels in without_labels(buckets.labels, ("le",))]
    number, distinct = number_keys(keys)
    order = np.lexsort((bound_of, number))
    buckets, bound_of, number = buckets.take(order), bound_of[order], number[order]
    buckets, bound_of, number = _merge_equal_bounds(buckets, bound_of, number)
    labels = [{name: value for name, value in key if name != "__name__"} for key in distinct]
    names = [dict(key).get("__name__", "") for key in distinct]
    return ClassicHistograms(buckets, bound_of, Groups(number, labels), names), wrong


def _merge_equal_bounds(
    buckets: Vector, bounds: Floats, number: Ints
) -> tuple[Vector, Floats, Ints]:
    same = (bounds[1:] == bounds[:-1]) & (number[1:] == number[:-1])
    if not same.any():
        return buckets, bounds, number
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    held = np.where(buckets.present, buckets.values, 0.0)
    merged = buckets.take(starts)
    merged.values = np.add.reduceat(held, starts, axis=0)
    merged.present = np.logical_or.reduceat(buckets.present, starts, axis=0)
    return merged, bounds[starts], number[starts]


@dataclass(slots=True, eq=False)
class Stack:
    """Histograms with the same number of buckets, at some steps; buckets are the second axis.

    Attributes:
        bounds: Upper bounds, shape (histograms, buckets, 1 or steps).
        counts: Cumulative counts, like *bounds*.
        size: Number of present buckets, which come first; shape (histograms, steps).
    """

    bounds: Floats
    counts: Floats
    size: Ints

    @property
    def has_infinite(self) -> Bools:
        """Return where the last bucket has no upper bound, as required."""
        found: Bools = (self.size > 0) & (_at(self.bounds, self.size - 1) == np.inf)
        return found

    @property
    def total(self) -> Floats:
        return _at(self.counts, self.size - 1)


def _at(column: Floats, number: Ints) -> Floats:
    """Return an element of the second axis for each histogram and step."""
    full = np.broadcast_to(
        column, (column.shape[0], column.shape[1], max(column.shape[2], number.shape[1]))
    )
    at = np.clip(number, 0, column.shape[1] - 1)[:, None, :]
    found: Floats = np.take_along_axis(full, at, axis=1)[:, 0, :]
    return found


def stacks(histograms: ClassicHistograms, budget: Budget) -> Iterator[tuple[Ints, slice, Stack]]:
    """Yield histograms by number of buckets: their numbers, the steps, and the buckets."""
    vector = histograms.vector
    for numbers, rows in histograms.groups.stacks():
        width = max(1, BLOCK_CELLS // rows.size)
        for step in range(0, vector.steps, width):
            budget.check()
            part = slice(step, step + width)
            bounds = histograms.bounds[rows][:, :, None]
            counts, present = vector.values[rows, part], vector.present[rows, part]
            if not present.all():
                order = np.argsort(~present, axis=1, kind="stable")
                counts = np.take_along_axis(counts, order, axis=1)
                bounds = np.take_along_axis(np.broadcast_to(bounds, counts.shape), order, axis=1)
            yield numbers, part, Stack(bounds, counts, present.sum(axis=1))


@dataclass(slots=True)
class Repairs:
    """Counts that decreased from bucket to bucket and were raised."""

    low: float = np.inf
    high: float = -np.inf
    largest: float = 0.0


def make_monotonic(stack: Stack) -> tuple[Stack, Bools, Repairs]:
    """Return *stack* with non-decreasing counts, where they decreased, and by how much.

    Small differences are rounding errors, and are removed silently.
    """
    counts = stack.counts.copy()
    forced = np.zeros(stack.size.shape, np.bool_)
    repairs = Repairs()
    for bucket in range(1, counts.shape[1]):
        before, here = counts[:, bucket - 1], counts[:, bucket]
        held = bucket < stack.size
        difference = np.abs(here - before)
        is_small = (difference != 0) & (difference / np.abs(here) <= _TOLERANCE)
        fell = held & ~is_small & (here < before)
        if fell.any():
            forced |= fell
            repairs.largest = max(repairs.largest, float(difference[fell].max()))
            bound = np.broadcast_to(stack.bounds[:, bucket], fell.shape)[fell]
            repairs.low = min(repairs.low, float(bound.min()))
            repairs.high = max(repairs.high, float(bound.max()))
        counts[:, bucket] = np.where(fell | is_small, before, here)
    return Stack(stack.bounds, counts, stack.size), forced, repairs


def quantiles(stack: Stack, ranks: Floats) -> Floats:
    """Return the quantile of each histogram and step; *ranks* has shape (steps,).

    The result is interpolated within its bucket. The first bucket begins at 0 if its bound is
    positive; in the last bucket, the result is its lower bound.
    """
    size, total = stack.size, stack.total
    rank = ranks * total
    reached = stack.counts >= rank[:, None, :]
    reached &= np.arange(stack.counts.shape[1])[None, :, None] < (size - 1)[:, None, :]
    bucket = np.where(reached.any(axis=1), reached.argmax(axis=1), size - 1)
    upper = _at(stack.bounds, bucket)
    below = np.where(bucket > 0, _at(stack.counts, bucket - 1), 0.0)
    lower = np.where(bucket > 0, _at(stack.bounds, bucket - 1), 0.0)
    count = _at(stack.counts, bucket) - below
    found = lower + (upper - lower) * ((rank - below) / count)
    found = np.where((bucket == 0) & (upper <= 0), upper, found)
    found = np.where(bucket == size - 1, _at(stack.bounds, size - 2), found)
    found = np.where((size < 2) | (total == 0) | np.isnan(total), np.nan, found)
    found = np.where(ranks < 0, -np.inf, np.where(ranks > 1, np.inf, found))
    found = np.where(stack.has_infinite | (ranks < 0) | (ranks > 1), found, np.nan)
    return np.where(np.isnan(ranks), np.nan, found)


def fractions(stack: Stack, lower: Floats, upper: Floats) -> Floats:
    """Return the share of observations between two bounds, each of shape (steps,)."""
    total = stack.total
    found = (_cumulated(stack, upper) - _cumulated(stack, lower)) / total
    found = np.where(lower >= upper, 0.0, found)
    invalid = np.isnan(lower) | np.isnan(upper) | (total == 0) | ~stack.has_infinite
    return np.where(invalid, np.nan, found)


def _cumulated(stack: Stack, value: Floats) -> Floats:
    """Return the number of observations below *value*, interpolated within its bucket."""
    buckets = stack.counts.shape[1]
    held = np.arange(buckets)[None, :, None] < stack.size[:, None, :]
    bounds = np.broadcast_to(stack.bounds, stack.counts.shape)
    # The bucket whose upper bound is the first above the value.
    above = held & (bounds > value)
    bucket = np.where(above.any(axis=1), above.argmax(axis=1), stack.size)
    before = np.where(bucket > 0, _at(stack.counts, bucket - 1), 0.0)
    upper = _at(bounds, bucket)
    lower = np.where(bucket > 0, _at(bounds, bucket - 1), np.where(upper > 0, 0.0, -np.inf))
    count = _at(stack.counts, bucket) - before
    inside = before + count * (value - lower) / (upper - lower)
    inside = np.where(np.isinf(lower), _at(stack.counts, bucket), inside)
    found = np.where(value <= lower, before, inside)
    found = np.where(bucket >= stack.size, stack.total, found)
    return np.minimum(found, stack.total)


def labels_with(labels: Labels, name: str, value: str) -> Labels:
    """Return *labels* with one more label, unless *value* is empty."""
    found = {key: text for key, text in labels.items() if key != name}
    if value:
        found[name] = value
    return found
