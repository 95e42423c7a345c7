"""Subscriptions for asyncio."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar, cast

import redis
import redis.asyncio

from redismetrics.errors import InvalidQuery, RedisMetricsError, StoreError
from redismetrics.model.sample import Gap
from redismetrics.store.connection import LoopClients, Store
from redismetrics.store.driver import AsyncClient, Operation, arun, translated

from .feed import Feed
from .subscription import _given
from .transport import DeliveryQueue, Item, Message

T = TypeVar("T")
S = TypeVar("S")
log = logging.getLogger("redismetrics")


class _LoopLine:
    """Carries a feed in a task of an event loop."""

    def __init__(self, store: Store, loops: LoopClients, queue: int) -> None:
        self.closed = False
        self.failure: StoreError | None = None
        self.inbox = DeliveryQueue(queue)
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
        self._task = asyncio.create_task(
            _afollow(self._feed, self._line), name="redismetrics-stream"
        )
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
