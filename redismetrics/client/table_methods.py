"""The methods of both clients that return Arrow tables and pandas data frames."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.queries.query import Query

from .operations import AsyncMethods, SyncMethods

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class TableMethods(SyncMethods):
    """Table methods of `Metrics`."""

    def to_arrow(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        aggregations: str | Iterable[str] | None = None,
        interval: Any = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
        fill: bool = False,
    ) -> "pa.Table":
        """Return the result of a query as a pyarrow table. Needs the extra ``arrow``.

        With *interval*, it is the result of `time_series`; with an aggregation, that of `query`;
        and with neither, the samples: timestamp, value, count, approximate and metadata (JSON
        text), with one column per tag, or per tag in *group_by*. Tag columns are
        dictionary-encoded.

        Raises:
            MissingExtra: If pyarrow is not installed.
            InvalidQuery, OutsideRetention, StoreError: As for `query` and `time_series`.
        """
        from redismetrics.queries import arrow

        query = Query(
            name,
            aggregation=_aggregation(aggregation, interval),
            aggregations=aggregations,
            interval=interval,
            group_by=group_by,
            window=window,
            tags=tags,
            fill=fill,
        )
        return self._ask(arrow.arrow_table(self._context, query))

    def to_pandas(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        aggregations: str | Iterable[str] | None = None,
        interval: Any = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
        fill: bool = False,
    ) -> "pd.DataFrame":
        """Return the table of `to_arrow` as a pandas data frame. Needs the extra ``pandas``.

        Tag columns are categorical.
        """
        from redismetrics.queries import arrow

        table = self.to_arrow(
            name,
            aggregation=aggregation,
            aggregations=aggregations,
            interval=interval,
            group_by=group_by,
            window=window,
            tags=tags,
            fill=fill,
        )
        return arrow.data_frame(table)


class AsyncTableMethods(AsyncMethods):
    """Table methods of `AsyncMetrics`: see `TableMethods`."""

    async def to_arrow(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        aggregations: str | Iterable[str] | None = None,
        interval: Any = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
        fill: bool = False,
    ) -> "pa.Table":
        """See `Metrics.to_arrow`."""
        from redismetrics.queries import arrow

        query = Query(
            name,
            aggregation=_aggregation(aggregation, interval),
            aggregations=aggregations,
            interval=interval,
            group_by=group_by,
            window=window,
            tags=tags,
            fill=fill,
        )
        return await self._ask(arrow.arrow_table(self._context, query))

    async def to_pandas(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        aggregations: str | Iterable[str] | None = None,
        interval: Any = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
        fill: bool = False,
    ) -> "pd.DataFrame":
        """See `Metrics.to_pandas`."""
        from redismetrics.queries import arrow

        table = await self.to_arrow(
            name,
            aggregation=aggregation,
            aggregations=aggregations,
            interval=interval,
            group_by=group_by,
            window=window,
            tags=tags,
            fill=fill,
        )
        return arrow.data_frame(table)


def _aggregation(given: str | None, interval: Any) -> str | None:
    """Return the aggregation of a table; with an interval the same default as in `time_series`."""
    return "count" if given is None and interval is not None else given
