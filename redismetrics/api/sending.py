"""Responses: timeouts for clients that don't read, headers, and unsent bytes."""

import asyncio
import threading
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redismetrics.exposition.compression import SECURITY_HEADERS

from .log_limits import log

# Bytes to pass to the server at once. It keeps them until the client has read them.
_PIECE_BYTES = 1 << 15
# Responses up to this size don't count: the number of queries bounds them.
_SMALL_BYTES = 1 << 16
# Minimum average rate at which a client must read a response, in bytes per second.
_MIN_RATE = 100_000


class ClientTooSlow(OSError):
    """The client did not read the response in time."""


class UnsentBytes:
    """The unsent bytes of one application's responses. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: dict[object, int] = {}

    @property
    def held(self) -> int:
        """The bytes of all unsent responses."""
        with self._lock:
            return sum(self._sizes.values())

    def open(self) -> object:
        """Return a key for one response."""
        key = object()
        with self._lock:
            self._sizes[key] = 0
        return key

    def check(self) -> None:
        """Check that there is room for a large response, before it is built.

        Raises:
            HTTPException: 503 if half of the room is taken.
        """
        held = self.held
        if held > self._limit // 2:
            raise self._too_many(held, "another large response")

    def claim(self, key: object, size: int) -> None:
        """Count the bytes of a response, unless its request has ended.

        A response larger than the limit passes if it is the only one; small ones always pass,
        because their number is limited.

        Raises:
            HTTPException: 503 if there are too many bytes.
        """
        if size <= _SMALL_BYTES:
            return
        with self._lock:
            held = sum(self._sizes.values())
            if held and held + size > self._limit:
                raise self._too_many(held, f"{size} more")
            if key in self._sizes:
                self._sizes[key] = size

    def _too_many(self, held: int, more: str) -> HTTPException:
        return HTTPException(
            503,
            f"too many responses are waiting to be read: {held} bytes of at most {self._limit} "
            f"(limit unsent_bytes), got {more}; retry later",
        )

    def close(self, key: object) -> None:
        """Forget a response that has been sent or whose request has ended."""
        with self._lock:
            self._sizes.pop(key, None)


class HeldResponse:
    """A response that calls *release* once it is sent, or sending has failed."""

    def __init__(self, response: Response, release: Callable[[], None]) -> None:
        self.response = response
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.response(scope, receive, send)
        finally:
            self._release()


class SendingMiddleware:
    """Sends responses in pieces, aborts those that are not read, and adds headers.

    A piece must be accepted within *send_seconds*. A response that is not a stream must also be
    accepted at 100 kB/s on average, plus that time.
    """

    def __init__(self, app: ASGIApp, *, send_seconds: float) -> None:
        self._app = app
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        close = _has_two_lengths(scope)

        async def send_message(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._send(_with_headers(message, close), send)
            elif len(message.get("body", b"")) <= _PIECE_BYTES:
                await self._send(message, send)
            else:
                await self._send_pieces(message, send)

        try:
            await self._app(scope, receive, send_message)
        except ClientTooSlow:
            # If the response is incomplete, the server closes the connection.
            log.info("a client did not read its response within the time limits")

    async def _send(self, message: Message, send: Send) -> None:
        try:
            async with asyncio.timeout(self._send_seconds):
                await send(message)
        except TimeoutError as error:
            raise ClientTooSlow from error

    async def _send_pieces(self, message: Message, send: Send) -> None:
        body = memoryview(message["body"])
        try:
            async with asyncio.timeout(self._send_seconds + len(body) / _MIN_RATE):
                for start in range(0, len(body), _PIECE_BYTES):
                    end = start + _PIECE_BYTES
                    piece = bytes(body[start:end])
                    more = end < len(body) or message.get("more_body", False)
                    await self._send({**message, "body": piece, "more_body": more}, send)
        except TimeoutError as error:
            raise ClientTooSlow from error


def _with_headers(message: Message, close: bool) -> Message:
    headers = list(message.get("headers", []))
    names = {name.lower() for name, _ in headers}
    for name, value in SECURITY_HEADERS:
        encoded = name.lower().encode()
        if encoded not in names:
            headers.append((encoded, value.encode()))
    if close and b"connection" not in names:
        headers.append((b"connection", b"close"))
    return {**message, "headers": headers}


def _has_two_lengths(scope: Scope) -> bool:
    """Return whether a request has Content-Length and Transfer-Encoding (RFC 9112, 6.3).

    A proxy may have read it differently, so the connection must not be used for another request.
    """
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names
