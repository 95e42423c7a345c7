"""Units of time, timestamps and the clock."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from redismetrics.errors import InvalidTimestamp, InvalidValue

from .validation import check_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(timestamp: object) -> int:
    """Return a time given as aware datetime or Unix seconds in Unix milliseconds, or raise `InvalidTimestamp`.

    Parts of a millisecond are cut off, as they are where a sample is recorded: so a window that begins at a moment holds
    what was recorded after it.
    """
    if isinstance(timestamp, datetime):
        if timestamp.tzinfo is None or timestamp.utcoffset() is None:
            raise InvalidTimestamp(
                f"timestamp: wanted a datetime with a zone, got the naive {timestamp.isoformat()}"
            )
        since = (timestamp - _EPOCH) // timedelta(milliseconds=1)
        if 0 <= since < 253_402_300_800_000:
            return since
    elif isinstance(timestamp, str | bytes | bool):
        raise InvalidTimestamp(
            f"timestamp: wanted an aware datetime or Unix seconds, got {timestamp!r:.60}"
        )
    else:
        try:
            seconds = check_number(timestamp, "timestamp")
        except InvalidValue as error:
            raise InvalidTimestamp(str(error)) from error
        if 0 <= seconds < 253_402_300_800:  # the year 10000
            nearest = round(seconds * 1000)
            return nearest if nearest / 1000 == seconds else math.floor(seconds * 1000)
    raise InvalidTimestamp(
        f"timestamp: wanted Unix seconds from 0 to the year 9999, got {timestamp!r:.60}"
    )


def to_datetime(timestamp_ms: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=timestamp_ms)


SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def slot_of(timestamp_ms: int, width: int) -> int:
    """Return the start of the slot of *width* ms that *timestamp_ms* falls into.

    Slots are aligned to the Unix epoch in UTC, so that every process cuts time at the same places.
    """
    return timestamp_ms - timestamp_ms % width


Clock = Callable[[], float]

system_clock: Clock = time.time
