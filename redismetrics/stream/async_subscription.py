"""Subscriptions for asyncio: a task reads ahead of the reader."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Self, TypeVar, cast

from redismetrics.errors import InvalidQuery
from redismetrics.model.sample import Gap
from redismetrics.store.connection import Store
from redismetrics.store.loop_clients import LoopClients

from .delivery import LoopQueue
from .feed import Feed
from .positions import Received
from .transport import AsyncTransport

S = TypeVar("S")


class AsyncSubscription(Generic[S]):
    """`Subscription` for asyncio.

    ``async with`` subscribes; read with ``async for`` or ``await get(timeout)``. It belongs to the
    event loop that entered it. A cancelled read loses nothing.
    """

    def __init__(self, store: Store, loops: LoopClients, feed: Feed) -> None:
        self._queue = LoopQueue(feed.queue_limit)
        self._transport = AsyncTransport(store, loops)
        self._feed = feed
        self._task: asyncio.Task[None] | None = None

    def track(self, received: Received | None) -> None:
        """Also return a `PositionMark` for each batch, and begin after *received*, if given.

        For servers whose clients reconnect; call it before ``async with``.
        """
        self._feed.track(received)

    @property
    def missed(self) -> int:
        """Number of samples dropped so far because the reader was slow."""
        return self._queue.missed

    @property
    def unreadable(self) -> int:
        """Number of messages so far that could not be read."""
        return self._queue.unreadable

    @property
    def closed(self) -> bool:
        """Whether the subscription has ended, so that `get` will not return anything more."""
        return self._queue.closed

    async def __aenter__(self) -> Self:
        if self._task is not None or self._queue.closed:
            raise InvalidQuery(
                "a subscription can be entered only once; call subscribe() again for a new one"
            )
        await self._transport.drive(self._feed.open(self._queue))
        self._task = asyncio.create_task(
            _follow(self._feed, self._transport, self._queue), name="redismetrics-stream"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def get(self, timeout: float | None = None) -> S | Gap | None:
        """Return the next item; None after *timeout* seconds, or if the subscription is closed.

        Raises like `Subscription.get`.
        """
        if self._task is None and not self._queue.closed:
            raise InvalidQuery(
                "the subscription was not entered; "
                "use `async with metrics.subscribe(...) as stream`"
            )
        return cast("S | Gap | None", await self._queue.get(timeout))

    async def aclose(self) -> None:
        """End the subscription and drop unread items."""
        self._queue.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aiter__(self) -> AsyncIterator[S | Gap]:
        while (item := await self.get()) is not None:
            yield item


async def _follow(feed: Feed, transport: AsyncTransport, queue: LoopQueue) -> None:
    try:
        await transport.drive(feed.follow(queue))
    except Exception as error:  # noqa: BLE001  # logged and raised by the next read
        queue.abort(error)
