"""Percentiles of many groups at once, from values and centroids."""

from dataclasses import dataclass

import numpy as np

from . import arrays
from .arrays import Bools, Floats, Ints, ragged, starts

# With at least THIN_FROM points per group and at most THIN_RANKS ranks, only the points near each
# result are sorted, which is several times faster at 100,000 points.
THIN_FROM, THIN_RANKS = 4096, 4

# The same applies from MANY_POINTS points on if rows have at least LONG_ROW of them, because the
# sorted rows show where the results lie: five times faster at 1,400,000 points in rows of 100.
MANY_POINTS, LONG_ROW = 65_536, 16

# Points sampled per group, which locate a rank within 2 %, and the fraction of all ranks to keep on
# either side of it.
_SAMPLED = 1024
_AROUND = 0.03

_NO_MASK = np.zeros(0, np.bool_)


@dataclass(slots=True, eq=False)
class SortedPoints:
    """Points of many rows, one row after another, sorted by value within each row.

    A point of weight 1 is a value even if its row has centroids.

    Attributes:
        group: Group id of each row, shape (rows,).
        size: Points of each row, shape (rows,); None means one each.
        values: Value or mean of each point, shape (points,).
        weights: Number of values that each point represents, shape (points,).
        centroid: True for a row whose points are centroids, shape (rows,).
    """

    group: Ints
    size: Ints | None
    values: Floats
    weights: Ints
    centroid: Bools

    @property
    def sizes(self) -> Ints:
        return np.ones(len(self.values), np.int64) if self.size is None else self.size


def percentiles(parts: list[SortedPoints], low: Floats, high: Floats, ranks: Floats) -> Floats:
    """Return the percentiles of each group, shape (groups, len(ranks)); NaN without points.

    A point of weight w covers w of the group's ranks 0 .. n-1. Equal values are the result at each
    of their ranks, a centroid is at the middle of its ranks, and the result is interpolated
    linearly between neighbours (t-digest: Dunning and Ertl 2019). Without centroids, this is
    numpy's default, rank p(n-1). If a percentile falls into a gap between two modes, either side is
    correct, and the result may lie in the gap.

    Args:
        parts: Points of all groups.
        low: Smallest value of each group, shape (groups,).
        high: Largest value of each group, shape (groups,).
        ranks: Percentiles from 0 to 1.
    """
    parts = [part for part in parts if len(part.values)]
    if not parts:
        return np.full((len(low), len(ranks)), np.nan)
    points = sum(len(part.values) for part in parts)
    rows = sum(len(part.group) for part in parts)
    ranges = None
    if len(ranks) <= THIN_RANKS:
        if points >= max(MANY_POINTS, LONG_ROW * rows):
            ranges = ranges_of_rows(parts, len(low), ranks)
        elif points >= THIN_FROM * len(low):
            ranges = ranges_of_sample(parts, len(low), ranks)
    if ranges is not None:
        found, is_certain = _interpolate(thin(parts, len(low), ranges), low, high, ranks)
        if is_certain:
            return found
    return _interpolate(_join([_all_of(part) for part in parts]), low, high, ranks)[0]


@dataclass(slots=True, eq=False)
class _Points:
    """Points of all groups; columns have shape (points,).

    *replaces_many* is True for a point that represents many others, on which no result may depend.
    It is empty if there are no such points.
    """

    group: Ints
    values: Floats
    weights: Ints
    centroid: Bools
    replaces_many: Bools


def _join(parts: list[tuple[SortedPoints, Ints, Ints]], replaces_many: Bools = _NO_MASK) -> _Points:
    """Return selected points of *parts*: (points, positions of the selected, row of each)."""
    weights = np.concatenate([part.weights[at] for part, at, _ in parts])
    return _Points(
        np.concatenate([part.group[row] for part, _, row in parts]),
        np.concatenate([part.values[at] for part, at, _ in parts]),
        weights,
        np.concatenate([part.centroid[row] for part, _, row in parts]) & (weights > 1),
        replaces_many,
    )


def _all_of(part: SortedPoints) -> tuple[SortedPoints, Ints, Ints]:
    return part, np.arange(len(part.values)), np.repeat(np.arange(len(part.group)), part.sizes)


def thin(parts: list[SortedPoints], groups: int, ranges: list[tuple[Floats, Floats]]) -> _Points:
    """Return the points in *ranges*, and one point for all points in each gap between them.

    *ranges* are the smallest and the largest value of interest in each group, in order.
    """
    gaps = len(ranges) + 1
    masses = np.zeros((groups, gaps))
    kept = []
    for part in parts:
        size = part.sizes
        ends = np.cumsum(size)
        begin = ends - size
        for number, (least, most) in enumerate(ranges):
            first = _bisect(part.values, begin, ends, least[part.group])
            last = _bisect(part.values, first, ends, most[part.group], past_equal=True)
            masses[:, number] += np.bincount(part.group, _sums(part.weights, begin, first), groups)
            row = np.repeat(np.arange(len(size)), last - first)
            kept.append((part, ragged(first, last - first), row))
            begin = last
        masses[:, gaps - 1] += np.bincount(part.group, _sums(part.weights, begin, ends), groups)
    # The value of the point for a gap: just above the range before it.
    values = np.full((groups, gaps), -np.inf)
    for number, (_, most) in enumerate(ranges):
        values[:, number + 1] = np.nextafter(most, np.inf)
    some = np.flatnonzero(masses)
    points = _join(kept)
    return _Points(
        np.concatenate([points.group, some // gaps]),
        np.concatenate([points.values, values.reshape(-1)[some]]),
        np.concatenate([points.weights, masses.reshape(-1)[some].astype(np.int64)]),
        np.concatenate([points.centroid, np.zeros(len(some), np.bool_)]),
        np.concatenate([np.zeros(len(points.group), np.bool_), np.ones(len(some), np.bool_)]),
    )


def ranges_of_sample(
    parts: list[SortedPoints], groups: int, ranks: Floats
) -> list[tuple[Floats, Floats]]:
    """Return ranges of values around *ranks*, from a random sample of all points.

    As in Floyd and Rivest's SELECT ("Expected time bounds for selection", 1975).
    """
    return _ranges_around(_sample(parts, groups), groups, ranks)


def ranges_of_rows(
    parts: list[SortedPoints], groups: int, ranks: Floats
) -> list[tuple[Floats, Floats]]:
    """Return ranges of values around *ranks*, from the percentiles of all rows.

    A percentile of a group lies between the smallest and the largest of its rows' percentiles, so
    the points around those are enough. Neighbouring points are added for the interpolation.
    """
    result = []
    for rank in np.unique(ranks).tolist():
        least, most = np.full(groups, np.inf), np.full(groups, -np.inf)
        for part in parts:
            held = part.sizes > 0
            group, size = part.group[held], part.sizes[held]
            ends = np.cumsum(size)
            begin = ends - size
            cumulated = np.cumsum(part.weights)
            base = cumulated[begin] - part.weights[begin]
            target = base + rank * (cumulated[ends - 1] - base)
            at = np.clip(np.searchsorted(cumulated, target), begin, ends - 1)
            np.minimum.at(least, group, part.values[np.maximum(at - 2, begin)])
            np.maximum.at(most, group, part.values[np.minimum(at + 2, ends - 1)])
        result.append((least, most))
    return result


def _sample(parts: list[SortedPoints], groups: int) -> _Points:
    """Return `_SAMPLED` points per group on average, drawn at random, sorted by group and value."""
    ends = np.cumsum([0, *(len(part.values) for part in parts)])
    sample = np.sort(np.random.default_rng(0).integers(0, ends[-1], _SAMPLED * groups))
    cuts = np.searchsorted(sample, ends)
    chosen = []
    for number, part in enumerate(parts):
        at = sample[cuts[number] : cuts[number + 1]] - ends[number]
        chosen.append((part, at, np.searchsorted(np.cumsum(part.sizes), at, side="right")))
    points = _join(chosen)
    order = np.lexsort((points.values, points.group))
    return _Points(
        points.group[order],
        points.values[order],
        points.weights[order],
        points.centroid[order],
        _NO_MASK,
    )


def _ranges_around(sample: _Points, groups: int, ranks: Floats) -> list[tuple[Floats, Floats]]:
    """Return for each distinct rank, in order, the values around it: (lowest, highest) per group.

    Both have shape (groups,), and are infinite beyond the group's sample.
    """
    cumulated = np.cumsum(sample.weights)
    first = np.searchsorted(sample.group, np.arange(groups))
    last = np.searchsorted(sample.group, np.arange(groups), side="right") - 1
    begin = np.where(first > 0, cumulated[np.maximum(first - 1, 0)], 0)
    mass = cumulated[np.maximum(last, 0)] - begin

    def value_at(at: Ints, otherwise: float) -> Floats:
        inside = (at >= first) & (at <= last)
        values = sample.values[np.clip(at, 0, len(sample.values) - 1)]
        found: Floats = np.where(inside, values, otherwise)
        return found

    def range_of(rank: float) -> tuple[Floats, Floats]:
        before = np.searchsorted(cumulated, begin + mass * (rank - _AROUND), side="left") - 1
        after = np.searchsorted(cumulated, begin + mass * (rank + _AROUND), side="right")
        return value_at(before, -np.inf), value_at(after, np.inf)

    return [range_of(rank) for rank in np.unique(ranks).tolist()]


def _sums(weights: Ints, begin: Ints, end: Ints) -> Ints:
    """Return the sum of each slice [*begin*, *end*), shape (slices,).

    The slices must be in order and must not overlap.
    """
    sums = np.zeros(len(begin), np.int64)
    some = np.flatnonzero(end > begin)
    if len(some):
        edges = np.stack([begin[some], end[some]], axis=1).reshape(-1)
        inner = edges[:-1] if edges[-1] == len(weights) else edges
        sums[some] = np.add.reduceat(weights, inner)[::2]
    return sums


def _bisect(
    values: Floats, begin: Ints, end: Ints, target: Floats, *, past_equal: bool = False
) -> Ints:
    """Return the position of *target* in each sorted slice [*begin*, *end*), shape (slices,).

    The position is before equal values, or after them if *past_equal*.
    """
    begin, end = begin.copy(), end.copy()
    for _ in range(int((end - begin).max(initial=0)).bit_length()):
        middle = (begin + end) // 2
        found = values[np.minimum(middle, len(values) - 1)]
        below = (middle < end) & ((found <= target) if past_equal else (found < target))
        begin, end = np.where(below, middle + 1, begin), np.where(below, end, middle)
    return begin


def _interpolate(points: _Points, low: Floats, high: Floats, ranks: Floats) -> tuple[Floats, bool]:
    """Return the percentiles, and whether none depends on a point that represents others.

    All groups share one axis of ranks, so that one search finds every percentile.
    """
    result = np.full((len(low), len(ranks)), np.nan)
    # Not a stable sort: equal values may change places.
    order = np.argsort(points.values)
    order = order[arrays.by_group(points.group[order], len(low))]
    group, values = points.group[order], points.values[order]
    weights, centroid = points.weights[order], points.centroid[order]
    # The range of ranks that each point covers: left to right.
    ends = np.cumsum(weights)
    left = (ends - weights).astype(np.float64)
    right = ends - 1.0
    middle = (left + right) / 2
    left, right = np.where(centroid, middle, left), np.where(centroid, middle, right)

    first = starts(group)
    last = np.append(first[1:], len(group)) - 1
    present = group[first]
    least, most = low[present][:, None], high[present][:, None]
    # The rank on the common axis at which each group begins.
    begin = (ends[first] - weights[first]).astype(np.float64)
    mass = ends[last] - begin

    rank = begin[:, None] + ranks[None, :] * (mass[:, None] - 1)
    at = np.searchsorted(right, rank, side="left")
    at = np.clip(at, first[:, None], last[:, None])
    before = np.maximum(at - 1, first[:, None])
    is_first, is_past = at == first[:, None], rank > right[at]
    x0 = np.where(is_past, right[at], np.where(is_first, begin[:, None], right[before]))
    y0 = np.where(is_past, values[at], np.where(is_first, least, values[before]))
    x1 = np.where(is_past, (begin + mass - 1)[:, None], left[at])
    y1 = np.where(is_past, most, values[at])
    between = _on_line(rank, x0, y0, x1, y1)
    between = np.where(ranks == 0, least, np.where(ranks == 1, most, between))
    flat = (rank >= left[at]) & (rank <= right[at])
    # The extremes are exact, even where a centroid hides them.
    flat &= (ranks != 0) & (ranks != 1)
    result[present] = np.clip(np.where(flat, values[at], between), least, most)
    if not len(points.replaces_many):
        return result, True
    replaces_many = points.replaces_many[order]
    return result, not (replaces_many[at] | replaces_many[before]).any()


def _on_line(x: Floats, x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> Floats:
    """Return y at x on the line from (x0, y0) to (x1, y1); y1 if the line has no length."""
    share = np.clip((x - x0) / np.where(x1 > x0, x1 - x0, 1.0), 0.0, 1.0)
    share = np.where(x1 > x0, share, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        reach = y1 - y0
        # Where the difference overflows, the weighted sum does not.
        line: Floats = np.where(
            np.isfinite(reach), y0 + share * reach, y0 * (1 - share) + y1 * share
        )
    return line
