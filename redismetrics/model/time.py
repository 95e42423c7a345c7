"""Lengths of time, timestamps, slots and the clock."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from redismetrics.errors import InvalidTimestamp, InvalidValue, shown

from .validation import check_number

# Lengths of time in milliseconds.
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Start of the year 10000 as Unix time: timestamps must be earlier, since a datetime ends there.
YEAR_10000 = 253_402_300_800
YEAR_10000_MS = YEAR_10000 * SECOND

# Edges in ms of a window that is open on one or both sides.
OPEN_SINCE, OPEN_UNTIL = 0, 1 << 60

# A function that returns Unix seconds, as `time.time` does; tests pass their own.
Clock = Callable[[], float]

system_clock: Clock = time.time


def monotonic() -> float:
    """Return the seconds of a clock that is never set, for timeouts and durations.

    Unlike `time.monotonic`, it keeps running when a test freezes time: freezegun replaces every
    function of the module `time` except this one.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# Seconds of a monotonic clock, for durations. If available, a clock that also runs while the
# machine is suspended.
steady_clock: Clock = _steady if hasattr(time, "CLOCK_BOOTTIME") else monotonic

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(timestamp: object) -> int:
    """Convert an aware datetime or Unix seconds to Unix milliseconds.

    Fractions of a millisecond are cut off, as when a sample is recorded. So a window that begins at
    a given time contains everything recorded after it.

    Raises:
        InvalidTimestamp: If *timestamp* has no time zone, has another type, or is out of range.
    """
    if isinstance(timestamp, datetime):
        if timestamp.tzinfo is None or timestamp.utcoffset() is None:
            raise InvalidTimestamp(
                "timestamp must be a datetime with a time zone, "
                f"got the naive {timestamp.isoformat()}; for local time use .astimezone()"
            )
        since = (timestamp - _EPOCH) // timedelta(milliseconds=1)
        if 0 <= since < YEAR_10000_MS:
            return since
    elif isinstance(timestamp, str | bytes | bool):
        raise InvalidTimestamp(
            f"timestamp must be a datetime with a time zone or Unix seconds, got {shown(timestamp)}"
        )
    else:
        try:
            seconds = check_number(timestamp, "timestamp")
        except InvalidValue as error:
            raise InvalidTimestamp(str(error)) from error
        if 0 <= seconds < YEAR_10000:
            nearest = round(seconds * 1000)
            return nearest if nearest / 1000 == seconds else math.floor(seconds * 1000)
    raise InvalidTimestamp(
        f"timestamp must be Unix seconds from 0 to the year 9999, got {shown(timestamp)}"
    )


def to_datetime(timestamp_ms: float) -> datetime:
    """Convert Unix milliseconds to an aware datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=timestamp_ms)


def slot_of(timestamp_ms: int, width: int) -> int:
    """Return the start of the slot of *width* ms that contains *timestamp_ms*.

    Slots are half-open and aligned to the Unix epoch in UTC, so that all processes cut time at the
    same places.
    """
    return timestamp_ms - timestamp_ms % width
