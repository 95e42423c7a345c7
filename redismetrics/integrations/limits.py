"""Which times of samples are too old or too new to be stored: told at once, where a caller waits for an answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redismetrics.errors import InvalidTimestamp
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.recording.methods import Recording


@dataclass(frozen=True, slots=True)
class TimestampBounds:
    """The bounds of one moment, in Unix ms."""

    oldest_ms: int
    newest_ms: int

    @classmethod
    def now(cls, metrics: Recording) -> "TimestampBounds":
        """What `max_age` and `max_future` of this client allow now."""
        recorder = metrics._recorder
        now_ms, settings = round(recorder.clock() * 1000), recorder.settings
        return cls(
            now_ms - round(settings.max_age * 1000), now_ms + round(settings.max_future * 1000)
        )

    def check(self, timestamp: Any) -> None:
        """Raise `InvalidTimestamp` for a time outside; None is now."""
        if timestamp is None:
            return
        moment = to_ms(timestamp)
        if not self.oldest_ms <= moment <= self.newest_ms:
            oldest, newest = (
                to_datetime(edge).isoformat() for edge in (self.oldest_ms, self.newest_ms)
            )
            raise InvalidTimestamp(
                f"timestamp: wanted {oldest} (max_age) to {newest} (max_future), got {to_datetime(moment).isoformat()}"
            )


class LimitExceeded(Exception):
    """More than this process records for others; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class CardinalityLimit:
    """The bounds. What requests under way bring together may exceed that of series by as much as they hold."""

    names: int
    series: int

    def check(self, metrics: Recording, names: Iterable[str]) -> None:
        """Raise `NoRoom` where metrics of these *names* can't be recorded as well.

        A metric is remembered for as long as the process runs, a series until it was idle for a while.
        """
        known = metrics._recorder.metrics
        count = len(known) + len({name for name in names if name not in known})
        if count > self.names:
            raise LimitExceeded(
                f"names: wanted at most {self.names} in this process (the limit recorded_names), got {count}"
            )
        held = sum(len(metric.buffers) for metric in list(known.values()))
        if held >= self.series:
            raise LimitExceeded(
                f"series: wanted at most {self.series} in this process (the limit recorded_series), got {held}"
            )
