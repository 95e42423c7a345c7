"""Columns of numbers as bytes: a code byte, then the narrowest lossless form.

Data that is written once and read often is packed *dense*: pcodec
(https://github.com/pcodec/pcodec) is tried as well, and the smaller form is kept. Whatever the
column's length, pcodec takes about 50 µs and adds about 20 bytes.
"""

import struct
from typing import Any

import numpy as np
import pcodec
from numpy.typing import NDArray
from pcodec.standalone import simple_compress, simple_decompress_into

from redismetrics.errors import FormatMismatch

from .arrays import Floats, Ints, bounds

# Codes. 1 to 3: distances from the smallest integer in 1, 2 or 4 bytes; 5 and 6: floats of 4 or 8
# bytes.
_CONSTANT, _WIDE, _REAL_CONSTANT, _PCO, _PCO_REAL, _SMALL, _STAIRS = 0, 4, 7, 8, 9, 10, 11
_WHOLE: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    3: np.dtype("<u4"),
    _WIDE: np.dtype("<i8"),
}
_REAL: dict[int, np.dtype[Any]] = {5: np.dtype("<f4"), 6: np.dtype("<f8")}
_REALS = {*_REAL, _REAL_CONSTANT, _PCO_REAL}
_BASE = struct.Struct("<Bq")
_BASE_REAL = struct.Struct("<Bd")
_BASE_SMALL = struct.Struct("<Bh")
_SIZE = struct.Struct("<BI")
_OF_STAIRS = struct.Struct("<BqqII")
# Columns shorter than this are smaller without pcodec.
_DENSE_FROM = 24
_CONFIG = pcodec.ChunkConfig()


def pack_whole(column: NDArray[Any], *, dense: bool = False) -> bytes:
    """Return an integer column of shape (n,) as bytes; no bytes for an empty column.

    The format is: code, smallest value, then the distances from it in the narrowest type; the
    distances are left out if all numbers are equal.
    """
    if not len(column):
        return b""
    low, high = bounds(column)
    reach = high - low
    if not reach:
        return (
            _BASE_SMALL.pack(_SMALL, low)
            if dense and -(1 << 15) <= low < 1 << 15
            else _BASE.pack(_CONSTANT, low)
        )
    if reach >= 1 << 32:
        plain = _BASE.pack(_WIDE, 0) + column.astype("<i8").tobytes()
    else:
        code = 1 if reach < 1 << 8 else 2 if reach < 1 << 16 else 3
        plain = _BASE.pack(code, low) + (column - low).astype(_WHOLE[code]).tobytes()
    if not dense:
        return plain
    stairs = _stairs(column) if reach < 1 << 32 else None
    if stairs is not None and len(stairs) < len(plain):
        return stairs
    return _smaller(plain, column.astype(np.int64, copy=False), _PCO)


def _stairs(column: NDArray[Any]) -> bytes | None:
    """Return the packed form of a column that rises in equal steps of equal length, or None.

    It may restart from the first step. The slots and series of a full table look like this.
    """
    first = int(column[0])
    run = int((column != first).argmax())
    step = int(column[run]) - first
    again = int((column[run:] == first).argmax())
    period = (run + again) // run if again else -(-len(column) // run)
    if (
        len(column) % (run * period)
        or not (column == _of_stairs(first, step, run, period, len(column))).all()
    ):
        return None
    return _OF_STAIRS.pack(_STAIRS, first, step, run, period)


def _of_stairs(first: int, step: int, run: int, period: int, rows: int) -> Ints:
    once = np.repeat(first + step * np.arange(period), run)
    climbed: Ints = once if len(once) == rows else np.tile(once, rows // len(once))
    return climbed


def pack_real(column: Floats, *, dense: bool = False) -> bytes:
    """Return a float column of shape (n,) as bytes, without loss; no bytes for an empty column.

    It is stored as integers if all numbers are whole, or in four bytes each if that is lossless.
    """
    if not len(column):
        return b""
    first = column[0]
    if np.count_nonzero(column == first) == len(column):
        return _BASE_REAL.pack(_REAL_CONSTANT, first)
    if abs(first) < 1 << 31 and first == int(first):
        low, high = column.min(), column.max()
        if (
            low > -(1 << 52)
            and high - low < 1 << 32
            and np.count_nonzero(column == np.rint(column)) == len(column)
        ):
            return pack_whole(column.astype(np.int64), dense=dense)
    with np.errstate(over="ignore"):
        narrow = column.astype("<f4")
    plain = (
        b"\x05" + narrow.tobytes()
        if np.count_nonzero(narrow == column) == len(column)
        else b"\x06" + column.astype("<f8").tobytes()
    )
    return _smaller(plain, column, _PCO_REAL) if dense else plain


def _smaller(plain: bytes, column: NDArray[Any], code: int) -> bytes:
    if len(column) < _DENSE_FROM:
        return plain
    packed = simple_compress(np.ascontiguousarray(column), _CONFIG)
    return (
        _SIZE.pack(code, len(packed)) + packed if len(packed) + _SIZE.size < len(plain) else plain
    )


class Reader:
    """Reads columns from bytes, never past the end, and checks sizes before allocating memory.

    Every method raises `FormatMismatch` for corrupt bytes. *what* names the data in messages.
    """

    def __init__(self, data: bytes, at: int, what: str) -> None:
        self.data, self.at, self.what = data, at, what

    def bytes(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise FormatMismatch(
                f"corrupt {self.what}: {size} bytes expected at {self.at}, "
                f"{len(self.data) - self.at} left"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def whole(self, rows: int) -> Ints:
        column = np.empty(rows, np.int64)
        self.fill(column)
        return column

    def real(self, rows: int) -> Floats:
        column = np.empty(rows, np.float64)
        self.fill(column)
        return column

    def fill(self, column: NDArray[Any]) -> None:
        """Read numbers into all of *column*, of dtype int64 or float64."""
        rows = len(column)
        if not rows:
            return
        code = self.bytes(1)[0]
        if code in _REALS and column.dtype == np.int64:
            raise FormatMismatch(f"corrupt {self.what}: code {code} in a column of whole numbers")
        if code == _SMALL:
            column[:] = struct.unpack("<h", self.bytes(2))[0]
        elif code == (_PCO if column.dtype == np.int64 else _PCO_REAL):
            self._decompress(column)
        elif code == _PCO:
            whole = np.empty(rows, np.int64)
            self._decompress(whole)
            column[:] = whole
        elif code == _REAL_CONSTANT:
            column[:] = struct.unpack("<d", self.bytes(8))[0]
        elif code in _REAL:
            column[:] = np.frombuffer(self.bytes(rows * _REAL[code].itemsize), _REAL[code])
        elif code == _CONSTANT:
            column[:] = struct.unpack("<q", self.bytes(8))[0]
        elif code == _STAIRS:
            _, first, step, run, period = _OF_STAIRS.unpack(b"\0" + self.bytes(_OF_STAIRS.size - 1))
            last = first + step * (period - 1)
            if not run or not period or rows % (run * period) or not -(1 << 63) <= last < 1 << 63:
                raise FormatMismatch(
                    f"corrupt {self.what}: steps of {run} x {period} do not fill {rows} rows"
                )
            column[:] = _of_stairs(first, step, run, period, rows)
        elif code in _WHOLE:
            dtype = _WHOLE[code]
            low = struct.unpack("<q", self.bytes(8))[0]
            np.add(
                np.frombuffer(self.bytes(rows * dtype.itemsize), dtype),
                low,
                out=column,
                dtype=np.int64,
                casting="unsafe",
            )
        else:
            raise FormatMismatch(f"corrupt {self.what}: unknown column code {code}")

    def _decompress(self, column: NDArray[Any]) -> None:
        packed = self.bytes(struct.unpack("<I", self.bytes(4))[0])
        try:
            progress = simple_decompress_into(packed, column)
        except (KeyboardInterrupt, SystemExit):
            raise
        # Any error on corrupt bytes; a panic in Rust is not an Exception.
        except BaseException as error:
            raise FormatMismatch(f"corrupt {self.what}: {error}") from error
        if progress.n_processed != len(column) or not progress.finished:
            raise FormatMismatch(
                f"corrupt {self.what}: a column must hold {len(column)} numbers, "
                f"got {progress.n_processed} or more"
            )

    def skip(self, rows: int) -> None:
        """Skip a column of *rows* numbers without decoding it."""
        if not rows:
            return
        code = self.bytes(1)[0]
        if code in (_PCO, _PCO_REAL):
            size = struct.unpack("<I", self.bytes(4))[0]
        elif code == _SMALL:
            size = 2
        elif code in _REAL:
            size = rows * _REAL[code].itemsize
        elif code in _WHOLE:
            size = 8 + rows * _WHOLE[code].itemsize
        elif code in (_CONSTANT, _REAL_CONSTANT):
            size = 8
        elif code == _STAIRS:
            size = _OF_STAIRS.size - 1
        else:
            raise FormatMismatch(f"corrupt {self.what}: unknown column code {code}")
        self.bytes(size)
