"""The number of values in each bucket of each series of a histogram, as a sparse table."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints, starts
from redismetrics.columnar.samples import Samples


@dataclass(slots=True, eq=False)
class BucketCounts:
    """Counts of the non-empty buckets, ordered by series and bucket; not cumulative.

    Attributes:
        series: Series number, shape (n,).
        bucket: Index of the bucket's bound, shape (n,). Values above all bounds have no bucket.
        count: Number of values, at least 1, shape (n,).
    """

    series: Ints
    bucket: Ints
    count: Ints

    @property
    def nbytes(self) -> int:
        return 24 * len(self.series)

    def split(self, edges: list[int]) -> list["BucketCounts"]:
        """Return the counts of the series in each [edge, next edge), renumbered from 0."""
        ends = np.searchsorted(self.series, edges).tolist()
        return [
            BucketCounts(
                self.series[begin:end] - first, self.bucket[begin:end], self.count[begin:end]
            )
            for first, begin, end in zip(edges[:-1], ends[:-1], ends[1:], strict=True)
        ]


def count(samples: Samples, bounds: tuple[float, ...]) -> BucketCounts:
    """Count the values of each series in each bucket (value <= bound).

    All values of a centroid count in the bucket of its mean.
    """
    bucket = np.searchsorted(_column(bounds), samples.value, side="left")
    return _added(samples.series, bucket, samples.weight, len(bounds))


@lru_cache(256)
def _column(bounds: tuple[float, ...]) -> Floats:
    return np.array(bounds, np.float64)


def merge(parts: list[tuple[Ints, BucketCounts]], buckets: int) -> BucketCounts:
    """Add up the counts of several batches, each given with the new numbers of its series."""
    return _added(
        np.concatenate([numbers[part.series] for numbers, part in parts]),
        np.concatenate([part.bucket for _, part in parts]),
        np.concatenate([part.count for _, part in parts]),
        buckets,
    )


def _added(series: Ints, bucket: Ints, weight: Ints, buckets: int) -> BucketCounts:
    """Add up the weights by series and bucket; ignore buckets from number *buckets* on."""
    inside = bucket < buckets
    if np.count_nonzero(inside) < len(inside):
        series, bucket, weight = series[inside], bucket[inside], weight[inside]
    cell = series * buckets + bucket
    if np.count_nonzero(cell[1:] > cell[:-1]) == len(cell[1:]):
        # A fast path: series that are recorded once per flush.
        return BucketCounts(series, bucket, weight)
    order = np.argsort(cell, kind="stable")
    ordered = cell[order]
    first = starts(ordered)
    where = order[first]
    return BucketCounts(series[where], bucket[where], np.add.reduceat(weight[order], first))
