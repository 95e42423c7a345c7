"""A proxy in front of a server that breaks the line the way networks do: at a known request, and counted.

    recorder ── Proxy.url ──> Proxy ── Server.url ──> Server

It understands just enough of the protocol to know where a request ends and how many replies it gets. A request is one or
more whole commands; while a fault is planned it is all that a client sends in one go, so a whole pipeline. Replies are
passed on as they come. One thread with its own event loop does all of it and ends with the `with` block.
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
QUIET = 0.01  # seconds without a byte after which a pipeline that comes in several pieces counts as whole

When = Callable[[bytes], bool]

_numbers = itertools.count(1)


def has_script(request: bytes) -> bool:
    """Tell whether *request* runs a script by its hash, as every batch does."""
    return b"EVALSHA" in request


def commands_in(data: bytes) -> int | None:
    r"""Return how many commands *data* is, or None while the last one is incomplete.

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
    """Return the number in the line at *at*, and where the next line begins; beyond *data* if it is not all there."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return 0, len(data) + 1
    if data[at : at + 1] != kind:
        raise ValueError(f"request at byte {at}: wanted {kind!r}, got {data[at:end]!r:.80}")
    return int(data[at + 1 : end]), end + 2


class _Plan:
    """Which of the requests to come meet a fault: *count* of them, each *every*-th that *when* holds for."""

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
    """Listens in front of *target*: on a loopback port, or with *unix* on a socket in the target's folder.

    Attributes:
        deaf: Accept, read and never answer. What is read meanwhile is gone, also after it hears again.
        delay: Seconds that each piece of a reply is held back.
        trickle: Replies go out byte by byte.
        connections: Accepted so far.
        requests: Passed on to the server so far, with those whose reply was lost.
        lost: Replies read from the server and thrown away, the connection cut.
        cut: Requests thrown away before the server saw them, the connection cut.
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
        self._lines: set[asyncio.Task[Any]] = set()

    def lose_replies(self, count: int = 1, *, every: int = 1, when: When = has_script) -> None:
        """Let the server carry out *count* requests, throw its replies away and cut the connection.

        Only each *every*-th request that *when* holds for is hit; *when* gets the bytes of the request. The count begins
        anew with each call; 0 ends it.
        """
        self._losses = _Plan(count, every, when)

    def cut_requests(self, count: int = 1, *, every: int = 1, when: When = has_script) -> None:
        """Cut the connection at *count* requests before the server sees them; the rest as in `lose_replies`."""
        self._cuts = _Plan(count, every, when)

    def disconnect(self) -> None:
        """Cut every connection there is; new ones are accepted."""
        asyncio.run_coroutine_threadsafe(self._cut_lines(), self._loop).result(PATIENCE)

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
        await self._cut_lines()

    async def _cut_lines(self) -> None:
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)

    def _accepted(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        line = asyncio.create_task(self._line(client, to_client))
        self._lines.add(line)

        def ended(line: asyncio.Task[None]) -> None:
            self._lines.discard(line)
            to_client.transport.abort()  # for a line that was cut before it began

        line.add_done_callback(ended)

    async def _line(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection from its beginning to its end."""
        to_server = None
        try:
            server, to_server = await self._dial()
            await self._relay(client, to_client, server, to_server)
        except (OSError, asyncio.CancelledError):
            pass  # either side is gone, or `disconnect`: in all cases the line ends here
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
        answers = asyncio.create_task(self._answer(server, to_client))
        try:
            while request := await self._request(client):
                if self._cuts.hits(request):
                    self.cut += 1
                    return
                loses = self._losses.hits(request)
                if loses:
                    await _end(answers)
                to_server.write(request)
                await to_server.drain()
                self.requests += 1
                if loses:
                    await _read_replies(server, commands_in(request) or 0)
                    self.lost += 1
                    return
        finally:
            await _end(answers)

    async def _request(self, client: asyncio.StreamReader) -> bytes:
        """Return the next request, b"" when there is none to come."""
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

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Pass on what the server says, and its hanging up."""
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
    """Read *count* whole replies; nobody was waiting for an earlier one, as clients here read before they send again."""
    unfinished = object()
    reader = hiredis.Reader(notEnoughData=unfinished)
    while count:
        data = await server.read(CHUNK)
        if not data:
            raise ConnectionResetError("the server hung up before it answered")
        reader.feed(data)
        while (reply := reader.gets()) is not unfinished:
            count -= not isinstance(reply, hiredis.PushNotification)
