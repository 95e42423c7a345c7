"""Merge a few samples into small minutes in plain Python, for metrics with few series.

numpy's calls would take most of the time of a pass over thousands of small metrics. The results are
bit-identical to those of block_codec.py, merge.py and rollup_codec.py for the same bytes.
Everything not handled here, including damaged bytes, raises `NotSmall` and is left to them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import copysign, inf, isfinite
from operator import itemgetter

import numpy as np

from redismetrics.columnar.batch_stamp import stamp_clock
from redismetrics.columnar.packing import pad
from redismetrics.columnar.rollup_codec import PLAIN
from redismetrics.columnar.rollup_table import EXACT, UNIFORM
from redismetrics.columnar.sample_codec import VERSION as SAMPLES_VERSION
from redismetrics.columnar.samples import OWN_TIME, Samples
from redismetrics.columnar.small_columns import (
    NOT_SMALL,
    NotSmall,
    pack_real,
    pack_whole,
    unpack_real,
    unpack_whole,
)
from redismetrics.model.time import HOUR, MINUTE, YEAR_10000_MS

from .merge import CellKey

# Beyond these limits numpy is faster: rows of a block, rows of all blocks merged at once, and
# numbers in a stored cell.
BLOCK_ROWS, MAX_ROWS, MAX_STORED = 64, 128, 512

_BLOCK_HEAD = struct.Struct("<dddI")
_COUNT = struct.Struct("<I")
_BODY = struct.Struct("<BIIIq")
_TABLE = struct.Struct("<BIIq")
_SAMPLES = struct.Struct("<BIIq")
_BODY_VERSION = 1

# Series id, time in ms, value, weight.
Sample = tuple[int, int, float, int]

_by_time = itemgetter(0)


def unpack_blocks(blocks: Sequence[bytes]) -> list[Sample]:
    """Return the samples of all blocks, in order of arrival.

    Raises:
        NotSmall: If numpy must do it.
    """
    samples: list[Sample] = []
    for data in blocks:
        unpack_block(data, samples)
        if len(samples) > MAX_ROWS:
            raise NotSmall
    return samples


def unpack_block(data: bytes, samples: list[Sample]) -> None:
    """Append the samples of a block to *samples*.

    Raises:
        NotSmall: If numpy must do it. *samples* is as before then.
    """
    before = len(samples)
    try:
        _unpack_block(data, samples)
    except NOT_SMALL:
        del samples[before:]
        raise NotSmall from None


def as_columns(samples: Sequence[Sample]) -> Samples:
    """Return samples as columns, without flags, which are no longer needed."""
    series, time, value, weight = zip(*samples, strict=True)
    return Samples(
        np.array(series, np.int64),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(weight, np.int64),
        np.zeros(len(samples), np.uint8),
    )


def _unpack_block(data: bytes, samples: list[Sample]) -> None:
    clock, at = stamp_clock(data)
    latest = clock // 1000
    count, _, _, series = _BLOCK_HEAD.unpack_from(data, at)
    at += _BLOCK_HEAD.size
    ids = struct.unpack_from(f"<{series}I", data, at)
    at += 4 * series
    changed = _COUNT.unpack_from(data, at)[0]
    at += _COUNT.size
    version, rows, summed, metadata, base = _BODY.unpack_from(data, at)
    if changed or version != _BODY_VERSION or not rows or summed or metadata:
        raise NotSmall
    if rows > len(data) - at or rows > BLOCK_ROWS:
        raise NotSmall
    numbers, at = unpack_whole(data, at + _BODY.size, rows)
    times, at = unpack_whole(data, at, rows)
    values, at = unpack_real(data, at, rows)
    weights, at = unpack_whole(data, at, rows)
    flags, at = unpack_whole(data, at, rows)
    if at > len(data) or min(numbers) < 0 or min(weights) < 1 or sum(weights) != count:
        raise NotSmall
    if not 0 <= min(times) + base <= max(times) + base < YEAR_10000_MS:
        raise NotSmall
    for number, since, value, weight, flag in zip(
        numbers, times, values, weights, flags, strict=True
    ):
        time = base + since
        if not flag:
            time = min(time, latest)
        elif flag != OWN_TIME:
            raise NotSmall
        _check_value(value)
        samples.append((ids[number], time, value, weight))


def _check_value(value: float) -> None:
    """Raise `NotSmall` for values that are not finite, and for -0.0, whose order is undefined."""
    if not -inf < value < inf or (value == 0 and copysign(1.0, value) < 0):
        raise NotSmall


@dataclass(slots=True)
class _Row:
    """One series in one minute.

    Attributes:
        totals: Count, total and m2 of each summary, in order of arrival.
        points: Value and weight of each point.
        samples: Time, value and weight of each exact sample.
    """

    low: float = inf
    high: float = -inf
    last: float = 0.0
    last_ms: int = -1
    count: int = 0
    totals: list[tuple[int, float, float]] = field(default_factory=list)
    points: list[tuple[float, int]] = field(default_factory=list)
    samples: list[tuple[int, float, int]] = field(default_factory=list)

    def add(self, time: int, value: float, weight: int) -> None:
        self.count += weight
        self.totals.append((weight, value * weight, 0.0))
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value
        if time >= self.last_ms:
            self.last, self.last_ms = value, time
        self.points.append((value, weight))
        self.samples.append((time, value, weight))


# The rows of one minute and chunk, by series.
_Rows = dict[int, _Row]


def cell_keys(samples: Sequence[Sample], chunk_series: int) -> list[CellKey]:
    """Return the minutes and chunks that samples fall into, in order."""
    return sorted(
        {(time // MINUTE * MINUTE, number // chunk_series) for number, time, _, _ in samples}
    )


def by_hour(samples: Sequence[Sample]) -> dict[int, int]:
    """Return the number of samples by the start of their hour, in ms."""
    found: dict[int, int] = {}
    for _, time, _, weight in samples:
        hour = time // HOUR * HOUR
        found[hour] = found.get(hour, 0) + weight
    return found


def merge(
    samples: Sequence[Sample],
    stored: Mapping[CellKey, tuple[bytes | None, bytes | None]],
    chunk_series: int,
    points_limit: int,
    samples_per_minute: int,
) -> dict[CellKey, tuple[bytes, bytes | None]]:
    """Merge samples into stored cells; return each cell's rollup rows and exact samples as bytes.

    These are None if there were and are none.

    Args:
        samples: Samples in order of arrival.
        stored: Packed rollup rows and exact samples; None if the cell has none.
        chunk_series: Number of series in a chunk.
        points_limit: Maximum points of a row; if there are more, they are clustered.
        samples_per_minute: Maximum exact samples of a series-minute; if there are more, none are
            kept.

    Raises:
        NotSmall: If numpy must do it.
    """
    cells: dict[CellKey, _Rows] = {}
    try:
        for key in cell_keys(samples, chunk_series):
            cells[key] = _unpack_cell(key, *stored[key], chunk_series)
        for number, time, value, weight in samples:
            rows = cells[time // MINUTE * MINUTE, number // chunk_series]
            row = rows.get(number)
            if row is None:
                row = rows[number] = _Row()
            row.add(time, value, weight)
        packed = {}
        for key, rows in cells.items():
            table, exact = _pack_cell(key[0], rows, points_limit, samples_per_minute)
            packed[key] = table, exact if exact or (stored[key][0] and stored[key][1]) else None
        return packed
    except NOT_SMALL:
        raise NotSmall from None


def _unpack_cell(
    key: CellKey, table: bytes | None, samples: bytes | None, chunk_series: int
) -> _Rows:
    rows: _Rows = {}
    if not table:
        return rows
    _unpack_table(key, table, chunk_series, rows)
    if samples:
        _unpack_samples(key, samples, rows)
    return rows


def _unpack_table(key: CellKey, data: bytes, chunk_series: int, rows: _Rows) -> None:
    version, count, points, base = _TABLE.unpack_from(data)
    if version != PLAIN or not 0 < count + points <= min(4 * len(data), MAX_STORED):
        raise NotSmall
    slots, at = unpack_whole(data, _TABLE.size, count)
    series, at = unpack_whole(data, at, count)
    kinds, at = unpack_whole(data, at, count)
    counts, at = unpack_whole(data, at, count)
    lasts_ms, at = unpack_whole(data, at, count)
    lows, at = unpack_real(data, at, count)
    several = count - kinds.count(UNIFORM)
    if several != kinds.count(EXACT):
        raise NotSmall
    if several:
        totals, at = unpack_real(data, at, several)
        m2s, at = unpack_real(data, at, several)
        highs, at = unpack_real(data, at, several)
        lasts, at = unpack_real(data, at, several)
        sizes, at = unpack_whole(data, at, several)
        if min(sizes) < 1 or sum(sizes) != points:
            raise NotSmall
        values, at = unpack_real(data, at, points)
        weights, at = unpack_whole(data, at, points)
        if min(weights) < 1:
            raise NotSmall
    elif points:
        raise NotSmall
    first = key[1] * chunk_series
    if at > len(data) or min(counts) < 1 or min(lasts_ms) < 0:
        raise NotSmall
    if slots.count(0) != count or base != key[0] or series[0] < first:
        raise NotSmall
    if series[-1] >= first + chunk_series or max(lasts_ms) >= MINUTE:
        raise NotSmall
    last_number = -1
    place = point = 0
    for number, kind, weight, last_ms, low in zip(
        series, kinds, counts, lasts_ms, lows, strict=True
    ):
        if number <= last_number:
            raise NotSmall
        last_number = number
        _check_value(low)
        if kind == UNIFORM:
            total = (weight, low * weight, 0.0)
            row = _Row(low, low, low, base + last_ms, weight, [total], [(low, weight)])
        else:
            end = point + sizes[place]
            row = _Row(
                low,
                highs[place],
                lasts[place],
                base + last_ms,
                weight,
                [(weight, totals[place], m2s[place])],
                list(zip(values[point:end], weights[point:end], strict=True)),
            )
            for value, _ in row.points:
                _check_value(value)
            _check_value(row.high)
            if not low < row.high or not isfinite(row.last):
                raise NotSmall
            place, point = place + 1, end
        rows[number] = row


def _unpack_samples(key: CellKey, data: bytes, rows: _Rows) -> None:
    version, count, metadata, base = _SAMPLES.unpack_from(data)
    if version != SAMPLES_VERSION or metadata or not 0 < count <= min(4 * len(data), MAX_STORED):
        raise NotSmall
    series, at = unpack_whole(data, _SAMPLES.size, count)
    times, at = unpack_whole(data, at, count)
    values, at = unpack_real(data, at, count)
    weights, at = unpack_whole(data, at, count)
    if at > len(data) or min(weights) < 1:
        raise NotSmall
    if not key[0] <= min(times) + base <= max(times) + base < key[0] + MINUTE:
        raise NotSmall
    for number, time, value, weight in zip(series, times, values, weights, strict=True):
        row = rows.get(number)
        if row is None or not -inf < value < inf:
            raise NotSmall
        row.samples.append((time + base, value, weight))


def _pack_cell(
    slot_ms: int, rows: _Rows, points_limit: int, samples_per_minute: int
) -> tuple[bytes, bytes]:
    """Return the packed rollup rows of a cell and its packed exact samples."""
    numbers = sorted(rows)
    ordered = [rows[number] for number in numbers]
    several = [row for row in ordered if row.low != row.high]
    distinct = [_distinct(row.points, points_limit) for row in several]
    weights = [weight for points in distinct for weight in points.values()]
    parts = [
        _TABLE.pack(PLAIN, len(rows), len(weights), slot_ms),
        pack_whole([0] * len(rows)),
        pack_whole(numbers),
        pack_whole([EXACT if row.low != row.high else UNIFORM for row in ordered]),
        pack_whole([row.count for row in ordered]),
        pack_whole([row.last_ms - slot_ms for row in ordered]),
        pack_real([row.low for row in ordered]),
    ]
    if several:
        sums = [_sums(row) for row in several]
        parts += [
            pack_real([total for total, _ in sums]),
            pack_real(_seven_digits([m2 for _, m2 in sums])),
            pack_real([row.high for row in several]),
            pack_real([row.last for row in several]),
            pack_whole(list(map(len, distinct))),
            pack_real([value for points in distinct for value in points]),
            pack_whole(weights),
        ]
    table = pad(parts, len(rows) + len(weights))
    return table, _pack_samples(numbers, ordered, samples_per_minute)


def _distinct(points: list[tuple[float, int]], limit: int) -> dict[float, int]:
    """Return the weight of each distinct value, in order."""
    if len(points) > limit:
        raise NotSmall
    found: dict[float, int] = {}
    for value, weight in sorted(points, key=_by_time):
        found[value] = found.get(value, 0) + weight
    return found


def _sums(row: _Row) -> tuple[float, float]:
    """Return the sum of all values, and the sum of squared distances from their mean."""
    whole = 0.0
    for _, total, _ in row.totals:
        whole += total
    if not -inf < whole < inf:
        raise NotSmall
    mean, m2 = whole / row.count, 0.0
    for count, total, own in row.totals:
        away = total / count - mean
        m2 += own + count * away * away
    return whole, m2


def _seven_digits(m2: list[float]) -> list[float]:
    """Return numbers rounded to 32-bit floats, if all are in range."""
    if all(each == 0 or 1e-30 < each < 1e38 for each in m2):
        return list(struct.unpack(f"<{len(m2)}f", struct.pack(f"<{len(m2)}f", *m2)))
    if not all(-inf < each < inf for each in m2):
        raise NotSmall
    return m2


def _pack_samples(numbers: list[int], rows: list[_Row], samples_per_minute: int) -> bytes:
    """Return the packed samples of the rows that are complete and small enough."""
    series: list[int] = []
    kept: list[tuple[int, float, int]] = []
    for number, row in zip(numbers, rows, strict=True):
        samples = row.samples
        if len(samples) <= samples_per_minute and (
            sum(weight for _, _, weight in samples) == row.count
        ):
            # A stable sort: samples with the same time stay in order of arrival.
            kept += sorted(samples, key=_by_time)
            series += [number] * len(samples)
    if not kept:
        return b""
    times, values, weights = map(list, zip(*kept, strict=True))
    base = min(times)
    parts = [
        _SAMPLES.pack(SAMPLES_VERSION, len(kept), 0, base),
        pack_whole(series),
        pack_whole([time - base for time in times] if base else times),
        pack_real(values),
        pack_whole(weights),
    ]
    return pad(parts, len(kept))
