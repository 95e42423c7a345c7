"""Units of values and durations."""

from .time import DAY, HOUR, MINUTE, SECOND

# Length of each unit of time in seconds.
SECONDS_PER_UNIT = {
    "ns": 1e-9,
    "nanoseconds": 1e-9,
    "us": 1e-6,
    "microseconds": 1e-6,
    "ms": 1e-3,
    "milliseconds": 1e-3,
    "s": 1.0,
    "seconds": 1.0,
    "min": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hours": 3600.0,
}

# The units that timers record in. Samples of a metric are converted between them, so that one
# process may record "ms" and another "s".
TIME_UNITS = {unit: SECONDS_PER_UNIT[unit] for unit in ("s", "seconds", "ms", "milliseconds")}

# Milliseconds for each suffix of a duration such as "15m".
DURATION_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def duration_unit(name: str) -> str:
    """Return the unit in which durations are measured as metric *name*, if none is declared."""
    return "seconds" if name.endswith("_seconds") else "milliseconds"
