"""A proxy in front of a server that breaks connections as networks do: at a known request, counted.

    recorder ── Proxy.url ──> Proxy ── Server.url ──> Server

It parses the protocol only to find the end of a request and the number of its replies. A request is
one or more complete commands; while a fault is planned it is all that a client sends at once, so a
whole pipeline. Replies are passed on as they come. One thread with its own event loop does all of
it and ends with the `with` block.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self

import hiredis

from tests.fixtures.servers import PATIENCE, Server

CHUNK = 1 << 16
# Seconds without a byte after which a pipeline that comes in several pieces is complete.
QUIET = 0.01

When = Callable[[bytes], bool]

_numbers = itertools.count(1)


def has_script(request: bytes) -> bool:
    """True if *request* runs a script by its hash, as every batch does."""
    return b"EVALSHA" in request


def commands_in(data: bytes) -> int | None:
    r"""Return the number of commands in *data*, or None if the last one is incomplete.

    A command is ``*<arguments>\r\n`` and for each argument ``$<bytes>\r\n<argument>\r\n``.
    """
    at = count = 0
    while at < len(data):
        arguments, at = _header(data, at, b"*")
        for _ in range(arguments):
            size, at = _header(data, at, b"$")
            at += size + 2
        if at > len(data):
            return None
        count += 1
    return count


def _header(data: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """Return the number in the line at *at*, and the start of the next line.

    The start is beyond *data* if the line is incomplete.
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        return 0, len(data) + 1
    if data[at : at + 1] != kind:
        raise ValueError(f"request at byte {at} must begin with {kind!r}, got {data[at:end]!r:.80}")
    return int(data[at + 1 : end]), end + 2


class _Plan:
    """Which requests meet a fault: *count* of them, every *every*-th for which *when* is true."""

    def __init__(self, count: int, every: int, when: When) -> None:
        self.left = count
        self._every = every
        self._when = when
        self._seen = 0

    def hits(self, request: bytes) -> bool:
        if not self.left or not self._when(request):
            return False
        self._seen += 1
        if self._seen % self._every:
            return False
        self.left -= 1
        return True


class Proxy:
    """A proxy on a loopback port, or with *unix* on a socket in the target's folder.

    Attributes:
        deaf: Accept and read, but never reply. What is read while deaf is discarded for good.
        delay: Seconds by which each piece of a reply is delayed.
        trickle: Send replies byte by byte.
        connections: Number of accepted connections.
        requests: Number of requests passed on, including those whose reply was lost.
        lost: Number of replies that were discarded; the connection was cut.
        cut: Number of requests that were discarded before the server; the connection was cut.
    """

    def __init__(self, target: Server, *, unix: bool = False) -> None:
        self.deaf = False
        self.delay = 0.0
        self.trickle = False
        self.connections = self.requests = self.lost = self.cut = 0
        self.url = ""
        self._target = target
        self._path = str(target.folder / f"proxy-{next(_numbers)}") if unix else None
        self._losses = self._cuts = _Plan(0, 1, has_script)
        self._tasks: set[asyncio.Task[Any]] = set()

    def lose_replies(self, count: int = 1, *, every: int = 1, when: When = has_script) -> None:
        """Let the server execute *count* requests, but discard the replies and cut the connection.

        Only every *every*-th request for which *when* is true is hit; *when* gets the bytes of the
        request. Each call replaces the last one; 0 ends the fault.
        """
        self._losses = _Plan(count, every, when)

    def cut_requests(self, count: int = 1, *, every: int = 1, when: When = has_script) -> None:
        """Cut the connection before the server sees *count* requests; see `lose_replies`."""
        self._cuts = _Plan(count, every, when)

    def disconnect(self) -> None:
        """Cut every open connection; new ones are accepted."""
        asyncio.run_coroutine_threadsafe(self._cut_connections(), self._loop).result(PATIENCE)

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(ready)), name="proxy", daemon=True
        )
        self._thread.start()
        ready.result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the proxy's thread did not end"

    async def _main(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            if self._path:
                listener = await asyncio.start_unix_server(self._accepted, self._path)
                self.url = f"unix://{self._path}?db=0"
            else:
                listener = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
                self.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        except OSError as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._stop.wait()
        listener.close()
        await self._cut_connections()

    async def _cut_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accepted(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(client, to_client))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            to_client.transport.abort()  # if it was cut before it began

        task.add_done_callback(ended)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        to_server = None
        try:
            server, to_server = await self._dial()
            await self._relay(client, to_client, server, to_server)
        except (OSError, asyncio.CancelledError):
            pass  # a side has closed, or `disconnect` was called
        finally:
            writers = [writer for writer in (to_client, to_server) if writer]
            for writer in writers:
                writer.transport.abort()
            for writer in writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.port:
            return await asyncio.open_connection("127.0.0.1", self._target.port)
        return await asyncio.open_unix_connection(self._target.socket_path)

    async def _relay(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        replies = asyncio.create_task(self._pass_replies(server, to_client))
        try:
            while request := await self._request(client):
                if self._cuts.hits(request):
                    self.cut += 1
                    return
                loses = self._losses.hits(request)
                if loses:
                    await _end(replies)
                to_server.write(request)
                await to_server.drain()
                self.requests += 1
                if loses:
                    await _read_replies(server, commands_in(request) or 0)
                    self.lost += 1
                    return
        finally:
            await _end(replies)

    async def _request(self, client: asyncio.StreamReader) -> bytes:
        """Return the next request, or b"" at the end."""
        request = b""
        while True:
            complete = bool(request) and commands_in(request) is not None
            if complete and not (self._cuts.left or self._losses.left):
                return request
            try:
                data = await asyncio.wait_for(client.read(CHUNK), QUIET if complete else None)
            except TimeoutError:
                return request
            if not data:
                return request if complete else b""
            request = b"" if self.deaf else request + data

    async def _pass_replies(
        self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Pass on the replies of the server, and its end."""
        with contextlib.suppress(OSError):
            while data := await server.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.deaf:
                    continue
                for piece in (bytes([byte]) for byte in data) if self.trickle else (data,):
                    to_client.write(piece)
                    await to_client.drain()
                    await asyncio.sleep(0)
        to_client.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _read_replies(server: asyncio.StreamReader, count: int) -> None:
    """Read *count* complete replies.

    No earlier reply is open: clients here read before they send again.
    """
    unfinished = object()
    reader = hiredis.Reader(notEnoughData=unfinished)
    while count:
        data = await server.read(CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection before it replied")
        reader.feed(data)
        while (reply := reader.gets()) is not unfinished:
            count -= not isinstance(reply, hiredis.PushNotification)
