"""Sealed data <-> bytes: tables of rollup rows, and exact samples. Written once by a worker, read often.

    table    version, rows, points, base slot; columns slot, series, kind, count, last time, low; of rows that are not uniform
             total, m2, high, last, size; then of all points: values of exact rows, steps of clustered ones, weights
             (plain: values of both)
    samples  version, rows, bytes of metadata, base time; columns series, time, value, weight; the metadata
    nothing  no bytes: a field that says that its slot holds none

A row of equal values is a count and one of them. A centroid's mean is the step from the one before, as a share of the row's
spread, in a float's upper 16 bits: off by at most 1/128 of the gap to the neighbour on that side, whatever the scale. Each step
is taken from what the reader will make of the ones before, so errors don't add up; and none reaches far beyond its mean, or
what stands close together after a wide gap would become one.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import SECOND, YEAR_10000_MS

from . import block_codec, rollup_table
from .arrays import Floats, Ints, ragged
from .column_codec import Reader, pack_real, pack_whole
from .rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from .samples import Samples, no_samples
from .summaries import Deferred, Summaries

VERSION, PLAIN = 1, 2  # of a table; one that is plain has no steps, but the means as they are
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
        raise FormatMismatch(
            f"{what}: wanted at most {FREE + PER_BYTE * len(data)} numbers, got {numbers}"
        )


def pack_table(table: Table, *, dense: bool = True) -> bytes:
    """Return *table* as bytes; none for no rows. What will soon be written anew needs not be *dense*, which takes time."""
    if not len(table):
        return b""
    rows, points = table.summaries, table.points
    several = table.kind != UNIFORM
    base = int(table.slot.min())
    parts = [
        _TABLE.pack(VERSION if dense else PLAIN, len(table), len(points.values), base),
        pack_whole((table.slot - base) // SECOND, dense=dense),
        pack_whole(table.series, dense=dense),
        pack_whole(table.kind, dense=dense),
        pack_whole(rows.count, dense=dense),
        pack_whole(rows.last_ms - table.slot, dense=dense),
        pack_real(rows.low, dense=dense),
    ]
    if several.any():
        size = table.size[several]
        whole = (
            np.repeat(table.kind[several] == EXACT, size)
            if dense
            else np.ones(len(points.values), np.bool_)
        )
        parts += [
            pack_real(rows.total[several], dense=dense),
            pack_real(_seven_digits(rows.m2[several]), dense=dense),
            pack_real(rows.high[several], dense=dense),
            pack_real(rows.last[several], dense=dense),
            pack_whole(size, dense=dense),
            pack_real(points.values[whole], dense=dense),
            pack_whole(_steps(table), dense=True) if dense else b"",
            pack_whole(points.weights, dense=dense),
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
    return unpack_tables([data])


def unpack_tables(packed: list[bytes]) -> Table:
    """Read several tables as one, the rows of one after those of another: the cost of most of it is that of one.

    Raises:
        FormatMismatch: whatever is wrong with one of them; of columns that are read later, when they are.
    """
    return _guarded("table", packed, lambda: _unpack_tables(packed))


_Decoded = TypeVar("_Decoded")


def _guarded(what: str, packed: list[bytes], decode: Callable[[], _Decoded]) -> _Decoded:
    try:
        return decode()
    except FormatMismatch:
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes
        raise FormatMismatch(
            f"{what}: {sum(map(len, packed))} bytes that are none: {error}"
        ) from error


@dataclass(slots=True)
class _Packed:
    """One of several tables: its bytes, its rows among those of all, how many of them have points, where its columns begin."""

    data: bytes
    rows: slice
    several: int
    places: dict[str, int]


_LATER = ("last_ms", "low", "total", "m2", "high", "last")
_OF_SEVERAL = _LATER[2:]  # of a row of equal values they follow from count and low


def _unpack_tables(packed: list[bytes]) -> Table:
    heads = []
    for data in packed:
        version, n, points, base = _TABLE.unpack(Reader(data, 0, "table").bytes(_TABLE.size))
        if version not in (VERSION, PLAIN):
            raise FormatMismatch(f"table: wanted version {VERSION} or {PLAIN}, got {version}")
        _check_size("table", data, n + points)
        heads.append((n, points, base, version == PLAIN))
    total = sum(n for n, *_ in heads)
    slot, series, count = (np.empty(total, np.int64) for _ in range(3))
    kind, size, stepped = (
        np.empty(total, np.uint8),
        np.zeros(total, np.int64),
        np.zeros(total, np.bool_),
    )
    parts = []
    end = 0
    for data, (n, points, base, is_plain) in zip(packed, heads, strict=True):
        reader = Reader(data, _TABLE.size, "table")
        rows = slice(end, end := end + n)
        reader.fill(slot[rows])
        slot[rows] *= SECOND
        slot[rows] += base
        reader.fill(series[rows])
        kinds = reader.whole(n)
        if n and not UNIFORM <= int(kinds.min()) <= int(kinds.max()) <= CLUSTERED:
            raise FormatMismatch(f"table: wanted kinds from {UNIFORM} to {CLUSTERED}, got others")
        kind[rows] = kinds
        if not is_plain:
            stepped[rows] = kinds == CLUSTERED
        reader.fill(count[rows])
        part = _Packed(data, rows, int(np.count_nonzero(kinds)), {})
        for name in _LATER if part.several else _LATER[:2]:
            part.places[name] = reader.at
            reader.skip(part.several if name in _OF_SEVERAL else n)
        if part.several == n:
            reader.fill(size[rows])
        elif part.several:
            size[rows][kinds != UNIFORM] = reader.whole(part.several)
        part.places["points"] = reader.at
        sizes = size[rows] if part.several else size[:0]
        # Each size by itself as well: a sum may wrap.
        if (
            int(sizes.sum()) != points
            or not 0 <= int(sizes.min(initial=0)) <= int(sizes.max(initial=0)) <= points
        ):
            raise FormatMismatch(f"table: wanted {points} points, got {int(sizes.sum())}")
        parts.append(part)
    if total and (int(count.min()) < 1 or int(series.min()) < 0 or int(slot.min()) < 0):
        raise FormatMismatch("table: counts, series or times that are none")

    def load(name: str) -> NDArray[Any]:
        return _guarded(
            "table", packed, lambda: _summary_column(name, parts, summaries, slot, kind)
        )

    def points_read() -> Points:
        return _guarded("table", packed, lambda: _unpack_points(parts, stepped, size, summaries))

    summaries = Deferred(total, load)
    summaries.count = count
    return Table(slot, series, summaries, kind, size, points_read)


def _summary_column(
    name: str, parts: list[_Packed], rows: Summaries, slot: Ints, kind: NDArray[np.uint8]
) -> NDArray[Any]:
    """Read one column of the tables' summaries, and check it."""
    column: NDArray[Any] = np.empty(len(slot), np.int64 if name == "last_ms" else np.float64)
    if name in ("last_ms", "low"):
        for part in parts:
            Reader(part.data, part.places[name], "table").fill(column[part.rows])
        if name == "last_ms":
            column += slot
            sound = bool((column >= slot).all() and (column < YEAR_10000_MS).all())
        else:
            sound = bool(np.isfinite(column).all())
    else:
        several = kind != UNIFORM
        if not several.all():
            with np.errstate(over="ignore"):
                column = (
                    rows.low * rows.count
                    if name == "total"
                    else np.zeros(len(slot))
                    if name == "m2"
                    else rows.low.copy()
                )
        for part in parts:
            if part.several:
                reader, inside = Reader(part.data, part.places[name], "table"), column[part.rows]
                if part.several == len(inside):
                    reader.fill(inside)
                else:
                    inside[several[part.rows]] = reader.real(part.several)
        sound = name != "high" or bool(
            np.isfinite(column).all() and (rows.low[several] < column[several]).all()
        )
    if not sound:
        raise FormatMismatch(f"table: wanted a column {name} that can be, got one that can't")
    return column


def _unpack_points(
    parts: list[_Packed], stepped: NDArray[np.bool_], size: Ints, rows: Summaries
) -> Points:
    total = int(size.sum())
    codes, weights = np.empty(int(size[stepped].sum()), np.int64), np.empty(total, np.int64)
    whole = np.empty(total - len(codes))
    at = codes_at = 0
    for part in parts:
        sizes = size[part.rows]
        points, steps = int(sizes.sum()), int(sizes[stepped[part.rows]].sum())
        reader = Reader(part.data, part.places["points"], "table")
        reader.fill(whole[at - codes_at : at - codes_at + points - steps])
        reader.fill(codes[codes_at : codes_at + steps])
        reader.fill(weights[at : at + points])
        at, codes_at = at + points, codes_at + steps
    if not len(codes):
        values = whole
    else:
        values = _means(codes, size[stepped], rows.low[stepped], rows.high[stepped])
        if len(whole):
            of_steps, means = np.repeat(stepped, size), values
            values = np.empty(total)
            values[of_steps], values[~of_steps] = means, whole
    if total and int(weights.min()) < 1:
        raise FormatMismatch(f"table: wanted points of weight 1 and more, got {int(weights.min())}")
    if not np.isfinite(whole).all():
        raise FormatMismatch("table: wanted points that are numbers")
    return Points(values, weights)


_ONE = 0x3F80  # the code of 1
_SHARES: Floats = (
    (np.arange(_ONE + 1, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
)
_ROOM = 2.0**900


def _scales(low: Floats, high: Floats) -> Floats | None:
    """Powers of two that bring extremes near 1: so no difference is beyond the largest float, and none is rounded to 0.

    None where all would be as exact without.
    """
    if len(low) and max(-low.min(), high.max()) < _ROOM and (high - low).min() > 1 / _ROOM:
        return None
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
        yield (
            rows,
            ragged(ends[rows] - sizes, sizes),
            ragged(np.arange(len(rows)) * width, sizes),
            width,
        )


def _steps(table: Table) -> Ints:
    clustered = table.kind == CLUSTERED
    size, lows, highs = (
        table.size[clustered],
        table.summaries.low[clustered],
        table.summaries.high[clustered],
    )
    means = table.points.values[np.repeat(clustered, table.size)]
    codes = np.zeros(len(means), np.int64)
    for rows, points, places, width in _matrices(size):
        scale = _scales(lows[rows], highs[rows])
        low, high, wanted_means = lows[rows], highs[rows], means[points]
        if scale is not None:
            low, high, wanted_means = (
                low * scale,
                high * scale,
                wanted_means * np.repeat(scale, size[rows]),
            )
        spread = high - low
        flat = np.repeat(high, width)
        flat[places] = wanted_means
        # Turned: the first means of all rows lie side by side, then the second.
        wanted = np.clip(flat.reshape(len(low), width), low[:, None], high[:, None]).T.copy()
        steps = np.zeros((width, len(low)), np.int64)
        reached = low
        for at, mean in enumerate(wanted):
            beyond = wanted[at + 1] if at + 1 < width else high
            share = np.maximum(mean - reached, 0) / spread + 0.0  # never -0.0
            bits = share.astype(np.float32).view(np.uint32).astype(np.int64)
            nearest = (bits + 0x8000) >> 16
            after = np.minimum(reached + _SHARES[nearest] * spread, high)
            steps[at] = np.where((after - mean) * 128 > beyond - mean, bits >> 16, nearest)
            reached = reached + _SHARES[steps[at]] * spread
        codes[points] = steps.T.reshape(-1)[places]
    return codes


def _means(codes: Ints, sizes: Ints, lows: Floats, highs: Floats) -> Floats:
    if not 0 <= int(codes.min()) <= int(codes.max()) <= _ONE:
        raise FormatMismatch(
            f"table: wanted steps from 0 to {_ONE}, got {int(codes.min())} to {int(codes.max())}"
        )
    means = np.empty(len(codes))
    for rows, points, places, width in _matrices(sizes):
        scale = _scales(lows[rows], highs[rows])
        low, high = lows[rows], highs[rows]
        if scale is not None:
            low, high = low * scale, high * scale
        flat = np.zeros(len(low) * width)
        flat[places] = _SHARES[codes[points]]
        steps = flat.reshape(len(low), width)
        steps *= (high - low)[:, None]
        steps[:, 0] += low
        reached = np.cumsum(steps, axis=1, out=steps)
        np.minimum(reached, high[:, None], out=reached)
        if scale is not None:  # then the smallest floats lose digits
            reached /= scale[:, None]
            np.clip(reached, lows[rows, None], highs[rows, None], out=reached)
        means[points] = flat[places]
    return means


def pack_samples(samples: Samples, *, dense: bool = True) -> bytes:
    """Return exact samples, sorted by series and time, as bytes; none for no samples. Flags are not kept."""
    if not len(samples):
        return b""
    metadata = msgpack.packb(samples.metadata) if samples.metadata else b""
    base = int(samples.time.min())
    parts = [
        _SAMPLES.pack(VERSION, len(samples), len(metadata), base),
        pack_whole(samples.series, dense=dense),
        pack_whole(samples.time - base, dense=dense),
        pack_real(samples.value, dense=dense),
        pack_whole(samples.weight, dense=dense),
        metadata,
    ]
    return _filled(parts, len(samples))


def unpack_samples(data: bytes) -> Samples:
    """Read exact samples; raises `FormatMismatch` whatever is wrong with *data*."""
    return _guarded("samples", [data], lambda: _unpack_samples(data))


def _unpack_samples(data: bytes) -> Samples:
    reader = Reader(data, 0, "samples")
    version, n, metadata_size, base = _SAMPLES.unpack(reader.bytes(_SAMPLES.size))
    if version != VERSION:
        raise FormatMismatch(f"samples: wanted version {VERSION}, got {version}")
    _check_size("samples", data, n)
    samples = Samples(
        reader.whole(n),
        reader.whole(n) + base,
        reader.real(n),
        reader.whole(n),
        np.zeros(n, np.uint8),
    )
    if (
        not n
        or int(samples.weight.min()) < 1
        or not 0 <= int(samples.time.min()) <= int(samples.time.max()) < YEAR_10000_MS
        or int(samples.series.min()) < 0
        or not np.isfinite(samples.value).all()
    ):
        raise FormatMismatch("samples: series, times, values or weights that are none")
    samples.metadata = block_codec.unpack_metadata(reader.bytes(metadata_size), n)
    return samples


def read_table(data: bytes | None) -> Table:
    """A table, empty where there is none."""
    return unpack_table(data) if data else NOTHING[0]


def read_samples(data: bytes | None) -> Samples:
    """Exact samples, none where there are none."""
    return unpack_samples(data) if data else NOTHING[1]


NOTHING = (rollup_table.empty(), no_samples())
