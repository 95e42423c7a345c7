"""The mark methods of both clients. A mark is an event, such as a deploy."""

from typing import Any

from redismetrics.model.mark import Mark
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window

from .operations import AsyncMethods, SyncMethods


class MarkMethods(SyncMethods):
    """Mark methods of `Metrics`."""

    def mark(self, text: str, *, tags: Tags | None = None, timestamp: Any = None) -> Mark:
        """Record that something happened, such as a deploy, and return the mark.

        Unlike samples, a mark is written at once. A namespace keeps its newest 10,000 marks for
        `day_retention`.

        Args:
            text: What happened, in at most 200 characters.
            tags: Where it happened, such as ``{"service": "web"}``.
            timestamp: When it happened, an aware datetime or Unix seconds; by default now.

        Raises:
            InvalidMetric: If an argument is invalid (a subclass).
            StoreError: As for `query`.
        """
        from redismetrics.queries import marks

        return self._ask(marks.mark(self._context, text, tags, timestamp))

    def marks(self, window: Window = None, *, limit: int = 1000) -> list[Mark]:
        """Return at most *limit* marks in a window, newest first.

        Raises:
            InvalidQuery: If an argument is invalid.
            StoreError: As for `query`.
        """
        from redismetrics.queries import marks

        return self._ask(marks.marks(self._context, window, limit, self._now_ms))

    def delete_mark(self, id: str) -> bool:
        """Delete the mark with this id; return False if it does not exist."""
        from redismetrics.queries import marks

        return self._ask(marks.delete_mark(self._context, id))


class AsyncMarkMethods(AsyncMethods):
    """Mark methods of `AsyncMetrics`: see `MarkMethods`."""

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
