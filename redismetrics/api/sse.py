"""The live stream as server-sent events.

Each client has its own subscription, whose queue is the only buffer for a slow client.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redismetrics.client.metrics import Metrics
from redismetrics.errors import RedisMetricsError, shown
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.stream.async_subscription import AsyncSubscription
from redismetrics.stream.positions import PositionMark, Received

from .log_limits import log

Item = Sample | Summary | Gap | PositionMark

# An id says what the client has received of each shard: its number, the clock of its newest batch,
# and how many events of that batch.
_OF_SHARD = r"\d{1,4}:\d{1,17}:(?:\d{1,12}|-1)"
_ID = re.compile(rf"{_OF_SHARD}(?:,{_OF_SHARD}){{0,1023}}\Z", re.ASCII)

# Maximum number of events per write, and of characters after which no event is added.
_MAX_EVENTS_PER_WRITE = 100
_MAX_TEXT = 1 << 15
# Seconds for the last chunk to reach a client, which may have stopped reading.
CLOSING_SECONDS = 1.0
# X-Accel-Buffering: otherwise nginx holds events back.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class OpenStreams:
    """The open streams of one application. Only used in the event loop's thread."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._stop_events: set[asyncio.Event] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._stop_events)

    @contextmanager
    def open(self) -> Iterator[asyncio.Event]:
        """Add a stream; yield the event that is set when it must end.

        Raises:
            HTTPException: 503 if too many streams are open, or the server is shutting down.
        """
        if self._closed:
            raise HTTPException(503, "the server is shutting down; reconnect later")
        if len(self._stop_events) >= self._max_streams:
            raise HTTPException(
                503,
                f"too many streams: {self._max_streams} are open (limit max_streams); retry later",
            )
        stop = asyncio.Event()
        self._stop_events.add(stop)
        try:
            yield stop
        finally:
            self._stop_events.discard(stop)

    def reopen(self) -> None:
        """Accept streams again after `close`: an application may be served more than once."""
        self._closed = False

    def close(self) -> None:
        """End all streams and accept no more."""
        self._closed = True
        for stop in self._stop_events:
            stop.set()


def read_event_id(text: str | None) -> Received | None:
    """Parse a Last-Event-ID header to what the client has received; None without one.

    Raises:
        HTTPException: 400 if it is not an id from a stream.
    """
    if not text:
        return None
    if not _ID.match(text):
        raise HTTPException(
            400, f"Last-Event-ID must be an id that a stream has sent, got {shown(text)}"
        )
    parts = (part.split(":") for part in text.split(","))
    return {int(shard): (int(clock), int(count)) for shard, clock, count in parts}


class _EventIds:
    """The ids of the events of one stream."""

    def __init__(self) -> None:
        self._mark = PositionMark({})
        self._count = 0

    def note(self, mark: PositionMark) -> str:
        """Note *mark*; return a separate id line, or "" if it belongs to the following samples."""
        self._mark, self._count = mark, 0
        return "" if mark.shard is not None or not mark.received else f"id: {self._text()}\n\n"

    def next(self, item: Item) -> str:
        """Return the line with the id of an event, if it has one."""
        if self._mark.shard is None or not isinstance(item, Sample):
            return ""
        self._count += 1
        return f"id: {self._text()}\n"

    def _text(self) -> str:
        received = dict(self._mark.received)
        if (shard := self._mark.shard) is not None:
            clock, count = received[shard]
            received[shard] = clock, count + self._count
        return ",".join(f"{shard}:{clock}:{count}" for shard, (clock, count) in received.items())


class EventStream(Response):
    """The stream of one client.

    Subscribes when it is sent. Ends when the client disconnects or the server shuts down.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        open_streams: OpenStreams,
        subscription: AsyncSubscription[Any],
        heartbeat_seconds: float,
    ) -> None:
        super().__init__(headers=_HEADERS)
        self._open_streams = open_streams
        self._subscription = subscription
        self._heartbeat_seconds = heartbeat_seconds
        self._ids = _EventIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream ends.

        Errors before the first byte are raised, and become an error response.
        """
        del self.headers["content-length"]
        with self._open_streams.open() as stop:
            async with self._subscription:
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                await self._send_until(stop, receive, send)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await send({"type": "http.response.body", "body": b""})

    async def _send_until(self, stop: asyncio.Event, receive: Receive, send: Send) -> None:
        """Send events until *stop* is set, the client disconnects or the subscription ends."""
        calls = (_wait_for_disconnect(receive), stop.wait(), self._send_events(send))
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("BUG: a stream failed", exc_info=error)

    async def _send_events(self, send: Send) -> None:
        text = ": subscribed\n\n"
        # An OSError means that the client has disconnected, or does not read.
        with suppress(OSError):
            while not self._subscription.closed:
                body = text.encode("utf-8", "replace")
                await send({"type": "http.response.body", "body": body, "more_body": True})
                text = await self._next_event(self._heartbeat_seconds) or ":\n\n"
                for _ in range(_MAX_EVENTS_PER_WRITE - 1):
                    if len(text) > _MAX_TEXT or not (event := await self._next_event(0)):
                        break
                    text += event

    async def _next_event(self, timeout: float) -> str:
        """Return the next event as text, or "" if there is none within *timeout* seconds."""
        while True:
            try:
                item = await self._subscription.get(timeout)
            except RedisMetricsError as error:
                # This version cannot read the message, but may be able to read the next one.
                log.warning("stream: %s", error)
                if self._subscription.closed:
                    return ""
            else:
                if item is None:
                    return ""
                if not isinstance(item, PositionMark):
                    return _encode_item(item, self._ids.next(item))
                if text := self._ids.note(item):
                    return text


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _encode_item(item: Sample | Summary | Gap, id_line: str) -> str:
    """Return *item* as an event. A gap with a count means that this client was too slow."""
    if isinstance(item, Gap):
        interval = {"since": item.since, "until": item.until}
        if item.missed is None:
            return _encode("gap", interval)
        return _encode("missed", {"count": item.missed, **interval})
    if isinstance(item, Summary):
        return _encode("summary", item)
    data = {**item.to_dict(), "count": item.count, "approximate": item.approximate}
    return _encode("sample", data, id_line)


def _encode(event: str, data: Any, id_line: str = "") -> str:
    # JSON contains no line break, so one data line is enough.
    return f"event: {event}\ndata: {Metrics.to_json(data)}\n{id_line}\n"
