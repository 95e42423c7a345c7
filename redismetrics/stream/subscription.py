"""The live stream: what is recorded, as it is recorded. A thread, or an asyncio task, reads ahead of whoever iterates."""

import logging
import os
import threading
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, Self, TypeVar, cast

import redis
import redis.asyncio

from redismetrics.errors import RedisMetricsError, StoreError
from redismetrics.model.sample import Gap
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, Operation, run, translated

from .feed import Feed
from .transport import DeliveryQueue, Item, Message

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
        self.inbox = DeliveryQueue(queue)
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
        threading.Thread(
            target=_follow, args=(feed, line), name="redismetrics-stream", daemon=True
        ).start()

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


def _given(item: Item | RedisMetricsError) -> Any:
    if isinstance(item, RedisMetricsError):
        raise item
    return item
