"""Decoded slots that a client has read, so that it doesn't read and decode them again. Thread-safe, bounded, never wrong.

Whatever a commit writes it also names in the metric's `touched`, under its number. A question reads what was touched since
the version that the cache knows, and forgets exactly that. Where the store no longer remembers that version (too many commits
ago, a failover, a deletion) the metric's slots are forgotten whole.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples

PageKey = tuple[str, int, int]  # level, start of the span in ms, chunk
Part = bytes | Samples | None  # tables stay packed: those of a page are read together

_EMPTY = 200  # bytes of a page with nothing
_WHOLES = 2  # of a page are kept: the slots that lie inside a window, and those that its edges cut


@dataclass(slots=True)
class Page:
    """What one chunk holds in one span, by field: None where the store has no such field.

    *wholes* are the rows of such slots, put together; the oldest first.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    nbytes: int = _EMPTY
    wholes: dict[tuple[int, ...], Table] = field(default_factory=dict)

    def drop_wholes(self) -> int:
        """Forget what was put together; return how many bytes that were."""
        size = sum(whole.nbytes for whole in self.wholes.values())
        self.wholes.clear()
        return size


class Cache:
    """Pages of many metrics, the longest unused forgotten first; *limit* in bytes, about."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._lock = threading.Lock()
        self._versions: dict[str, bytes] = {}
        self._pages: OrderedDict[tuple[str, PageKey], Page] = OrderedDict()

    def version(self, name: str) -> bytes | None:
        """The version that a metric's pages are of."""
        return self._versions.get(name)

    def advance(
        self,
        name: str,
        asked: bytes | None,
        version: bytes,
        touched: list[tuple[PageKey, str | None]] | None,
    ) -> None:
        """Bring a metric's pages from the version *asked* to *version*: parts that were *touched* are forgotten, or whole pages.

        *touched* is None where it isn't known: then all is forgotten.
        Where another thread has brought them somewhere else meanwhile they stay as they are.
        """
        with self._lock:
            if self._versions.get(name) != asked:
                return
            if touched is None:
                for key in [key for key in self._pages if key[0] == name]:
                    self.nbytes -= self._pages.pop(key).nbytes
            else:
                for page_key, part in touched:
                    page = self._pages.get((name, page_key))
                    if page is None:
                        continue
                    if part is None:
                        self.nbytes -= self._pages.pop((name, page_key)).nbytes
                        continue
                    # Also where another thread put it together of parts that are not kept any more.
                    self._resize(page, -page.drop_wholes())
                    if part in page.parts:
                        self._resize(page, -_size(page.parts.pop(part)))
            self._versions[name] = version

    def parts(self, name: str, version: bytes | None, page_key: PageKey) -> dict[str, Part]:
        """What is known of a page at *version*: nothing where the cache is at another."""
        with self._lock:
            page = self._pages.get((name, page_key))
            if page is None or self._versions.get(name) != version:
                return {}
            self._pages.move_to_end((name, page_key))
            return dict(page.parts)

    def whole(
        self, name: str, version: bytes | None, page_key: PageKey, slots: list[int]
    ) -> Table | None:
        """The rows of these slots of a page, if they were put together before at *version*."""
        with self._lock:
            page = self._pages.get((name, page_key))
            if page is None or self._versions.get(name) != version:
                return None
            self._pages.move_to_end((name, page_key))
            return page.wholes.get(tuple(slots))

    def put_whole(
        self, name: str, version: bytes | None, page_key: PageKey, slots: list[int], rows: Table
    ) -> None:
        """Keep the rows of these slots, put together of parts that were read at *version*."""
        with self._lock:
            page = self._pages.get((name, page_key))
            if page is not None and self._versions.get(name) == version:
                before = page.wholes.pop(tuple(slots), None)
                if len(page.wholes) >= _WHOLES:
                    before = page.wholes.pop(next(iter(page.wholes)))
                page.wholes[tuple(slots)] = rows
                self._resize(page, rows.nbytes - (0 if before is None else before.nbytes))
                self._shrink()

    def put(
        self, name: str, version: bytes | None, page_key: PageKey, parts: dict[str, Part]
    ) -> None:
        """Keep what was read at *version*; nothing is kept where the cache is at another."""
        with self._lock:
            if version is None or self._versions.get(name) != version:
                return
            page = self._pages.get((name, page_key))
            if page is None:
                page = self._pages[name, page_key] = Page()
                self.nbytes += page.nbytes
            self._resize(page, -page.drop_wholes())
            for part, value in parts.items():
                grown = _size(value) - (_size(page.parts[part]) if part in page.parts else 0)
                page.parts[part] = value
                self._resize(page, grown)
            self._pages.move_to_end((name, page_key))
            self._shrink()

    def _shrink(self) -> None:
        while self.nbytes > self.limit and self._pages:
            self.nbytes -= self._pages.popitem(last=False)[1].nbytes

    def _resize(self, page: Page, by: int) -> None:
        page.nbytes += by
        self.nbytes += by


def _size(part: Part) -> int:
    return 100 + (0 if part is None else len(part) if isinstance(part, bytes) else part.nbytes)
