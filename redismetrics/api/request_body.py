"""Read and decompress request bodies; their size is checked before memory is allocated for them."""

import asyncio
import zlib
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from redismetrics.errors import shown

from .limits import Limits

# Bytes that are decompressed in one step.
_CHUNK_BYTES = 1 << 16
# Members of a gzip body. Empty ones cost 20 bytes each and a call of zlib.
_MAX_GZIP_MEMBERS = 100
# Digits of a Content-Length: int() of more takes long.
_MAX_LENGTH_DIGITS = 15
# After an error the rest of a body is not read, so the connection cannot be used again.
_CLOSE = {"Connection": "close"}


class RequestBody(NamedTuple):
    """The body of a request, as it was sent."""

    data: bytes
    is_gzip: bool

    def decompress(self, max_bytes: int) -> bytes:
        """Return the decompressed body.

        Raises:
            HTTPException: 400 if it is not gzip, 413 if it is longer than *max_bytes*.
        """
        return _gunzip(self.data, max_bytes) if self.is_gzip else self.data


async def read_body(request: Request, limits: Limits) -> RequestBody:
    """Read the body of *request*, within the limits of bytes and seconds.

    Raises:
        HTTPException: 400 if the client disconnects, 408 if it is too slow, 413 if the body is too
            long, 415 for an unknown encoding.
    """
    max_bytes = limits.body_bytes
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(
            415, f"Content-Encoding must be gzip or identity, got {shown(encoding)}"
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _MAX_LENGTH_DIGITS or int(length) > max_bytes):
        raise _too_long(max_bytes)
    data = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                if len(data) + len(part) > max_bytes:
                    raise _too_long(max_bytes)
                data += part
    except TimeoutError as error:
        message = (
            f"body must arrive within {limits.body_seconds:g} s (limit body_seconds), "
            f"got {len(data)} bytes of it"
        )
        raise HTTPException(408, message, _CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "body is incomplete: the client disconnected") from error
    return RequestBody(bytes(data), encoding == "gzip")


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(
        413,
        f"body must be at most {max_bytes} bytes, also decompressed (limit body_bytes), got more",
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

    *allowed* must only hold types that a browser sends to another site after a CORS preflight.

    Raises:
        HTTPException: 415 if it is not one of *allowed*.
    """
    value = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if value not in allowed:
        raise HTTPException(415, f"Content-Type must be {' or '.join(allowed)}, got {shown(value)}")
    return value
