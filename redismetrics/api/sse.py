"""The live stream as server-sent events: a thread reads a subscription, a bounded queue waits for a slow client."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redismetrics.client import Metrics
from redismetrics.errors import RedisMetricsError
from redismetrics.model import Gap, Sample
from redismetrics.stream import Subscription

log = logging.getLogger("redismetrics")

_TOGETHER = 100  # events in one write
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter: nginx would hold events back


class Streams:
    """The open streams of one application, at most *most*. All of it runs in the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._feeds: set[Feed] = set()
        self._closed = False

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A place for one more stream, given back where none came of it.

        Raises:
            HTTPException: 503, all places are taken, or the server is ending.
        """
        if self._closed:
            raise HTTPException(503, "stream: the server is ending")
        if self._taken >= self._most:
            raise HTTPException(503, f"stream: wanted at most {self._most} open (the limit streams), got one more")
        self._taken += 1
        place = Place(self)
        try:
            yield place
        finally:
            if not place.filled:
                self._taken -= 1

    def add(self, feed: "Feed") -> None:
        self._feeds.add(feed)
        if self._closed:
            feed.stop()

    def remove(self, feed: "Feed") -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._taken -= 1

    def close(self) -> None:
        """End all streams, and let no other begin."""
        self._closed = True
        for feed in list(self._feeds):
            feed.stop()


class Place:
    """Where one stream will stand."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.filled = False

    def fill(self, feed: "Feed") -> "Feed":
        self.filled = True
        feed.streams = self._streams
        self._streams.add(feed)
        return feed


class Feed(Response):
    """One client's stream. Closes its subscription when the client leaves, or the server ends."""

    media_type = "text/event-stream"

    def __init__(self, subscription: Subscription[Sample], most: int, heartbeat: float) -> None:
        super().__init__(headers=_HEADERS)
        self.streams: Streams | None = None
        self._subscription = subscription
        self._most = most
        self._heartbeat = heartbeat
        self._items: deque[Sample | Gap] = deque()
        self._missed = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes until the client leaves or `stop` is called."""
        del self.headers["content-length"]
        leaving = asyncio.create_task(self._until_gone(receive))
        threading.Thread(target=self._read, name="redismetrics-sse", daemon=True).start()
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            text = ": subscribed\n\n"
            while not self._ended:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                self._ready.clear()
                text = self._take()
                if not text and not self._ended:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._ready.wait(), self._heartbeat)
                    text = self._take() or ":\n\n"
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # the client is gone
        finally:
            leaving.cancel()
            self._end()

    def stop(self) -> None:
        """End the stream; from the event loop's thread."""
        self._ended = True
        self._ready.set()

    def _end(self) -> None:
        self.stop()
        if self.streams is not None:
            self.streams.remove(self)
        self._subscription.close()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop()

    # -- the reading thread -------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while not self._ended:
                try:
                    item = self._subscription.get()
                except RedisMetricsError as error:  # a message that this version can't read: the next one may be fine
                    log.warning("stream: %s", error)
                    continue
                if item is None:
                    break
                self._put(item)
        except Exception:
            log.exception("BUG: a stream ends")
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.stop)

    def _put(self, item: Sample | Gap) -> None:
        with self._lock:
            wake = not self._items and not self._missed
            if len(self._items) < self._most and not self._missed:  # no more until it was told what is missing
                self._items.append(item)
            else:
                self._missed += 1
        if wake:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ready.set)

    def _take(self) -> str:
        """The next events as text; "" when there are none. What was missed is told where it is missing."""
        with self._lock:
            count = min(len(self._items), _TOGETHER)
            found = [self._items.popleft() for _ in range(count)]
            missed = 0
            if not self._items:
                missed, self._missed = self._missed, 0
        events = [_event(item) for item in found]
        if missed:
            events.append(_text("missed", {"count": missed}))
        return "".join(events)


def _event(item: Sample | Gap) -> str:
    if isinstance(item, Gap):
        return _text("gap", {"since": item.since, "until": item.until})
    return _text("sample", {**item.to_dict(), "count": item.count, "approximate": item.approximate})


def _text(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {Metrics.to_json(data)}\n\n"  # JSON holds no line end
