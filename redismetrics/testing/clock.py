"""A clock that tests can set and move."""

import time
from datetime import datetime, timedelta

from redismetrics.model.time import to_datetime, to_ms
from redismetrics.model.validation import check_number


class Clock:
    """A clock that stands still until it is moved: ``Metrics(clock=clock)``.

    It starts at the current time, or at *start*: an aware datetime or Unix seconds.
    """

    def __init__(self, start: datetime | float | None = None) -> None:
        self._now = time.time() if start is None else _seconds(start)

    def __call__(self) -> float:
        """Return the time, in Unix seconds."""
        return self._now

    def set(self, when: datetime | float) -> None:
        """Move the clock to an aware datetime or Unix seconds, forwards or backwards."""
        self._now = _seconds(when)

    def advance(self, by: timedelta | float) -> float:
        """Move the clock forwards by seconds or a timedelta; return the new time."""
        self._now += by.total_seconds() if isinstance(by, timedelta) else check_number(by, "by")
        return self._now

    def __repr__(self) -> str:
        return f"Clock({to_datetime(self._now * 1000).isoformat()})"


def _seconds(when: datetime | float) -> float:
    return to_ms(when) / 1000 if isinstance(when, datetime) else check_number(when, "time")
