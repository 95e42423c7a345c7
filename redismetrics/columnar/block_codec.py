"""The bytes of a block: pack samples, and unpack them with every bound checked."""

import struct
from dataclasses import dataclass, fields
from typing import Any

import msgpack
import numpy as np

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import YEAR_10000_MS

from .arrays import Ints
from .column_codec import Reader, pack_real, pack_whole
from .samples import CENTROID, CHANGE, OWN_TIME, Samples
from .summaries import Summaries

VERSION = 1
# A block holds no more rows than this and so many for each of its bytes: damaged bytes can't ask for all memory. Rows are
# never all alike beyond what one series may have uncompacted in a flush, at most 10,000 (settings.py).
MAX_ROWS, ROWS_PER_BYTE = 1 << 14, 64
_PREFIX = struct.Struct("<BIIIq")  # version, rows, summaries, bytes of metadata, time base


def pack(samples: Samples) -> bytes:
    """Return the body of *samples*, of at least one row."""
    metadata = msgpack.packb(samples.metadata) if samples.metadata else b""
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
    return b"".join(parts)


@dataclass(slots=True, eq=False)
class Block:
    """A block as it stands in a log: who wrote it, and its samples, whose series are numbers in *ids*."""

    clock: int
    writer: str
    sequence: int
    ids: Ints
    samples: Samples


def unpack(data: bytes) -> Block:
    """Read a block; times that are not the caller's own are cut to the batch's clock, and changes get their base.

    Raises:
        FormatMismatch: whatever is wrong with *data*.
    """
    try:
        return _unpack(data)
    except FormatMismatch:
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes
        raise FormatMismatch(f"block: {len(data)} bytes that are none: {error}") from error


def unpack_metadata(data: bytes, rows: int) -> dict[int, bytes]:
    """Which of so many rows has which JSON."""
    pairs = msgpack.unpackb(data, strict_map_key=False) if data else {}
    return {row: text for row, text in pairs.items() if 0 <= row < rows and type(text) is bytes}


def _check(samples: Samples, ids: Ints, count: int) -> None:
    """Raise `FormatMismatch` where the columns can't be what was recorded."""
    times = (samples.time, samples.summaries.last_ms)
    weights = samples.weight
    if (
        (ids < 0).any()
        or any(
            len(column) and not 0 <= int(column.min()) <= int(column.max()) < YEAR_10000_MS
            for column in times
        )
        or not 0 < int(weights.min()) <= int(weights.max()) <= count
        or int(weights.sum()) != count
        or (samples.summaries.count < 1).any()
        or not np.isfinite(samples.value[(samples.flags & CENTROID) == 0]).all()
    ):
        raise FormatMismatch(f"block: wanted {count} samples, got columns that are none")


def _unpack(data: bytes) -> Block:
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=max(len(data), 1), use_list=True)
    unpacker.feed(data)
    clock, writer, sequence, count, _, _, ids, based, bases = unpacker.unpack()
    reader = Reader(data, unpacker.tell(), "block")
    version, rows, summed, metadata_size, base = _PREFIX.unpack(reader.bytes(_PREFIX.size))
    if version != VERSION:
        raise FormatMismatch(f"block: wanted body version {VERSION}, got {version}")
    limit = MAX_ROWS + ROWS_PER_BYTE * len(data)
    if not 0 < rows <= limit or summed > rows:
        raise FormatMismatch(f"block: wanted 1 to {limit} rows, got {rows} and {summed} summaries")
    series, time = reader.whole(rows), reader.whole(rows)
    samples = Samples(
        series,
        time + base,
        reader.real(rows),
        reader.whole(rows),
        reader.whole(rows).astype(np.uint8),
    )
    if summed:
        samples.summed, samples.summed_flags = (
            reader.whole(summed),
            reader.whole(summed).astype(np.uint8),
        )
        columns: list[Any] = [
            reader.whole(summed) if each.name in ("count", "last_ms") else reader.real(summed)
            for each in fields(Summaries)
        ]
        samples.summaries = Summaries(*columns)
    if metadata_size:
        samples.metadata = unpack_metadata(reader.bytes(metadata_size), rows)
    id_column = np.array(list(map(int, ids)), dtype=np.int64)
    for column in (samples.series, samples.summed):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < len(id_column):
            raise FormatMismatch(
                f"block: wanted series below {len(id_column)}, got {int(column.max())}"
            )

    _check(samples, id_column, int(count))
    latest = int(clock) // 1000
    np.minimum(samples.time, latest, out=samples.time, where=(samples.flags & OWN_TIME) == 0)
    if summed:
        times = samples.summaries.last_ms
        np.minimum(times, latest, out=times, where=samples.summed_flags == 0)
    if based:
        start, since = np.zeros(len(id_column)), np.zeros(len(id_column), np.int64)
        found = np.frombuffer(bases, "<f8").reshape(len(based), 2)
        if not ((found[:, 1] >= 0) & (found[:, 1] < YEAR_10000_MS)).all():
            raise FormatMismatch("block: wanted times of changes in ms, got others")
        start[np.array(based, dtype=np.int64)], since[np.array(based, dtype=np.int64)] = (
            found[:, 0],
            found[:, 1],
        )
        changed = (samples.flags & CHANGE) != 0
        of_series = samples.series[changed]
        samples.value[changed] += start[of_series]
        samples.time[changed] = np.maximum(samples.time[changed], since[of_series])
    return Block(int(clock), writer.decode(), int(sequence), id_column, samples)
