"""Centroids as 16-bit steps.

A centroid's mean is stored as the step from the previous one, relative to the row's spread, in the
upper 16 bits of a 32-bit float. Its error is at most 1/128 of the gap to the neighbour on that
side, whatever the scale. Each step is relative to the value that the reader will compute for the
previous mean, so errors do not add up. No step reaches far beyond its mean; otherwise means that
are close together after a wide gap would become one.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from redismetrics.errors import FormatMismatch

from .arrays import Floats, Ints, ragged

# The code of the fraction 1, the fraction of each code, and the extremes below which no scale is
# needed.
_ONE = 0x3F80
_SHARES: Floats = (
    (np.arange(_ONE + 1, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
)
_SAFE = 2.0**900

_Rows = NDArray[np.intp] | slice


def pack_means(means: Floats, size: Ints, lows: Floats, highs: Floats) -> Ints:
    """Return the step codes of *means*, shape (points,).

    Args:
        means: Means of all rows, row after row, ascending within each, shape (points,).
        size: Points of each row, shape (rows,).
        lows: Smallest value of each row, shape (rows,).
        highs: Largest value of each row, shape (rows,).
    """
    codes = np.zeros(len(means), np.int64)
    for rows, points, cells, width in _matrices(size):
        low, high, target = lows[rows], highs[rows], means[points]
        scale = _scales(low, high)
        if scale is not None:
            low, high, target = low * scale, high * scale, target * np.repeat(scale, size[rows])
        flat = np.repeat(high, width)
        flat[cells] = target
        # Transposed: the first means of all rows are adjacent, then the second.
        columns = np.clip(flat.reshape(len(low), width), low[:, None], high[:, None]).T.copy()
        codes[points] = _codes(columns, low, high).T.reshape(-1)[cells]
    return codes


def _codes(columns: Floats, low: Floats, high: Floats) -> Ints:
    """Return the step codes of a matrix of means, both of shape (points of a row, rows)."""
    width = len(columns)
    spread = high - low
    codes = np.zeros(columns.shape, np.int64)
    reached = low
    for at, mean in enumerate(columns):
        beyond = columns[at + 1] if at + 1 < width else high
        # Adding 0.0 turns -0.0 into 0.0.
        share = np.maximum(mean - reached, 0) / spread + 0.0
        bits = share.astype(np.float32).view(np.uint32).astype(np.int64)
        nearest = (bits + 0x8000) >> 16
        after = np.minimum(reached + _SHARES[nearest] * spread, high)
        codes[at] = np.where((after - mean) * 128 > beyond - mean, bits >> 16, nearest)
        reached = reached + _SHARES[codes[at]] * spread
    return codes


def unpack_means(codes: Ints, sizes: Ints, lows: Floats, highs: Floats) -> Floats:
    """Return the means from *codes*, shape (points,); for the arguments see `pack_means`.

    Raises:
        FormatMismatch: If a code is out of range.
    """
    if not 0 <= int(codes.min()) <= int(codes.max()) <= _ONE:
        raise FormatMismatch(
            f"corrupt table: steps must be from 0 to {_ONE}, "
            f"got {int(codes.min())} to {int(codes.max())}"
        )
    means = np.empty(len(codes))
    for rows, points, cells, width in _matrices(sizes):
        scale = _scales(lows[rows], highs[rows])
        low, high = lows[rows], highs[rows]
        if scale is not None:
            low, high = low * scale, high * scale
        flat = np.zeros(len(low) * width)
        flat[cells] = _SHARES[codes[points]]
        steps = flat.reshape(len(low), width)
        steps *= (high - low)[:, None]
        steps[:, 0] += low
        reached = np.cumsum(steps, axis=1, out=steps)
        np.minimum(reached, high[:, None], out=reached)
        if scale is not None:
            # Scaling back costs the smallest floats precision.
            reached /= scale[:, None]
            np.clip(reached, lows[rows, None], highs[rows, None], out=reached)
        means[points] = flat[cells]
    return means


def _scales(low: Floats, high: Floats) -> Floats | None:
    """Return powers of two that scale extremes to about 1, shape (rows,); None if none are needed.

    They keep differences from overflowing or being rounded to 0.
    """
    if len(low) and max(-low.min(), high.max()) < _SAFE and (high - low).min() > 1 / _SAFE:
        return None
    _, exponent = np.frexp(np.maximum(-low, high))
    scales: Floats = np.ldexp(1.0, np.clip(-exponent, -1000, 1000))
    return scales


def _matrices(size: Ints) -> Iterator[tuple[_Rows, _Rows, Ints, int]]:
    """Sort rows into classes by size, whose matrices have at most twice as many cells as points.

    Yields:
        The rows of a class; the positions of their points among all points; the positions of these
        points in the flat matrix; the width of the matrix.
    """
    if not size.any():
        return
    ends = np.cumsum(size)
    width = int(size.max())
    # Fast path: all rows in one matrix.
    if len(size) * width <= 2 * int(ends[-1]) + 1024:
        yield slice(None), slice(None), ragged(np.arange(len(size)) * width, size), width
        return
    # Up to 1, 2, 4, 8, ... points.
    _, size_class = np.frexp(size - 0.5)
    for each in np.unique(size_class[size > 0]).tolist():
        rows = np.flatnonzero((size_class == each) & (size > 0))
        sizes = size[rows]
        width = int(sizes.max())
        yield (
            rows,
            ragged(ends[rows] - sizes, sizes),
            ragged(np.arange(len(rows)) * width, sizes),
            width,
        )
