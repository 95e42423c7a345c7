"""Samples as they are recorded, in the log, and in rollups; the metrics of the model."""

from collections.abc import Iterable
from typing import NamedTuple

# A metric of counters, one of gauges with a shared value, one of gauges with a value per process,
# and an info: of its tags, the first letter is what it is about, the rest is what was set.
MAIN, GAUGE, PROCESS, INFO = "main", "gauge", "process", "info"
METRICS = (MAIN, GAUGE, PROCESS, INFO)


class Sample(NamedTuple):
    """A recorded sample.

    Attributes:
        kind: "" of a counter; "set" or "add" of a gauge; "value" of a process, or "beat" if it is
            only repeated; "info", or "clear" for what the same process had set before.
        own: The caller gave the time.
    """

    id: int
    tags: str
    time: int
    kind: str = ""
    own: bool = False

    @property
    def metric(self) -> str:
        kinds = {"": MAIN, "value": PROCESS, "beat": PROCESS, "info": INFO, "clear": INFO}
        return kinds.get(self.kind, GAUGE)

    def __repr__(self) -> str:
        return f"#{self.id}({self.kind}{'!' if self.own else ''}{self.tags}@{self.time})"


class Entry(NamedTuple):
    """A stored sample, which belongs to a series."""

    series: int
    sample: int
    time: int

    def __repr__(self) -> str:
        return f"#{self.sample}"


Rows = tuple[Entry, ...]


def merged(*parts: Iterable[Entry]) -> Rows:
    return tuple(sorted(entry for part in parts for entry in part))


class Block(NamedTuple):
    """What one batch adds to the log."""

    clock: int
    writer: str
    sequence: int
    rows: Rows

    @property
    def stamp(self) -> tuple[int, str, int]:
        return self.clock, self.writer, self.sequence
