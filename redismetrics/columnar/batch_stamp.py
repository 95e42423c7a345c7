"""Batch stamps, at the beginning of every log block and every change of the totals.

A stamp identifies the batch, even after a failover: no two batches get the same server time,
sequence and writer. It is written by scripts; see lua/include/batch_stamp.lua.
"""

import struct
from math import isfinite
from typing import NamedTuple

from redismetrics.model.time import YEAR_10000_MS

_FIXED = struct.Struct("<dddB")
# The whole stamp, by the size of the writer's id.
_WHOLE = [struct.Struct(f"<dddB{size}s") for size in range(256)]
# In us.
_END_OF_TIME = YEAR_10000_MS * 1000


class BatchStamp(NamedTuple):
    """Clock of the batch in µs, server time in µs, number of the batch, id of the process."""

    clock: int
    time_us: int
    sequence: int
    writer: str


def unpack_stamp(data: bytes) -> tuple[BatchStamp, int]:
    """Return the stamp at the beginning of *data*, and its size.

    Raises:
        struct.error, ValueError, OverflowError: If *data* is corrupt.
    """
    clock, time_us, sequence, writer_size = _FIXED.unpack_from(data)
    end = _FIXED.size + writer_size
    if len(data) < end:
        raise ValueError(f"a batch stamp must have {end} bytes, got {len(data)}")
    if not 0 <= clock < _END_OF_TIME:
        raise ValueError(f"a batch's clock must be before the year 10000, got {clock}")
    writer = data[_FIXED.size : end].decode()
    return BatchStamp(int(clock), int(time_us), int(sequence), writer), end


def stamp_clock(data: bytes) -> tuple[int, int]:
    """Return the clock of the stamp at the beginning of *data*, and the stamp's size.

    For data that is read often. Rejects everything that `unpack_stamp` rejects, and also a writer
    that is not ASCII.

    Raises:
        struct.error, ValueError: If *data* may be corrupt.
    """
    size = data[_FIXED.size - 1] if len(data) >= _FIXED.size else 0
    clock, time_us, sequence, _, writer = _WHOLE[size].unpack_from(data)
    if 0 <= clock < _END_OF_TIME and isfinite(time_us + sequence) and writer.isascii():
        return int(clock), _FIXED.size + size
    raise ValueError("not a batch stamp")


def stamp_bytes(data: bytes) -> bytes:
    """Return the bytes of the stamp at the beginning of *data*, which has been unpacked before."""
    return data[: _FIXED.size + data[_FIXED.size - 1]]


def pack_stamp(stamp: BatchStamp) -> bytes:
    """Return *stamp* in the format written by scripts."""
    writer = stamp.writer.encode()
    return _FIXED.pack(stamp.clock, stamp.time_us, stamp.sequence, len(writer)) + writer
