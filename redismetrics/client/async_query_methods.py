"""The query methods of `AsyncMetrics`: those of `Metrics`, as coroutines."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redismetrics.exposition.families import Family
from redismetrics.model.exemplar import Exemplar
from redismetrics.model.validation import MetricType, Tags
from redismetrics.model.windows import Window
from redismetrics.queries.query import Query, SamplesQuery

from .aggregate_methods import AsyncAggregateMethods
from .heat_map_methods import AsyncHeatMapMethods
from .query_methods import QueryMethods

if TYPE_CHECKING:
    from redismetrics.columnar.digest import Digest


class AsyncQueries(QueryMethods, AsyncAggregateMethods, AsyncHeatMapMethods):
    """The query methods as coroutines. Arguments are checked when a coroutine is awaited."""

    async def time_series(
        self,
        name: str,
        *,
        interval: Any = "hour",
        aggregation: str = "count",
        aggregations: str | Iterable[str] | None = None,
        window: Window = "last_24h",
        group_by: str | Iterable[str] = (),
        tags: Tags | None = None,
        fill: bool = False,
    ) -> list[dict[str, Any]]:
        """See `Metrics.time_series`."""
        from redismetrics.queries.time_series import time_series

        query = Query(
            name,
            interval=interval,
            aggregation=aggregation,
            aggregations=aggregations,
            window=window,
            group_by=group_by,
            tags=tags,
            fill=fill,
        )
        return await self._ask(time_series(self._context, query))

    async def rollup(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
        keys: str = "text",
    ) -> dict[Any, dict[str, Any]]:
        """See `Metrics.rollup`."""
        from redismetrics.queries.evaluate import rollup

        query = Query(
            name,
            group_by=group_by,
            aggregations=aggregations,
            window=window,
            tags=tags,
            keys=keys,
        )
        return await self._ask(rollup(self._context, query))

    async def digest(
        self, name: str, *, window: Window = None, tags: Tags | None = None
    ) -> "Digest":
        """See `Metrics.digest`."""
        from redismetrics.queries.evaluate import digest

        return await self._ask(digest(self._context, Query(name, window=window, tags=tags)))

    async def promql_query(self, expr: str, at: Any = None) -> Any:
        """See `Metrics.promql_query`."""
        from redismetrics.promql.mapping import ask

        prepared = ask.instant_query(expr, at, self._now_ms)
        return ask.plain_result(await self._ask(ask.ask(self._context, prepared, self._idle_ms)))

    async def promql_range(
        self, expr: str, *, since: Any = None, until: Any = None, step: Any = None
    ) -> Any:
        """See `Metrics.promql_range`."""
        from redismetrics.promql.mapping import ask

        prepared = ask.range_query(expr, since, until, step, self._now_ms)
        return ask.plain_result(await self._ask(ask.ask(self._context, prepared, self._idle_ms)))

    async def list_metrics(self) -> list[dict[str, Any]]:
        """See `Metrics.list_metrics`."""
        from redismetrics.queries.catalog import list_metrics

        return await self._ask(list_metrics(self._context))

    async def tag_values(self, name: str, key: str) -> list[str]:
        """See `Metrics.tag_values`."""
        from redismetrics.queries.catalog import tag_values

        return await self._ask(tag_values(self._context, name, key))

    async def exemplars(self, name: str, *, tags: Tags | None = None) -> list[Exemplar]:
        """See `Metrics.exemplars`."""
        from redismetrics.queries.exemplars import exemplars

        return await self._ask(exemplars(self._context, name, tags))

    async def cardinality(self, *, limit: int = 20) -> list[dict[str, Any]]:
        """See `Metrics.cardinality`."""
        from redismetrics.queries.catalog import cardinality

        return await self._ask(cardinality(self._context, limit))

    async def live(self, name: str | None = None, *, exemplars: bool = False) -> list[Family]:
        """See `Metrics.live`."""
        from redismetrics.queries.live import live

        return await self._ask(live(self._context, name, self._idle_ms, exemplars=exemplars))

    async def self_metrics(self) -> list[Family]:
        """See `Metrics.self_metrics`."""
        from redismetrics.queries.stats import self_metrics

        return await self._ask(self_metrics(self._context, self.stats))

    # -- JSON-ready results ------------------------------------------------------------------------

    async def get_metrics(
        self,
        *,
        name: str | None = None,
        type: MetricType | None = None,
        tags: Tags | None = None,
        since: Any = None,
        until: Any = None,
        limit: int = 1000,
    ) -> dict[str, Any]:
        """See `Metrics.get_metrics`."""
        from redismetrics.queries.json_results import get_metrics

        query = SamplesQuery(name=name, type=type, tags=tags, since=since, until=until, limit=limit)
        return await self._ask(get_metrics(self._context, query))

    async def get_aggregation(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """See `Metrics.get_aggregation`."""
        from redismetrics.queries.json_results import get_aggregation

        query = Query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return await self._ask(get_aggregation(self._context, query))

    async def get_time_series(
        self,
        name: str,
        *,
        interval: Any = "hour",
        aggregation: str = "count",
        aggregations: str | Iterable[str] | None = None,
        window: Window = "last_24h",
        group_by: str | Iterable[str] = (),
        tags: Tags | None = None,
        fill: bool = False,
    ) -> dict[str, Any]:
        """See `Metrics.get_time_series`."""
        from redismetrics.queries.json_results import get_time_series

        query = Query(
            name,
            interval=interval,
            aggregation=aggregation,
            aggregations=aggregations,
            window=window,
            group_by=group_by,
            tags=tags,
            fill=fill,
        )
        return await self._ask(get_time_series(self._context, query))

    async def get_rollups(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """See `Metrics.get_rollups`."""
        from redismetrics.queries.json_results import get_rollups

        query = Query(
            name,
            group_by=group_by,
            aggregations=aggregations,
            window=window,
            tags=tags,
            keys="text",
        )
        return await self._ask(get_rollups(self._context, query))

    async def get_stats(self) -> dict[str, Any]:
        """See `Metrics.get_stats`."""
        from redismetrics.queries.json_results import get_stats

        return await self._ask(get_stats(self._context, self.stats))

    # -- deleting ----------------------------------------------------------------------------------

    async def delete_metric(self, name: str) -> bool:
        """See `Metrics.delete_metric`."""
        from .deletion import delete_metric

        return await self._ask(delete_metric(self._context, name))

    async def delete_series(self, name: str, tags: Tags) -> int:
        """See `Metrics.delete_series`."""
        from .deletion import delete_series

        return await self._ask(delete_series(self._context, name, tags))

    async def mark_process_dead(self, pid: int, host: str | None = None) -> int:
        """See `Metrics.mark_process_dead`."""
        from .deletion import mark_process_dead

        return await self._ask(mark_process_dead(self._context, pid, host))

    async def clear(self, *, confirm: bool = False) -> int:
        """See `Metrics.clear`."""
        from .deletion import clear

        return await self._ask(clear(self._context, confirm=confirm))
