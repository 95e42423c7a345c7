"""Sealed data <-> bytes: tables of rollup rows, and exact samples. Written once by a worker, read often.

    table    version, rows, points, base slot; columns slot, series, kind, count, last time, low; of rows that are not uniform
             total, m2, high, last, size; then of all points: values of exact rows, steps of clustered ones, weights
    samples  version, rows, bytes of metadata, base time; columns series, time, value, weight; the metadata
    nothing  no bytes: a field that says that its slot holds none

A row of equal values is a count and one of them. A centroid's mean is the step from the one before, as a share of the row's
spread, in a float's upper 16 bits: off by at most 1/128 of the gap to the neighbour on that side, whatever the scale. Each step
is taken from what the reader will make of the ones before, so errors don't add up; and none reaches far beyond its mean, or
what stands close together after a wide gap would become one.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from . import blocks, rollups
from .blocks import MAX_TIME_MS, Samples
from .columns import Reader, pack_real, pack_whole
from .errors import FormatMismatch
from .rollups import Floats, Ints, Summaries
from .slots import SECOND
from .tables import CLUSTERED, EXACT, UNIFORM, Points, Table, ragged

VERSION = 1
_TABLE = struct.Struct("<BIIq")
_SAMPLES = struct.Struct("<BIIq")
# Numbers that are all alike take next to no bytes: so that damaged bytes can't ask for all memory, a packed table or list of
# samples has at least one byte for so many numbers, filled up with zeros where need be.
PER_BYTE, FREE = 64, 1 << 14


def _filled(parts: list[bytes], numbers: int) -> bytes:
    packed = b"".join(parts)
    return packed + bytes(max((numbers - FREE) // PER_BYTE + 1 - len(packed), 0))


def _check_size(what: str, data: bytes, numbers: int) -> None:
    if numbers > FREE + PER_BYTE * len(data):
        raise FormatMismatch(f"{what}: wanted at most {FREE + PER_BYTE * len(data)} numbers, got {numbers}")


# -- tables -------------------------------------------------------------------------------------------------------


def pack_table(table: Table) -> bytes:
    """Return *table* as bytes; none for no rows."""
    if not len(table):
        return b""
    rows, points = table.summaries, table.points
    several = table.kind != UNIFORM
    base = int(table.slot.min())
    parts = [
        _TABLE.pack(VERSION, len(table), len(points.values), base),
        pack_whole((table.slot - base) // SECOND, dense=True),
        pack_whole(table.series, dense=True),
        pack_whole(table.kind, dense=True),
        pack_whole(rows.count, dense=True),
        pack_whole(rows.last_ms - table.slot, dense=True),
        pack_real(rows.low, dense=True),
    ]
    if several.any():
        size = table.size[several]
        exact = np.repeat(table.kind[several] == EXACT, size)
        parts += [
            pack_real(rows.total[several], dense=True),
            pack_real(_seven_digits(rows.m2[several]), dense=True),
            pack_real(rows.high[several], dense=True),
            pack_real(rows.last[several], dense=True),
            pack_whole(size, dense=True),
            pack_real(points.values[exact], dense=True),
            pack_whole(_steps(table), dense=True),
            pack_whole(points.weights, dense=True),
        ]
    return _filled(parts, len(table) + len(points.values))


def _seven_digits(m2: Floats) -> Floats:
    """In four bytes, as long as a float of four bytes reaches so far."""
    fits = (m2 == 0) | ((m2 > 1e-30) & (m2 < 1e38))
    return m2.astype(np.float32).astype(np.float64) if fits.all() else m2


def unpack_table(data: bytes) -> Table:
    """Read a table; its points when they are asked for.

    Raises:
        FormatMismatch: whatever is wrong with *data*.
    """
    return _guarded("table", data, lambda: _unpack_table(data))


_Decoded = TypeVar("_Decoded")


def _guarded(what: str, data: bytes, decode: Callable[[], _Decoded]) -> _Decoded:
    try:
        return decode()
    except FormatMismatch:
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes
        raise FormatMismatch(f"{what}: {len(data)} bytes that are none: {error}") from error


def _unpack_table(data: bytes) -> Table:
    reader = Reader(data, 0, "table")
    version, n, points, base = _TABLE.unpack(reader.bytes(_TABLE.size))
    if version != VERSION:
        raise FormatMismatch(f"table: wanted version {VERSION}, got {version}")
    _check_size("table", data, n + points)
    slot = reader.whole(n) * SECOND + base
    series, kind, count = reader.whole(n), reader.whole(n).astype(np.uint8), reader.whole(n)
    if n and (
        int(count.min()) < 1 or int(series.min()) < 0 or int(kind.max()) > CLUSTERED or int(slot.min()) < 0
    ):  # fmt: skip
        raise FormatMismatch("table: counts, series, kinds or times that are none")
    several = kind != UNIFORM
    some = int(several.sum())
    places = {}
    for name in ("last_ms", "low", *(_OF_SEVERAL if some else ())):
        places[name] = reader.at
        reader.skip(n if name in ("last_ms", "low") else some)
    size = np.zeros(n, np.int64)
    size[several] = reader.whole(some)
    # Each size by itself as well: a sum may wrap.
    if n and (not 0 <= int(size.min()) <= int(size.max()) <= points or int(size.sum()) != points):
        raise FormatMismatch(f"table: wanted {points} points, got {int(size.sum())}")
    at = reader.at

    def load(name: str) -> NDArray[Any]:
        return _guarded("table", data, lambda: _summary_column(name, data, places, rows, slot, several))

    def points_read() -> Points:
        return _guarded("table", data, lambda: _unpack_points(data, at, kind, size, rows.low, rows.high))

    rows = rollups.Deferred(n, load)
    rows.count = count
    return Table(slot, series, rows, kind, size, points_read)


_OF_SEVERAL = ("total", "m2", "high", "last")  # of a row of equal values they follow from count and low


def _summary_column(
    name: str, data: bytes, places: dict[str, int], rows: Summaries, slot: Ints, several: NDArray[np.bool_]
) -> NDArray[Any]:
    """Read one column of a table's summaries, and check it."""
    column: NDArray[Any]
    n = len(slot)
    if name == "last_ms":
        column = Reader(data, places[name], "table").whole(n) + slot
        sound = bool((column >= slot).all() and (column < MAX_TIME_MS).all())
    elif name == "low":
        column = Reader(data, places[name], "table").real(n)
        sound = bool(np.isfinite(column).all())
    else:
        with np.errstate(over="ignore"):
            column = rows.low * rows.count if name == "total" else np.zeros(n) if name == "m2" else rows.low.copy()
        if name in places:
            column[several] = Reader(data, places[name], "table").real(int(several.sum()))
        sound = name != "high" or bool(np.isfinite(column).all() and (rows.low[several] < column[several]).all())
    if not sound:
        raise FormatMismatch(f"table: wanted a column {name} that can be, got one that can't")
    return column


def _nothing() -> Points:
    return Points(np.zeros(0), np.zeros(0, np.int64))


def _unpack_points(data: bytes, at: int, kind: NDArray[np.uint8], size: Ints, low: Floats, high: Floats) -> Points:
    reader = Reader(data, at, "table")
    of_exact = np.repeat(kind == EXACT, size)
    exact = int(of_exact.sum())
    values = reader.real(exact)
    if exact < len(of_exact):
        clustered = kind == CLUSTERED
        means = _means(reader.whole(len(of_exact) - exact), size[clustered], low[clustered], high[clustered])
        if exact:
            both = np.empty(len(of_exact))
            both[of_exact], both[~of_exact] = values, means
            values = both
        else:
            values = means
    weights = reader.whole(len(of_exact))
    if len(weights) and int(weights.min()) < 1:
        raise FormatMismatch(f"table: wanted points of weight 1 and more, got {int(weights.min())}")
    if not np.isfinite(values).all():
        raise FormatMismatch("table: wanted points that are numbers")
    return Points(values, weights)


# A share in [0, 1] in 16 bits: the upper half of a float of 32; its sign is never set.


def _from_code(code: Ints) -> Floats:
    return (code.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def _scales(low: Floats, high: Floats) -> Floats:
    """Powers of two that bring extremes near 1: so no difference is beyond the largest float, and none is rounded to 0."""
    _, exponent = np.frexp(np.maximum(-low, high))
    scales: Floats = np.ldexp(1.0, np.clip(-exponent, -1000, 1000))
    return scales


_Rows = NDArray[np.intp] | slice


def _matrices(size: Ints) -> Iterator[tuple[_Rows, _Rows, Ints, int]]:
    """Rows in classes of about as many points, so that a matrix of each has at most twice as many places as points.

    Of each class: its rows, which of all points are theirs, the places of those in the matrix (flat), and its width.
    """
    if not size.any():
        return
    ends = np.cumsum(size)
    width = int(size.max())
    if len(size) * width <= 2 * int(ends[-1]) + 1024:  # fast path: all in one
        yield slice(None), slice(None), ragged(np.arange(len(size)) * width, size), width
        return
    _, kind = np.frexp(size - 0.5)  # up to 1, 2, 4, 8, ... points
    for each in np.unique(kind[size > 0]).tolist():
        rows = np.flatnonzero((kind == each) & (size > 0))
        sizes = size[rows]
        width = int(sizes.max())
        yield rows, ragged(ends[rows] - sizes, sizes), ragged(np.arange(len(rows)) * width, sizes), width


def _steps(table: Table) -> Ints:
    clustered = table.kind == CLUSTERED
    size, lows, highs = table.size[clustered], table.summaries.low[clustered], table.summaries.high[clustered]
    means = table.points.values[np.repeat(clustered, table.size)]
    codes = np.zeros(len(means), np.int64)
    for rows, points, places, width in _matrices(size):
        scale = _scales(lows[rows], highs[rows])
        low, high = lows[rows] * scale, highs[rows] * scale
        spread = high - low
        flat = np.repeat(high, width)
        flat[places] = means[points] * np.repeat(scale, size[rows])
        # Turned: the first means of all rows lie side by side, then the second.
        wanted = np.clip(flat.reshape(len(low), width), low[:, None], high[:, None]).T.copy()
        steps = np.zeros((width, len(low)), np.int64)
        reached = low
        for at, mean in enumerate(wanted):
            beyond = wanted[at + 1] if at + 1 < width else high
            share = np.maximum(mean - reached, 0) / spread + 0.0  # never -0.0
            bits = share.astype(np.float32).view(np.uint32).astype(np.int64)
            nearest = (bits + 0x8000) >> 16
            after = np.minimum(reached + _from_code(nearest) * spread, high)
            steps[at] = np.where((after - mean) * 128 > beyond - mean, bits >> 16, nearest)
            reached = reached + _from_code(steps[at]) * spread
        codes[points] = steps.T.reshape(-1)[places]
    return codes


def _means(codes: Ints, sizes: Ints, lows: Floats, highs: Floats) -> Floats:
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) <= 0x3F80:
        raise FormatMismatch(f"table: wanted steps from 0 to {0x3F80}, got {int(codes.min())} to {int(codes.max())}")
    means = np.zeros(len(codes))
    for rows, points, places, width in _matrices(sizes):
        scale = _scales(lows[rows], highs[rows])
        low, high = lows[rows] * scale, highs[rows] * scale
        flat = np.zeros(len(low) * width)
        flat[places] = _from_code(codes[points])
        steps = flat.reshape(len(low), width)
        steps *= (high - low)[:, None]
        steps[:, 0] += low
        reached = np.minimum(np.cumsum(steps, axis=1), high[:, None])
        reached /= scale[:, None]
        np.clip(reached, lows[rows, None], highs[rows, None], out=reached)  # scaled, the smallest floats lose digits
        means[points] = reached.reshape(-1)[places]
    return means


# -- exact samples ------------------------------------------------------------------------------------------------


def pack_samples(samples: Samples) -> bytes:
    """Return exact samples, sorted by series and time, as bytes; none for no samples. Flags are not kept."""
    if not len(samples):
        return b""
    metadata = msgpack.packb(samples.metadata) if samples.metadata else b""
    base = int(samples.time.min())
    parts = [
        _SAMPLES.pack(VERSION, len(samples), len(metadata), base),
        pack_whole(samples.series, dense=True),
        pack_whole(samples.time - base, dense=True),
        pack_real(samples.value, dense=True),
        pack_whole(samples.weight, dense=True),
        metadata,
    ]
    return _filled(parts, len(samples))


def unpack_samples(data: bytes) -> Samples:
    """Read exact samples; raises `FormatMismatch` whatever is wrong with *data*."""
    return _guarded("samples", data, lambda: _unpack_samples(data))


def _unpack_samples(data: bytes) -> Samples:
    reader = Reader(data, 0, "samples")
    version, n, metadata_size, base = _SAMPLES.unpack(reader.bytes(_SAMPLES.size))
    if version != VERSION:
        raise FormatMismatch(f"samples: wanted version {VERSION}, got {version}")
    _check_size("samples", data, n)
    samples = Samples(reader.whole(n), reader.whole(n) + base, reader.real(n), reader.whole(n), np.zeros(n, np.uint8))
    if (
        not n
        or int(samples.weight.min()) < 1
        or not 0 <= int(samples.time.min()) <= int(samples.time.max()) < MAX_TIME_MS
        or int(samples.series.min()) < 0
        or not np.isfinite(samples.value).all()
    ):
        raise FormatMismatch("samples: series, times, values or weights that are none")
    samples.metadata = blocks.unpack_metadata(reader.bytes(metadata_size), n)
    return samples
