"""Decode replies from Redis, which may be corrupt or from another version."""

import struct
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch, StoreError, shown
from redismetrics.model.definition import Definition
from redismetrics.model.validation import unpack_tags

# Bytes after a definition in the catalogue: when it was written.
STAMP_BYTES = 9
# Its first byte: msgpack's mark of an integer of 8 bytes.
_STAMP_MARK = b"\xcf"

# Series ids must be below this, because a query has an array with one element for each.
MAX_SERIES_ID = 1 << 26

# Errors that decoding may raise for corrupt bytes.
DECODING_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    struct.error,
    msgpack.UnpackException,
)


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """Convert a flat reply of fields and values, or members and scores, to a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


class reading:  # noqa: N801
    """Turn errors of decoding *what* into `FormatMismatch`; a context manager.

    A class takes a third of the time of a generator, which matters for many metrics.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DECODING_ERRORS) and not isinstance(error, StoreError):
            raise FormatMismatch(f"cannot read {self._what}: {shown(error, 200)}") from error


def read_definition(name: str, data: bytes) -> Definition:
    """Read the definition of a metric from its catalogue entry."""
    with reading(f"the definition of {name!r}"):
        return Definition.unpack(data[:-STAMP_BYTES])


def stamp_at_end(data: bytes) -> bytes:
    """Return the stamp at the end of *data*; b"" if there is none."""
    stamp = data[-STAMP_BYTES:]
    return stamp if len(stamp) == STAMP_BYTES and stamp.startswith(_STAMP_MARK) else b""


def read_stamp(stamp: bytes) -> int:
    """Return the time in a catalogue stamp, in µs; 0 if it is damaged."""
    whole = stamp_at_end(stamp)
    return int.from_bytes(whole[1:], "big") if whole else 0


def read_now_ms(time: list[Any]) -> int:
    """Convert a reply to TIME to Unix milliseconds."""
    return int(time[0]) * 1000 + int(time[1]) // 1000


def series_by_id(flat: list[Any]) -> dict[int, bytes]:
    """Return the canonical tags of series by id."""
    # Without `pairs`, which would build a second mapping of 100,000 series.
    found = {
        int(number): canonical
        for canonical, number in zip(flat[::2], flat[1::2], strict=True)
        if canonical
    }
    if found and not 0 <= min(found) <= max(found) < MAX_SERIES_ID:
        raise ValueError(
            f"series ids must be from 0 to {MAX_SERIES_ID - 1}, got {min(found)} to {max(found)}"
        )
    return found


def read_series(flat: list[Any]) -> dict[int, dict[str, str]]:
    """Return the tags of series by id."""
    with reading("series"):
        return {number: unpack_tags(canonical) for number, canonical in series_by_id(flat).items()}


def read_info(text: bytes) -> dict[str, str]:
    """Return the fields of a reply to INFO."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
