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

from redismetrics.errors import InvalidQuery, MissingExtra

from .arrays import Bools, Floats, Ints
from .percentiles import SortedPoints, percentiles


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
        run = SortedPoints(
            np.zeros(len(self.values), np.int64), None, self.values, self.weights, self.centroid
        )
        answer = percentiles(
            [run], np.array([self.low]), np.array([self.high]), np.array([p / 100])
        )
        return float(answer[0, 0])

    def to_tdigest(self) -> Any:
        """This digest as `tdigest.TDigest`; raises `MissingExtra` without the package."""
        digest = _tdigest().TDigest()
        digest.update_from_dict(
            {
                "centroids": [
                    {"m": m, "c": c} for m, c in zip(self.values, self.weights, strict=True)
                ]
            }
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
        raise MissingExtra(
            "tdigest is not installed: pip install 'redismetrics[tdigest]'"
        ) from error
    return tdigest
