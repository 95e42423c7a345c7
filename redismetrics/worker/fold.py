"""Fold: add the changes of a metric's totals to its rows, in the commit that seals its log.

Changes are read in one trip and the rows in the next. Between the two, record.lua may have folded
some of them: the rows hold these then, and are read together with the number of the oldest change
that they do not hold. What record.lua folds after that is equal to what is written here.
"""

from dataclasses import dataclass
from typing import Any

from redismetrics.columnar.batch_stamp import stamp_bytes
from redismetrics.columnar.totals import Change, TotalsTable, field_name, unpack_change
from redismetrics.errors import FormatMismatch
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.replies import reading

from .commit import Fold, MetricVersion, read_consistent


@dataclass(frozen=True, slots=True)
class WaitingChanges:
    """Changes of a metric that wait to be folded, as bytes; the oldest has the number *first*."""

    first: int
    data: list[bytes]


def changes_command(metric: MetricLocation, seen: MetricVersion, count: int) -> list[Command]:
    """Return the command that reads the waiting changes, at most *count*; none if none wait."""
    first = seen.recorded.first_change
    last = min(seen.recorded.next_change, first + count)
    if first == last:
        return []
    return [("HMGET", metric.recorded.totals, *map(field_name, range(first, last)))]


def waiting_changes(seen: MetricVersion, replies: list[Any]) -> WaitingChanges:
    """Return the changes of a reply to `changes_command`, without those folded meanwhile."""
    first = seen.recorded.first_change
    data = list(replies[0]) if replies else []
    folded = next((at for at, each in enumerate(data) if each is not None), len(data))
    rest = data[folded:]
    # After a failover changes may be missing behind others: these are folded later.
    end = rest.index(None) if None in rest else len(rest)
    return WaitingChanges(first + folded, rest[:end])


def fold(
    metric: MetricLocation, seen: MetricVersion, waiting: WaitingChanges
) -> Operation[Fold | FormatMismatch | None]:
    """Read the rows that the changes touch, and return them folded.

    Returns None if there is nothing to fold or the metric changed since it was read, and an error
    if changes or rows are corrupt: their metric can still be sealed.
    """
    assert seen.definition is not None, "BUG: the metric has no definition"
    if not waiting.data:
        return None
    width, per_field = keys.totals_shape(seen.definition.type, len(seen.definition.buckets))
    try:
        changes = _known_changes(waiting.data)
    except FormatMismatch as error:
        return error
    if not changes:
        return None
    numbers = _fields(changes, per_field)
    replies = yield from read_consistent(
        metric, seen, [("HMGET", metric.recorded.totals, "first", *map(str, numbers))]
    )
    if replies is None:
        return None
    first, *rows = replies[0]
    try:
        with reading(f"live: the totals of {metric.name!r}"):
            held = int(first or 0) - waiting.first
            # If it is below, another history of the metric was read, of before a failover.
            if not 0 <= held < len(changes):
                return None
            known = {number: row for number, row in zip(numbers, rows, strict=True) if row}
            table = TotalsTable(width, per_field, known, changes[held:])
    except FormatMismatch as error:
        return error
    folded = waiting.data[held : len(changes)]
    return Fold(
        waiting.first + held,
        stamp_bytes(folded[-1]),
        [len(each) for each in folded],
        table.packed(),
    )


def _known_changes(waiting: list[bytes]) -> list[Change]:
    """Decode the changes before the first one of an unknown kind, which a newer version wrote.

    That one waits for a newer version, and so do all behind it: the order of changes decides the
    value of a gauge, and the last digits of a sum.
    """
    known = []
    for data in waiting:
        change = unpack_change(data)
        if change is None:
            break
        known.append(change)
    return known


def _fields(changes: list[Change], per_field: int) -> list[int]:
    """Return the numbers of the fields that changes touch, ascending."""
    numbers: set[int] = set()
    for change in changes:
        numbers.update((change.ids // per_field).tolist())
    return sorted(numbers)
