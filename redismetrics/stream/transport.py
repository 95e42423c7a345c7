"""What carries a subscription: the connection and the delivery queue."""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from redismetrics.errors import RedisMetricsError
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.store.driver import Operation

T = TypeVar("T")
log = logging.getLogger("redismetrics")


Item = Sample | Summary | Gap
Message = dict[str, Any]


class Transport(Protocol):
    """Carries a feed: one connection at a time, and the way to the reader."""

    closed: bool
    inbox: "DeliveryQueue"

    async def open(self, channels: list[str], patterns: list[str], seconds: float) -> None:
        """Connect and send the subscription."""

    async def read(self, seconds: float) -> Message | None:
        """The next message of redis-py's; None when none comes in time."""

    async def ping(self) -> None: ...

    async def run(self, operation: Operation[T]) -> T:
        """Drive an operation over another connection."""

    async def pause(self, seconds: float) -> None: ...

    async def disconnect(self) -> None:
        """Close the connection, if there is one. Never raises."""

    def renew(self) -> None:
        """After a failure: an embedded server may have to be started again."""

    def deliver(self, items: Sequence[Item | RedisMetricsError]) -> None: ...


class DeliveryQueue:
    """What waits for the reader: at most *limit* items. What goes for want of room becomes one Gap, in front of the rest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.missed = 0
        self._items: deque[Item | RedisMetricsError] = deque()
        self._gap: Gap | None = None

    @property
    def full(self) -> bool:
        return len(self._items) >= self.limit

    def put(self, items: Iterable[Item | RedisMetricsError]) -> None:
        for item in items:
            if self.full:
                self._let_go(self._items.popleft())
            self._items.append(item)

    def take(self) -> Item | RedisMetricsError | None:
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        return self._items.popleft() if self._items else None

    def clear(self) -> None:
        self._items.clear()
        self._gap = None

    def _let_go(self, item: Item | RedisMetricsError) -> None:
        if isinstance(item, RedisMetricsError):
            log.warning("a slow reader of a stream was not told: %s", item)
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
