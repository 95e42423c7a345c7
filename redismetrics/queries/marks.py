"""Record, list and delete marks. Arguments are checked at the call."""

from typing import Any

from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.mark import Mark, check_mark
from redismetrics.model.time import OPEN_SINCE, OPEN_UNTIL, to_ms
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window, window_ms
from redismetrics.store import marks as stored
from redismetrics.store.driver import Operation

from .arguments import check_limit
from .context import QueryContext


def mark(context: QueryContext, text: str, tags: Tags | None, timestamp: Any) -> Operation[Mark]:
    """Record a mark."""
    checked, of_tags = check_mark(text, tags)
    at_ms = None if timestamp is None else to_ms(timestamp)
    return stored.add_mark(context.namespace, checked, of_tags, at_ms)


def marks(context: QueryContext, window: Window, limit: int, now_ms: int) -> Operation[list[Mark]]:
    """Return the newest marks in a window, newest first."""
    since_ms, until_ms = window_ms(window, now_ms)
    return stored.list_marks(
        context.namespace.name,
        max(since_ms, OPEN_SINCE),
        min(until_ms, OPEN_UNTIL),
        check_limit(limit, 1),
    )


def delete_mark(context: QueryContext, id: str) -> Operation[bool]:
    """Delete a mark."""
    if not isinstance(id, str):
        raise InvalidQuery(f"id must be the id of a mark, got {shown(id, 80)}")
    return stored.delete_mark(context.namespace.name, id)
