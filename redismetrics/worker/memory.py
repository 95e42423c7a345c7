"""What a worker remembers about metrics from its own commits, so that it reads less next time.

A metric has the version of a commit only while everything written by commits alone is as that
commit left it (m7). So data that a worker has written need not be read again at that version.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redismetrics.model.time import MINUTE, monotonic, slot_of
from redismetrics.store.metric_keys import MetricLocation

from .cells import PackedHour, cells_by_hour, chunks_of
from .commit import CommitPlan, KeyWrites, MetricVersion
from .merge import CellKey

# Seconds after which a metric that has not been sealed again is forgotten.
KEPT_FOR = 300.0
# Maximum number of fields of the totals that are read before it is known whether they are needed.
MOST_FIELDS = 256
# Approximate size of an entry besides its cells.
_BYTES_OF_ENTRY, _BYTES_OF_DUE = 1_000, 200

# A minute's rows and exact samples as stored; None if it has none.
PackedCell = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Remembered:
    """The state of a metric after a commit.

    Attributes:
        version: The version written by the commit.
        sealed: Clock up to which its log is sealed.
        due: Fields of the hash `due`.
        fields: Numbers of the fields of the totals that were folded into.
        cells: The newest minutes written by it.
        expiries: Expiry of the data keys written by it, by key.
        at: When it was written, by the clock `monotonic`.
    """

    version: bytes
    sealed: bytes
    due: dict[bytes, bytes]
    fields: list[int]
    cells: dict[CellKey, PackedCell]
    expiries: dict[str, int]
    at: float = field(default_factory=monotonic)

    @property
    def size(self) -> int:
        """The approximate memory in bytes."""
        cells = sum(len(table) + len(samples or b"") for table, samples in self.cells.values())
        return _BYTES_OF_ENTRY + _BYTES_OF_DUE * len(self.due) + cells

    def hours(self, cells: list[CellKey]) -> list[PackedHour] | None:
        """Return *cells* as stored; None if some of them are unknown."""
        if not self.cells.keys() >= set(cells):
            return None
        found = []
        for of_hour in cells_by_hour(cells).values():
            # Segments are not needed: a cell without exact samples has none in a segment either.
            none: list[bytes | None] = [None] * len(chunks_of(of_hour))
            packed = [self.cells[cell] for cell in of_hour]
            tables = [table for table, _ in packed]
            found.append(
                PackedHour(of_hour, [*tables, *none], [*(each for _, each in packed), *none])
            )
        return found

    def keep_expiries(self, writes: Iterable[KeyWrites]) -> None:
        """Note which of *writes* need not set the expiry of their key."""
        for write in writes:
            write.keeps_expiry = self.expiries.get(write.name) == write.expires


def remembered(
    metric: MetricLocation,
    seen: MetricVersion,
    plan: CommitPlan,
    packed: Mapping[CellKey, PackedCell],
    before: Remembered | None,
) -> Remembered:
    """Return what is known about a metric after *plan*, which wrote the cells *packed*.

    *before* is what was known before, at the version *seen*.
    """
    numbers = [] if before is None else before.fields
    if plan.fold is not None:
        numbers = [int(name) for name in plan.fold.rows[::2] if name != b"first"]
    raw = metric.retention.raw
    cells = {} if before is None else dict(before.cells)
    for cell, (table, samples) in packed.items():
        # Samples past their retention were not written.
        if raw.is_expired(slot_of(cell[0], raw.partition), seen.now_ms):
            cells.pop(cell, None)
        else:
            cells[cell] = table, samples
    newest_ms = max((slot_ms for slot_ms, _ in cells), default=0)
    return Remembered(
        plan.new_version(seen),
        plan.sealed or seen.sealed,
        seen.due | {slot.field.encode(): b"%d" % when for slot, when in plan.schedule.items()},
        numbers if len(numbers) <= MOST_FIELDS else [],
        {cell: each for cell, each in cells.items() if cell[0] >= newest_ms - MINUTE},
        {write.name: write.expires for write in plan.writes},
    )


class Memory:
    """What a worker remembers, in at most *most_bytes* of memory. What does not fit is left out."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        # By shard and name, in the order in which they were written.
        self._known: OrderedDict[tuple[int, str], Remembered] = OrderedDict()

    def get(self, metric: MetricLocation) -> Remembered | None:
        return self._known.get((metric.shard, metric.name))

    def forget(self, metric: MetricLocation) -> None:
        known = self._known.pop((metric.shard, metric.name), None)
        if known is not None:
            self._bytes -= known.size

    def put(self, metric: MetricLocation, known: Remembered) -> None:
        self.forget(metric)
        self._forget_old(known.at)
        if self._bytes + known.size <= self._most_bytes:
            self._known[metric.shard, metric.name] = known
            self._bytes += known.size

    def _forget_old(self, now: float) -> None:
        while self._known:
            oldest = next(iter(self._known.values()))
            if now - oldest.at < KEPT_FOR:
                return
            self._known.popitem(last=False)
            self._bytes -= oldest.size
