"""Resolutions of stored data, and how long each is kept."""

from dataclasses import dataclass, replace
from functools import lru_cache

from redismetrics.errors import shown

from .options import Options
from .time import DAY, HOUR, MINUTE, SECOND, slot_of

# Keep expired data in Redis this much longer (ms), so that running queries can finish reading.
MARGIN = HOUR

# Keep sealed blocks in the log this long (µs), so that reconnecting subscribers can catch up.
REPLAY_US = 60_000_000

# Points of a minute's digest while exact samples, used for percentiles, are also kept. The digest
# of an hour is built from these.
EXACT_MINUTE_POINTS = 20


@dataclass(frozen=True, slots=True)
class Resolution:
    """One resolution of stored data, for example minutes.

    Attributes:
        name: The name used in keys, the configuration and messages.
        width: Length of a slot, in ms.
        partition: Length of the time range whose slots share one Redis key, in ms.
        retention: How long a partition is kept after its end, in ms.
        points: Maximum number of points in a series' digest for one slot.
    """

    name: str
    width: int
    partition: int
    retention: int
    points: int

    def is_expired(self, start_ms: int, now_ms: int) -> bool:
        """Return whether the partition that starts at *start_ms* is past its retention."""
        return start_ms + self.partition + self.retention <= now_ms

    def kept_from(self, now_ms: int) -> int:
        """Return the start of the oldest partition within its retention, in ms."""
        return max(slot_of(now_ms - self.retention, self.partition), 0)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long data is kept: exact samples, and rollups at several resolutions.

    Attributes:
        raw: Exact samples, stored by the minute.
        resolutions: The rollup resolutions, finest first. The width of each is a multiple of the
            previous width, and equals the previous partition.
    """

    raw: Resolution
    resolutions: tuple[Resolution, ...]

    @classmethod
    def of(cls, raw_s: float, minute_s: float, hour_s: float, day_s: float) -> "RetentionPolicy":
        """Return the policy with these retentions, in seconds.

        The minutes of an hour share a key; so do the hours of a day, and 32 days.
        """
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

    @property
    def finest(self) -> Resolution:
        return self.resolutions[0]

    @property
    def coarsest(self) -> Resolution:
        return self.resolutions[-1]

    @property
    def with_raw(self) -> tuple[Resolution, ...]:
        """The resolution of exact samples, then those of rollups, finest first."""
        return (self.raw, *self.resolutions)

    def named(self, name: str) -> Resolution | None:
        """Return the resolution called *name*, including ``raw``; None if there is none."""
        return next((each for each in self.with_raw if each.name == name), None)

    def coarser(self, resolution: Resolution) -> tuple[Resolution, ...]:
        """Return the resolutions coarser than *resolution*, finest first."""
        return tuple(each for each in self.resolutions if each.width > resolution.width)

    def finer(self, resolution: Resolution) -> Resolution | None:
        """Return the next finer rollup resolution; None for the finest."""
        at = self.resolutions.index(resolution)
        return self.resolutions[at - 1] if at else None

    def of_metric(self, options: Options) -> "RetentionPolicy":
        """Return the policy of a metric with these options, for data that is written now."""
        if options.retention is None and not options.exact_samples:
            return self
        return _of_metric(self, options)

    def readable(self, options: Options, now_ms: int) -> "RetentionPolicy":
        """Return the policy for reading a metric's stored data at *now_ms*.

        Data stored before the option `retention` was increased may already be gone.
        """
        longer = self.of_metric(options)
        if options.kept_from is None:
            return longer
        since = max(now_ms - options.kept_from * SECOND, 0)

        def limited(own: Resolution, new: Resolution) -> Resolution:
            return replace(new, retention=min(new.retention, max(own.retention, since)))

        return RetentionPolicy(
            limited(self.raw, longer.raw),
            tuple(map(limited, self.resolutions, longer.resolutions)),
        )

    def describe(self) -> str:
        """Return the text stored in the namespace's configuration: the name and seconds of each."""
        return " ".join(f"{each.name}:{each.retention / SECOND:.15g}" for each in self.with_raw)

    @classmethod
    def parse(cls, text: str) -> "RetentionPolicy":
        """Return the policy that `describe` wrote.

        Raises:
            ValueError: If *text* is in another form.
        """
        pairs = [part.split(":") for part in text.split()]
        if [name for name, _ in pairs] != ["raw", "minute", "hour", "day"]:
            raise ValueError(
                f"retentions must be given as raw, minute, hour and day, got {shown(text, 80)}"
            )
        return cls.of(*(float(seconds) for _, seconds in pairs))


DEFAULT_RETENTION = RetentionPolicy.of(
    DAY / SECOND, 3 * DAY / SECOND, 90 * DAY / SECOND, 5 * 365 * DAY / SECOND
)


# There is one policy per combination of options, because resolutions are compared by identity.
@lru_cache(1_000)
def _of_metric(policy: RetentionPolicy, options: Options) -> RetentionPolicy:
    raw = policy.raw
    if options.retention is not None:
        raw = replace(raw, retention=round(options.retention * SECOND))
    # Each row of exact samples is checked against the minute's row, which says whether all samples
    # are present, so minutes live at least as long, and nothing coarser may expire earlier.
    resolutions = [
        replace(each, retention=max(each.retention, raw.retention)) for each in policy.resolutions
    ]
    if options.exact_samples:
        resolutions[0] = replace(resolutions[0], points=EXACT_MINUTE_POINTS)
    return RetentionPolicy(raw, tuple(resolutions))
