"""What a query runs in: a namespace, the client's cache, and a limit of rows."""

from dataclasses import dataclass

from redismetrics.store.namespace import Namespace

from .cache import Cache


@dataclass(frozen=True, slots=True)
class QueryContext:
    """A namespace, the cache of what was read of it, and the most rows a result may have (None: no limit)."""

    namespace: Namespace
    cache: Cache
    max_rows: int | None = None
