"""Sorting, filtering and scrolling of `top`, and the keys that control them. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

from .board import MetricRow

# The columns by the keys that sort by them.
COLUMNS = {"n": "name", "t": "type", "s": "series", "r": "rate", "l": "last", "p": "p95"}

_MAX_FILTER = 200

# Longer than any list.
_END = 1 << 30


@dataclass(slots=True)
class View:
    """Which rows are shown, and in which order. *page* is the number of rows that fit."""

    sort: str = "rate"
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    paused: bool = False
    offset: int = 0
    page: int = 20

    def press(self, key: str) -> bool:
        """Process a key; return False if it quits `top`."""
        if self.typing:
            self._type(key)
        elif key in ("q", "Q", "ctrl-d"):
            return False
        elif key in COLUMNS:
            self.reverse = not self.reverse if self.sort == COLUMNS[key] else False
            self.sort = COLUMNS[key]
        elif key == "/":
            self.typing = True
        elif key == "escape":
            self.filter = ""
        elif key == " ":
            self.paused = not self.paused
        else:
            self._scroll(key)
        return True

    def _scroll(self, key: str) -> None:
        steps = {
            "down": 1,
            "j": 1,
            "up": -1,
            "k": -1,
            "pagedown": self.page,
            "pageup": -self.page,
            "home": -_END,
            "end": _END,
        }
        self.offset = max(self.offset + steps.get(key, 0), 0)

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.filter) < _MAX_FILTER:
            self.filter += key
        self.offset = 0

    @property
    def descending(self) -> bool:
        """Whether the largest value comes first: for numbers, unless reversed."""
        return (self.sort not in ("name", "type")) != self.reverse

    def select(self, rows: Iterable[MetricRow]) -> list[MetricRow]:
        """Return the rows whose names contain the filter, sorted; unknown values come last."""
        text = self.filter.lower()
        found = sorted((row for row in rows if text in row.name.lower()), key=lambda row: row.name)
        known = [row for row in found if getattr(row, self.sort) is not None]
        unknown = [row for row in found if getattr(row, self.sort) is None]
        known.sort(key=lambda row: getattr(row, self.sort), reverse=self.descending)
        return known + unknown

    def visible(self, selected: list[MetricRow]) -> list[MetricRow]:
        """Return the selected rows that fit the page."""
        self.offset = min(self.offset, max(len(selected) - self.page, 0))
        return selected[self.offset : self.offset + self.page]
