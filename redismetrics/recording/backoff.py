"""How long to wait between attempts to reach Redis."""

import secrets
from dataclasses import dataclass

from redismetrics.model.time import monotonic


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: *first*, doubled after each failure, up to *longest*."""

    first: float = 0.1
    longest: float = 2.0

    def delays(self) -> "Delays":
        return Delays(self)


class Delays:
    """The delays between successive failures."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff, self._next = backoff, backoff.first

    def after_failure(self) -> float:
        """Return how long to wait, with a jitter of 25 % so that processes do not retry in step."""
        delay, self._next = self._next, min(2 * self._next, self._backoff.longest)
        return delay * (0.75 + secrets.randbelow(500) / 1000)


class Retries:
    """Operations that failed last time, by number, and when to retry each of them."""

    def __init__(self) -> None:
        self.backoff = Backoff()
        self._delays: dict[int, Delays] = {}
        # By a monotonic clock.
        self._retry_at: dict[int, float] = {}

    def __bool__(self) -> bool:
        return bool(self._delays)

    def __contains__(self, number: int) -> bool:
        return number in self._delays

    def note_failure(self, number: int) -> None:
        delays = self._delays.setdefault(number, self.backoff.delays())
        self._retry_at[number] = monotonic() + delays.after_failure()

    def note_success(self, number: int) -> None:
        self._delays.pop(number, None)
        self._retry_at.pop(number, None)

    def hurry(self) -> None:
        """Retry all of them now. Any thread may call this."""
        self._retry_at.clear()

    def seconds_left(self, number: int) -> float:
        """Return the time until an operation may be retried; 0 if it may be now."""
        return max(self._retry_at.get(number, 0) - monotonic(), 0)
