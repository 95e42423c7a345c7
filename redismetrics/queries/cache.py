"""Client-side cache of decoded rollup pages. Thread-safe, bounded in bytes.

Every commit adds the names of the fields that it changed to the metric's `touched`, under the new
version. A query reads what was touched since the cached version, and drops exactly that. If Redis
no longer knows that version (after too many commits, a failover or a deletion), all pages of the
metric are dropped.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples

# Resolution, start of the partition in ms, chunk.
PageKey = tuple[str, int, int]

# The data of one field: a packed table, samples, or None if Redis has no such field. Tables stay
# packed, because the tables of a page are unpacked together.
FieldData = bytes | Samples | None

# Approximate bytes of a page without fields.
_EMPTY_PAGE = 200

# Assembled tables kept per page: the slots inside a window, and those cut by its edges.
_MAX_TABLES = 2


@dataclass(slots=True)
class Page:
    """The fields of one chunk in one partition, and the tables assembled from them.

    The tables are keyed by the slots that they hold, oldest first.
    """

    fields: dict[str, FieldData] = field(default_factory=dict)
    nbytes: int = _EMPTY_PAGE
    tables: dict[tuple[int, ...], Table] = field(default_factory=dict)

    def drop_tables(self) -> int:
        """Drop the assembled tables; return their size in bytes."""
        size = sum(table.nbytes for table in self.tables.values())
        self.tables.clear()
        return size


class Cache:
    """Pages of many metrics: an LRU cache of about *limit* bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._lock = threading.Lock()
        self._versions: dict[str, bytes] = {}
        self._pages: OrderedDict[tuple[str, PageKey], Page] = OrderedDict()

    def version(self, name: str) -> bytes | None:
        """Return the version of a metric's pages."""
        return self._versions.get(name)

    def advance(
        self,
        name: str,
        known: bytes | None,
        version: bytes,
        touched: list[tuple[PageKey, str | None]] | None,
    ) -> None:
        """Update the pages of a metric from the version *known* to *version*.

        Drops the fields in *touched*, or whole pages where the field is None; if *touched* is None,
        all pages. Does nothing if another thread has changed the version since *known*.
        """
        with self._lock:
            if self._versions.get(name) != known:
                return
            if touched is None:
                for key in [key for key in self._pages if key[0] == name]:
                    self.nbytes -= self._pages.pop(key).nbytes
            else:
                for page_key, field_name in touched:
                    self._forget(name, page_key, field_name)
            self._versions[name] = version

    def _forget(self, name: str, page_key: PageKey, field_name: str | None) -> None:
        page = self._pages.get((name, page_key))
        if page is None:
            return
        if field_name is None:
            self.nbytes -= self._pages.pop((name, page_key)).nbytes
            return
        # Another thread may have assembled a table from fields that are no longer cached.
        self._resize(page, -page.drop_tables())
        if field_name in page.fields:
            self._resize(page, -_size(page.fields.pop(field_name)))

    def fields(self, name: str, version: bytes | None, page_key: PageKey) -> dict[str, FieldData]:
        """Return the cached fields of a page, or none if the cache is at another version."""
        with self._lock:
            page = self._page(name, version, page_key)
            return {} if page is None else dict(page.fields)

    def put_fields(
        self, name: str, version: bytes | None, page_key: PageKey, fields: dict[str, FieldData]
    ) -> None:
        """Cache fields that were read at *version*, unless the cache is at another version."""
        with self._lock:
            if version is None or self._versions.get(name) != version:
                return
            page = self._pages.get((name, page_key))
            if page is None:
                page = self._pages[name, page_key] = Page()
                self.nbytes += page.nbytes
            self._resize(page, -page.drop_tables())
            for field_name, data in fields.items():
                before = _size(page.fields[field_name]) if field_name in page.fields else 0
                page.fields[field_name] = data
                self._resize(page, _size(data) - before)
            self._pages.move_to_end((name, page_key))
            self._shrink()

    def table(
        self, name: str, version: bytes | None, page_key: PageKey, slots: list[int]
    ) -> Table | None:
        """Return the rows of these slots of a page, if they have been assembled at *version*."""
        with self._lock:
            page = self._page(name, version, page_key)
            return None if page is None else page.tables.get(tuple(slots))

    def put_table(
        self, name: str, version: bytes | None, page_key: PageKey, slots: list[int], table: Table
    ) -> None:
        """Cache the rows of these slots, assembled from fields that were read at *version*."""
        with self._lock:
            page = self._pages.get((name, page_key))
            if page is None or self._versions.get(name) != version:
                return
            replaced = page.tables.pop(tuple(slots), None)
            if len(page.tables) >= _MAX_TABLES:
                replaced = page.tables.pop(next(iter(page.tables)))
            page.tables[tuple(slots)] = table
            self._resize(page, table.nbytes - (0 if replaced is None else replaced.nbytes))
            self._shrink()

    def _page(self, name: str, version: bytes | None, page_key: PageKey) -> Page | None:
        """Return a page at *version*, and mark it as used."""
        page = self._pages.get((name, page_key))
        if page is None or self._versions.get(name) != version:
            return None
        self._pages.move_to_end((name, page_key))
        return page

    def _shrink(self) -> None:
        while self.nbytes > self.limit and self._pages:
            self.nbytes -= self._pages.popitem(last=False)[1].nbytes

    def _resize(self, page: Page, by: int) -> None:
        page.nbytes += by
        self.nbytes += by


def _size(data: FieldData) -> int:
    return 100 + (0 if data is None else len(data) if isinstance(data, bytes) else data.nbytes)
