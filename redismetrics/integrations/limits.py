"""Limits on what is recorded on behalf of remote callers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redismetrics.errors import InvalidTimestamp
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.recording.methods import Recording

# OpenTelemetry resource attributes that become tags by default.
RESOURCE_ATTRIBUTES = ("service.name",)


@dataclass(frozen=True, slots=True)
class TimestampBounds:
    """The oldest and newest timestamp that is accepted at a given time, in Unix ms.

    Rejects other timestamps up front, for callers that wait for a reply; otherwise such samples
    would be dropped when they are sent.
    """

    oldest_ms: int
    newest_ms: int

    @classmethod
    def now(cls, metrics: Recording) -> "TimestampBounds":
        """Return the current bounds, given by `max_age` and `max_future` of *metrics*."""
        now_ms = round(metrics.internals.clock() * 1000)
        settings = metrics.internals.settings
        return cls(
            now_ms - round(settings.max_age * 1000), now_ms + round(settings.max_future * 1000)
        )

    def check(self, timestamp: Any) -> None:
        """Check a timestamp; None means now.

        Raises:
            InvalidTimestamp: If it is invalid or out of bounds.
        """
        if timestamp is None:
            return
        time_ms = to_ms(timestamp)
        if not self.oldest_ms <= time_ms <= self.newest_ms:
            oldest, newest, given = (
                to_datetime(each).isoformat() for each in (self.oldest_ms, self.newest_ms, time_ms)
            )
            raise InvalidTimestamp(
                f"timestamp must be {oldest} (max_age) to {newest} (max_future), got {given}"
            )


class LimitExceeded(Exception):
    """A request has more metrics or series than this process accepts."""


@dataclass(frozen=True, slots=True)
class CardinalityLimit:
    """How much this process holds before requests with new metrics or series are rejected.

    This keeps remote callers from exhausting memory. Concurrent requests may exceed the limits by
    their new metrics and series. `max_bytes` limits the bytes of their tags. One request may have a
    quarter of it, so that an attribute shared by many points is bounded too.
    """

    max_names: int
    max_series: int
    max_bytes: int

    def check(
        self,
        metrics: Recording,
        names: Iterable[str],
        tags: Iterable[Mapping[str, str]] = (),
        *,
        has_new_series: Callable[[], bool] = lambda: True,
    ) -> None:
        """Check that metrics with these *names* can be recorded too, in series with these *tags*.

        A process holds a metric as long as it runs, and a series until it has been idle for a
        while. *has_new_series* is only called if there are too many: a request without new series
        is accepted, so that callers with many series do not shut out existing ones.

        Raises:
            LimitExceeded: If there would be too many metrics, or there are too many series.
        """
        internals = metrics.internals
        nbytes = 0
        for each in tags:
            nbytes += sum(map(len, each)) + sum(map(len, each.values()))
            if nbytes > self.max_bytes // 4:
                raise LimitExceeded(
                    f"tags of a request must have at most {self.max_bytes // 4} characters "
                    "(a quarter of the limit max_recorded_bytes), got more; send several smaller "
                    "requests"
                )
        metric_count, series_count, held_bytes = internals.buffered_counts()
        new_count = len({name for name in names if internals.definition(name) is None})
        metric_count += new_count
        # Requests at the same time may have exceeded it: known metrics must not be shut out then.
        if new_count and metric_count > self.max_names:
            raise LimitExceeded(
                f"this process holds at most {self.max_names} metrics "
                f"(limit max_recorded_names), got {metric_count}"
            )
        is_full = series_count >= self.max_series or held_bytes >= self.max_bytes
        if not is_full or not has_new_series():
            return
        if series_count >= self.max_series:
            raise LimitExceeded(
                f"this process holds at most {self.max_series} series "
                f"(limit max_recorded_series), got {series_count}"
            )
        raise LimitExceeded(
            f"this process holds at most {self.max_bytes} bytes of tags "
            f"(limit max_recorded_bytes), got {held_bytes}"
        )
