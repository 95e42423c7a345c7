"""The live stream: what is recorded, as it is recorded. A thread, or an asyncio task, reads ahead of whoever iterates."""

import asyncio
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, Self, TypeVar, cast

import redis
import redis.asyncio

from .connect import LoopClients, Store
from .drive import AsyncClient, Client, Operation, arun, run, translated
from .errors import InvalidQuery, RedisMetricsError, StoreError
from .feed import Feed, Inbox, Item, Message
from .model import Gap

log = logging.getLogger("redismetrics")

S = TypeVar("S")
T = TypeVar("T")


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over a `_BlockingLine`, which never suspends it."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise RuntimeError("BUG: a blocking line was suspended")


class _BlockingLine:
    """Carries a feed in a thread: waits where asyncio would suspend. What the reader shares is guarded by *change*."""

    def __init__(self, store: Store, queue: int) -> None:
        self.closed = False
        self.failure: StoreError | None = None
        self.inbox = Inbox(queue)
        self.change = threading.Condition()
        self.pid = os.getpid()
        self._store = store
        self._client: Client | None = None
        self._pubsub: Any = None

    async def open(self, channels: list[str], patterns: list[str], seconds: float) -> None:
        self._client = self._store.connect(retries=0, timeout=seconds)
        self._pubsub = self._client.pubsub()
        with translated():
            if channels:
                self._pubsub.subscribe(*channels)
            if patterns:
                self._pubsub.psubscribe(*patterns)

    async def read(self, seconds: float) -> Message | None:
        with translated():
            return cast("Message | None", self._pubsub.get_message(timeout=seconds))

    async def ping(self) -> None:
        with translated():
            self._pubsub.ping()

    async def run(self, operation: Operation[T]) -> T:
        return run(self._store.client(), operation)

    async def pause(self, seconds: float) -> None:
        with self.change:
            if not self.closed:
                self.change.wait(seconds)

    async def disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with suppress(redis.RedisError, OSError):
            if pubsub is not None:
                pubsub.close()
            if client is not None:
                client.close()

    def renew(self) -> None:
        self._store.renew()

    def deliver(self, items: Sequence[Item | RedisMetricsError]) -> None:
        with self.change:
            if not self.closed:
                self.inbox.put(items)
                self.change.notify_all()

    def close(self) -> None:
        if os.getpid() != self.pid:  # a forked child's copy, whose lock may be held for ever
            return
        with self.change:
            self.closed = True
            self.inbox.clear()
            self.change.notify_all()


def _follow(feed: Feed, line: _BlockingLine) -> None:
    try:
        _finished(feed.follow(line))
    except Exception as error:
        log.exception("BUG: a stream ended")
        line.failure = StoreError(f"BUG: {error!r}")
        line.close()


class Subscription(Generic[S]):
    """Yields what is recorded from now on, and a `Gap` where something is missing: the live stream, see `Metrics.subscribe`.

    A context manager, subscribed once made. Iterate it (ends with `close()`), or `get(timeout)`, from any thread. It survives
    cuts and restarts of the server: what was recorded meanwhile is read from the logs, in order and once. *missed* is how many
    samples were let go for want of room in the queue. A forked child has no part in it.
    """

    def __init__(self, store: Store, feed: Feed) -> None:
        self._line = line = _BlockingLine(store, feed.queue)
        _finished(feed.open(line))
        # The thread holds the line and not this object: so it ends when nobody reads any more.
        self._end = weakref.finalize(self, line.close)
        self._end.atexit = False
        threading.Thread(target=_follow, args=(feed, line), name="redismetrics-stream", daemon=True).start()

    @property
    def missed(self) -> int:
        """How many samples were let go so far, since the reader was slow."""
        return self._line.inbox.missed

    @property
    def closed(self) -> bool:
        """Has it ended? Then `get` has nothing more to wait for."""
        return self._line.closed

    def get(self, timeout: float | None = None) -> S | Gap | None:
        """The next item; None when there is none within *timeout* seconds, or the subscription is closed.

        Raises:
            StoreError: a branch of it: what came and can't be read, or why there is no connection where waiting doesn't mend it.
                The next call goes on after it.
        """
        line = self._line
        if os.getpid() != line.pid:
            return None
        until = None if timeout is None else monotonic() + timeout
        with line.change:
            while (item := line.inbox.take()) is None:
                if line.closed:
                    failure, line.failure = line.failure, None
                    if failure is not None:
                        raise failure
                    return None
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return None
                line.change.wait(left)
        return cast("S | Gap", _given(item))

    def close(self) -> None:
        """End the subscription; what was received and not read is dropped. May come from any thread."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[S | Gap]:
        while (item := self.get()) is not None:
            yield item


class _LoopLine:
    """Carries a feed in a task of an event loop."""

    def __init__(self, store: Store, loops: LoopClients, queue: int) -> None:
        self.closed = False
        self.failure: StoreError | None = None
        self.inbox = Inbox(queue)
        self.news: deque[asyncio.Future[None]] = deque()
        self._store = store
        self._loops = loops
        self._client: AsyncClient | None = None
        self._pubsub: Any = None

    async def open(self, channels: list[str], patterns: list[str], seconds: float) -> None:
        self._client = await self._store.aconnect(retries=0, timeout=seconds)
        self._pubsub = self._client.pubsub()
        with translated():
            if channels:
                await self._pubsub.subscribe(*channels)
            if patterns:
                await self._pubsub.psubscribe(*patterns)

    async def read(self, seconds: float) -> Message | None:
        with translated():
            return cast("Message | None", await self._pubsub.get_message(timeout=seconds))

    async def ping(self) -> None:
        with translated():
            await self._pubsub.ping()

    async def run(self, operation: Operation[T]) -> T:
        return await arun(await self._loops.client(), operation)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with suppress(redis.RedisError, OSError):
            if pubsub is not None:
                await pubsub.aclose()
        with suppress(redis.RedisError, OSError):
            if client is not None:
                await client.aclose(close_connection_pool=True)

    def renew(self) -> None:
        self._store.renew()

    def deliver(self, items: Sequence[Item | RedisMetricsError]) -> None:
        if not self.closed:
            self.inbox.put(items)
            self.tell()

    def tell(self) -> None:
        """Wake all readers: each looks for itself."""
        while self.news:
            waiter = self.news.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        self.closed = True
        self.inbox.clear()
        self.tell()


class AsyncSubscription(Generic[S]):
    """`Subscription` for asyncio: ``async with`` subscribes, ``async for`` reads, or ``await get(timeout)``.

    Belongs to the event loop that entered it. A read that is cancelled loses nothing.
    """

    def __init__(self, store: Store, loops: LoopClients, feed: Feed) -> None:
        self._line = _LoopLine(store, loops, feed.queue)
        self._feed = feed
        self._task: asyncio.Task[None] | None = None

    @property
    def missed(self) -> int:
        """How many samples were let go so far, since the reader was slow."""
        return self._line.inbox.missed

    @property
    def closed(self) -> bool:
        """Has it ended? Then `get` has nothing more to wait for."""
        return self._line.closed

    async def __aenter__(self) -> Self:
        if self._task is not None or self._line.closed:
            raise InvalidQuery(
                "subscribe: wanted a new subscription for each `async with`, got one that was entered before"
            )
        await self._feed.open(self._line)
        self._task = asyncio.create_task(_afollow(self._feed, self._line), name="redismetrics-stream")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def get(self, timeout: float | None = None) -> S | Gap | None:
        """The next item; None when there is none within *timeout* seconds, or the subscription is closed.

        Raises as `Subscription.get` does.
        """
        line = self._line
        if self._task is None and not line.closed:
            raise InvalidQuery(
                "subscribe: wanted `async with metrics.subscribe(...) as stream`, got one that was not entered"
            )
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while (item := line.inbox.take()) is None:
            if line.closed:
                failure, line.failure = line.failure, None
                if failure is not None:
                    raise failure
                return None
            waiter = loop.create_future()
            line.news.append(waiter)
            try:
                async with asyncio.timeout_at(until):
                    await waiter
            except TimeoutError:
                if (item := line.inbox.take()) is None:
                    return None
                break
        return cast("S | Gap", _given(item))

    async def aclose(self) -> None:
        """End the subscription; what was received and not read is dropped."""
        self._line.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])

    async def __aiter__(self) -> AsyncIterator[S | Gap]:
        while (item := await self.get()) is not None:
            yield item


async def _afollow(feed: Feed, line: _LoopLine) -> None:
    try:
        await feed.follow(line)
    except Exception as error:
        log.exception("BUG: a stream ended")
        line.failure = StoreError(f"BUG: {error!r}")
        line.close()


def _given(item: Item | RedisMetricsError) -> Any:
    if isinstance(item, RedisMetricsError):
        raise item
    return item
