"""The bounded queue between a feed and its reader, for threads and for an event loop."""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from redismetrics.errors import FormatMismatch, RedisMetricsError, StoreError
from redismetrics.model.loop_timer import call_later
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.model.time import monotonic

from .positions import PositionMark
from .sizes import size_of

log = logging.getLogger("redismetrics")

Item = Sample | Summary | Gap | PositionMark

# Maximum bytes of a queue: per item of its limit, and in total at least. A sample without much
# metadata takes about 400.
_BYTES_PER_ITEM, _MIN_BYTES = 1 << 10, 1 << 20


class DeliveryQueue:
    """At most *limit* items, and about *max_bytes* of memory, waiting for the reader.

    When it is full, the oldest items are dropped, and counted by one `Gap` in front of the rest.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.max_bytes = max(_BYTES_PER_ITEM * limit, _MIN_BYTES)
        self.missed = 0
        # Messages that could not be read. Their error is queued at most once: otherwise many of
        # them would push out samples.
        self.unreadable = 0
        self._is_unreadable_queued = False
        self.closed = False
        self._failure: StoreError | None = None
        self._items: deque[Item | RedisMetricsError] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        # Marks don't count: there is at most one for each other item.
        self._marks = 0
        self._dropped_mark: PositionMark | None = None
        self._gap: Gap | None = None

    @property
    def full(self) -> bool:
        count = len(self._items) - self._marks
        return count >= self.limit or (count > 0 and self._bytes >= self.max_bytes)

    def put(
        self,
        items: Sequence[Item | RedisMetricsError],
        sizes: Sequence[int] | None = None,
        missing: Gap | None = None,
    ) -> None:
        """Add *items*, unless the queue is closed. `get` raises errors when it reaches them.

        *sizes* are the bytes of the items. *missing* says that samples before *items* do not fit.
        """
        if self.closed:
            return
        if missing is not None:
            # Waiting items are even older.
            while self._items:
                self._drop(self._pop())
            self._drop(missing)
        for item, size in zip(items, sizes or map(size_of, items), strict=True):
            if isinstance(item, PositionMark):
                if self._items and isinstance(self._items[-1], PositionMark):
                    self._items.pop()
                    self._bytes -= self._sizes.pop()
                else:
                    self._marks += 1
            else:
                if isinstance(item, FormatMismatch):
                    self.unreadable += 1
                    if self._is_unreadable_queued:
                        continue
                    self._is_unreadable_queued = True
                while self._is_full_for(size):
                    self._drop(self._pop())
            self._items.append(item)
            self._sizes.append(size)
            self._bytes += size

    def _is_full_for(self, size: int) -> bool:
        count = len(self._items) - self._marks
        return count >= self.limit or (count > 0 and self._bytes + size > self.max_bytes)

    def _pop(self) -> Item | RedisMetricsError:
        item = self._items.popleft()
        self._bytes -= self._sizes.popleft()
        self._marks -= isinstance(item, PositionMark)
        if isinstance(item, FormatMismatch):
            self._is_unreadable_queued = False
        return item

    def take(self) -> Item | RedisMetricsError | None:
        """Remove and return the next item; None if the queue is empty."""
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        if self._dropped_mark is not None:
            mark, self._dropped_mark = self._dropped_mark, None
            return mark
        return self._pop() if self._items else None

    def close(self) -> None:
        """Drop queued items and accept no more."""
        self.closed = True
        self._items.clear()
        self._sizes.clear()
        self._bytes = 0
        self._marks, self._dropped_mark = 0, None
        self._gap = None

    def fail(self, error: StoreError) -> None:
        """Close because of *error*, which the next read raises."""
        self._failure = error
        self.close()

    def abort(self, error: Exception) -> None:
        """Fail because of *error*, which nobody expected.

        With the queue closed already, its client may have been closed under a step that still ran.
        """
        if self.closed:
            log.debug("a closed live stream ended with an error", exc_info=error)
            return
        log.error("BUG: a live stream ended", exc_info=error)
        self.fail(StoreError(f"BUG: {error!r}"))

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _drop(self, item: Item | RedisMetricsError) -> None:
        if isinstance(item, RedisMetricsError):
            log.warning("dropped an error of a live stream, because its reader is slow: %s", item)
            return
        if isinstance(item, PositionMark):
            # The following items still belong to it.
            self._dropped_mark = item
            return
        gap = item
        if isinstance(item, Sample):
            gap = Gap(item.timestamp, item.timestamp, item.count)
        elif isinstance(item, Summary):
            gap = Gap(item.since, item.until, item.count)
        assert isinstance(gap, Gap)
        self.missed += gap.missed or 0
        before = self._gap
        if before is not None:
            unknown = before.missed is None or gap.missed is None
            missed = None if unknown else (before.missed or 0) + (gap.missed or 0)
            gap = Gap(min(before.since, gap.since), max(before.until, gap.until), missed)
        self._gap = gap


class ThreadQueue(DeliveryQueue):
    """A delivery queue between threads. Not usable in a forked child."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._changed = threading.Condition()
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a forked child of the one that created the queue."""
        return os.getpid() != self._pid

    def put(
        self,
        items: Sequence[Item | RedisMetricsError],
        sizes: Sequence[int] | None = None,
        missing: Gap | None = None,
    ) -> None:
        with self._changed:
            super().put(items, sizes, missing)
            self._changed.notify_all()

    def close(self) -> None:
        # In a forked child, the lock may be held for ever by a thread that the child does not have.
        if self.is_inherited:
            return
        with self._changed:
            super().close()
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait for *seconds*, or until the queue changes, for example by `close`."""
        with self._changed:
            if not self.closed:
                self._changed.wait(seconds)

    def get(self, timeout: float | None) -> Item | None:
        """Return the next item, or raise a queued error; None after *timeout* s, or once closed."""
        if self.is_inherited:
            return None
        until = None if timeout is None else monotonic() + timeout
        with self._changed:
            while (item := self.take()) is None:
                if self.closed:
                    self._raise_failure()
                    return None
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
        return _item_or_raise(item)


class LoopQueue(DeliveryQueue):
    """A delivery queue within one event loop. A cancelled read loses nothing."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._waiters: deque[asyncio.Future[None]] = deque()

    def put(
        self,
        items: Sequence[Item | RedisMetricsError],
        sizes: Sequence[int] | None = None,
        missing: Gap | None = None,
    ) -> None:
        super().put(items, sizes, missing)
        self._wake()

    def close(self) -> None:
        super().close()
        self._wake()

    def _wake(self) -> None:
        """Wake all readers; each then looks for an item."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def get(self, timeout: float | None) -> Item | None:
        """Return the next item, or raise a queued error; None after *timeout* s, or once closed."""
        loop = asyncio.get_running_loop()
        until = None if timeout is None else monotonic() + timeout
        while (item := self.take()) is None:
            if self.closed:
                self._raise_failure()
                return None
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                await asyncio.sleep(0)  # lets other tasks run, also where *timeout* is 0
                item = self.take()
                return None if item is None else _item_or_raise(item)
            waiter = loop.create_future()
            self._waiters.append(waiter)
            cancel = None if left is None else call_later(loop, left, _setter(waiter))
            try:
                await waiter
            finally:
                if cancel is not None:
                    cancel()
                with suppress(ValueError):
                    self._waiters.remove(waiter)
        return _item_or_raise(item)


def _setter(waiter: "asyncio.Future[None]") -> Callable[[], None]:
    """Return a function that ends the wait for *waiter*."""

    def end() -> None:
        if not waiter.done():
            waiter.set_result(None)

    return end


def _item_or_raise(item: Item | RedisMetricsError) -> Item:
    if isinstance(item, RedisMetricsError):
        raise item
    return item
