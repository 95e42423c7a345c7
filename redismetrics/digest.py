"""Percentiles: t-digests as columns, and a small object for the outside.

A digest here is a list of weighted points, sorted by value: a *centroid* stands for `weight` values around it, any other point
for `weight` equal values. Merging digests is putting their lists together. The clustering is fastdigest's merging t-digest
(Dunning and Ertl, Computing Extremely Accurate Quantiles Using t-Digests, 2019).
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import fastdigest
import numpy as np
from numpy.typing import NDArray

from . import rollups
from .errors import InvalidQuery, MissingExtra
from .rollups import Floats, Ints, starts

Bools = NDArray[np.bool_]


def cluster(values: Floats, weights: Ints | None, budget: int) -> tuple[Floats, Ints]:
    """Return at most *budget* centroids of *values* (shape (n,), any order), sorted: means and weights.

    *weights* are whole counts, None means ones; the weights of the result add up to theirs.
    """
    masses = None if weights is None else weights.astype(np.float64).tolist()
    digest = fastdigest.TDigest.from_values(
        values.tolist(), masses, max_centroids=budget
    )  # a list: 3 x faster than an array
    found = digest.centroids
    points = np.fromiter(chain.from_iterable(found), np.float64, 2 * len(found))
    return points[::2].copy(), np.rint(points[1::2]).astype(np.int64)


def percentiles(
    group: Ints, values: Floats, weights: Ints, centroid: Bools, groups: int, low: Floats, high: Floats, ranks: Floats
) -> Floats:
    """Return the percentiles of each group, shape (groups, len(ranks)); NaN for a group with no points.

    *group*, *values*, *weights* and *centroid* are columns of points, shape (n,); *low* and *high* each group's smallest and
    largest value, shape (groups,); *ranks* are in [0, 1].

    A point of *weight* w covers w of the group's ranks 0 .. n-1. Equal values cover theirs flat, a centroid stands at the
    middle of its, and between neighbours the answer is linear; so without centroids this is numpy's default, rank p(n-1).
    Where a percentile falls in a gap between two modes, either side is right, and the answer may lie in the gap.
    """
    points = _Points(group, values, weights, centroid, np.zeros(0, np.bool_))
    if len(values) >= THIN_FROM * groups and len(ranks) <= THIN_RANKS:
        thinned = _thinned(points, groups, ranks)
        answer, certain = _percentiles(thinned, groups, low, high, ranks)
        if certain:
            return answer
    return _percentiles(points, groups, low, high, ranks)[0]


@dataclass(slots=True, eq=False)
class _Points:
    """Columns of points; *stands_in*, where not empty, tells those that stand for many, which no answer may rest on."""

    group: Ints
    values: Floats
    weights: Ints
    centroid: Bools
    stands_in: Bools


# With so many points a group and so few ranks only the points near each answer are sorted: several times faster at 100,000.
THIN_FROM, THIN_RANKS = 4096, 4
_SAMPLED = 1024  # points of a group, which tell within 2 % where a rank lies
_AROUND = 0.06  # of all ranks on either side are kept


def _thinned(points: _Points, groups: int, ranks: Floats) -> _Points:
    """The points near the wanted ranks, and one for all those in each gap between: by a sample, as in quickselect."""
    group, values, weights = points.group, points.values, points.weights
    sample = np.random.default_rng(0).integers(0, len(values), _SAMPLED * groups)
    order = sample[np.lexsort((values[sample], group[sample]))]
    sampled, of_group, heaped = values[order], group[order], np.cumsum(weights[order])
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
            edge(np.searchsorted(heaped, begin + mass * (rank - _AROUND), side="left") - 1, -np.inf),
            edge(np.searchsorted(heaped, begin + mass * (rank + _AROUND), side="right"), np.inf),
        )
        for rank in np.unique(ranks).tolist()
    ]
    # What lies below the first of them is only weighed; the rest is looked at.
    whole = np.bincount(group, weights, groups)
    at = np.flatnonzero(values >= around[0][0][group])
    group, values, weights = group[at], values[at], weights[at]
    keep = np.zeros(len(at), np.bool_)
    gap = np.zeros(len(at), np.int64)  # how many of them a point lies beyond
    for least, most in around:
        beyond = values > most[group]
        keep |= (values >= least[group]) & ~beyond
        gap += beyond
    gaps = len(around) + 1
    masses = np.bincount(group[~keep] * gaps + gap[~keep], weights[~keep], groups * gaps).reshape(groups, gaps)
    masses[:, 0] = whole - np.bincount(group, weights, groups)
    places = np.full((groups, gaps), -np.inf)
    for number, (_, most) in enumerate(around):
        places[:, number + 1] = np.nextafter(most, np.inf)
    some = np.flatnonzero(masses.reshape(-1))
    kept = at[keep]
    return _Points(
        np.concatenate([group[keep], some // gaps]),
        np.concatenate([values[keep], places.reshape(-1)[some]]),
        np.concatenate([weights[keep], masses.reshape(-1)[some].astype(np.int64)]),
        np.concatenate([points.centroid[kept], np.zeros(len(some), np.bool_)]),
        np.concatenate([np.zeros(len(kept), np.bool_), np.ones(len(some), np.bool_)]),
    )


def _percentiles(points: _Points, groups: int, low: Floats, high: Floats, ranks: Floats) -> tuple[Floats, bool]:
    """The percentiles, and whether none of them rests on a point that stands in for others."""
    answer = np.full((groups, len(ranks)), np.nan)
    if not len(points.values):
        return answer, True
    order = np.argsort(points.values)  # not stable: equal values may change places
    order = order[rollups.by_group(points.group[order], groups)]
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
    begin = (ends[first] - weights[first]).astype(np.float64)  # the group's rank 0 on the line of all groups
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
    between = np.where(ranks == 0, low[present][:, None], np.where(ranks == 1, high[present][:, None], between))
    flat &= (ranks != 0) & (ranks != 1)  # the extremes are exact, also where a centroid hides them
    answer[present] = np.clip(np.where(flat, values[at], between), low[present][:, None], high[present][:, None])
    if not len(points.stands_in):
        return answer, True
    stands_in = points.stands_in[order]
    return answer, not (stands_in[at] | stands_in[before]).any()


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """The distribution of many values as weighted points, sorted by value; what `Metrics.digest` answers.

    *values* and *weights* have shape (points,); *centroid* tells points that stand for different values; *low* and *high*
    are exact.
    """

    values: Floats
    weights: Ints
    centroid: Bools
    low: float
    high: float

    @classmethod
    def of(cls, values: Any, budget: int = 100) -> "Digest":
        """The digest of a sequence of numbers, of at most *budget* points; exact while it holds no more values."""
        column = np.asarray(values, dtype=np.float64)
        if not len(column):
            return cls(column, np.zeros(0, np.int64), np.zeros(0, np.bool_), np.nan, np.nan)
        if len(column) <= budget:
            points, weights = np.sort(column), np.ones(len(column), np.int64)
        else:
            points, weights = cluster(column, None, budget)
        return cls(points, weights, weights > 1, float(column.min()), float(column.max()))

    @property
    def count(self) -> int:
        return int(self.weights.sum())

    def percentile(self, p: float) -> float:
        """The value below which *p* per cent of all lie; NaN when there are none. Raises `InvalidQuery` outside 0 to 100."""
        if not 0 <= p <= 100:
            raise InvalidQuery(f"p: wanted 0 to 100, got {p!r:.80}")
        zeros = np.zeros(len(self.values), np.int64)
        ranks = np.array([p / 100])
        answer = percentiles(
            zeros, self.values, self.weights, self.centroid, 1, np.array([self.low]), np.array([self.high]), ranks
        )
        return float(answer[0, 0])

    def to_tdigest(self) -> Any:
        """This digest as `tdigest.TDigest`; raises `MissingExtra` without the package."""
        digest = _tdigest().TDigest()
        digest.update_from_dict(
            {"centroids": [{"m": m, "c": c} for m, c in zip(self.values, self.weights, strict=True)]}
        )
        return digest

    @classmethod
    def from_tdigest(cls, digest: Any) -> "Digest":
        """The points of a `tdigest.TDigest`. It keeps no extremes, so its outermost centroids stand for them."""
        centroids = sorted((c["m"], c["c"]) for c in digest.to_dict()["centroids"])
        points = np.array([m for m, _ in centroids], dtype=np.float64)
        weights = np.maximum(np.rint(np.array([c for _, c in centroids])), 1).astype(np.int64)
        low, high = (float(points[0]), float(points[-1])) if len(points) else (np.nan, np.nan)
        return cls(points, weights, weights > 1, low, high)


def _tdigest() -> Any:
    try:
        import tdigest
    except ImportError as error:
        raise MissingExtra("tdigest is not installed: pip install 'redismetrics[tdigest]'") from error
    return tdigest
