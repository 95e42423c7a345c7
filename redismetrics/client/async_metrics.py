"""AsyncMetrics: the same verbs for asyncio. Recording is the same plain calls; what waits for Redis is awaited."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from redismetrics.model.sample import Sample, Summary
from redismetrics.model.validation import MetricType, Tags

from .async_query_methods import AsyncQueries
from .base import QUEUE, Client

if TYPE_CHECKING:
    from redismetrics.store.driver import Operation
    from redismetrics.stream.async_subscription import AsyncSubscription


T = TypeVar("T")


class AsyncMetrics(Client, AsyncQueries):
    """`Metrics` for asyncio and uvloop: records by plain calls, asks by coroutines. Takes the arguments of `Metrics`.

    Or *metrics* is another client, whose recorder and settings are shared: what either records, either sends. Closing this
    one then closes only its own connections; *metrics* is to be closed as before.

    Connections belong to the event loop that first asks for them, and end with it or by `aclose`; the same client may be used
    from one loop after another, and from several in threads. What a coroutine is called with is checked when it is awaited. A
    question that is cancelled leaves nothing behind.

    Raises:
        InvalidSetting: a setting that is not usable.
    """

    async def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded, then run *operation*."""
        return await self.internals.arun(operation, flush=True)

    @overload
    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = ...,
        types: MetricType | Iterable[MetricType] | None = ...,
        every: None = None,
        queue: int = ...,
    ) -> "AsyncSubscription[Sample]": ...

    @overload
    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = ...,
        types: MetricType | Iterable[MetricType] | None = ...,
        every: float,
        queue: int = ...,
    ) -> "AsyncSubscription[Summary]": ...

    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        queue: int = QUEUE,
    ) -> "AsyncSubscription[Any]":
        """The live stream of all metrics, or of these names and patterns (``jobs_*``); use it by ``async with``, which
        subscribes, and iterate it by ``async for``, or await `get`.

        With *every* it yields a `Summary` of each series that was recorded in the last so many seconds (from 0.1), in place of
        every `Sample`. At most *queue* items wait for a slow reader: beyond it the oldest go, and a `Gap` tells how many.

        Raises:
            InvalidQuery: a name, pattern, tag, type or number that is none, at this call.
            StoreError: a branch of it, by ``async with``.
        """
        from redismetrics.stream.async_subscription import AsyncSubscription

        feed = self._feed(names, tags, types, every, queue)
        return AsyncSubscription(self._store, self._loops, feed)

    async def flush(self, timeout: float = 10.0) -> None:
        """Send all that was recorded before this call, and wait until it is stored. The event loop goes on meanwhile.

        Raises:
            StoreUnavailable: not confirmed within *timeout* seconds; the samples are kept and sent later, once.
            ScriptFailed, FormatMismatch: Redis refused, or holds another format; kept likewise.
            TypeMismatch: a metric is of another type in the store; once a metric, its samples are counted as dropped.
        """
        await self._sink.aflush(timeout)

    async def aclose(self, timeout: float = 5.0) -> None:
        """Close this event loop's connections, and send what is left within *timeout* seconds; the rest is counted as dropped.

        Recording after it is counted as dropped (``closed``), never raised. One that shares another client's recorder closes
        its own connections only.
        """
        if hasattr(self, "_loops"):
            import asyncio

            await self._loops.aclose()
            if self._own:
                await asyncio.to_thread(self._close, timeout)

    async def __aenter__(self) -> "AsyncMetrics":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
