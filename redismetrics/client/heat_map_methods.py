"""The heat map method of both clients."""

from typing import Any

from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.queries.query import Query

from .operations import AsyncMethods, SyncMethods


def _query(name: str, interval: Any, window: Window, tags: Tags | None) -> Query:
    return Query(name, interval=interval, aggregation="count", window=window, tags=tags)


class HeatMapMethods(SyncMethods):
    """Heat map method of `Metrics`."""

    def heat_map(
        self,
        name: str,
        *,
        interval: Any = "hour",
        window: Window = "last_24h",
        tags: Tags | None = None,
        buckets: int = 44,
    ) -> dict[str, Any]:
        """Return how the values of a metric are distributed over buckets, interval by interval.

        Args:
            name: The metric.
            interval: As for `time_series`.
            window: The window, as for `query`.
            tags: Only series with these tags, as for `query`.
            buckets: Maximum number of buckets, from 4 to 200.

        Returns:
            A dict of `times` (the start of each interval of the window, aware UTC), `interval`
            (seconds), `edges` (of the buckets, ascending, the same for all intervals; empty without
            samples) and `counts` (for each interval, the number of samples in each bucket). A
            bucket includes its lower edge; the last one also includes its upper edge. The edges
            grow by a constant factor or, if there are negative values, by a constant amount. Where
            values are stored as t-digests, each centroid counts as its mean.

        Raises:
            InvalidQuery: If an argument is invalid; nothing was read.
            OutsideRetention: If *interval* is finer than what the window still holds.
            StoreError: As for `query`.
        """
        from redismetrics.queries.heat_map import heat_map

        query = _query(name, interval, window, tags)
        return self._ask(heat_map(self._context, query, buckets))


class AsyncHeatMapMethods(AsyncMethods):
    """Heat map method of `AsyncMetrics`: see `HeatMapMethods`."""

    async def heat_map(
        self,
        name: str,
        *,
        interval: Any = "hour",
        window: Window = "last_24h",
        tags: Tags | None = None,
        buckets: int = 44,
    ) -> dict[str, Any]:
        """See `Metrics.heat_map`."""
        from redismetrics.queries.heat_map import heat_map

        query = _query(name, interval, window, tags)
        return await self._ask(heat_map(self._context, query, buckets))
