"""What packed tables and packed samples share: their least size, and errors on corrupt bytes."""

from collections.abc import Callable
from typing import TypeVar

from redismetrics.errors import FormatMismatch

T = TypeVar("T")

# Numbers that are all alike take next to no bytes. So that corrupt bytes cannot ask for all memory,
# packed data has at least one byte for NUMBERS_PER_BYTE numbers beyond the first FREE_NUMBERS; it
# is padded with zeros if need be.
NUMBERS_PER_BYTE, FREE_NUMBERS = 64, 1 << 14


def pad(parts: list[bytes], numbers: int) -> bytes:
    """Return *parts* as one, padded to the least size for *numbers* numbers."""
    packed = b"".join(parts)
    least = (numbers - FREE_NUMBERS) // NUMBERS_PER_BYTE + 1
    return packed + bytes(max(least - len(packed), 0))


def check_size(what: str, data: bytes, numbers: int) -> None:
    """Raise `FormatMismatch` if *data* is too short for *numbers* numbers."""
    most = FREE_NUMBERS + NUMBERS_PER_BYTE * len(data)
    if numbers > most:
        raise FormatMismatch(f"corrupt {what}: at most {most} numbers fit, got {numbers}")


def decode(what: str, packed: list[bytes], decoder: Callable[[], T]) -> T:
    """Return what *decoder* returns; turn any error of it into `FormatMismatch`."""
    try:
        return decoder()
    except FormatMismatch:
        raise
    # Any error that a decoder raises on corrupt bytes.
    except Exception as error:
        size = sum(map(len, packed))
        raise FormatMismatch(f"corrupt {what} ({size} bytes): {error}") from error
