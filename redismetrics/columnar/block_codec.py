"""Blocks as bytes: pack samples, and unpack them with all bounds checked.

A block in a log, in a message of the stream and in Redis is

    stamp  which batch it is, see batch_stamp.py
    head   samples, oldest_ms, newest_ms (f8 each), number of series (u4), their ids (u4 each)
    bases  how many series' shared value changes (u4), their positions (u4 each), then of each the
           value and its time in ms before the change (f8 each)
    body   version, rows, summaries, time base, then the columns of the rows, those of the
           summaries, and the metadata

A message of the stream ends with the stamp of its metric in the catalogue, and so do the blocks of
a log, because building two strings would take the script longer. Readers of a log skip it.

Everything but the body is written by lua/record.lua, which never looks into the body. In the body,
a series is its position in the head's list of ids. For columns, see column_codec.py.
"""

import struct
from dataclasses import dataclass, fields
from typing import Any

import msgpack
import numpy as np

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import YEAR_10000_MS

from .arrays import Floats, Ints, saturated
from .batch_stamp import stamp_clock, unpack_stamp
from .column_codec import Reader, pack_real, pack_whole
from .packing import check_size, decode, pad, unpack_msgpack
from .samples import CENTROID, CHANGE, OWN_TIME, Samples
from .small_columns import FEW_ROWS, NOT_SMALL, largest_whole, skip_whole
from .summaries import Summaries

VERSION = 1
# Writers compress batches of more rows than this.
MAX_ROWS = 1 << 14
# To keep corrupt bytes from allocating a lot of memory, the body of a block has at least one byte
# per row, and SUMMARY_ROWS per summary. Only identical rows take less; their block is padded with
# zeros.
ROWS_PER_BYTE = 1
SUMMARY_ROWS = 2

# Samples, oldest, newest, series.
_HEAD = struct.Struct("<dddI")
_COUNT = struct.Struct("<I")
# Value and time in ms before a change.
_BASE = struct.Struct("<dd")
# Version, rows, summaries, bytes of metadata, time base.
_PREFIX = struct.Struct("<BIIIq")


def pack(samples: Samples) -> bytes:
    """Return the body of a block of *samples*, which must have at least one row."""
    metadata = msgpack.packb(dict(samples.metadata)) if samples.metadata else b""
    base = int(samples.time[0])
    parts = [
        _PREFIX.pack(VERSION, len(samples), len(samples.summed), len(metadata), base),
        pack_whole(samples.series),
        pack_whole(samples.time - base),
        pack_real(samples.value),
        pack_whole(samples.weight),
        pack_whole(samples.flags),
    ]
    if len(samples.summed):
        parts += [pack_whole(samples.summed), pack_whole(samples.summed_flags)]
        for column in fields(Summaries):
            values = getattr(samples.summaries, column.name)
            parts.append(pack_whole(values) if values.dtype == np.int64 else pack_real(values))
    parts.append(metadata)
    return pad(parts, _size_in_rows(len(samples), len(samples.summed)), ROWS_PER_BYTE)


def _size_in_rows(rows: int, summaries: int) -> int:
    return rows + SUMMARY_ROWS * summaries


@dataclass(slots=True, eq=False)
class Block:
    """A block of a log.

    Attributes:
        clock: Server time given to the batch, in us.
        writer: Id of the process that recorded it.
        sequence: Number of the batch.
        ids: Series ids, shape (series,).
        samples: The samples; their series are positions in *ids*.
        tail: The bytes after the body: zeros, and the stamp of the metric in the catalogue.
    """

    clock: int
    writer: str
    sequence: int
    ids: Ints
    samples: Samples
    tail: bytes = b""


def unpack(data: bytes) -> Block:
    """Decode a block.

    Times not given by the caller are limited to the batch's clock, and changes of a gauge's shared
    value are added to their base.

    Raises:
        FormatMismatch: If *data* is corrupt or of another version.
    """
    return decode("block", [data], lambda: _unpack(data))


def latest_time(data: bytes, *, look_inside: bool = False) -> int:
    """Return an upper bound in ms of the times of a block's samples.

    Only the head is read. With *look_inside*, the times of the samples are read too, and the bound
    is usually exact. Corrupt blocks may have any time.
    """
    try:
        clock, at = stamp_clock(data)
        _, _, latest, series = _HEAD.unpack_from(data, at)
        at += _HEAD.size + 4 * series
        (changed,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        if changed:
            at += 4 * changed
            # The result of a change is no older than its base.
            bases = [time for _, time in _BASE.iter_unpack(data[at : at + 16 * changed])]
            latest = max(latest, *bases) if bases else latest
            at += 16 * changed
        # Times not given by the caller are limited to the block's clock.
        cut_ms = clock // 1000
        if cut_ms <= latest:
            return int(latest)
        if look_inside:
            # The time of centroids is the time of the newest value in their summary.
            cut_ms = min(cut_ms, _latest_inside(data, at))
        return max(int(latest), cut_ms)
    except (struct.error, FormatMismatch, ValueError, OverflowError):
        return YEAR_10000_MS


def _latest_inside(data: bytes, at: int) -> int:
    """Return the latest time of the rows in the body that begins at *at*."""
    version, rows, summed, _, base = _PREFIX.unpack_from(data, at)
    if version != VERSION:
        return YEAR_10000_MS
    at += _PREFIX.size
    check_size("block", len(data), _size_in_rows(rows, summed), ROWS_PER_BYTE)
    if 0 < rows <= FEW_ROWS:
        try:
            return int(base) + largest_whole(data, skip_whole(data, at, rows), rows)
        except NOT_SMALL:
            pass
    reader = Reader(data, at, "block")
    reader.skip(rows)
    return int(base + reader.whole(rows).max())


def unpack_metadata(data: bytes, rows: int) -> dict[int, bytes]:
    """Return the JSON text by row; rows from *rows* on are ignored."""
    pairs = unpack_msgpack(data, strict_map_key=False)[0] if data else {}
    return {row: text for row, text in pairs.items() if 0 <= row < rows and type(text) is bytes}


def _check(samples: Samples, ids: Ints, count: float) -> None:
    """Raise `FormatMismatch` if the columns cannot be *count* recorded samples.

    The count was stored as a float, so it is rounded above 2**53.
    """
    times = (samples.time, samples.summaries.last_ms)
    weights = samples.weight
    if (
        (ids < 0).any()
        or any(
            len(column) and not 0 <= int(column.min()) <= int(column.max()) < YEAR_10000_MS
            for column in times
        )
        or not 0 < int(weights.min()) <= float(weights.max()) <= count
        or float(weights.sum()) != count
        or (samples.summaries.count < 1).any()
        or not np.isfinite(samples.value[(samples.flags & CENTROID) == 0]).all()
    ):
        raise FormatMismatch(f"corrupt block: the columns do not describe {count:.0f} samples")


def _unpack(data: bytes) -> Block:
    stamp, at = unpack_stamp(data)
    reader = Reader(data, at, "block")
    count, _, _, series = _HEAD.unpack(reader.bytes(_HEAD.size))
    ids = np.frombuffer(reader.bytes(4 * series), "<u4").astype(np.int64)
    (changed,) = _COUNT.unpack(reader.bytes(_COUNT.size))
    based = np.frombuffer(reader.bytes(4 * changed), "<u4").astype(np.int64)
    bases = np.frombuffer(reader.bytes(16 * changed), "<f8").reshape(changed, 2)
    samples = _read_body(reader)
    for column in (samples.series, samples.summed):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < series:
            raise FormatMismatch(
                f"corrupt block: series must be below {series}, got {int(column.max())}"
            )
    _check(samples, ids, count)
    _cut_times(samples, stamp.clock // 1000)
    if changed:
        _add_bases(samples, based, bases, series)
    tail = data[reader.at :]
    return Block(stamp.clock, stamp.writer, stamp.sequence, ids, samples, tail)


def _read_body(reader: Reader) -> Samples:
    size = len(reader.data) - reader.at
    prefix = reader.bytes(_PREFIX.size)
    version, rows, summed, metadata_size, base = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise FormatMismatch(f"block: the version of the body must be {VERSION}, got {version}")
    if not rows or summed > rows:
        raise FormatMismatch(
            f"corrupt block: it must have rows, and no more summaries, got {rows} and {summed}"
        )
    check_size("block", size, _size_in_rows(rows, summed), ROWS_PER_BYTE)
    series, time = reader.whole(rows), reader.whole(rows)
    value, weight = reader.real(rows), reader.whole(rows)
    flags = reader.whole(rows).astype(np.uint8)
    samples = Samples(series, time + base, value, weight, flags)
    if summed:
        samples.summed = reader.whole(summed)
        samples.summed_flags = reader.whole(summed).astype(np.uint8)
        columns: list[Any] = [
            reader.whole(summed) if each.name in ("count", "last_ms") else reader.real(summed)
            for each in fields(Summaries)
        ]
        samples.summaries = Summaries(*columns)
    if metadata_size:
        samples.metadata = unpack_metadata(reader.bytes(metadata_size), rows)
    return samples


def _cut_times(samples: Samples, latest_ms: int) -> None:
    """Limit times to *latest_ms*, unless the caller gave them."""
    cut = (samples.flags & OWN_TIME) == 0
    np.minimum(samples.time, latest_ms, out=samples.time, where=cut)
    if len(samples.summed):
        times = samples.summaries.last_ms
        np.minimum(times, latest_ms, out=times, where=samples.summed_flags == 0)


def _add_bases(samples: Samples, based: Ints, bases: Floats, series: int) -> None:
    """Add the base value to changes of a gauge, and apply the time of the base.

    *based* are positions of series, shape (n,); *bases* their values and times in ms, shape (n, 2).
    """
    start, since = np.zeros(series), np.zeros(series, np.int64)
    if not ((bases[:, 1] >= 0) & (bases[:, 1] < YEAR_10000_MS)).all():
        raise FormatMismatch("corrupt block: invalid times of a gauge's changes")
    if np.isnan(bases[:, 0]).any():
        raise FormatMismatch("corrupt block: the values of a gauge before its changes are NaN")
    start[based], since[based] = bases[:, 0], bases[:, 1]
    changed = (samples.flags & CHANGE) != 0
    of_series = samples.series[changed]
    # record.lua adds them in the same way.
    with np.errstate(over="ignore"):
        samples.value[changed] = saturated(samples.value[changed] + start[of_series])
    samples.time[changed] = np.maximum(samples.time[changed], since[of_series])
