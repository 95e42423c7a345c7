"""Shared by packed tables and packed samples: their minimum size, and errors on corrupt bytes."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgpack

from redismetrics.errors import FormatMismatch

T = TypeVar("T")

# Identical numbers take almost no bytes. To keep few bytes from allocating a lot of memory, packed
# data has at least one byte for this many numbers (rows and points); it is padded with zeros if
# necessary. Data of the most regular series, with equal values at equal times, takes about this
# much; all other data takes more anyway. There is no exception for short data: a query may read
# thousands of pieces.
NUMBERS_PER_BYTE = 4


def pad(parts: list[bytes], numbers: int, per_byte: int = NUMBERS_PER_BYTE) -> bytes:
    """Join *parts*, padded to the minimum size for *numbers* numbers."""
    packed = b"".join(parts)
    return packed + bytes(max(-(-numbers // per_byte) - len(packed), 0))


def check_size(what: str, size: int, numbers: int, per_byte: int = NUMBERS_PER_BYTE) -> None:
    """Raise `FormatMismatch` if *size* bytes are too few for *numbers* numbers."""
    most = per_byte * size
    if numbers > most:
        raise FormatMismatch(f"corrupt {what}: at most {most} numbers fit, got {numbers}")


def unpack_msgpack(data: bytes, at: int = 0, **options: Any) -> tuple[Any, int]:
    """Return the msgpack value that begins at *at*, and its end.

    It is skipped first, which proves that its arrays are as long as they claim: decoding allocates
    the claimed length of each array, and nested lengths multiply.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    unpacker.feed(data[at:] if at else data)
    unpacker.skip()
    end = at + unpacker.tell()
    return msgpack.unpackb(data[at:end], **options), end


def decode(what: str, packed: list[bytes], decoder: Callable[[], T]) -> T:
    """Return the result of *decoder*; turn any of its errors into `FormatMismatch`."""
    try:
        return decoder()
    except FormatMismatch:
        raise
    # Any error that a decoder raises on corrupt bytes.
    except Exception as error:
        size = sum(map(len, packed))
        raise FormatMismatch(f"corrupt {what} ({size} bytes): {error}") from error
