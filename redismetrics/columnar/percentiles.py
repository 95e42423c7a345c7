"""Percentiles of many groups at once, from values and centroids."""

from dataclasses import dataclass

import numpy as np

from . import arrays
from .arrays import Bools, Floats, Ints, ragged, starts


@dataclass(slots=True, eq=False)
class SortedPoints:
    """Points of many rows, one row's after another's, sorted in each: *values* and *weights* are each point's, shape (points,).

    *group*, *size* (how many points it has; None: one each) and *centroid* are each row's, shape (rows,). A point of weight 1
    is a value also where it is called a centroid.
    """

    group: Ints
    size: Ints | None
    values: Floats
    weights: Ints
    centroid: Bools


def percentiles(runs: list[SortedPoints], low: Floats, high: Floats, ranks: Floats) -> Floats:
    """Return the percentiles of each group, shape (groups, len(ranks)); NaN for a group with no points.

    *low* and *high* are each group's smallest and largest value, shape (groups,); *ranks* are in [0, 1].

    A point of *weight* w covers w of the group's ranks 0 .. n-1. Equal values cover theirs flat, a centroid stands at the
    middle of its, and between neighbours the answer is linear; so without centroids this is numpy's default, rank p(n-1).
    Where a percentile falls in a gap between two modes, either side is right, and the answer may lie in the gap.
    """
    runs = [run for run in runs if len(run.values)]
    if not runs:
        return np.full((len(low), len(ranks)), np.nan)
    if sum(len(run.values) for run in runs) >= THIN_FROM * len(low) and len(ranks) <= THIN_RANKS:
        answer, certain = _percentiles(_thinned(runs, len(low), ranks), low, high, ranks)
        if certain:
            return answer
    return _percentiles(_points([_all(run) for run in runs]), low, high, ranks)[0]


@dataclass(slots=True, eq=False)
class _Points:
    """Columns of points; *stands_in*, where not empty, tells those that stand for many, which no answer may rest on."""

    group: Ints
    values: Floats
    weights: Ints
    centroid: Bools
    stands_in: Bools


_NOT_ANY = np.zeros(0, np.bool_)


def _points(parts: list[tuple[SortedPoints, Ints, Ints]], stands_in: Bools = _NOT_ANY) -> _Points:
    """Points at some places of runs, with the row of each."""
    weights = np.concatenate([run.weights[at] for run, at, _ in parts])
    return _Points(
        np.concatenate([run.group[row] for run, _, row in parts]),
        np.concatenate([run.values[at] for run, at, _ in parts]),
        weights,
        np.concatenate([run.centroid[row] for run, _, row in parts]) & (weights > 1),
        stands_in,
    )


def _sizes(run: SortedPoints) -> Ints:
    return np.ones(len(run.values), np.int64) if run.size is None else run.size


def _all(run: SortedPoints) -> tuple[SortedPoints, Ints, Ints]:
    return run, np.arange(len(run.values)), np.repeat(np.arange(len(run.group)), _sizes(run))


# With so many points a group and so few ranks only the points near each answer are sorted: several times faster at 100,000.
THIN_FROM, THIN_RANKS = 4096, 4
_SAMPLED = 1024  # points of a group, which tell within 2 % where a rank lies
_AROUND = 0.03  # of all ranks on either side are kept


def _thinned(runs: list[SortedPoints], groups: int, ranks: Floats) -> _Points:
    """The points near the wanted ranks, and one for all those in each gap between: by a sample, as in quickselect."""
    of_runs = np.cumsum([0, *(len(run.values) for run in runs)])
    sample = np.sort(np.random.default_rng(0).integers(0, of_runs[-1], _SAMPLED * groups))
    cuts = np.searchsorted(sample, of_runs)
    parts = []
    for number, run in enumerate(runs):
        at = sample[cuts[number] : cuts[number + 1]] - of_runs[number]
        parts.append((run, at, np.searchsorted(np.cumsum(_sizes(run)), at, side="right")))
    drawn = _points(parts)
    order = np.lexsort((drawn.values, drawn.group))
    sampled, of_group, heaped = (
        drawn.values[order],
        drawn.group[order],
        np.cumsum(drawn.weights[order]),
    )
    first = np.searchsorted(of_group, np.arange(groups))
    last = np.searchsorted(of_group, np.arange(groups), side="right") - 1
    begin = np.where(first > 0, heaped[np.maximum(first - 1, 0)], 0)
    mass = heaped[np.maximum(last, 0)] - begin

    def edge(at: Ints, otherwise: float) -> Floats:
        """The sampled value at a position of each group; beyond the group's sample *otherwise*."""
        inside = (at >= first) & (at <= last)
        found: Floats = np.where(inside, sampled[np.clip(at, 0, len(sampled) - 1)], otherwise)
        return found

    around = [
        (
            edge(
                np.searchsorted(heaped, begin + mass * (rank - _AROUND), side="left") - 1, -np.inf
            ),
            edge(np.searchsorted(heaped, begin + mass * (rank + _AROUND), side="right"), np.inf),
        )
        for rank in np.unique(ranks).tolist()
    ]
    gaps = len(around) + 1
    masses = np.zeros((groups, gaps))
    parts = []
    for run in runs:
        size = _sizes(run)
        ends = np.cumsum(size)
        begin = ends - size
        for number, (least, most) in enumerate(around):
            first = _bisect(run.values, begin, ends, least[run.group])
            last = _bisect(run.values, first, ends, most[run.group], past_equal=True)
            masses[:, number] += np.bincount(run.group, _sums(run.weights, begin, first), groups)
            row = np.repeat(np.arange(len(size)), last - first)
            parts.append((run, ragged(first, last - first), row))
            begin = last
        masses[:, gaps - 1] += np.bincount(run.group, _sums(run.weights, begin, ends), groups)
    places = np.full((groups, gaps), -np.inf)
    for number, (_, most) in enumerate(around):
        places[:, number + 1] = np.nextafter(most, np.inf)
    some = np.flatnonzero(masses)
    kept = _points(parts)
    return _Points(
        np.concatenate([kept.group, some // gaps]),
        np.concatenate([kept.values, places.reshape(-1)[some]]),
        np.concatenate([kept.weights, masses.reshape(-1)[some].astype(np.int64)]),
        np.concatenate([kept.centroid, np.zeros(len(some), np.bool_)]),
        np.concatenate([np.zeros(len(kept.group), np.bool_), np.ones(len(some), np.bool_)]),
    )


def _sums(weights: Ints, begin: Ints, end: Ints) -> Ints:
    """The sum of each of the slices [*begin*, *end*), which are in order and don't overlap."""
    sums = np.zeros(len(begin), np.int64)
    some = np.flatnonzero(end > begin)
    if len(some):
        edges = np.stack([begin[some], end[some]], axis=1).reshape(-1)
        sums[some] = np.add.reduceat(weights, edges[:-1] if edges[-1] == len(weights) else edges)[
            ::2
        ]
    return sums


def _bisect(
    values: Floats, begin: Ints, end: Ints, wanted: Floats, *, past_equal: bool = False
) -> Ints:
    """Where in each of the sorted slices [*begin*, *end*) the *wanted* value would stand: before its equals, or past them."""
    begin, end = begin.copy(), end.copy()
    for _ in range(int((end - begin).max(initial=0)).bit_length()):
        middle = (begin + end) // 2
        there = values[np.minimum(middle, len(values) - 1)]
        below = (middle < end) & ((there <= wanted) if past_equal else (there < wanted))
        begin, end = np.where(below, middle + 1, begin), np.where(below, end, middle)
    return begin


def _percentiles(points: _Points, low: Floats, high: Floats, ranks: Floats) -> tuple[Floats, bool]:
    """The percentiles, and whether none of them rests on a point that stands in for others."""
    answer = np.full((len(low), len(ranks)), np.nan)
    order = np.argsort(points.values)  # not stable: equal values may change places
    order = order[arrays.by_group(points.group[order], len(low))]
    group, values = points.group[order], points.values[order]
    weights, centroid = points.weights[order], points.centroid[order]
    ends = np.cumsum(weights)
    left = (ends - weights).astype(np.float64)
    right = ends - 1.0
    middle = (left + right) / 2
    left, right = np.where(centroid, middle, left), np.where(centroid, middle, right)

    first = starts(group)
    last = np.append(first[1:], len(group)) - 1
    present = group[first]
    begin = (ends[first] - weights[first]).astype(
        np.float64
    )  # the group's rank 0 on the line of all groups
    mass = ends[last] - begin

    # All groups lie on one line of ranks, so that one search finds every answer.
    wanted = begin[:, None] + ranks[None, :] * (mass[:, None] - 1)
    at = np.searchsorted(right, wanted, side="left")
    at = np.clip(at, first[:, None], last[:, None])
    before = np.maximum(at - 1, first[:, None])
    is_first, is_past = at == first[:, None], wanted > right[at]
    x0 = np.where(is_past, right[at], np.where(is_first, begin[:, None], right[before]))
    y0 = np.where(is_past, values[at], np.where(is_first, low[present][:, None], values[before]))
    x1 = np.where(is_past, (begin + mass - 1)[:, None], left[at])
    y1 = np.where(is_past, high[present][:, None], values[at])
    share = np.clip((wanted - x0) / np.where(x1 > x0, x1 - x0, 1.0), 0.0, 1.0)
    share = np.where(x1 > x0, share, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        reach = y1 - y0
        between = np.where(np.isfinite(reach), y0 + share * reach, y0 * (1 - share) + y1 * share)
    flat = (wanted >= left[at]) & (wanted <= right[at])
    between = np.where(
        ranks == 0, low[present][:, None], np.where(ranks == 1, high[present][:, None], between)
    )
    flat &= (ranks != 0) & (ranks != 1)  # the extremes are exact, also where a centroid hides them
    answer[present] = np.clip(
        np.where(flat, values[at], between), low[present][:, None], high[present][:, None]
    )
    if not len(points.stands_in):
        return answer, True
    stands_in = points.stands_in[order]
    return answer, not (stands_in[at] | stands_in[before]).any()
