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
    group: Ints, groups: int, values: Floats, weights: Ints, centroid: Bools, low: Floats, high: Floats, ranks: Floats
) -> Floats:
    """Return the percentiles of each group, shape (groups, len(ranks)); NaN for a group with no points.

    *group*, *values*, *weights* and *centroid* are columns of points, shape (n,); *low* and *high* each group's smallest and
    largest value, shape (groups,); *ranks* are in [0, 1].

    A point of *weight* w covers w of the group's ranks 0 .. n-1. Equal values cover theirs flat, a centroid stands at the
    middle of its, and between neighbours the answer is linear; so without centroids this is numpy's default, rank p(n-1).
    Where a percentile falls in a gap between two modes, either side is right, and the answer may lie in the gap.
    """
    answer = np.full((groups, len(ranks)), np.nan)
    if not len(values):
        return answer
    order = np.lexsort((values, group))
    group, values, weights, centroid = group[order], values[order], weights[order], centroid[order]
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
    return answer


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
            zeros, 1, self.values, self.weights, self.centroid, np.array([self.low]), np.array([self.high]), ranks
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
