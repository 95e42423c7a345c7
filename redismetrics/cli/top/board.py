"""What `top` shows, worked out of what is known: rates, order, filter. Nothing here waits, draws or asks for the time."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from redismetrics.model.sample import Summary

RATE_SECONDS = 10.0  # a rate is that of the last so many seconds
TREND_MINUTES = 20
_LATE = 1.5  # seconds after which an interval without a summary has had none


@dataclass(frozen=True, slots=True)
class Line:
    """One metric. *rate* is per second, of the sum for counters and of samples else; *trend* has a value a minute, oldest first:
    a counter's rate, a gauge's last value, a histogram's p95.
    """

    name: str
    type: str
    series: int
    rate: float | None = None
    last: float | None = None
    p95: float | None = None
    trend: tuple[float | None, ...] = ()


@dataclass(slots=True)
class _Live:
    """What the stream told of a metric: amounts by interval, and its newest value."""

    amounts: "deque[tuple[int, float]]" = field(default_factory=deque)
    until: float = 0.0
    last: float | None = None


class Board:
    """All metrics as they are known now: the catalogue, what was asked of each, and summaries of each *every* seconds."""

    def __init__(self, every: float) -> None:
        self.every = every
        self._lines: dict[str, Line] = {}
        self._live: dict[str, _Live] = {}
        self._first: int | None = None  # the interval in which listening began: a part of it only
        self._newest = 0
        self._newest_at = 0.0

    def put_catalogue(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over names, types and series as `list_metrics` tells them."""
        before = self._lines
        self._lines = {}
        for row in rows:
            known = before.get(row["name"], Line(row["name"], row["type"], 0))
            self._lines[row["name"]] = replace(known, type=row["type"], series=row["series"])
        self._live = {
            name: live
            for name, live in self._live.items()
            if name in self._lines or name not in before
        }

    def put_asked(self, line: Line) -> None:
        """Take over what was asked of one metric."""
        if line.name in self._lines:
            self._lines[line.name] = line

    def put_summary(self, summary: Summary, now: float) -> None:
        """Take over a summary that came at *now*, in seconds of any clock that goes steadily."""
        interval = round(summary.until.timestamp() / self.every)
        if self._first is None:
            self._first = interval
        if interval > self._newest:
            self._newest, self._newest_at = interval, now
        live = self._live.setdefault(summary.name, _Live())
        live.amounts.append(
            (interval, summary.sum if summary.type == "counter" else float(summary.count))
        )
        while live.amounts[0][0] <= self._newest - self._intervals:
            live.amounts.popleft()
        if summary.until.timestamp() >= live.until:
            live.until, live.last = summary.until.timestamp(), summary.last

    @property
    def _intervals(self) -> int:
        return max(math.ceil(RATE_SECONDS / self.every), 1)

    def lines(self, now: float) -> list[Line]:
        """All metrics at *now*, of the clock that `put_summary` goes by."""
        newest = self._newest + int(max(now - self._newest_at - _LATE, 0) / self.every)
        whole = 0 if self._first is None else min(newest - self._first, self._intervals)
        return [self._line(line, newest, whole) for line in self._lines.values()]

    def _line(self, line: Line, newest: int, whole: int) -> Line:
        live = self._live.get(line.name)
        last = line.last if live is None or live.last is None else live.last
        rate = line.rate
        if whole > 0:
            amounts = () if live is None else live.amounts
            rate = math.fsum(amount for at, amount in amounts if at > newest - whole) / (
                whole * self.every
            )
        return replace(line, rate=rate, last=last)


COLUMNS = {"n": "name", "t": "type", "s": "series", "r": "rate", "l": "last", "p": "p95"}


@dataclass(slots=True)
class View:
    """What of the board is looked at. `press` takes a key and tells whether to go on."""

    sort: str = "rate"
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    paused: bool = False
    offset: int = 0
    page: int = 20  # lines that fit

    def press(self, key: str) -> bool:
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
            steps = {
                "down": 1,
                "j": 1,
                "up": -1,
                "k": -1,
                "pagedown": self.page,
                "pageup": -self.page,
                "home": -(1 << 30),
            }
            self.offset = max(self.offset + steps.get(key, 1 << 30 if key == "end" else 0), 0)
        return True

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.filter) < 200:
            self.filter += key
        self.offset = 0

    @property
    def downwards(self) -> bool:
        return (self.sort not in ("name", "type")) != self.reverse

    def chosen(self, lines: Iterable[Line]) -> list[Line]:
        """The lines whose names hold the filter: text upwards, numbers downwards, unless reversed; unknown ones last."""
        wanted = self.filter.lower()
        found = sorted(
            (line for line in lines if wanted in line.name.lower()), key=lambda line: line.name
        )
        known = [line for line in found if getattr(line, self.sort) is not None]
        unknown = [line for line in found if getattr(line, self.sort) is None]
        return (
            sorted(known, key=lambda line: getattr(line, self.sort), reverse=self.downwards)
            + unknown
        )

    def shown(self, chosen: list[Line]) -> list[Line]:
        """Those that fit the page."""
        self.offset = min(self.offset, max(len(chosen) - self.page, 0))
        return chosen[self.offset : self.offset + self.page]
