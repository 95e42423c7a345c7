"""Resolutions and how long each is kept."""

from dataclasses import dataclass

from .time import DAY, HOUR, MINUTE, SECOND, slot_of


@dataclass(frozen=True, slots=True)
class Resolution:
    """One grain of what is kept: slots of *width* ms; those of one *span* ms stand in one key, kept *retention* ms after it.

    *points* is how many points a series' digest has at most in one slot.
    """

    name: str
    width: int
    span: int
    retention: int
    points: int

    def gone(self, span_start: int, now_ms: int) -> bool:
        """Is this span past its retention?"""
        return span_start + self.span + self.retention <= now_ms

    def kept_from(self, now_ms: int) -> int:
        """The start of the oldest span that is within its retention."""
        return max(slot_of(now_ms - self.retention, self.span), 0)


MARGIN = (
    HOUR  # what is past its retention stays so much longer in the store, for questions under way
)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept for how long: exact samples by the minute, and rollups, each level a multiple of the finer before it."""

    raw: Resolution
    levels: tuple[Resolution, ...]

    @classmethod
    def of(cls, raw_s: float, minute_s: float, hour_s: float, day_s: float) -> "RetentionPolicy":
        """From the retentions in seconds. A day's or an hour's slots share a key, and so do 32 days."""
        raw, minute, hour, day = (
            round(seconds * SECOND) for seconds in (raw_s, minute_s, hour_s, day_s)
        )
        return cls(
            Resolution("raw", MINUTE, HOUR, raw, 0),
            (
                Resolution("minute", MINUTE, HOUR, minute, 100),
                Resolution("hour", HOUR, DAY, hour, 200),
                Resolution("day", DAY, 32 * DAY, day, 200),
            ),
        )

    def describe(self) -> str:
        """As the namespace's configuration holds it: name and seconds of each level."""
        return " ".join(
            f"{level.name}:{level.retention / SECOND:.15g}" for level in (self.raw, *self.levels)
        )

    @classmethod
    def parse(cls, text: str) -> "RetentionPolicy":
        """The inverse of `describe`; raises ValueError for other text."""
        pairs = [part.split(":") for part in text.split()]
        if [name for name, _ in pairs] != ["raw", "minute", "hour", "day"]:
            raise ValueError(f"wanted raw, minute, hour and day, got {text!r:.80}")
        return cls.of(*(float(seconds) for _, seconds in pairs))


REPLAY_US = 60_000_000  # so long what is sealed stays in the log, for subscribers that were cut off

DEFAULT_RETENTION = RetentionPolicy.of(
    DAY / SECOND, 3 * DAY / SECOND, 90 * DAY / SECOND, 5 * 365 * DAY / SECOND
)
