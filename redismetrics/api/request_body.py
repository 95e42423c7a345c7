"""Read and unpack request bodies, bounded in bytes before they are held."""

import asyncio
import zlib
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from .service import Limits

_CHUNK = 1 << 16
_MEMBERS = 100  # of a gzip body
_DIGITS = 15  # of a length
_CLOSE = {"Connection": "close"}  # what is left of a body is not waited for


class Body(NamedTuple):
    """The body of a request, as it came."""

    data: bytes
    zipped: bool

    def opened(self, most: int) -> bytes:
        """The body, decompressed, not longer than *most* bytes.

        Raises:
            HTTPException: 400 or 413, with a sentence.
        """
        return _unzipped(self.data, most) if self.zipped else self.data


async def read_body(request: Request, limits: Limits) -> Body:
    """The body, bounded in bytes and seconds.

    Raises:
        HTTPException: 408, 413 or 415, with a sentence.
    """
    most = limits.body_bytes
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, f"Content-Encoding: wanted gzip or identity, got {encoding!r:.60}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > _DIGITS or int(length) > most):
        raise _too_long(most)
    data = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                if len(data) + len(part) > most:
                    raise _too_long(most)
                data += part
    except TimeoutError as error:
        wanted = f"wanted it within {limits.body_seconds:g} s (the limit body_seconds)"
        raise HTTPException(408, f"body: {wanted}, got {len(data)} bytes of it", _CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "body: wanted all of it, got a part") from error
    return Body(bytes(data), encoding == "gzip")


def _too_long(most: int) -> HTTPException:
    return HTTPException(
        413,
        f"body: wanted at most {most} bytes (the limit body_bytes), decompressed too; got more",
        _CLOSE,
    )


def _unzipped(body: bytes, most: int) -> bytes:
    """A gzip body of one or more members, read piece by piece: what is left of it is never copied as a whole."""
    found = bytearray()
    members = at = 0
    while at < len(body):
        members += 1
        if members > _MEMBERS:
            raise HTTPException(400, f"body: wanted gzip of at most {_MEMBERS} members, got more")
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not member.eof:
            piece = body[at : at + _CHUNK]
            try:
                part = member.decompress(piece, _CHUNK)
            except zlib.error as error:
                raise HTTPException(
                    400, f"body: wanted gzip, got something else: {error}"
                ) from error
            at += len(piece) - len(member.unconsumed_tail) - len(member.unused_data)
            if not piece and not part and not member.eof:
                raise HTTPException(400, "body: wanted gzip, got one that ends early")
            if len(found) + len(part) > most:
                raise _too_long(most)
            found += part
    return bytes(found)


def content_type(request: Request, *wanted: str) -> str:
    """The media type of the body: one of *wanted*, none of which a page of another site can send unasked."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in wanted:
        raise HTTPException(415, f"Content-Type: wanted {' or '.join(wanted)}, got {given!r:.60}")
    return given
