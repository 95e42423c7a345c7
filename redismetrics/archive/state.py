"""What an archive holds of a metric: which slots, and a fingerprint of their rows."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

# Groups of metrics. Only one archiver at a time works on a group. Each has its own Parquet files.
GROUPS = 16


def group_of(metric: str) -> int:
    """Return the group of a metric."""
    return crc32(metric.encode()) % GROUPS


class Unit(NamedTuple):
    """What a slot held when it was archived.

    Attributes:
        samples: Samples that had been merged into it; -1 if Redis no longer counted them.
        fingerprint: Of its rows, see rows.py.
    """

    samples: int
    fingerprint: int


@dataclass(slots=True)
class LevelState:
    """What is archived of one level of one metric.

    The unit of the levels raw, minute and hour is an hour; that of the level day is a day.

    Attributes:
        settled_ms: Everything before this is archived and can no longer change.
        units: The archived units from there on, by their start in ms.
    """

    settled_ms: int = 0
    units: dict[int, Unit] = field(default_factory=dict)


@dataclass(slots=True)
class MetricState:
    """What is archived of one metric.

    Attributes:
        stamp: Stamp of the metric in the catalogue. A metric that was deleted and recorded again
            has a new stamp and is archived again.
        levels: By name of the level.
    """

    stamp: str = ""
    levels: dict[str, LevelState] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as it is stored, as JSON."""
        return {
            "stamp": self.stamp,
            "levels": {
                name: {
                    "settled": level.settled_ms,
                    "units": {str(unit): list(value) for unit, value in level.units.items()},
                }
                for name, level in self.levels.items()
            },
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "MetricState":
        """Return the state that `to_dict` stored."""
        return cls(
            stored["stamp"],
            {
                name: LevelState(
                    level["settled"],
                    {int(unit): Unit(*value) for unit, value in level["units"].items()},
                )
                for name, level in stored["levels"].items()
            },
        )
