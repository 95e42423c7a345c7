"""Columns of numbers <-> bytes: a code byte, then the narrowest form that holds every number exactly.

What is written once and read often is packed *dense*: then pcodec's form (https://github.com/pcodec/pcodec) is tried too, and
the smaller kept, since it costs some 20 bytes and 50 us a column whatever its length.
"""

import struct
from typing import Any

import numpy as np
import pcodec
from numpy.typing import NDArray
from pcodec.standalone import simple_compress, simple_decompress_into

from .errors import FormatMismatch
from .rollups import Floats, Ints

_CONSTANT, _WIDE, _REAL_CONSTANT, _PCO, _PCO_REAL, _SMALL = 0, 4, 7, 8, 9, 10
_WHOLE: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 3: np.dtype("<u4"), _WIDE: np.dtype("<i8")}
_REAL: dict[int, np.dtype[Any]] = {5: np.dtype("<f4"), 6: np.dtype("<f8")}
_REALS = {*_REAL, _REAL_CONSTANT, _PCO_REAL}
_BASE = struct.Struct("<Bq")
_BASE_REAL = struct.Struct("<Bd")
_BASE_SMALL = struct.Struct("<Bh")
_SIZE = struct.Struct("<BI")
_DENSE_FROM = 24  # shorter columns are smaller without pcodec
_CONFIG = pcodec.ChunkConfig()


def pack_whole(column: NDArray[Any], *, dense: bool = False) -> bytes:
    """An integer column: code, smallest value, and the distances from it in the narrowest type; nothing when all are equal."""
    if not len(column):
        return b""
    low, high = int(column.min()), int(column.max())
    reach = high - low
    if not reach:
        return _BASE_SMALL.pack(_SMALL, low) if dense and -(1 << 15) <= low < 1 << 15 else _BASE.pack(_CONSTANT, low)
    if reach >= 1 << 32:
        plain = _BASE.pack(_WIDE, 0) + column.astype("<i8").tobytes()
    else:
        code = 1 if reach < 1 << 8 else 2 if reach < 1 << 16 else 3
        plain = _BASE.pack(code, low) + (column - low).astype(_WHOLE[code]).tobytes()
    return _smaller(plain, column.astype(np.int64, copy=False), _PCO) if dense else plain


def pack_real(column: Floats, *, dense: bool = False) -> bytes:
    """A column of floats: as integers where all are, in four bytes where nothing is lost by it."""
    if not len(column):
        return b""
    first = column[0]
    if (column == first).all():
        return _BASE_REAL.pack(_REAL_CONSTANT, first)
    if abs(first) < 1 << 31 and first == int(first):
        low, high = column.min(), column.max()
        if low > -(1 << 52) and high - low < 1 << 32 and (column == np.rint(column)).all():
            return pack_whole(column.astype(np.int64), dense=dense)
    with np.errstate(over="ignore"):
        narrow = column.astype("<f4")
    plain = b"\x05" + narrow.tobytes() if (narrow == column).all() else b"\x06" + column.astype("<f8").tobytes()
    return _smaller(plain, column, _PCO_REAL) if dense else plain


def _smaller(plain: bytes, column: NDArray[Any], code: int) -> bytes:
    if len(column) < _DENSE_FROM:
        return plain
    packed = simple_compress(np.ascontiguousarray(column), _CONFIG)
    return _SIZE.pack(code, len(packed)) + packed if len(packed) + _SIZE.size < len(plain) else plain


class Reader:
    """Takes columns off bytes, never past their end; sizes are checked before anything is allocated.

    Every method raises `FormatMismatch` for bytes that are none of ours.
    """

    def __init__(self, data: bytes, at: int, what: str) -> None:
        self.data, self.at, self.what = data, at, what

    def bytes(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise FormatMismatch(f"{self.what}: wanted {size} bytes at {self.at}, got {len(self.data) - self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def whole(self, rows: int) -> Ints:
        return self._column(rows, np.int64)

    def real(self, rows: int) -> Floats:
        return self._column(rows, np.float64)

    def _column(self, rows: int, kind: Any) -> NDArray[Any]:
        if not rows:
            return np.zeros(0, kind)
        code = self.bytes(1)[0]
        if code in _REALS and kind is np.int64:
            raise FormatMismatch(f"{self.what}: wanted a column of whole numbers, got code {code}")
        if code == _SMALL:
            return np.full(rows, struct.unpack("<h", self.bytes(2))[0], kind)
        if code in (_PCO, _PCO_REAL):
            return self._decompressed(rows, np.int64 if code == _PCO else np.float64).astype(kind, copy=False)
        if code == _REAL_CONSTANT:
            return np.full(rows, struct.unpack("<d", self.bytes(8))[0], kind)
        if code in _REAL:
            dtype = _REAL[code]
            return np.frombuffer(self.bytes(rows * dtype.itemsize), dtype).astype(kind)
        low = struct.unpack("<q", self.bytes(8))[0]
        if code == _CONSTANT:
            return np.full(rows, low, kind)
        if code not in _WHOLE:
            raise FormatMismatch(f"{self.what}: wanted a known column code, got {code}")
        dtype = _WHOLE[code]
        distances = np.frombuffer(self.bytes(rows * dtype.itemsize), dtype).astype(np.int64)
        return np.asarray(distances + low, dtype=kind)

    def _decompressed(self, rows: int, kind: Any) -> NDArray[Any]:
        packed = self.bytes(struct.unpack("<I", self.bytes(4))[0])
        column = np.empty(rows, kind)
        try:
            progress = simple_decompress_into(packed, column)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever it raises on damaged bytes; a panic in Rust is no Exception
            raise FormatMismatch(f"{self.what}: {error}") from error
        if progress.n_processed != rows or not progress.finished:
            raise FormatMismatch(f"{self.what}: wanted {rows} numbers, got {progress.n_processed} or more")
        return column

    def skip(self, rows: int) -> None:
        """Go past a column without decoding it."""
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
        else:
            raise FormatMismatch(f"{self.what}: wanted a known column code, got {code}")
        self.bytes(size)
