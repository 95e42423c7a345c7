"""Read replies of Redis that may be damaged or of another version."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch, StoreError
from redismetrics.model.definition import Definition
from redismetrics.model.validation import unpack_tags


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


MAX_SERIES_ID = 1 << 26  # a question has a column of so many places

_NOT_OURS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    struct.error,
    msgpack.UnpackException,
)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what goes wrong while bytes of the store are read as *what* into `FormatMismatch`."""
    try:
        yield
    except StoreError:
        raise
    except _NOT_OURS as error:
        raise FormatMismatch(f"{what}: can't be read: {error!r:.200}") from error


STAMP_BYTES = 9  # bytes behind a definition in the catalogue: when it came


def read_definition(name: str, data: bytes) -> Definition:
    with reading(f"catalogue: the definition of {name!r}"):
        return Definition.unpack(data[:-STAMP_BYTES])


def read_now_ms(time: list[Any]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def series_by_id(flat: list[Any]) -> dict[int, bytes]:
    """The canonical tags of series by id."""
    found = {
        int(number): canonical
        for canonical, number in zip(flat[::2], flat[1::2], strict=True)
        if canonical
    }
    if found and not 0 <= min(found) <= max(found) < MAX_SERIES_ID:
        raise ValueError(
            f"wanted ids from 0 to {MAX_SERIES_ID - 1}, got {min(found)} to {max(found)}"
        )
    return found


def read_series(flat: list[Any]) -> dict[int, dict[str, str]]:
    with reading("series"):
        return {number: unpack_tags(canonical) for number, canonical in series_by_id(flat).items()}


def read_info(text: bytes) -> dict[str, str]:
    """The figures of an answer to INFO."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
