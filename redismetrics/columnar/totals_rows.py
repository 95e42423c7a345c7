"""Totals of few series, added up one row at a time: for these numpy's overhead is most of the time.

To the bit this is what `TotalsTable` and the script compute, see totals.py.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from math import isfinite

from .arrays import LARGEST
from .batch_stamp import stamp_clock

# Kinds of a change.
COUNTER, GAUGE, HISTOGRAM = 1, 2, 3
# Layouts: of a gauge with changes of its shared value, of a histogram with large numbers.
PLAIN, SHARED, WIDE = 0, 1, 1

# Codes of a gauge's change, which are added.
CHANGES_SHARED, SETS, HAS_OWN_TIME = 1, 2, 4

# Kind, layout, series, cells.
HEAD = struct.Struct("<BBII")

# Doubles in rows and bytes of changes up to which numpy is slower: there, both take about 60 us.
MOST_DOUBLES, MOST_BYTES = 256, 1024

Row = list[float]


def add_few(
    width: int, per_field: int, fields: Mapping[int, bytes], changes: Sequence[bytes]
) -> tuple[dict[int, Row], int] | None:
    """Return the rows in use of *fields* with *changes* added, by series id, ids ascending.

    The second result is the number of changes of an unknown kind, which are skipped. Returns None
    if there is so much that numpy is faster, or if something may be corrupt: `TotalsTable` tells.
    """
    size = width * per_field
    if size * len(fields) > MOST_DOUBLES or sum(map(len, changes)) > MOST_BYTES:
        return None
    rows: dict[int, Row] = {}
    doubles_of_field, offsets = _doubles(size), range(0, size, width)
    try:
        for number, data in fields.items():
            doubles = doubles_of_field.unpack(data)
            for at in compress(offsets, doubles[::width]):
                rows[number * per_field + at // width] = list(doubles[at : at + width])
        unknown = sum(not _add_change(rows, width, data) for data in changes)
    except (ValueError, OverflowError, struct.error):
        return None
    return dict(sorted(rows.items())), unknown


def _add_change(rows: dict[int, Row], width: int, data: bytes) -> bool:
    """Add a change to *rows*; return False if it is of an unknown kind or layout.

    Raises:
        ValueError, OverflowError, struct.error: If *data* may be corrupt.
    """
    clock, at = stamp_clock(data)
    kind, layout, n, m = HEAD.unpack_from(data, at)
    at += HEAD.size
    form = _columns(kind, layout, n, m)
    if form is None:
        return False
    if at + form.size != len(data):
        raise ValueError(f"it must have {at + form.size} bytes, got {len(data)}")
    columns = form.unpack_from(data, at)
    of_series = []
    for number in columns[len(columns) - n :]:
        row = rows.get(number)
        if row is None:
            row = rows[number] = [0.0] * width
        of_series.append(row)
    if kind == COUNTER:
        _check_finite(columns[:n])
        add_to_counters(of_series, clock, columns[:n])
    elif kind == GAUGE:
        values = columns[2 * n : 3 * n]
        _check_finite(values)
        set_gauges(of_series, clock, columns[:n], columns[n : 2 * n], values)
    else:
        amounts, cells = columns[n : 2 * n], [int(count) for count in columns[2 * n : 3 * n]]
        buckets = [int(bucket) for bucket in columns[3 * n : 3 * n + m]]
        if sum(cells) != m:
            raise ValueError(f"{m} buckets must belong to a series, got {sum(cells)}")
        if m and not 1 <= min(buckets) <= max(buckets) <= width - 4:
            raise ValueError(f"buckets must be 1 to {width - 4}, got {buckets}")
        _check_finite(amounts)
        hits = zip(buckets, columns[3 * n + m : 3 * n + 2 * m], strict=True)
        add_to_histograms(of_series, clock, columns[:n], amounts, cells, hits)
    return True


@lru_cache(1_000)
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


@lru_cache(1_000)
def _columns(kind: int, layout: int, n: int, m: int) -> struct.Struct | None:
    """Return the form of a change behind its head; None for an unknown kind or layout."""
    if kind == COUNTER and layout == PLAIN:
        return struct.Struct(f"<{n}d{n}I")
    if kind == GAUGE and layout == PLAIN:
        return struct.Struct(f"<{n}B{2 * n}d{n}I")
    if kind == HISTOGRAM and layout in (PLAIN, WIDE):
        whole, small = ("d", "d") if layout == WIDE else ("I", "B")
        return struct.Struct(f"<{n}{whole}{n}d{n}{small}{m}{small}{m}{whole}{n}I")
    return None


def _check_finite(values: Iterable[float]) -> None:
    if not all(map(isfinite, values)):
        raise ValueError("its values must be finite")


# Each of these changes the rows of series, one after the other. A row may occur more than once, if
# several series of a batch were counted as the overflow series. For the columns see `Change`.


def add_to_counters(rows: Iterable[Row], clock: int, amounts: Iterable[float]) -> None:
    seen = float(clock // 1000)
    for row, amount in zip(rows, amounts, strict=True):
        row[0] = seen
        _add_exactly(row, 1, amount)


def add_to_histograms(
    rows: Iterable[Row],
    clock: int,
    counts: Iterable[float],
    amounts: Iterable[float],
    cells: Iterable[int],
    hits: Iterator[tuple[int, float]],
) -> None:
    """Add to histograms; *hits* are buckets, from 1, and how many values each has more."""
    seen = float(clock // 1000)
    for row, count, amount, cell_count in zip(rows, counts, amounts, cells, strict=True):
        row[0] = seen
        row[1] += count
        _add_exactly(row, 2, amount)
        for _ in range(cell_count):
            bucket, hit = next(hits)
            row[3 + bucket] += hit


def set_gauges(
    rows: Iterable[Row],
    clock: int,
    codes: Iterable[int],
    times: Iterable[float],
    values: Iterable[float],
) -> None:
    """Set the values that are not older than those held."""
    seen = float(clock // 1000)
    for row, code, sent_time, value in zip(rows, codes, times, values, strict=True):
        if code & CHANGES_SHARED:
            raise ValueError("a change of a gauge's shared value must not wait")
        time = sent_time if code >= HAS_OWN_TIME else min(sent_time, seen)
        last = row[2] if row[0] else -1.0
        row[0] = seen
        if code & SETS and time >= last:
            row[1:4] = value, time, float(clock)


def _add_exactly(row: Row, at: int, amount: float) -> None:
    """Add to a pair of total and remainder: two-sum, Knuth, TAOCP 2, 4.2.2, as the script does."""
    total = row[at]
    whole = total + amount
    part = whole - total
    remainder = row[at + 1] + ((total - (whole - part)) + (amount - part))
    if remainder - remainder == 0:
        row[at], row[at + 1] = whole, remainder
    else:
        # The sum, or a part of it, is beyond the range of a float.
        row[at], row[at + 1] = max(-LARGEST, min(LARGEST, whole)), 0.0
