"""The format of a digest in an archive, simple enough to be read without this library.

version  1 byte: 1
kind     1 byte: 0 all points are values, 1 points of weight above 1 are centroids
means    1 byte: 4 or 8, the bytes of a mean (little-endian IEEE 754)
weights  1 byte: 1, 2, 4 or 8, the bytes of a weight (little-endian, unsigned)
points   the means, sorted, then as many weights
"""

import struct
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Points, Table
from redismetrics.errors import FormatMismatch

VERSION = 1
_HEAD = struct.Struct("<BBBB")


def pack_digest(means: Floats, weights: Ints, *, is_clustered: bool) -> bytes:
    """Return a digest as bytes; *means* are sorted, both have shape (points,).

    Means of centroids are stored as float32, unless one is out of its range; that does not affect
    ranks. Values are stored exactly.
    """
    size = 8
    if is_clustered and (np.abs(means) < np.finfo(np.float32).max).all():
        size = 4
    width = next(each for each in (1, 2, 4, 8) if int(weights.max()) < 1 << (8 * each))
    head = _HEAD.pack(VERSION, int(is_clustered), size, width)
    return head + means.astype(f"<f{size}").tobytes() + weights.astype(f"<u{width}").tobytes()


def unpack_digest(data: bytes) -> tuple[Floats, Ints, bool]:
    """Return means, weights, and whether points of weight above 1 are centroids.

    Raises:
        FormatMismatch: If *data* is corrupt or of another version.
    """
    if len(data) < _HEAD.size or data[0] != VERSION:
        raise FormatMismatch(f"a digest must begin with version {VERSION}, got {data[:1]!r}")
    _, kind, size, width = _HEAD.unpack_from(data)
    points, left = divmod(len(data) - _HEAD.size, max(size + width, 1))
    if left or size not in (4, 8) or width not in (1, 2, 4, 8):
        raise FormatMismatch(f"a digest must hold whole points, got {len(data)} bytes")
    means = np.frombuffer(data, f"<f{size}", points, _HEAD.size).astype(np.float64)
    weights = np.frombuffer(data, f"<u{width}", points, _HEAD.size + points * size)
    return means, weights.astype(np.int64), bool(kind)


def unpack_digests(data: bytes, lengths: Ints) -> tuple[Ints, Bools, Points]:
    """Return the number of points of each digest, whether they are centroids, and all points.

    *data* holds the digests one after another, *lengths* are their bytes, shape (digests,).

    Raises:
        FormatMismatch: If one is corrupt or of another version.
    """
    column, starts = np.frombuffer(data, np.uint8), np.cumsum(lengths) - lengths
    if len(lengths) and (lengths.min() < _HEAD.size or lengths.sum() != len(column)):
        raise FormatMismatch(f"digests must have {_HEAD.size} bytes or more, and all bytes")
    version, kind, size, width = column[starts[:, None] + np.arange(_HEAD.size)].T.astype(np.int64)
    known = (version == VERSION) & np.isin(size, (4, 8)) & np.isin(width, (1, 2, 4, 8))
    if not known.all():
        raise FormatMismatch(f"a digest must begin with version {VERSION} and known widths")
    points, left = np.divmod(lengths - _HEAD.size, size + width)
    if left.any():
        raise FormatMismatch("a digest must hold whole points")
    first = np.cumsum(points) - points
    means, weights = np.empty(points.sum()), np.empty(points.sum(), np.int64)
    starts = starts + _HEAD.size
    for each in np.unique(size).tolist():
        rows = np.flatnonzero(size == each)
        found = _gathered(column, starts[rows], points[rows] * each, f"<f{each}")
        means[ragged(first[rows], points[rows])] = found
    starts = starts + points * size
    for each in np.unique(width).tolist():
        rows = np.flatnonzero(width == each)
        found = _gathered(column, starts[rows], points[rows] * each, f"<u{each}")
        weights[ragged(first[rows], points[rows])] = found
    return points, kind != 0, Points(means, weights)


def _gathered(column: Any, starts: Ints, sizes: Ints, kind: str) -> Any:
    """Return the numbers in these runs of bytes."""
    return column[ragged(starts, sizes)].view(kind)


def pack_digests(table: Table) -> list[bytes]:
    """Return the digest of each row of *table*; a row of equal values is one point."""
    ends = np.cumsum(table.size)
    points = table.points
    low, count = table.summaries.low, table.summaries.count
    packed = []
    for row, (end, size, kind) in enumerate(
        zip(ends.tolist(), table.size.tolist(), table.kind.tolist(), strict=True)
    ):
        if kind == UNIFORM:
            packed.append(pack_digest(low[row : row + 1], count[row : row + 1], is_clustered=False))
        else:
            part = slice(end - size, end)
            is_clustered = kind == CLUSTERED
            packed.append(
                pack_digest(points.values[part], points.weights[part], is_clustered=is_clustered)
            )
    return packed
