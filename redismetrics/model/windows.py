"""The one retention: levels, slots, windows and intervals. Times are Unix milliseconds; slots and windows half-open."""

import re
from datetime import timedelta
from typing import Any

from redismetrics.errors import InvalidMetric, UnknownWindow

from .time import DAY, HOUR, MINUTE, SECOND, to_ms

Window = Any  # None, a name or text such as "15m", a timedelta, or (since, until)


WINDOWS = {"last_hour": HOUR, "last_24h": DAY, "last_7d": 7 * DAY, "last_30d": 30 * DAY}
INTERVALS = {"minute": MINUTE, "hour": HOUR, "day": DAY}

DURATION_PATTERN = re.compile(r"([1-9][0-9]{0,8})\s*(ms|s|m|h|d|w)\Z")
_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def parse_duration(text: str) -> int | None:
    """Return the milliseconds of text such as ``90s``, ``15m``, ``6h``, ``2d``; None when it is no such text."""
    match = DURATION_PATTERN.match(text)
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
        width = WINDOWS.get(window) or parse_duration(window)
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
        width = INTERVALS.get(interval) or parse_duration(interval)
    if width is None or width <= 0 or width % SECOND:
        raise UnknownWindow(
            f"interval: wanted {', '.join(INTERVALS)}, text such as '5m' or a timedelta, in whole seconds, "
            f"got {interval!r:.80}"
        )
    return width


"""A function that returns Unix seconds, as `time.time` does; tests pass their own."""
