"""The data of one server."""

from copy import copy
from dataclasses import dataclass, field

from tests.system.protocol.messages import Reply
from tests.system.protocol.metric import Metric, Version
from tests.system.protocol.rules import Rule, Rules
from tests.system.protocol.samples import MAIN, METRICS, Block, Rows, Sample
from tests.system.protocol.slots import Cell, Key, key_of


@dataclass
class Node:
    """The data of one server. Stored values are never changed in place, so copies are shallow.

    *recorded*, *dropped* and *deleted* are the expected results. They are here so that a failover
    loses them together with the data.
    """

    clock: int = 0
    sealed: int = 0
    writers: dict[str, tuple[int, int, Reply]] = field(default_factory=dict)
    # By member, in order of clocks; equal members become one.
    log: dict[object, Block] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=lambda: {name: Metric() for name in METRICS})
    due: dict[Cell, int] = field(default_factory=dict)
    # Fields of single slots.
    cells: dict[Key, dict[Cell, Rows]] = field(default_factory=dict)
    # Fields of many slots, by chunk and slot.
    segments: dict[Key, dict[int, dict[int, Rows]]] = field(default_factory=dict)
    expiry: dict[Key, int | None] = field(default_factory=dict)
    recorded: dict[int, Sample] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()
    deleted: frozenset[int] = frozenset()

    @property
    def version(self) -> Version:
        """The version of the metric whose log and rollups are in the model."""
        return self.metrics[MAIN].version

    def copy(self) -> "Node":
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(twin, name, value.copy())
        twin.metrics = {name: metric.copy() for name, metric in self.metrics.items()}
        twin.cells = {key: dict(inside) for key, inside in self.cells.items()}
        twin.segments = {key: dict(inside) for key, inside in self.segments.items()}
        return twin

    def expire(self, time: int) -> None:
        for key in [
            key for key, expiry in self.expiry.items() if expiry is not None and expiry <= time
        ]:
            for kept in (self.cells, self.segments, self.expiry):
                kept.pop(key, None)

    def log_after(self, clock: int) -> list[Block]:
        return [block for block in self.log.values() if block.clock > clock]

    def row(self, cell: Cell, rules: Rules) -> Rows:
        """Return the rows of a slot; its own field replaces the segment's rows."""
        _, slot, chunk = cell
        key = key_of(cell)
        own = self.cells.get(key, {}).get(cell)
        segment = self.segments.get(key, {}).get(chunk, {}).get(slot)
        if Rule.CELL_OVER_SEGMENT in rules:
            return segment or () if own is None else own
        return own or () if segment is None else segment

    def counters(self) -> dict[int, Sample]:
        """Return the recorded samples that are in the log and in rollups."""
        return {number: sample for number, sample in self.recorded.items() if not sample.kind}
