"""Subscriptions for threads: a background thread reads ahead of the reader."""

import threading
import weakref
from collections.abc import Iterator
from typing import Generic, Self, TypeVar, cast

from redismetrics.model.sample import Gap
from redismetrics.store.connection import Store

from .delivery import ThreadQueue
from .feed import Feed
from .transport import Transport

S = TypeVar("S")


class Subscription(Generic[S]):
    """The live stream: everything recorded from now on, and a `Gap` where samples are missing.

    See `Metrics.subscribe`. It is subscribed as soon as it is created. Use it as a context manager.
    Iterate over it until `close()`, or call `get(timeout)`, from any thread. It survives lost
    connections and restarts of the server: samples recorded in the meantime are read from the logs,
    in order and without duplicates. It cannot be used in a forked child.
    """

    def __init__(self, store: Store, feed: Feed) -> None:
        self._queue = queue = ThreadQueue(feed.queue_limit)
        transport = Transport(store, queue)
        transport.drive(feed.open(queue))
        # The thread references the queue and not this object, so it ends when there is no reader
        # left.
        self._end = weakref.finalize(self, queue.close)
        self._end.atexit = False
        threading.Thread(
            target=_follow, args=(feed, transport, queue), name="redismetrics-stream", daemon=True
        ).start()

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
        return self._queue.closed or self._queue.is_inherited

    def get(self, timeout: float | None = None) -> S | Gap | None:
        """Return the next item; None after *timeout* seconds, or if the subscription is closed.

        Raises:
            StoreError: If a message cannot be read, or Redis permanently rejects the subscription.
                The next call continues after it.
        """
        return cast("S | Gap | None", self._queue.get(timeout))

    def close(self) -> None:
        """End the subscription and drop unread items. Safe from any thread."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[S | Gap]:
        while (item := self.get()) is not None:
            yield item


def _follow(feed: Feed, transport: Transport, queue: ThreadQueue) -> None:
    try:
        transport.drive(feed.follow(queue))
    except Exception as error:  # noqa: BLE001  # logged and raised by the next read
        queue.abort(error)
