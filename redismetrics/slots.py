"""The one calendar: levels, slots, windows and intervals. Times are Unix milliseconds; slots and windows half-open."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .errors import InvalidMetric, UnknownWindow
from .model import to_ms

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

Window = Any  # None, a name or text such as "15m", a timedelta, or (since, until)


@dataclass(frozen=True, slots=True)
class Level:
    """One grain of what is kept: slots of *width* ms; those of one *span* ms stand in one key, kept *retention* ms after it.

    *points* is how many points a series' digest has at most in one slot.
    """

    name: str
    width: int
    span: int
    retention: int
    points: int

    def gone(self, span_start: int, now_ms: int) -> bool:
        """Is this span past its retention?"""
        return span_start + self.span + self.retention <= now_ms

    def kept_from(self, now_ms: int) -> int:
        """The start of the oldest span that is within its retention."""
        return max(slot_of(now_ms - self.retention, self.span), 0)


MARGIN = HOUR  # what is past its retention stays so much longer in the store, for questions under way


@dataclass(frozen=True, slots=True)
class Calendar:
    """What is kept for how long: exact samples by the minute, and rollups, each level a multiple of the finer before it."""

    raw: Level
    levels: tuple[Level, ...]

    @classmethod
    def of(cls, raw_s: float, minute_s: float, hour_s: float, day_s: float) -> "Calendar":
        """From the retentions in seconds. A day's or an hour's slots share a key, and so do 32 days."""
        raw, minute, hour, day = (round(seconds * SECOND) for seconds in (raw_s, minute_s, hour_s, day_s))
        return cls(
            Level("raw", MINUTE, HOUR, raw, 0),
            (
                Level("minute", MINUTE, HOUR, minute, 100),
                Level("hour", HOUR, DAY, hour, 200),
                Level("day", DAY, 32 * DAY, day, 200),
            ),
        )

    def describe(self) -> str:
        """As the namespace's configuration holds it: name and seconds of each level."""
        return " ".join(f"{level.name}:{level.retention / SECOND:.15g}" for level in (self.raw, *self.levels))

    @classmethod
    def parse(cls, text: str) -> "Calendar":
        """The inverse of `describe`; raises ValueError for other text."""
        pairs = [part.split(":") for part in text.split()]
        if [name for name, _ in pairs] != ["raw", "minute", "hour", "day"]:
            raise ValueError(f"wanted raw, minute, hour and day, got {text!r:.80}")
        return cls.of(*(float(seconds) for _, seconds in pairs))


WINDOWS = {"last_hour": HOUR, "last_24h": DAY, "last_7d": 7 * DAY, "last_30d": 30 * DAY}
INTERVALS = {"minute": MINUTE, "hour": HOUR, "day": DAY}

SPAN_PATTERN = re.compile(r"([1-9][0-9]{0,8})\s*(ms|s|m|h|d|w)\Z")
_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def slot_of(timestamp_ms: int, width: int) -> int:
    """Return the start of the slot of *width* ms that *timestamp_ms* falls into.

    Slots are aligned to the Unix epoch in UTC, so that every process cuts time at the same places.
    """
    return timestamp_ms - timestamp_ms % width


def span(text: str) -> int | None:
    """Return the milliseconds of text such as ``90s``, ``15m``, ``6h``, ``2d``; None when it is no such text."""
    match = SPAN_PATTERN.match(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def window_ms(window: Window, now_ms: int) -> tuple[int, int]:
    """Return a window as ``(since, until)`` in ms, half-open; a window that ends now includes this millisecond.

    Raises:
        UnknownWindow: with the forms that are understood.
    """
    if window is None:
        return 0, 1 << 60
    if isinstance(window, tuple) and len(window) == 2:
        try:
            since, until = (to_ms(edge) if edge is not None else None for edge in window)
        except InvalidMetric as error:
            raise UnknownWindow(f"window: {error}") from error
        return 0 if since is None else since, 1 << 60 if until is None else until
    width = None
    if isinstance(window, timedelta):
        width = round(window / timedelta(milliseconds=1))
    elif isinstance(window, str):
        width = WINDOWS.get(window) or span(window)
    if width is None or width <= 0:
        raise UnknownWindow(
            f"window: wanted {', '.join(WINDOWS)}, text such as '15m', a timedelta, (since, until) or None, "
            f"got {window!r:.80}"
        )
    return max(now_ms + 1 - width, 0), now_ms + 1


def interval_ms(interval: object) -> int:
    """Return an interval in ms: minute, hour, day, text such as ``5m``, or a timedelta; whole seconds only."""
    width = None
    if isinstance(interval, timedelta):
        width = round(interval / timedelta(milliseconds=1))
    elif isinstance(interval, str):
        width = INTERVALS.get(interval) or span(interval)
    if width is None or width <= 0 or width % SECOND:
        raise UnknownWindow(
            f"interval: wanted {', '.join(INTERVALS)}, text such as '5m' or a timedelta, in whole seconds, "
            f"got {interval!r:.80}"
        )
    return width


Clock = Callable[[], float]
"""A function that returns Unix seconds, as `time.time` does; tests pass their own."""

system_clock: Clock = time.time
