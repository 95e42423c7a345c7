"""The context that queries run in: a namespace, the client's cache, and a limit of rows."""

from dataclasses import dataclass

from redismetrics.store.namespace import Namespace

from .cache import Cache


@dataclass(frozen=True, slots=True)
class QueryContext:
    """A namespace, the cache of its decoded pages, and the most rows of a result (None: any)."""

    namespace: Namespace
    cache: Cache
    max_rows: int | None = None
