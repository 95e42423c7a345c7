"""Add few changes to few rows of totals, in plain Python: several times faster than with numpy.

What is returned is equal to what `totals.TotalsTable` returns, to the bit. What is not handled
here, damaged bytes among it, is left to it.
"""

import struct
from collections.abc import Mapping, Sequence
from math import isfinite

from .arrays import LARGEST
from .batch_stamp import stamp_clock
from .small_columns import NOT_SMALL, NotSmall
from .totals_rows import COUNTER, GAUGE, HAS_OWN_TIME, HISTOGRAM, PLAIN, SETS

_WIDTHS = {COUNTER: 3, GAUGE: 4}

_HEAD = struct.Struct("<BBII")

# Series and buckets of a change beyond which numpy is faster.
MAX_NUMBERS = 128


class SmallChange:
    """How one batch changes the totals of a few series: columns, as in `totals.Change`."""

    __slots__ = ("clock", "columns", "ids", "kind", "seen_ms")

    def __init__(self, data: bytes) -> None:
        """Unpack a change with its stamp.

        Raises:
            NotSmall: If numpy must do it.
        """
        self.clock, at = stamp_clock(data)
        kind, layout, n, m = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if layout != PLAIN or n + m > MAX_NUMBERS:
            raise NotSmall
        self.kind = kind
        self.seen_ms = float(self.clock // 1000)
        if kind == COUNTER:
            form = f"<{n}d{n}I"
        elif kind == GAUGE:
            form = f"<{n}B{n}d{n}d{n}I"
        elif kind == HISTOGRAM:
            form = f"<{n}I{n}d{n}B{m}B{m}I{n}I"
        else:
            raise NotSmall
        if kind != HISTOGRAM and m:
            raise NotSmall
        if at + struct.calcsize(form) != len(data):
            raise NotSmall
        found = struct.unpack_from(form, data, at)
        self.ids = found[-n:] if n else ()
        ends = [n] * (2 if kind == COUNTER else 3) + ([m, m] if kind == HISTOGRAM else [])
        self.columns = []
        begin = 0
        for size in ends[: 1 if kind == COUNTER else None]:
            self.columns.append(found[begin : begin + size])
            begin += size
        if kind == HISTOGRAM and sum(self.columns[2]) != m:
            raise NotSmall
        reals = self.columns[0] if kind == COUNTER else self.columns[1]
        if kind == GAUGE:
            reals = self.columns[2]
        if not all(map(isfinite, reals)):
            raise NotSmall


def unpack_changes(data: Sequence[bytes]) -> list[SmallChange]:
    """Decode changes with their stamps.

    Raises:
        NotSmall: If numpy must do it.
    """
    try:
        return list(map(SmallChange, data))
    except NOT_SMALL:
        raise NotSmall from None


def folded(
    width: int, per_field: int, rows: Mapping[int, bytes], changes: Sequence[SmallChange]
) -> list[bytes]:
    """Return rows with changes added, in their order, as `TotalsTable.packed` does.

    Raises:
        NotSmall: If numpy must do it.
    """
    form = struct.Struct(f"<{width * per_field}d")
    try:
        fields = {number: list(form.unpack(data)) for number, data in rows.items()}
        for change in changes:
            if (width < 4) if change.kind == HISTOGRAM else (width != _WIDTHS[change.kind]):
                raise NotSmall
            _ADD[change.kind](fields, change, width, per_field)
    except NOT_SMALL:
        raise NotSmall from None
    flat = []
    for number in sorted(fields):
        flat += [b"%d" % number, form.pack(*fields[number])]
    return flat


_Fields = dict[int, list[float]]


def _row(fields: _Fields, number: int, width: int, per_field: int) -> tuple[list[float], int]:
    """Return the field that holds a series, and where its row begins."""
    at, row = divmod(number, per_field)
    field = fields.get(at)
    if field is None:
        field = fields[at] = [0.0] * (width * per_field)
    return field, row * width


def _add_exactly(field: list[float], at: int, amount: float) -> None:
    """Add to a pair of total and remainder, as `totals._add_exactly` does."""
    total = field[at]
    whole = total + amount
    part = whole - total
    remainder = field[at + 1] + ((total - (whole - part)) + (amount - part))
    if not isfinite(remainder) or not -LARGEST <= whole <= LARGEST:
        raise NotSmall
    field[at], field[at + 1] = whole, remainder


def _add_counters(fields: _Fields, change: SmallChange, width: int, per_field: int) -> None:
    for number, amount in zip(change.ids, change.columns[0], strict=True):
        field, at = _row(fields, number, width, per_field)
        field[at] = change.seen_ms
        _add_exactly(field, at + 1, amount)


def _set_gauges(fields: _Fields, change: SmallChange, width: int, per_field: int) -> None:
    seen, clock = change.seen_ms, float(change.clock)
    for number, code, sent, value in zip(change.ids, *change.columns, strict=True):
        if code & ~(SETS | HAS_OWN_TIME) or not isfinite(sent):
            raise NotSmall
        time = sent if code >= HAS_OWN_TIME else min(sent, seen)
        field, at = _row(fields, number, width, per_field)
        last = -1.0 if field[at] == 0 else field[at + 2]
        field[at] = seen
        if code & SETS and time >= last:
            field[at + 1 : at + 4] = value, time, clock


def _add_histograms(fields: _Fields, change: SmallChange, width: int, per_field: int) -> None:
    counts, amounts, cells, buckets, hits = change.columns
    cell = 0
    for number, count, amount, size in zip(change.ids, counts, amounts, cells, strict=True):
        field, at = _row(fields, number, width, per_field)
        field[at] = change.seen_ms
        field[at + 1] += count
        _add_exactly(field, at + 2, amount)
        hit = buckets[cell : cell + size]
        if size and (not 1 <= min(hit) <= max(hit) <= width - 4 or len(set(hit)) < size):
            raise NotSmall
        for bucket, times in zip(hit, hits[cell : cell + size], strict=True):
            field[at + 3 + bucket] += times
        cell += size


_ADD = {COUNTER: _add_counters, GAUGE: _set_gauges, HISTOGRAM: _add_histograms}
