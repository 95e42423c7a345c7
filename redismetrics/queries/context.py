"""The context that queries run in: a namespace, the client's cache, an archive, a row limit."""

from dataclasses import dataclass

from redismetrics.store.namespace import Namespace

from .cache import Cache
from .older import Older


@dataclass(frozen=True, slots=True)
class QueryContext:
    """A namespace, the cache of its decoded pages, and the maximum number of rows (None: any).

    *older* serves the part of a window that Redis no longer holds.
    """

    namespace: Namespace
    cache: Cache
    max_rows: int | None = None
    older: Older | None = None
