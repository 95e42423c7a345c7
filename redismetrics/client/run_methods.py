"""The method of both clients that compares runs, such as training runs or jobs."""

from collections.abc import Iterable
from typing import Any

from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window

from .operations import AsyncMethods, SyncMethods


class RunMethods(SyncMethods):
    """Run method of `Metrics`."""

    def runs(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        x: str = "elapsed",
        window: Window = None,
        tags: Tags | None = None,
        whole: bool = False,
        points: int = 500,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return the curve and a summary of each run, the most recently recorded first.

        Args:
            name: The metric.
            group_by: The tags that identify a run, such as ``run``; a str means one tag.
            x: The x axis: ``elapsed`` seconds since the first sample of the run that is read,
                ``time`` in Unix seconds, or a number in the metadata, such as ``metadata.step``.
            window: The window, as for `query`.
            tags: Only series with these tags, as for `query`.
            whole: Read runs with samples in the window from their beginning, as far as it is
                stored; otherwise read only what is in the window.
            points: Maximum number of points per curve, 10 to 2,000. A longer curve is reduced to
                its first and last point and the minimum and maximum of each section; nothing is
                averaged.
            limit: Maximum number of runs.

        Returns:
            One dict per run: `tags`, `count`, `sum`, `last`, `min` and `max` as `query` returns
            them, `since` and `until` (aware UTC) of its first and last sample, the `seconds`
            between them, and the lists `x`, ascending, and `y`. Of samples with the same x, the
            newest counts. The values of a counter are its running total. Samples that are no longer
            stored one by one become one sample with their mean, without metadata.

        Raises:
            InvalidQuery: If an argument is invalid; nothing was read.
            StoreError: As for `query`.
        """
        from redismetrics.queries import runs

        query = runs.RunsQuery(
            name,
            group_by=group_by,
            x=x,
            window=window,
            tags=tags,
            whole=whole,
            points=points,
            limit=limit,
        )
        return self._ask(runs.runs(self._context, query)).rows


class AsyncRunMethods(AsyncMethods):
    """Run method of `AsyncMetrics`: see `RunMethods`."""

    async def runs(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        x: str = "elapsed",
        window: Window = None,
        tags: Tags | None = None,
        whole: bool = False,
        points: int = 500,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """See `Metrics.runs`."""
        from redismetrics.queries import runs

        query = runs.RunsQuery(
            name,
            group_by=group_by,
            x=x,
            window=window,
            tags=tags,
            whole=whole,
            points=points,
            limit=limit,
        )
        return (await self._ask(runs.runs(self._context, query))).rows
