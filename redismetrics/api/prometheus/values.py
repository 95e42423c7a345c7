"""Times and durations in the format of Prometheus' HTTP API."""

import math
import re
from contextlib import suppress
from datetime import UTC, datetime

from redismetrics.alerts.durations import parse_duration
from redismetrics.errors import InvalidQuery, shown

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
# Maximum length of a number or time. Longer ones are useless and slow to parse.
_MAX_TEXT = 64
# Times are clamped to this range, in ms; Prometheus uses times far beyond it for "all".
MIN_MS, MAX_MS = 0, 253_402_300_799_999
# The longest duration, in ms: Go's, 292 years.
_MAX_DURATION_MS = (1 << 63) // 1_000_000


def read_time(text: str, name: str) -> int:
    """Parse Unix seconds or RFC 3339 to Unix ms. Times out of range are clamped.

    Raises:
        InvalidQuery: If *text* is neither.
    """
    if len(text) <= _MAX_TEXT and _NUMBER.match(text):
        seconds = float(text)
        return MAX_MS if math.isinf(seconds) and seconds > 0 else _cut(seconds * 1000)
    if (found := _RFC3339.match(text)) is not None:
        day, fraction, zone = found.groups()
        try:
            at = datetime.fromisoformat(day.upper() + zone.upper().replace("Z", "+00:00"))
        except ValueError:
            pass
        else:
            seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
            return _cut(seconds * 1000 + float(f"0{fraction or ''}") * 1000)
    # Go's smallest and largest time, which clients send for "no limit".
    if text.startswith("-292273086-"):
        return MIN_MS
    if text.startswith("+292277025-"):
        return MAX_MS
    raise InvalidQuery(
        f'invalid parameter "{name}": {name} must be Unix seconds or RFC 3339, '
        f"got {shown(text, 80)}"
    )


def _cut(time_ms: float) -> int:
    return round(min(max(time_ms, MIN_MS), MAX_MS))


def read_duration(text: str, name: str) -> int:
    """Parse seconds, or text such as 1h30m, to ms.

    Raises:
        InvalidQuery: If *text* is neither, or the duration is too long.
    """
    if len(text) <= _MAX_TEXT:
        if _NUMBER.match(text):
            milliseconds = float(text) * 1000
            if abs(milliseconds) <= _MAX_DURATION_MS:
                return round(milliseconds)
        else:
            with suppress(ValueError):
                return parse_duration(text)
    raise InvalidQuery(
        f'invalid parameter "{name}": {name} must be a number of seconds or a duration such as '
        f"1m30s, got {shown(text, 80)}"
    )
