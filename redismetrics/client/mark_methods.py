"""The methods of both clients that are about marks: what happened when, such as a deploy."""

from typing import Any

from redismetrics.model.mark import Mark
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window

from .operations import AsyncMethods, SyncMethods


class MarkMethods(SyncMethods):
    """Marks, for `Metrics`."""

    def mark(self, text: str, *, tags: Tags | None = None, timestamp: Any = None) -> Mark:
        """Note that something happened, such as a deploy, and return the mark.

        It is written at once, unlike samples. A namespace keeps its newest 10,000 marks, for
        `day_retention`.

        Args:
            text: What happened, in at most 200 characters.
            tags: Where it happened, such as ``{"service": "web"}``.
            timestamp: When it happened, an aware datetime or Unix seconds; by default now.

        Raises:
            InvalidMetric: If an argument is invalid: a subclass of it.
            StoreError: As for `query`.
        """
        from redismetrics.queries import marks

        return self._ask(marks.mark(self._context, text, tags, timestamp))

    def marks(self, window: Window = None, *, limit: int = 1000) -> list[Mark]:
        """Return the newest marks of a window, the newest first, at most *limit*.

        Raises:
            InvalidQuery: If an argument is invalid.
            StoreError: As for `query`.
        """
        from redismetrics.queries import marks

        return self._ask(marks.marks(self._context, window, limit, self._now_ms))

    def delete_mark(self, id: str) -> bool:
        """Delete the mark with this id; return False if there is none."""
        from redismetrics.queries import marks

        return self._ask(marks.delete_mark(self._context, id))


class AsyncMarkMethods(AsyncMethods):
    """Marks, for `AsyncMetrics`: see `MarkMethods`."""

    async def mark(self, text: str, *, tags: Tags | None = None, timestamp: Any = None) -> Mark:
        """See `Metrics.mark`."""
        from redismetrics.queries import marks

        return await self._ask(marks.mark(self._context, text, tags, timestamp))

    async def marks(self, window: Window = None, *, limit: int = 1000) -> list[Mark]:
        """See `Metrics.marks`."""
        from redismetrics.queries import marks

        return await self._ask(marks.marks(self._context, window, limit, self._now_ms))

    async def delete_mark(self, id: str) -> bool:
        """See `Metrics.delete_mark`."""
        from redismetrics.queries import marks

        return await self._ask(marks.delete_mark(self._context, id))
