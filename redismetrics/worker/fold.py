"""Fold: add the changes of a metric's totals to its rows, in the commit that seals its log.

Changes are read in one trip and the rows in the next. Between the two, record.lua may have folded
some of them: the rows then include these, and are read together with the number of the oldest
change that they do not include. What record.lua folds after that is equal to what is written here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import cast

from redismetrics.columnar.batch_stamp import stamp_bytes
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.columnar.small_totals import SmallChange, folded, unpack_changes
from redismetrics.columnar.totals import Change, TotalsTable, field_name, unpack_change
from redismetrics.store import keys
from redismetrics.store.driver import Command
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import reading

from .commit import Fold, MetricVersion


@dataclass(frozen=True, slots=True)
class WaitingChanges:
    """Changes of a metric waiting to be folded, as bytes; the oldest has the number *first*."""

    first: int
    data: list[bytes]


def change_fields(state: RecordState, count: int) -> list[bytes]:
    """Return the fields of the oldest waiting changes, at most *count*."""
    first = state.first_change
    return list(map(field_name, range(first, min(state.next_change, first + count))))


def waiting_changes(first: int, found: Sequence[bytes | None]) -> WaitingChanges:
    """Return changes read from number *first* on, without those folded in the meantime."""
    folded = next((at for at, each in enumerate(found) if each is not None), len(found))
    data = list(takewhile(lambda each: each is not None, found[folded:]))
    # After a failover, changes may be missing after others: these are folded later.
    return WaitingChanges(first + folded, cast(list[bytes], data))


@dataclass(frozen=True, slots=True)
class Folding:
    """Changes of a metric waiting to be folded into rows that are read next.

    Attributes:
        shape: Doubles of a row, and rows of a field.
        numbers: Fields of the rows.
        few: The changes, if there are few.
        many: The changes, if there are many.
    """

    metric: MetricLocation
    waiting: WaitingChanges
    shape: tuple[int, int]
    numbers: list[int]
    few: list[SmallChange] | None
    many: list[Change]

    @property
    def command(self) -> Command:
        """The command that reads the rows, and the number of the oldest change not in them."""
        return ("HMGET", self.metric.recorded.totals, "first", *map(str, self.numbers))

    def fold(self, reply: list[bytes | None]) -> Fold | None:
        """Return the changes folded into the rows of *reply*; None if there are none to fold.

        Raises:
            FormatMismatch: If changes or rows are corrupt. Their metric can still be sealed.
        """
        first, *stored = reply
        known = {number: row for number, row in zip(self.numbers, stored, strict=True) if row}
        waiting = self.waiting
        with reading(f"live: the totals of {self.metric.name!r}"):
            held = int(first or 0) - waiting.first
            # If it is lower, the metric was read in a different history, from before a failover.
            if not 0 <= held < len(waiting.data):
                return None
            packed = self._folded(known, held)
        taken = waiting.data[held:]
        sizes, next_first = list(map(len, taken)), waiting.first + len(waiting.data)
        rows = [*packed, b"first", b"%d" % next_first]
        return Fold(waiting.first + held, stamp_bytes(taken[-1]), sizes, rows)

    def _folded(self, known: dict[int, bytes], held: int) -> list[bytes]:
        """Return the new rows, flat."""
        changes = self.many
        if self.few is not None:
            try:
                return folded(*self.shape, known, self.few[held:])
            except NotSmall:
                changes = _known_changes(self.waiting.data)
        return TotalsTable(*self.shape, known, changes[held:]).packed()


def folding(metric: MetricLocation, seen: MetricVersion, waiting: WaitingChanges) -> Folding | None:
    """Decode changes; None if there are none, or the first is of an unknown kind.

    Raises:
        FormatMismatch: If a change is corrupt. Its metric can still be sealed.
    """
    assert seen.definition is not None, "BUG: the metric has no definition"
    if not waiting.data:
        return None
    shape = keys.totals_shape(seen.definition.type, len(seen.definition.buckets))
    few = _few_changes(waiting.data)
    if few is None:
        many = _known_changes(waiting.data)
        if not many:
            return None
        known = WaitingChanges(waiting.first, waiting.data[: len(many)])
        return Folding(metric, known, shape, _fields(many, shape[1]), None, many)
    numbers = sorted({number // shape[1] for change in few for number in change.ids})
    return Folding(metric, waiting, shape, numbers, few, [])


def _few_changes(waiting: list[bytes]) -> list[SmallChange] | None:
    """Decode changes if there are few, and all of known kinds; otherwise return None."""
    try:
        few = unpack_changes(waiting)
    except NotSmall:
        return None
    return few if len(few) == len(waiting) else None


def _known_changes(waiting: list[bytes]) -> list[Change]:
    """Decode the changes before the first one of an unknown kind, which a newer version wrote.

    That one and all after it wait for a newer version: the order of changes determines the value of
    a gauge, and the last digits of a sum.
    """
    known = []
    for data in waiting:
        change = unpack_change(data)
        if change is None:
            break
        known.append(change)
    return known


def _fields(changes: list[Change], per_field: int) -> list[int]:
    """Return the numbers of the fields changed, in ascending order."""
    numbers: set[int] = set()
    for change in changes:
        numbers.update((change.ids // per_field).tolist())
    return sorted(numbers)
