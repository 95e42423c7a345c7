"""Which times of samples are too old or too new to be stored: told at once, where a caller waits for an answer."""

from dataclasses import dataclass
from typing import Any

from redismetrics.errors import InvalidTimestamp
from redismetrics.model import to_datetime, to_ms
from redismetrics.verbs import Recording


@dataclass(frozen=True, slots=True)
class Ages:
    """The bounds of one moment, in Unix ms."""

    oldest_ms: int
    newest_ms: int

    @classmethod
    def now(cls, metrics: Recording) -> "Ages":
        """What `max_age` and `max_future` of this client allow now."""
        recorder = metrics._recorder
        now_ms, settings = round(recorder.clock() * 1000), recorder.settings
        return cls(now_ms - round(settings.max_age * 1000), now_ms + round(settings.max_future * 1000))

    def check(self, timestamp: Any) -> None:
        """Raise `InvalidTimestamp` for a time outside; None is now."""
        if timestamp is None:
            return
        moment = to_ms(timestamp)
        if not self.oldest_ms <= moment <= self.newest_ms:
            oldest, newest = (to_datetime(edge).isoformat() for edge in (self.oldest_ms, self.newest_ms))
            raise InvalidTimestamp(
                f"timestamp: wanted {oldest} (max_age) to {newest} (max_future), got {to_datetime(moment).isoformat()}"
            )
