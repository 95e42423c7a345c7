"""The methods of both clients that return tables: of Arrow, and data frames of pandas."""

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
    """Tables, for `Metrics`."""

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
        """Return the result of a query as a table of pyarrow. Needs the extra ``arrow``.

        With *interval* it is that of `time_series`, with an aggregation that of `query`, and
        without either the samples: timestamp, value, count, approximate and metadata (JSON text).
        Texts of tags are dictionaries; of samples, each tag has a column, or each of *group_by*.

        Raises:
            MissingExtra: If pyarrow is not installed.
            InvalidQuery, OutsideRetention, StoreError: As for `query` and `time_series`.
        """
        from redismetrics.queries import arrow

        query = Query(
            name,
            aggregation=aggregation,
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
        """Return the table of `to_arrow` as a data frame of pandas. Needs the extra ``pandas``.

        Texts of tags are categories.
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
    """Tables, for `AsyncMetrics`: see `TableMethods`."""

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
            aggregation=aggregation,
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
