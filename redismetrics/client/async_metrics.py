"""The asyncio client, `AsyncMetrics`: recording methods are plain calls, queries are coroutines."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from redismetrics.model.sample import Sample, Summary
from redismetrics.model.validation import MetricType, Tags
from redismetrics.recording.flush_result import FlushResult

from .alert_methods import AsyncAlertMethods
from .async_query_methods import AsyncQueries
from .base import QUEUE, Client
from .mark_methods import AsyncMarkMethods
from .run_methods import AsyncRunMethods
from .table_methods import AsyncTableMethods

if TYPE_CHECKING:
    from redismetrics.store.driver import Operation
    from redismetrics.stream.async_subscription import AsyncSubscription


T = TypeVar("T")


class AsyncMetrics(
    Client, AsyncQueries, AsyncAlertMethods, AsyncMarkMethods, AsyncRunMethods, AsyncTableMethods
):
    """`Metrics` for asyncio and uvloop. Takes the arguments of `Metrics`.

    With *metrics*, another client, it shares that client's recorder and settings: each sends what
    the other records. Closing this client then closes only its own connections.

    Connections belong to the event loop that first uses them, and are closed with the loop or by
    `aclose`. One client may be used from successive event loops, and from several loops in
    different threads. Arguments are checked when a coroutine is awaited. A cancelled query leaves
    nothing behind.

    Raises:
        InvalidSetting: If a setting is invalid.
    """

    async def _ask(self, operation: "Operation[T]") -> T:
        """Send recorded samples, then run *operation*."""
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
        by: Literal["series", "name"] = ...,
        queue: int = ...,
    ) -> "AsyncSubscription[Summary]": ...

    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        by: Literal["series", "name"] = "series",
        queue: int = QUEUE,
    ) -> "AsyncSubscription[Any]":
        """Return a subscription to all metrics, or to these names and patterns (``jobs_*``).

        ``async with`` subscribes; iterate with ``async for``, or await `get`.

        It delivers every `Sample`, or, with *every*, a `Summary` of each series recorded in the
        last *every* seconds (at least 0.1). With ``by="name"``, a summary covers all series of a
        metric, without tags. At most *queue* items are buffered for a slow reader; then the oldest
        are dropped, and a `Gap` says how many.

        Raises:
            InvalidQuery: If an argument is invalid, raised by this call.
            StoreError: If subscribing fails, raised by ``async with``.
        """
        from redismetrics.stream.async_subscription import AsyncSubscription

        feed = self._feed(names, tags, types, every, by, queue)
        return AsyncSubscription(self._store, self._loops, feed)

    async def flush(self, timeout: float = 10.0) -> FlushResult:
        """Send everything recorded before this call, and wait until it is stored or dropped.

        Return how many samples were stored, and how many were dropped by reason, since the last
        `flush`, by this call and by the background threads. If `dropped` is empty, all are stored.
        Overlapping calls report the same samples.

        Raises:
            StoreUnavailable: If Redis does not confirm the samples within *timeout* seconds. They
                are kept, and stored once later.
            ScriptFailed, FormatMismatch: If Redis can't store them. They are kept as well.
            TypeMismatch: If a metric has another type in Redis; once for each metric. Its samples
                are counted as dropped.
        """
        return await self._sink.aflush(timeout)

    async def aclose(self, timeout: float = 5.0) -> None:
        """Close this event loop's connections, and send what is left within *timeout* seconds.

        Samples that could not be sent are counted as dropped, and logged with everything else
        dropped since the last `flush`. Samples recorded afterwards are counted as dropped too
        (``closed``). A client that shares another's recorder closes only its own connections.
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
