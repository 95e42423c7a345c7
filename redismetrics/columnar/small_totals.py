"""Totals of few series, added up in plain Python, because numpy's overhead would dominate.

The results are bit-identical to those of `totals.TotalsTable` and of the script. Everything else,
including damaged bytes, is left to `TotalsTable`.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from math import isfinite
from typing import Any, NamedTuple

from .arrays import LARGEST
from .batch_stamp import stamp_clock
from .small_columns import NOT_SMALL, NotSmall

# Kinds of a change.
COUNTER, GAUGE, HISTOGRAM, SUMMARY = 1, 2, 3, 4
# Layouts: of a gauge with changes of its shared value, of a histogram with large numbers.
PLAIN, SHARED, WIDE = 0, 1, 1

# Codes of a gauge's change, which are added.
CHANGES_SHARED, SETS, HAS_OWN_TIME = 1, 2, 4

# Minimum number of doubles in a row for each change.
_LEAST_WIDTH = {COUNTER: 3, GAUGE: 4, HISTOGRAM: 4, SUMMARY: 4}

# Kind, layout, series, cells.
HEAD = struct.Struct("<BBII")

# Maximum bytes of a change for plain Python: at this size, both take about 35 µs.
MOST_BYTES = 900
# Maximum doubles in all rows for plain Python, if every row is returned separately.
MOST_DOUBLES = 256

Row = list[float]
# A list of doubles, and the start of the series' row in it.
Place = tuple[list[float], int]


class SmallChange(NamedTuple):
    """How one batch changes the totals of a few series.

    Attributes:
        kind: Kind of the change.
        clock: Clock of the batch, in µs.
        ids: Series ids, shape (n,).
        columns: The arguments of `add_to_counters`, `set_gauges` or `add_to_histograms`.
    """

    kind: int
    clock: int
    ids: Sequence[int]
    columns: tuple[Any, ...]


def unpack_changes(data: Sequence[bytes]) -> list[SmallChange]:
    """Decode changes with their stamps; leave out those of an unknown kind or layout.

    Raises:
        NotSmall: If a change is so large that numpy is faster, or if any may be corrupt.
    """
    if max(map(len, data), default=0) > MOST_BYTES:
        raise NotSmall
    try:
        return [change for change in map(_unpack_change, data) if change is not None]
    except NOT_SMALL:
        raise NotSmall from None


def folded(
    width: int, per_field: int, fields: Mapping[int, bytes], changes: Iterable[SmallChange]
) -> list[bytes]:
    """Return *fields* with changes added in order, like `TotalsTable.packed`.

    Raises:
        NotSmall: If any data may be corrupt.
    """
    doubles = _doubles(width * per_field)
    flat = []
    for number, field in sorted(_added(width, per_field, fields, changes).items()):
        flat += [b"%d" % number, doubles.pack(*field)]
    return flat


def add_few(
    width: int, per_field: int, fields: Mapping[int, bytes], changes: Sequence[bytes]
) -> tuple[dict[int, Row], int]:
    """Return the rows in use of *fields* with *changes* added, by series id, ids ascending.

    The second result is the number of changes of an unknown kind, which are skipped.

    Raises:
        NotSmall: If there is so much data that numpy is faster, or if any may be corrupt.
    """
    size = width * per_field
    if size * len(fields) > MOST_DOUBLES:
        raise NotSmall
    known = unpack_changes(changes)
    rows: dict[int, Row] = {}
    offsets = range(0, size, width)
    for number, field in sorted(_added(width, per_field, fields, known).items()):
        for at in compress(offsets, field[::width]):
            rows[number * per_field + at // width] = field[at : at + width]
    return rows, len(changes) - len(known)


def _unpack_change(data: bytes) -> SmallChange | None:
    clock, at = stamp_clock(data)
    kind, layout, n, m = HEAD.unpack_from(data, at)
    at += HEAD.size
    form = _columns(kind, layout, n, m)
    if form is None:
        return None
    if at + form.size != len(data):
        raise NotSmall
    found = form.unpack_from(data, at)
    ids = found[len(found) - n :]
    columns: tuple[Any, ...]
    if kind == COUNTER:
        reals = found[:n]
        columns = (reals,)
    elif kind == GAUGE:
        reals = found[2 * n : 3 * n]
        columns = (found[:n], found[n : 2 * n], reals)
    elif kind == SUMMARY:
        reals = found[n : 2 * n]
        columns = (found[:n], reals, (0,) * n, (), ())
    else:
        reals, cells = found[n : 2 * n], found[2 * n : 3 * n]
        buckets, hits = found[3 * n : 3 * n + m], found[3 * n + m : 3 * n + 2 * m]
        if layout == WIDE:
            cells, buckets = tuple(map(int, cells)), tuple(map(int, buckets))
        if sum(cells) != m or (n and min(cells) < 0):
            raise NotSmall
        columns = (found[:n], reals, cells, buckets, hits)
    if not all(map(isfinite, reals)):
        raise NotSmall
    return SmallChange(kind, clock, ids, columns)


@lru_cache(1_000)
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


@lru_cache(1_000)
def _columns(kind: int, layout: int, n: int, m: int) -> struct.Struct | None:
    """Return the format of a change after its header; None for an unknown kind or layout."""
    if kind == COUNTER and layout == PLAIN:
        return struct.Struct(f"<{n}d{n}I")
    if kind == GAUGE and layout == PLAIN:
        return struct.Struct(f"<{n}B{2 * n}d{n}I")
    if kind == HISTOGRAM and layout in (PLAIN, WIDE):
        whole, small = ("d", "d") if layout == WIDE else ("I", "B")
        return struct.Struct(f"<{n}{whole}{n}d{n}{small}{m}{small}{m}{whole}{n}I")
    if kind == SUMMARY and layout == PLAIN:
        return struct.Struct(f"<{2 * n}d{n}I")
    return None


def _added(
    width: int, per_field: int, fields: Mapping[int, bytes], changes: Iterable[SmallChange]
) -> dict[int, list[float]]:
    """Return the doubles of *fields* and of new fields, with *changes* added."""
    size = width * per_field
    doubles = _doubles(size)
    try:
        found = {number: list(doubles.unpack(data)) for number, data in fields.items()}
        for kind, clock, ids, columns in changes:
            if width < _LEAST_WIDTH[kind]:
                raise NotSmall
            places = []
            for series in ids:
                number, row = divmod(series, per_field)
                if number not in found:
                    found[number] = [0.0] * size
                places.append((found[number], row * width))
            if kind == COUNTER:
                add_to_counters(places, clock, *columns)
            elif kind == GAUGE:
                set_gauges(places, clock, *columns)
            else:
                buckets = columns[3]
                if buckets and not 1 <= min(buckets) <= max(buckets) <= width - 4:
                    raise NotSmall
                add_to_histograms(places, clock, *columns)
    except NOT_SMALL:
        raise NotSmall from None
    return found


# Each of these changes the rows of series one by one. A row may occur more than once, if
# several series of a batch were counted as the overflow series. For the columns see
# `totals.Change`.


def add_to_counters(places: Iterable[Place], clock: int, amounts: Iterable[float]) -> None:
    """Add to counters."""
    seen = float(clock // 1000)
    for (doubles, at), amount in zip(places, amounts, strict=True):
        doubles[at] = seen
        _add_exactly(doubles, at + 1, amount)


def set_gauges(
    places: Iterable[Place],
    clock: int,
    codes: Iterable[int],
    times: Iterable[float],
    values: Iterable[float],
) -> None:
    """Set the values that are not older than the current ones."""
    seen = float(clock // 1000)
    for (doubles, at), code, sent_time, value in zip(places, codes, times, values, strict=True):
        if code & CHANGES_SHARED:
            raise ValueError("a change of a gauge's shared value must not wait")
        time = sent_time if code >= HAS_OWN_TIME else min(sent_time, seen)
        last = doubles[at + 2] if doubles[at] else -1.0
        doubles[at] = seen
        if code & SETS and time >= last:
            doubles[at + 1 : at + 4] = value, time, float(clock)


def add_to_histograms(
    places: Iterable[Place],
    clock: int,
    counts: Iterable[float],
    amounts: Iterable[float],
    cells: Iterable[int],
    buckets: Sequence[int],
    hits: Sequence[float],
) -> None:
    """Add to histograms, or to summaries, which have no buckets.

    Raises:
        ValueError: If a bucket occurs twice in a series.
    """
    seen = float(clock // 1000)
    first = 0
    for (doubles, at), count, amount, size in zip(places, counts, amounts, cells, strict=True):
        doubles[at] = seen
        doubles[at + 1] += count
        _add_exactly(doubles, at + 2, amount)
        end = first + size
        if size > 1 and len(set(buckets[first:end])) < size:
            raise ValueError(f"buckets of a series must differ, got {buckets[first:end]}")
        for cell in range(first, end):
            doubles[at + 3 + buckets[cell]] += hits[cell]
        first = end


def _add_exactly(doubles: list[float], at: int, amount: float) -> None:
    """Add to a pair of total and remainder like the script: two-sum (Knuth, TAOCP 2, 4.2.2)."""
    total = doubles[at]
    whole = total + amount
    part = whole - total
    remainder = doubles[at + 1] + ((total - (whole - part)) + (amount - part))
    if remainder - remainder == 0:
        doubles[at], doubles[at + 1] = whole, remainder
    else:
        # The sum, or a part of it, overflows a float.
        doubles[at], doubles[at + 1] = max(-LARGEST, min(LARGEST, whole)), 0.0
