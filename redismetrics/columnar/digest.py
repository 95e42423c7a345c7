"""t-digests: clustering, and the public `Digest`.

A digest is a list of weighted points, sorted by value. A *centroid* represents `weight` values
around it, and any other point represents `weight` equal values. To merge digests, concatenate their
lists. The clustering is fastdigest's merging t-digest (Dunning and Ertl, "Computing Extremely
Accurate Quantiles Using t-Digests", 2019).
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import fastdigest
import numpy as np

from redismetrics.errors import InvalidQuery, MissingExtra, shown

from .arrays import Bools, Floats, Ints
from .percentiles import SortedPoints, percentiles

# Values above the first are multiplied by the second, a power of two, before clustering; this is
# lossless.
_SAFE, _SCALE = 2.0**900, 2.0**-200


def cluster(values: Floats, weights: Ints | None, budget: int) -> tuple[Floats, Ints]:
    """Return the means and weights of at most *budget* centroids, sorted by mean.

    Args:
        values: Values in any order, shape (n,).
        weights: Whole counts, shape (n,); None means ones. The result has the same total.
        budget: Maximum number of centroids.
    """
    # fastdigest adds values times weights, which must not overflow a float.
    if max(-values.min(), values.max()) > _SAFE:
        means, counts = cluster(values * _SCALE, weights, budget)
        return np.clip(means / _SCALE, values.min(), values.max()), counts
    # As a list: fastdigest takes it three times faster than an array.
    masses = None if weights is None else weights.astype(np.float64).tolist()
    digest = fastdigest.TDigest.from_values(values.tolist(), masses, max_centroids=budget)
    found = digest.centroids
    points = np.fromiter(chain.from_iterable(found), np.float64, 2 * len(found))
    return points[::2].copy(), np.rint(points[1::2]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """The distribution of many values, as returned by `Metrics.digest`.

    Attributes:
        values: Weighted points, sorted, shape (points,).
        weights: Number of values that each point represents, shape (points,).
        centroid: True for a point that represents different values, shape (points,).
        low: The exact minimum.
        high: The exact maximum.
    """

    values: Floats
    weights: Ints
    centroid: Bools
    low: float
    high: float

    @classmethod
    def of(cls, values: Any, budget: int = 100) -> "Digest":
        """Return the digest of a sequence of numbers.

        It has at most *budget* points, and is exact if there are at most that many values.
        """
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
        """Return the *p*-th percentile; NaN if there are no values.

        Raises:
            InvalidQuery: If *p* is not from 0 to 100.
        """
        if not 0 <= p <= 100:
            raise InvalidQuery(f"p must be from 0 to 100, got {shown(p, 80)}")
        points = SortedPoints(
            np.zeros(len(self.values), np.int64), None, self.values, self.weights, self.centroid
        )
        found = percentiles(
            [points], np.array([self.low]), np.array([self.high]), np.array([p / 100])
        )
        return float(found[0, 0])

    def to_tdigest(self) -> Any:
        """Return this digest as a `tdigest.TDigest`.

        Raises:
            MissingExtra: If the package tdigest is not installed.
        """
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
        """Return the digest with the points of a `tdigest.TDigest`.

        That class does not store the extremes, so the outermost centroids are used.
        """
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
