"""Sums that do not lose small numbers next to large ones.

Prometheus uses Kahan summation. Plain sums are as good unless numbers cancel out, so only those are
recomputed.
"""

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints, ragged

# A plain sum of n numbers is off by at most n * 1e-16 times the sum of their absolute values, so
# a ratio up to this leaves ten digits of a sum of a hundred numbers.
MAX_CANCELLATION = 1e4


def compensated(values: Floats, sizes: Ints) -> Floats:
    """Return the sum of each run of *values*, as if added with twice the precision.

    Pairs are added level by level, with the error of each addition (two-sum, Knuth 1969; Ogita,
    Rump and Oishi, "Accurate Sum and Dot Product", 2005). Runs must not be empty.
    """
    high, low = values, np.zeros(len(values))
    while sizes.max(initial=0) > 1:
        begin = np.cumsum(sizes) - sizes
        pairs = (sizes + 1) // 2
        number = ragged(np.zeros(len(sizes), np.int64), pairs) * 2
        left = np.repeat(begin, pairs) + number
        single = number + 1 == np.repeat(sizes, pairs)
        right = np.where(single, left, left + 1)
        first, second = high[left], np.where(single, 0.0, high[right])
        total = first + second
        shift = total - first
        error = (first - (total - shift)) + (second - shift)
        low = low[left] + np.where(single, 0.0, low[right]) + error
        high, sizes = total, pairs
    return np.where(np.isfinite(high), high + low, high)


def is_exact(values: Floats) -> bool:
    """Return whether all sums of some of *values* are exact: whole numbers below 2**53 in all."""
    if not np.abs(values).sum() < 2.0**53:
        return False
    return bool((values == np.rint(values)).all())


def cancels(total: Floats, absolute: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return where numbers cancel out so much that digits may be lost."""
    found = absolute > MAX_CANCELLATION * np.abs(total)
    return found & np.isfinite(absolute)
