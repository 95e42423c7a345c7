"""Numpy helpers shared by the columnar modules."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LARGEST = float(np.finfo(np.float64).max)


def saturated(values: Floats) -> Floats:
    """Return *values* with infinities replaced by the largest float.

    NaN, the difference of two infinities, becomes 0.
    """
    if np.count_nonzero(np.isfinite(values)) == len(values):
        return values
    return np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST)


# Up to this length, Python's functions on a list are faster than numpy's reductions.
FEW = 24


def bounds(column: Ints) -> tuple[int, int]:
    """Return the smallest and the largest number of a non-empty column."""
    if len(column) <= FEW:
        numbers = column.tolist()
        return min(numbers), max(numbers)
    return int(column.min()), int(column.max())


def is_zero(column: NDArray[Any]) -> bool:
    """Return whether all numbers are 0, or False."""
    return not np.count_nonzero(column)


def by_group(group: Ints, groups: int) -> NDArray[np.intp]:
    """Return the stable order by group id, shape (n,).

    numpy sorts 16-bit integers by radix, five times faster than 64-bit ones.
    """
    return np.argsort(group.astype(np.uint16) if groups < 1 << 16 else group, kind="stable")


def starts(ordered: Ints) -> NDArray[np.intp]:
    """Return the index at which each run of equal numbers begins, shape (runs,)."""
    changes = np.empty(len(ordered), np.bool_)
    changes[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def ragged(starts: Ints, sizes: Ints) -> Ints:
    """Return the concatenated indexes of all runs, shape (sum of sizes,).

    Run i is ``starts[i] .. starts[i] + sizes[i] - 1``; both arguments have shape (runs,).
    """
    ends = np.cumsum(sizes)
    indexes: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(
        starts - (ends - sizes), sizes
    )
    return indexes


def sum_whole(group: Ints, groups: int, weights: Ints) -> Ints:
    """Return the exact sum of *weights* in each group, shape (groups,)."""
    if not len(weights):
        return np.zeros(groups, np.int64)
    # Fast paths: counting, then summing as floats while the total is exact as one.
    if int(weights.min()) == int(weights.max()) == 1:
        counted: Ints = np.bincount(group, minlength=groups)
        return counted
    if float(weights.sum(dtype=np.float64)) < 1 << 53:
        return np.bincount(group, weights, groups).astype(np.int64)
    total = np.zeros(groups, np.int64)
    np.add.at(total, group, weights)
    return total


def distinct(keys: Ints) -> Ints:
    """Return the distinct *keys* in order, like `numbered`."""
    if not len(keys):
        return keys
    low = int(keys.min())
    reach = int(keys.max()) - low + 1
    if reach > 4 * len(keys) + 65_536:
        return np.unique(keys)
    present = np.zeros(reach, np.bool_)
    present[keys - low] = True
    return np.flatnonzero(present) + low


def numbered(keys: Ints) -> tuple[Ints, Ints]:
    """Return the distinct *keys* in order, and the position of each key among them.

    Keys must not be negative. Keys that are close together are counted instead of sorted.
    """
    if not len(keys):
        return keys, keys
    low = int(keys.min())
    reach = int(keys.max()) - low + 1
    if reach > 4 * len(keys) + 65_536:
        distinct, positions = np.unique(keys, return_inverse=True)
        return distinct, positions
    present = np.zeros(reach, np.bool_)
    present[keys - low] = True
    positions = np.cumsum(present) - 1
    return np.flatnonzero(present) + low, positions[keys - low]
