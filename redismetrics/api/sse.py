"""The live stream as server-sent events: each client has a subscription of its own, whose queue is all that waits for it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redismetrics.client.metrics import Metrics
from redismetrics.errors import RedisMetricsError
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.stream.async_subscription import AsyncSubscription

log = logging.getLogger("redismetrics")

Item = Sample | Summary | Gap

_TOGETHER = 100  # events in one write
_LAST_WORD = 1.0  # seconds for the end of a stream to reach a client that may not read any more
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}  # the latter: nginx would hold events back


class Streams:
    """The open streams of one application, at most *most*. All of it runs in the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[asyncio.Event] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def place(self) -> Iterator[asyncio.Event]:
        """A place for one more stream; the event is set when it is to end.

        Raises:
            HTTPException: 503, all places are taken, or the server is ending.
        """
        if self._closed:
            raise HTTPException(503, "stream: the server is ending")
        if len(self._open) >= self._most:
            raise HTTPException(
                503, f"stream: wanted at most {self._most} open (the limit streams), got one more"
            )
        ending = asyncio.Event()
        self._open.add(ending)
        try:
            yield ending
        finally:
            self._open.discard(ending)

    def begin(self) -> None:
        """Let streams begin, after a `close` too: one application may be served again."""
        self._closed = False

    def close(self) -> None:
        """End all streams, and let no other begin."""
        self._closed = True
        for ending in self._open:
            ending.set()


class EventStream(Response):
    """One client's stream, which subscribes when it is sent, and ends when the client leaves or the server ends."""

    media_type = "text/event-stream"

    def __init__(
        self, streams: Streams, subscription: AsyncSubscription[Any], heartbeat: float
    ) -> None:
        super().__init__(headers=_HEADERS)
        self._streams = streams
        self._subscription = subscription
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes. What keeps the stream from beginning is raised, and answered as an error."""
        del self.headers["content-length"]
        with self._streams.place() as ending:
            async with self._subscription:
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                ends = (_until_gone(receive), ending.wait(), self._send(send))
                tasks = [asyncio.create_task(each) for each in ends]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled() and (error := task.exception()) is not None:
                        log.error("BUG: a stream ends", exc_info=error)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send) -> None:
        text = ": subscribed\n\n"
        with suppress(OSError):  # the client is gone
            while not self._subscription.closed:
                await send(
                    {
                        "type": "http.response.body",
                        "body": text.encode("utf-8", "replace"),
                        "more_body": True,
                    }
                )
                text = await self._next(self._heartbeat) or ":\n\n"
                for _ in range(_TOGETHER - 1):
                    if not (more := await self._next(0)):
                        break
                    text += more

    async def _next(self, timeout: float) -> str:
        """The next event as text; "" when there is none in time."""
        while True:
            try:
                item = await self._subscription.get(timeout)
            except (
                RedisMetricsError
            ) as error:  # a message that this version can't read: the next one may be fine
                log.warning("stream: %s", error)
                if self._subscription.closed:
                    return ""
            else:
                return "" if item is None else _event(item)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(item: Item) -> str:
    """An item as an event. A gap whose samples were counted is what this client was too slow for."""
    if isinstance(item, Gap):
        edges = {"since": item.since, "until": item.until}
        return (
            _text("gap", edges)
            if item.missed is None
            else _text("missed", {"count": item.missed, **edges})
        )
    if isinstance(item, Summary):
        return _text("summary", item)
    return _text("sample", {**item.to_dict(), "count": item.count, "approximate": item.approximate})


def _text(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {Metrics.to_json(data)}\n\n"  # JSON holds no line end
