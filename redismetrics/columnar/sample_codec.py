"""Exact samples as bytes, stored by workers alongside minutes.

samples  version, rows, bytes of metadata, base time; columns series, time, value, weight; the
         metadata: in version 1 msgpack, in version 2 columns, see metadata_columns.py
nothing  no bytes: the field of a slot that has no samples
"""

import struct

import numpy as np

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import YEAR_10000_MS

from . import metadata_columns
from .block_codec import unpack_metadata
from .column_codec import Reader, pack_real, pack_whole
from .packing import check_size, decode, pad
from .samples import Samples, no_samples
from .small_columns import FEW_ROWS, NOT_SMALL, largest_whole, skip_whole

# Versions for samples without and with metadata.
VERSION, WITH_COLUMNS = 1, 2
# To keep corrupt bytes from allocating a lot of memory, metadata has at least this fraction of a
# byte per row, in numbers as counted by packing.py.
_METADATA_ROW = 3

# Version, rows, bytes of metadata, base time.
_HEAD = struct.Struct("<BIIq")

NO_SAMPLES = no_samples()


def pack_samples(samples: Samples, *, dense: bool = True) -> bytes:
    """Return exact samples, sorted by series and time, as bytes; no bytes for no samples.

    Flags are not stored. Use ``dense=False`` for data that will soon be rewritten.
    """
    if not len(samples):
        return b""
    metadata, version, numbers = b"", VERSION, len(samples)
    if samples.metadata:
        version, numbers = WITH_COLUMNS, numbers + _METADATA_ROW * len(samples.metadata)
        columns = metadata_columns.columns_of(samples.metadata)
        metadata = columns.pack(len(samples), dense=dense)
    base = int(samples.time.min())
    parts = [
        _HEAD.pack(version, len(samples), len(metadata), base),
        pack_whole(samples.series, dense=dense),
        pack_whole(samples.time - base, dense=dense),
        pack_real(samples.value, dense=dense),
        pack_whole(samples.weight, dense=dense),
        metadata,
    ]
    return pad(parts, numbers)


def unpack_samples(data: bytes) -> Samples:
    """Decode exact samples.

    Raises:
        FormatMismatch: If *data* is corrupt or of another version.
    """
    return decode("samples", [data], lambda: _unpack(data))


def newest_time(data: bytes) -> int:
    """Return the newest time in packed exact samples, in ms, without decoding the rest.

    Raises:
        FormatMismatch: If *data* is corrupt or of another version.
    """

    def read() -> int:
        reader = Reader(data, 0, "samples")
        _, n, _, base = _read_head(reader)
        if 0 < n <= FEW_ROWS:
            try:
                return base + largest_whole(data, skip_whole(data, reader.at, n), n)
            except NOT_SMALL:
                pass
        reader.skip(n)
        return base + int(reader.whole(n).max())

    return decode("samples", [data], read)


def read_samples(data: bytes | None) -> Samples:
    """Decode exact samples; return none if there are no bytes."""
    return unpack_samples(data) if data else NO_SAMPLES


def _read_head(reader: Reader) -> tuple[int, int, int, int]:
    """Return version, the number of samples, the bytes of metadata and the base time."""
    version, n, metadata_size, base = _HEAD.unpack(reader.bytes(_HEAD.size))
    if version not in (VERSION, WITH_COLUMNS):
        raise FormatMismatch(
            f"samples: the version must be {VERSION} or {WITH_COLUMNS}, got {version}"
        )
    check_size("samples", len(reader.data), n)
    return version, n, metadata_size, base


def _unpack(data: bytes) -> Samples:
    reader = Reader(data, 0, "samples")
    version, n, metadata_size, base = _read_head(reader)
    series, time = reader.whole(n), reader.whole(n) + base
    samples = Samples(series, time, reader.real(n), reader.whole(n), np.zeros(n, np.uint8))
    if (
        not n
        or int(samples.weight.min()) < 1
        or not 0 <= int(samples.time.min()) <= int(samples.time.max()) < YEAR_10000_MS
        or int(samples.series.min()) < 0
        or not np.isfinite(samples.value).all()
    ):
        raise FormatMismatch("corrupt samples: invalid series, times, values or weights")
    if version == WITH_COLUMNS:
        samples.metadata = metadata_columns.unpack(reader, metadata_size, n)
        check_size("samples", len(data), n + _METADATA_ROW * len(samples.metadata))
    else:
        samples.metadata = unpack_metadata(reader.bytes(metadata_size), n)
    return samples
