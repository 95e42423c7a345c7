"""The method `query` of both clients."""

from collections.abc import Iterable
from typing import Any, Literal, overload

from redismetrics.model.sample import Sample
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.queries.query import Query

from .operations import AsyncMethods, SyncMethods

# Aggregations that are 0 without samples; all others are None.
NeverNone = Literal["count", "sum", "rate"]


class AggregateMethods(SyncMethods):
    """The method `query` of `Metrics`."""

    @overload
    def query(
        self,
        name: str,
        *,
        aggregation: None = None,
        window: Window = None,
        tags: Tags | None = None,
    ) -> list[Sample]: ...

    @overload
    def query(
        self,
        name: str,
        *,
        aggregation: NeverNone,
        window: Window = None,
        tags: Tags | None = None,
    ) -> float: ...

    @overload
    def query(
        self,
        name: str,
        *,
        aggregation: str,
        window: Window = None,
        tags: Tags | None = None,
    ) -> float | None: ...

    @overload
    def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str],
        window: Window = None,
        tags: Tags | None = None,
    ) -> list[dict[str, Any]]: ...

    def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> Any:
        """Aggregate a metric over a window.

        Args:
            name: The metric.
            aggregation: count, sum, mean, min, max, last, stddev (population), median, rate (per
                second: of the sum for counters, of the number of samples otherwise), or a
                percentile from ``p0`` to ``p100`` such as ``p99.9``.
            group_by: Tags to group by; a str means one tag.
            window: ``last_hour``, ``last_24h``, ``last_7d``, ``last_30d``, text such as ``15m``, a
                timedelta, ``(since, until)`` (half-open, each may be None), or None for everything
                stored.
            tags: Only series with these tags; a value of None means that the tag must be missing.

        Returns:
            A number, or None if there are no samples (count, sum and rate: 0). With *group_by*, a
            sorted list of dicts of the tags and the aggregation, a missing tag (None) first.
            Without *aggregation*, a list of `Sample`, oldest first.

        Raises:
            InvalidQuery: If an argument is invalid; nothing was read.
            StoreError: If Redis does not answer, returns an error, or holds data that can't be
                read.
        """
        from redismetrics.queries.evaluate import evaluate

        query = Query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return self._ask(evaluate(self._context, query))


class AsyncAggregateMethods(AsyncMethods):
    """The method `query` of `AsyncMetrics`: see `AggregateMethods`."""

    @overload
    async def query(
        self,
        name: str,
        *,
        aggregation: None = None,
        window: Window = None,
        tags: Tags | None = None,
    ) -> list[Sample]: ...

    @overload
    async def query(
        self,
        name: str,
        *,
        aggregation: NeverNone,
        window: Window = None,
        tags: Tags | None = None,
    ) -> float: ...

    @overload
    async def query(
        self,
        name: str,
        *,
        aggregation: str,
        window: Window = None,
        tags: Tags | None = None,
    ) -> float | None: ...

    @overload
    async def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str],
        window: Window = None,
        tags: Tags | None = None,
    ) -> list[dict[str, Any]]: ...

    async def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> Any:
        """See `Metrics.query`."""
        from redismetrics.queries.evaluate import evaluate

        query = Query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return await self._ask(evaluate(self._context, query))
