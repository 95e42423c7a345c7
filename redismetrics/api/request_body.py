"""Read and decompress request bodies; their size is checked before memory is allocated for them."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from redismetrics.errors import shown

from .limits import Limits

# Bytes that are decompressed in one step.
_CHUNK_BYTES = 1 << 16
# Maximum number of members in a gzip body. An empty one costs 20 bytes and a call of zlib.
_MAX_GZIP_MEMBERS = 100
# Maximum number of digits in a Content-Length: int() of more is slow.
_MAX_LENGTH_DIGITS = 15
# After an error, the rest of a body is not read, so the connection cannot be reused.
_CLOSE = {"Connection": "close"}


class RequestBody(NamedTuple):
    """The body of a request, as sent."""

    data: bytes
    is_gzip: bool

    def decompress(self, max_bytes: int) -> bytes:
        """Return the decompressed body.

        Raises:
            HTTPException: 400 if it is not gzip, 413 if it is longer than *max_bytes*.
        """
        return _gunzip(self.data, max_bytes) if self.is_gzip else self.data


class _Reading:
    """A body in memory; *timeout* is set while it is still being read."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.timeout: asyncio.Timeout | None = timeout
        self.size = 0
        self.given_up = False


class Bodies:
    """The bodies that one application holds, limited in number and bytes. For one event loop.

    When the limit is reached, the body that has been read for longest is given up: a normal client
    sends its body in one go.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # In the order of their arrival.
        self._held: dict[_Reading, None] = {}
        self._size = 0

    @property
    def size(self) -> int:
        """The bytes of all bodies that are held."""
        return self._size

    @asynccontextmanager
    async def read(
        self, request: Request, encodings: tuple[str, ...] = ("gzip", "identity")
    ) -> AsyncIterator[RequestBody]:
        """Read the body of *request*, which counts until the end of the context.

        *encodings* are the accepted values of Content-Encoding.

        Raises:
            HTTPException: 400 if the client disconnects, 408 if it is too slow, 413 if the body is
                too long, 415 for an unknown encoding, 503 if too many bodies are waiting.
        """
        timeout = asyncio.timeout(self._limits.body_seconds)
        reading = _Reading(timeout)
        if sum(each.timeout is not None for each in self._held) >= self._limits.max_bodies:
            self._give_up_oldest()
        self._held[reading] = None
        try:
            _check_encoding(request, encodings)
            yield await _read_body(request, self._limits, reading, self._claim)
        finally:
            self._held.pop(reading, None)
            self._size -= reading.size

    def _claim(self, reading: _Reading, size: int) -> None:
        limit = self._limits.body_buffer_bytes
        reading.size += size
        self._size += size
        while self._size > limit:
            if not self._give_up_oldest(reading):
                raise HTTPException(
                    503,
                    f"too many request bodies are waiting: at most {limit} bytes "
                    "(limit body_buffer_bytes); retry later",
                    _CLOSE,
                )

    def _give_up_oldest(self, but: _Reading | None = None) -> bool:
        """Give up the oldest body that is still being read; return False if there is none."""
        for reading in self._held:
            if reading is not but and reading.timeout is not None and not reading.given_up:
                reading.given_up = True
                reading.timeout.reschedule(asyncio.get_running_loop().time())
                self._size -= reading.size
                reading.size = 0
                return True
        return False


async def _read_body(
    request: Request, limits: Limits, reading: _Reading, claim: Callable[[_Reading, int], None]
) -> RequestBody:
    max_bytes = limits.body_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _MAX_LENGTH_DIGITS or int(length) > max_bytes):
        raise _too_long(max_bytes)
    data = bytearray()
    try:
        assert reading.timeout is not None
        async with reading.timeout:
            async for part in request.stream():
                if len(data) + len(part) > max_bytes:
                    raise _too_long(max_bytes)
                if not reading.given_up:
                    claim(reading, len(part))
                    data += part
    except TimeoutError as error:
        if reading.given_up:
            message = "body must arrive faster: its buffer space was needed; send it again"
            raise HTTPException(408, message, _CLOSE) from error
        message = (
            f"body must arrive within {limits.body_seconds:g} s (limit body_seconds), "
            f"got {len(data)} bytes of it"
        )
        raise HTTPException(408, message, _CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "body is incomplete: the client disconnected") from error
    finally:
        reading.timeout = None
    return RequestBody(bytes(data), _encoding(request) == "gzip")


def _encoding(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


def _check_encoding(request: Request, allowed: tuple[str, ...]) -> None:
    if (encoding := _encoding(request)) not in allowed:
        raise HTTPException(
            415, f"Content-Encoding must be {' or '.join(allowed)}, got {shown(encoding)}"
        )


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(
        413,
        f"body must be at most {max_bytes} bytes, even decompressed (limit body_bytes), got more",
        _CLOSE,
    )


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    """Decompress a gzip body of one or more members in small steps.

    The compressed rest is never copied as a whole: `decompressobj` would return it as
    `unused_data` after each member.
    """
    result = bytearray()
    members = position = 0
    while position < len(body):
        members += 1
        if members > _MAX_GZIP_MEMBERS:
            raise HTTPException(
                400, f"body must be gzip with at most {_MAX_GZIP_MEMBERS} members, got more"
            )
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not member.eof:
            chunk = body[position : position + _CHUNK_BYTES]
            try:
                part = member.decompress(chunk, _CHUNK_BYTES)
            except zlib.error as error:
                raise HTTPException(400, f"body is not valid gzip: {error}") from error
            position += len(chunk) - len(member.unconsumed_tail) - len(member.unused_data)
            if not chunk and not part and not member.eof:
                raise HTTPException(400, "body is not valid gzip: it ends early")
            if len(result) + len(part) > max_bytes:
                raise _too_long(max_bytes)
            result += part
    return bytes(result)


def content_type(request: Request, *allowed: str) -> str:
    """Return the media type of the body.

    *allowed* must only contain types that need a CORS preflight in a browser.

    Raises:
        HTTPException: 415 if it is not one of *allowed*.
    """
    value = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if value not in allowed:
        raise HTTPException(415, f"Content-Type must be {' or '.join(allowed)}, got {shown(value)}")
    return value
