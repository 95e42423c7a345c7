"""Totals: rows of doubles, and changes that have not been added to them yet.

For the format, see LIVE in keys.py and lua/include/totals.lua. The results are bit-identical to
those of the script, so that a counter on the Prometheus page never goes down when changes are
folded, not even by a rounding error. Therefore changes are added one by one, in order of their
numbers.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from redismetrics.errors import FormatMismatch

from .arrays import LARGEST, Floats, Ints, bounds, ragged
from .batch_stamp import unpack_stamp
from .small_totals import (
    CHANGES_SHARED,
    COUNTER,
    GAUGE,
    HAS_OWN_TIME,
    HEAD,
    HISTOGRAM,
    PLAIN,
    SETS,
    SHARED,
    SUMMARY,
    WIDE,
    add_to_counters,
    add_to_histograms,
    set_gauges,
)

# All places of a change.
ALL = slice(None)

# Layouts of waiting changes. A change of a shared value is applied at once.
_WAITING = {COUNTER: (PLAIN,), GAUGE: (PLAIN,), HISTOGRAM: (PLAIN, WIDE), SUMMARY: (PLAIN,)}


def pack_counter(amounts: Floats) -> bytes:
    """Return the change of a counter's series, shape (n,), without stamp and ids."""
    return HEAD.pack(COUNTER, PLAIN, len(amounts), 0) + amounts.astype("<f8").tobytes()


def pack_gauge(
    codes: NDArray[Any],
    times: NDArray[Any],
    values: Floats,
    changed_times: NDArray[Any],
    changes: Floats,
) -> bytes:
    """Return the change of a gauge's series, all of shape (n,), without stamp and ids."""
    is_shared = bool((codes & CHANGES_SHARED).any())
    parts = [HEAD.pack(GAUGE, SHARED if is_shared else PLAIN, len(codes), 0)]
    parts.append(codes.astype("u1").tobytes())
    columns = (times, values, changed_times, changes) if is_shared else (times, values)
    parts += [column.astype("<f8").tobytes() for column in columns]
    return b"".join(parts)


def pack_histogram(
    counts: NDArray[Any], sums: Floats, cells: Ints, buckets: Ints, hits: NDArray[Any]
) -> bytes:
    """Return the change of a histogram's series without stamp and ids.

    *counts*, *sums* and *cells* have shape (n,), one element per series. *buckets*, numbered from
    1, and *hits* have one element per changed bucket: cells[0] of the first series, and so on.
    """
    is_wide = bool(
        len(counts)
        and (
            bounds(counts)[1] >= 1 << 32
            or bounds(cells)[1] > 255
            or (len(hits) and (bounds(hits)[1] >= 1 << 32 or bounds(buckets)[1] > 255))
        )
    )
    whole, small = ("<f8", "<f8") if is_wide else ("<u4", "u1")
    return b"".join(
        (
            HEAD.pack(HISTOGRAM, WIDE if is_wide else PLAIN, len(counts), len(buckets)),
            counts.astype(whole).tobytes(),
            sums.astype("<f8").tobytes(),
            cells.astype(small).tobytes(),
            buckets.astype(small).tobytes(),
            hits.astype(whole).tobytes(),
        )
    )


def pack_summary(counts: NDArray[Any], sums: Floats) -> bytes:
    """Return the change of a summary's series, both of shape (n,), without stamp and ids."""
    head = HEAD.pack(SUMMARY, PLAIN, len(counts), 0)
    return head + counts.astype("<f8").tobytes() + sums.astype("<f8").tobytes()


@dataclass(slots=True, eq=False)
class Change:
    """How one batch changes the totals of some series.

    Attributes:
        clock: Clock of the batch, in us.
        ids: Series ids, shape (n,); an id may occur more than once.
        amounts: For all types but gauges, the amounts added to the sum.
        codes, times, values: For gauges.
        counts: For histograms and summaries, the number of values.
        cells, buckets, hits: For histograms; see `pack_histogram`.
    """

    kind: int
    clock: int
    ids: Ints
    amounts: Floats = field(default_factory=lambda: np.empty(0))
    codes: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    times: Floats = field(default_factory=lambda: np.empty(0))
    values: Floats = field(default_factory=lambda: np.empty(0))
    counts: Floats = field(default_factory=lambda: np.empty(0))
    cells: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    buckets: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    hits: Floats = field(default_factory=lambda: np.empty(0))


def unpack_change(data: bytes) -> Change | None:
    """Decode a change with its stamp; None if its kind or layout is unknown.

    Raises:
        FormatMismatch: If *data* is corrupt.
    """
    try:
        return _unpack_change(data)
    except (struct.error, ValueError, OverflowError) as error:
        raise FormatMismatch(f"corrupt change of totals ({len(data)} bytes): {error}") from error


def _unpack_change(data: bytes) -> Change | None:
    stamp, at = unpack_stamp(data)
    kind, layout, n, m = HEAD.unpack_from(data, at)
    at += HEAD.size

    def column(form: str, count: int) -> NDArray[Any]:
        nonlocal at
        kind = np.dtype(form)
        found: NDArray[Any] = np.frombuffer(data, kind, count, at)
        at += kind.itemsize * count
        return found

    if kind == COUNTER and layout == PLAIN:
        amounts = column("<f8", n)
        change = Change(kind, stamp.clock, column("<u4", n).astype(np.int64), amounts)
    elif kind == GAUGE and layout == PLAIN:
        codes, times, values = column("u1", n), column("<f8", n), column("<f8", n)
        ids = column("<u4", n).astype(np.int64)
        change = Change(
            kind, stamp.clock, ids, codes=codes.astype(np.int64), times=times, values=values
        )
    elif kind == HISTOGRAM and layout in (PLAIN, WIDE):
        whole, small = ("<f8", "<f8") if layout == WIDE else ("<u4", "u1")
        counts, amounts, cells = column(whole, n), column("<f8", n), column(small, n)
        buckets, hits = column(small, m), column(whole, m)
        change = Change(
            kind,
            stamp.clock,
            column("<u4", n).astype(np.int64),
            amounts,
            counts=counts.astype(np.float64),
            cells=cells.astype(np.int64),
            buckets=buckets.astype(np.int64),
            hits=hits.astype(np.float64),
        )
        if int(change.cells.sum()) != m:
            raise ValueError(f"{m} buckets must belong to a series, got {change.cells.sum()}")
    elif kind == SUMMARY and layout == PLAIN:
        counts, amounts = column("<f8", n), column("<f8", n)
        ids = column("<u4", n).astype(np.int64)
        cells = np.zeros(n, np.int64)
        change = Change(kind, stamp.clock, ids, amounts, counts=counts, cells=cells)
    else:
        return None
    if at != len(data):
        raise ValueError(f"it must have {at} bytes, got {len(data)}")
    if not np.isfinite(change.amounts).all() or not np.isfinite(change.values).all():
        raise ValueError("its values must be finite")
    return change


def is_known(data: bytes) -> bool:
    """Return whether this version knows the kind and layout of a change with its stamp.

    Raises:
        struct.error, ValueError, LookupError: If *data* is corrupt.
    """
    _, at = unpack_stamp(data)
    kind, layout = data[at : at + 2]
    return layout in _WAITING.get(kind, ())


def field_name(number: int) -> bytes:
    """Return the field of the hash `live` for the change with this *number*."""
    return b"+%d" % number


class LiveFields(NamedTuple):
    """The fields of the hash `live`.

    Attributes:
        rows: Rows of the totals, by field number.
        changes: Changes, in order of their numbers.
        values: Names of the fields with per-process values, by series id.
        skipped: Number of fields that only a newer version can read, including *values*.
    """

    rows: dict[int, bytes]
    changes: list[bytes]
    values: dict[int, list[bytes]]
    skipped: int


def split_live(live: Mapping[bytes, bytes]) -> LiveFields:
    """Classify the fields of the hash `live`."""
    rows: dict[int, bytes] = {}
    changes: dict[int, bytes] = {}
    others = []
    for name, data in live.items():
        if name.isdigit():
            rows[int(name)] = data
        elif name[:1] == b"+":
            changes[int(name)] = data
        elif name != b"first":
            others.append(name)
    in_order = [data for _, data in sorted(changes.items())]
    return LiveFields(rows, in_order, values_by_series(others), len(others))


def values_by_series(names: Iterable[bytes]) -> dict[int, list[bytes]]:
    """Return which of these fields of `live` hold per-process values, by series id."""
    found: dict[int, list[bytes]] = {}
    for name in names:
        series, space, _ = name.partition(b" ")
        if space and series.isdigit():
            found.setdefault(int(series), []).append(name)
    return found


class TotalsTable:
    """Rows of totals, to which changes can be added.

    Attributes:
        fields: Numbers of the fields of `live`, ascending, shape (f,).
        ids: Series ids, shape (f * rows of a field,).
        values: The rows, shape (f * rows of a field, width).
        unknown: Number of changes of an unknown kind, which are not added.
    """

    def __init__(
        self,
        width: int,
        per_field: int,
        rows: Mapping[int, bytes],
        changes: Sequence[Change | None],
    ) -> None:
        """Add *changes* to *rows* in order; skip those that are None.

        Raises:
            ValueError: If rows or changes do not fit the shape.
        """
        added = [change for change in changes if change is not None]
        self.unknown = len(changes) - len(added)
        self._width, self._per_field = width, per_field
        size = 8 * width * per_field
        for data in rows.values():
            if len(data) != size:
                raise ValueError(f"a field of totals must have {size} bytes, got {len(data)}")
        touched = (change.ids // per_field for change in added)
        self.fields = np.unique(np.concatenate([np.fromiter(rows, np.int64, len(rows)), *touched]))
        empty = bytes(size)
        data = b"".join([rows.get(number, empty) for number in self.fields.tolist()])
        self.values: Floats = np.frombuffer(data, "<f8").reshape(-1, width).copy()
        offsets = np.arange(per_field)
        self.ids: Ints = (self.fields[:, None] * per_field + offsets).ravel()
        if added:
            rows_of_all = self._rows_of(np.concatenate([change.ids for change in added]))
            ends = np.cumsum([len(change.ids) for change in added]).tolist()
            for change, end in zip(added, ends, strict=True):
                self._add(change, rows_of_all[end - len(change.ids) : end])

    def _rows_of(self, ids: Ints) -> Ints:
        at: Ints = np.searchsorted(self.fields, ids // self._per_field)
        return at * self._per_field + ids % self._per_field

    def _add(self, change: Change, rows: Ints) -> None:
        """Add a change to *rows*, one row per series."""
        most = self._width - 4
        if len(change.buckets):
            first, last = bounds(change.buckets)
            if not 1 <= first <= last <= most:
                raise ValueError(f"buckets must be 1 to {most}, got {change.buckets.tolist()}")
        if (rows[1:] > rows[:-1]).all():
            # A fast path: no series occurs twice.
            self._add_part(change, rows, ALL)
            return
        distinct, places = np.unique(rows, return_index=True)
        if len(places) == len(rows):
            self._add_part(change, rows, ALL)
            return
        # Several series of the batch were counted as the overflow series.
        begin = np.cumsum(change.cells) - change.cells
        self._add_part(change, distinct, places, begin)
        is_left = np.ones(len(rows), np.bool_)
        is_left[places] = False
        left = np.flatnonzero(is_left)
        self._add_one_by_one(change, rows[left], left, begin)

    def _add_part(
        self, change: Change, rows: Ints, places: Ints | slice, begin: Ints | None = None
    ) -> None:
        """Add the series at *places* of a change to *rows*, which are distinct.

        *begin* is the start of each series' buckets, if not all are added.
        """
        values, seen = self.values, change.clock // 1000
        if change.kind == GAUGE:
            self._set_gauges(change, rows, places, seen)
            return
        at = 1 if change.kind == COUNTER else 2
        _add_exactly(values, rows, at, change.amounts[places])
        values[rows, 0] = seen
        if change.kind != COUNTER:
            values[rows, 1] += change.counts[places]
            cells, cell = change.cells[places], places
            if begin is not None:
                cell = ragged(begin[places], cells)
            # No bucket occurs twice in a series of a change.
            values[np.repeat(rows, cells), 3 + change.buckets[cell]] += change.hits[cell]

    def _add_one_by_one(self, change: Change, rows: Ints, places: Ints, begin: Ints) -> None:
        """Add the series at *places* of a change to *rows*, in this order."""
        held = {row: self.values[row].tolist() for row in set(rows.tolist())}
        of_series = [(held[row], 0) for row in rows.tolist()]
        amounts = change.amounts[places].tolist() if len(change.amounts) else []
        if change.kind == COUNTER:
            add_to_counters(of_series, change.clock, amounts)
        elif change.kind == GAUGE:
            columns = (change.codes, change.times, change.values)
            set_gauges(of_series, change.clock, *(column[places].tolist() for column in columns))
        else:
            cells = change.cells[places]
            at = ragged(begin[places], cells)
            hits = change.buckets[at].tolist(), change.hits[at].tolist()
            counts = change.counts[places].tolist()
            add_to_histograms(of_series, change.clock, counts, amounts, cells.tolist(), *hits)
        for row, values in held.items():
            self.values[row] = values

    def _set_gauges(self, change: Change, rows: Ints, places: Ints | slice, seen: int) -> None:
        """Set the values that are not older than the current ones."""
        values, codes, times = self.values, change.codes[places], change.times[places]
        if (codes & CHANGES_SHARED).any():
            raise ValueError("a change of a gauge's shared value must not wait")
        times = np.where(codes < HAS_OWN_TIME, np.minimum(times, seen), times)
        last = np.where(values[rows, 0] == 0, -1.0, values[rows, 2])
        newer = ((codes & SETS) != 0) & (times >= last)
        values[rows, 0] = seen
        changed = rows[newer]
        values[changed, 1] = change.values[places][newer]
        values[changed, 2] = times[newer]
        values[changed, 3] = change.clock

    def packed(self) -> list[bytes]:
        """Return the rows as a flat list of fields of `live` and their values."""
        data, size = self.values.astype("<f8").tobytes(), 8 * self._width * self._per_field
        flat = []
        for at, number in enumerate(self.fields.tolist()):
            flat += [b"%d" % number, data[at * size : (at + 1) * size]]
        return flat


def _add_exactly(values: Floats, rows: Ints, at: int, amounts: Floats) -> None:
    """Add to pairs of total and remainder like the script: two-sum (Knuth, TAOCP 2, 4.2.2)."""
    total = values[rows, at]
    with np.errstate(over="ignore", invalid="ignore"):
        whole = total + amounts
        part = whole - total
        remainder = values[rows, at + 1] + ((total - (whole - part)) + (amounts - part))
        if not np.isfinite(remainder).all():
            # Sums that overflow a float.
            whole = np.clip(whole, -LARGEST, LARGEST)
            remainder = np.where(np.isfinite(remainder), remainder, 0.0)
        values[rows, at] = whole
        values[rows, at + 1] = remainder
