"""Windows and intervals of queries. Times are Unix milliseconds; windows are half-open."""

import re
from datetime import timedelta
from typing import Any

from redismetrics.errors import InvalidMetric, UnknownWindow, shown

from .time import DAY, HOUR, MINUTE, OPEN_SINCE, OPEN_UNTIL, SECOND, to_ms
from .units import DURATION_UNITS
from .validation import did_you_mean

# None, a name, a duration such as "15m", a timedelta, or (since, until).
Window = Any

WINDOWS = {"last_hour": HOUR, "last_24h": DAY, "last_7d": 7 * DAY, "last_30d": 30 * DAY}
INTERVALS = {"minute": MINUTE, "hour": HOUR, "day": DAY}

DURATION_PATTERN = re.compile(r"([1-9][0-9]{0,8})\s*(ms|s|m|h|d|w)\Z")

# Names that people try, and what to use instead.
_WINDOW_SYNONYMS = {
    "last_day": "last_24h",
    "last_1h": "last_hour",
    "last_week": "last_7d",
    "last_month": "last_30d",
}
_INTERVAL_SYNONYMS = {"min": "minute", "hourly": "hour", "daily": "day"}


def parse_duration(text: str) -> int | None:
    """Return the milliseconds of text such as ``90s``, ``15m`` or ``2d``; None for other text."""
    match = DURATION_PATTERN.match(text)
    return int(match[1]) * DURATION_UNITS[match[2]] if match else None


def window_ms(window: Window, now_ms: int) -> tuple[int, int]:
    """Return a window as ``(since, until)`` in ms, half-open.

    A window that ends now includes the current millisecond. An open end is `OPEN_SINCE` or
    `OPEN_UNTIL`.

    Raises:
        UnknownWindow: If *window* has none of these forms; the message lists them.
    """
    if window is None:
        return OPEN_SINCE, OPEN_UNTIL
    if isinstance(window, tuple) and len(window) == 2:
        try:
            since, until = (to_ms(edge) if edge is not None else None for edge in window)
        except InvalidMetric as error:
            raise UnknownWindow(f"window: {error}") from error
        return OPEN_SINCE if since is None else since, OPEN_UNTIL if until is None else until
    width = _width_ms(window, WINDOWS)
    if width is None:
        raise UnknownWindow(
            f"window must be {', '.join(WINDOWS)}, a duration such as '15m', a timedelta, "
            f"(since, until) or None, got {shown(window, 80)}"
            + did_you_mean(window, WINDOWS, _WINDOW_SYNONYMS)
        )
    return max(now_ms + 1 - width, 0), now_ms + 1


def interval_ms(interval: object) -> int:
    """Return an interval in ms: minute, hour, day, a duration such as ``5m``, or a timedelta.

    Raises:
        UnknownWindow: If *interval* has none of these forms, or is not in whole seconds.
    """
    width = _width_ms(interval, INTERVALS)
    if width is None or width % SECOND:
        raise UnknownWindow(
            f"interval must be {', '.join(INTERVALS)}, a duration such as '5m' or a timedelta, "
            f"in whole seconds, got {shown(interval, 80)}"
            + did_you_mean(interval, INTERVALS, _INTERVAL_SYNONYMS)
        )
    return width


def _width_ms(given: object, names: dict[str, int]) -> int | None:
    """Return the milliseconds, above 0, of a name, a duration or a timedelta; None for others."""
    width = None
    if isinstance(given, timedelta):
        width = round(given / timedelta(milliseconds=1))
    elif isinstance(given, str):
        width = names.get(given) or parse_duration(given)
    return width if width is not None and width > 0 else None
