"""Rollup tables as bytes. They are written once by a worker and read often.

    table    version, rows, points, base slot; columns slot, series, kind, count, last time, low;
             of rows that are not uniform total, m2, high, last, size; then of all points: values
             of exact rows, steps of clustered ones (see centroid_codec.py), weights
             (plain: values of both)
    nothing  no bytes: the field of a slot that has no rows

A uniform row is stored as a count and one of its values.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import SECOND, YEAR_10000_MS

from . import rollup_table
from .arrays import Bools, Floats, Ints
from .centroid_codec import pack_means, unpack_means
from .column_codec import Reader, pack_real, pack_whole
from .packing import check_size, decode, pad
from .rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from .summaries import Deferred, Summaries

# Versions of a table. PLAIN stores means as they are instead of steps.
VERSION, PLAIN = 1, 2

# Version, rows, points, base slot.
_HEAD = struct.Struct("<BIIq")

# Summary columns that are decoded on first use. A uniform row lacks the last four, which
# follow from count and low.
_LATER = ("last_ms", "low", "total", "m2", "high", "last")
_OF_SEVERAL = _LATER[2:]

NO_ROWS = rollup_table.empty()


def pack_table(table: Table, *, dense: bool = True) -> bytes:
    """Return *table* as bytes; no bytes for no rows.

    Use ``dense=False`` for data that will soon be rewritten: packing is faster, but the result
    larger.
    """
    if not len(table):
        return b""
    rows, points = table.summaries, table.points
    base = int(table.slot.min())
    parts = [
        _HEAD.pack(VERSION if dense else PLAIN, len(table), len(points.values), base),
        pack_whole((table.slot - base) // SECOND, dense=dense),
        pack_whole(table.series, dense=dense),
        pack_whole(table.kind, dense=dense),
        pack_whole(rows.count, dense=dense),
        pack_whole(rows.last_ms - table.slot, dense=dense),
        pack_real(rows.low, dense=dense),
    ]
    several = table.kind != UNIFORM
    if several.any():
        parts += [
            pack_real(rows.total[several], dense=dense),
            pack_real(_seven_digits(rows.m2[several]), dense=dense),
            pack_real(rows.high[several], dense=dense),
            pack_real(rows.last[several], dense=dense),
            pack_whole(table.size[several], dense=dense),
            *(_pack_points(table, several) if dense else _pack_plain_points(points)),
        ]
    return pad(parts, len(table) + len(points.values))


def _pack_plain_points(points: Points) -> list[bytes]:
    return [pack_real(points.values), pack_whole(points.weights)]


def _pack_points(table: Table, several: Bools) -> list[bytes]:
    points = table.points
    exact = np.repeat(table.kind[several] == EXACT, table.size[several])
    clustered = table.kind == CLUSTERED
    steps = pack_means(
        points.values[~exact],
        table.size[clustered],
        table.summaries.low[clustered],
        table.summaries.high[clustered],
    )
    return [
        pack_real(points.values[exact], dense=True),
        pack_whole(steps, dense=True),
        pack_whole(points.weights, dense=True),
    ]


def _seven_digits(m2: Floats) -> Floats:
    """Return *m2* rounded to 32-bit floats, if all values are in range."""
    fits = (m2 == 0) | ((m2 > 1e-30) & (m2 < 1e38))
    return m2.astype(np.float32).astype(np.float64) if fits.all() else m2


def read_table(data: bytes | None) -> Table:
    """Decode a table; return an empty one if there are no bytes."""
    return unpack_table(data) if data else NO_ROWS


def unpack_table(data: bytes) -> Table:
    """Decode a table; its points are decoded on first use.

    Raises:
        FormatMismatch: If *data* is corrupt or of another version.
    """
    return unpack_tables([data])


def unpack_tables(packed: list[bytes]) -> Table:
    """Decode several tables into one, with their rows concatenated.

    Most of the cost is the same as for one table.

    Raises:
        FormatMismatch: If one of them is corrupt or of another version. For columns that are
            decoded later, it is raised then.
    """
    return decode("table", packed, lambda: _unpack_tables(packed))


@dataclass(slots=True)
class _Packed:
    """One of several packed tables.

    Attributes:
        rows: Its rows among those of all tables.
        several: Number of its non-uniform rows.
        offsets: Start of each column that is decoded later, and of the points.
    """

    data: bytes
    rows: slice
    several: int
    offsets: dict[str, int]


@dataclass(slots=True)
class _Head:
    rows: int
    points: int
    base: int
    is_plain: bool


def _read_head(data: bytes) -> _Head:
    version, rows, points, base = _HEAD.unpack(Reader(data, 0, "table").bytes(_HEAD.size))
    if version not in (VERSION, PLAIN):
        raise FormatMismatch(f"table: the version must be {VERSION} or {PLAIN}, got {version}")
    check_size("table", len(data), rows + points)
    return _Head(rows, points, base, version == PLAIN)


@dataclass(slots=True, eq=False)
class _Columns:
    """Columns of all tables that are decoded immediately, shape (rows,).

    *stepped* is True for a row whose points are stored as steps.
    """

    slot: Ints
    series: Ints
    count: Ints
    kind: NDArray[np.uint8]
    size: Ints
    stepped: Bools


def _unpack_tables(packed: list[bytes]) -> Table:
    heads = [_read_head(data) for data in packed]
    total = sum(head.rows for head in heads)
    columns = _Columns(
        np.empty(total, np.int64),
        np.empty(total, np.int64),
        np.empty(total, np.int64),
        np.empty(total, np.uint8),
        np.zeros(total, np.int64),
        np.zeros(total, np.bool_),
    )
    parts = []
    end = 0
    for data, head in zip(packed, heads, strict=True):
        rows = slice(end, end := end + head.rows)
        parts.append(_read_columns(data, head, rows, columns))
    slot, series, count = columns.slot, columns.series, columns.count
    if total and (int(count.min()) < 1 or int(series.min()) < 0 or int(slot.min()) < 0):
        raise FormatMismatch("corrupt table: invalid counts, series or times")

    def load(name: str) -> NDArray[Any]:
        return decode(
            "table", packed, lambda: _summary_column(name, parts, summaries, slot, columns.kind)
        )

    def points() -> Points:
        return decode(
            "table",
            packed,
            lambda: _unpack_points(parts, columns.stepped, columns.size, summaries),
        )

    summaries = Deferred(total, load)
    summaries.count = count
    return Table(slot, series, summaries, columns.kind, columns.size, points)


def _read_columns(data: bytes, head: _Head, rows: slice, columns: _Columns) -> _Packed:
    """Decode one table's part of *columns*, and note the start of its other columns."""
    reader = Reader(data, _HEAD.size, "table")
    slot, size = columns.slot[rows], columns.size[rows]
    reader.fill(slot)
    slot *= SECOND
    slot += head.base
    reader.fill(columns.series[rows])
    kinds = reader.whole(head.rows)
    if head.rows and not UNIFORM <= int(kinds.min()) <= int(kinds.max()) <= CLUSTERED:
        raise FormatMismatch(f"corrupt table: kinds must be from {UNIFORM} to {CLUSTERED}")
    columns.kind[rows] = kinds
    if not head.is_plain:
        columns.stepped[rows] = kinds == CLUSTERED
    reader.fill(columns.count[rows])
    part = _Packed(data, rows, int(np.count_nonzero(kinds)), {})
    for name in _LATER if part.several else _LATER[:2]:
        part.offsets[name] = reader.at
        reader.skip(part.several if name in _OF_SEVERAL else head.rows)
    if part.several == head.rows:
        reader.fill(size)
    elif part.several:
        size[kinds != UNIFORM] = reader.whole(part.several)
    part.offsets["points"] = reader.at
    sizes = size if part.several else size[:0]
    # Each size is also checked separately, because the sum may overflow.
    if (
        int(sizes.sum()) != head.points
        or not 0 <= int(sizes.min(initial=0)) <= int(sizes.max(initial=0)) <= head.points
    ):
        raise FormatMismatch(
            f"corrupt table: it must have {head.points} points, got {int(sizes.sum())}"
        )
    return part


def _summary_column(
    name: str, parts: list[_Packed], rows: Summaries, slot: Ints, kind: NDArray[np.uint8]
) -> NDArray[Any]:
    """Decode and check one column of the summaries, shape (rows,)."""
    column: NDArray[Any]
    if name == "last_ms":
        column = _read_whole_column(name, parts, np.empty(len(slot), np.int64))
        column += slot
        is_valid = bool((column >= slot).all() and (column < YEAR_10000_MS).all())
    elif name == "low":
        column = _read_whole_column(name, parts, np.empty(len(slot)))
        is_valid = bool(np.isfinite(column).all())
    else:
        several = kind != UNIFORM
        column = _uniform_column(name, rows) if not several.all() else np.empty(len(slot))
        for part in parts:
            if part.several:
                reader, inside = Reader(part.data, part.offsets[name], "table"), column[part.rows]
                if part.several == len(inside):
                    reader.fill(inside)
                else:
                    inside[several[part.rows]] = reader.real(part.several)
        is_valid = name != "high" or bool(
            np.isfinite(column).all() and (rows.low[several] < column[several]).all()
        )
    if not is_valid:
        raise FormatMismatch(f"corrupt table: invalid values in column {name!r}")
    return column


def _read_whole_column(name: str, parts: list[_Packed], column: NDArray[Any]) -> NDArray[Any]:
    for part in parts:
        Reader(part.data, part.offsets[name], "table").fill(column[part.rows])
    return column


def _uniform_column(name: str, rows: Summaries) -> Floats:
    """Return a column of the summaries as if all rows were uniform."""
    if name == "m2":
        return np.zeros(len(rows))
    if name != "total":
        return rows.low.copy()
    with np.errstate(over="ignore"):
        return rows.low * rows.count


def _unpack_points(parts: list[_Packed], stepped: Bools, size: Ints, rows: Summaries) -> Points:
    total = int(size.sum())
    codes, weights = np.empty(int(size[stepped].sum()), np.int64), np.empty(total, np.int64)
    whole = np.empty(total - len(codes))
    at = codes_at = 0
    for part in parts:
        sizes = size[part.rows]
        points, steps = int(sizes.sum()), int(sizes[stepped[part.rows]].sum())
        reader = Reader(part.data, part.offsets["points"], "table")
        reader.fill(whole[at - codes_at : at - codes_at + points - steps])
        reader.fill(codes[codes_at : codes_at + steps])
        reader.fill(weights[at : at + points])
        at, codes_at = at + points, codes_at + steps
    if not len(codes):
        values = whole
    else:
        values = unpack_means(codes, size[stepped], rows.low[stepped], rows.high[stepped])
        if len(whole):
            of_steps, means = np.repeat(stepped, size), values
            values = np.empty(total)
            values[of_steps], values[~of_steps] = means, whole
    if total and int(weights.min()) < 1:
        raise FormatMismatch(
            f"corrupt table: weights of points must be at least 1, got {int(weights.min())}"
        )
    if not np.isfinite(whole).all():
        raise FormatMismatch("corrupt table: values of points must be finite")
    return Points(values, weights)
