"""Totals of series: rows of the base, and changes that are not folded into them yet. No I/O.

A total consists of its samples, so that a missing or doubled one shows: of a counter the ids of
all; of a gauge the newest set and the changes added since.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import NamedTuple

from tests.system.protocol.samples import Sample
from tests.system.protocol.slots import HEARTBEAT

# Series whose rows share a field of the base.
FIELD = 2
# Changes beyond which record.lua folds, and how many it folds at once.
LIMIT, AT_ONCE = 2, 2
# Versions of the software: the older one knows changes of kind 1 only.
OLDER, NEWEST = 1, 2


class Row(NamedTuple):
    """A total: when it was last recorded, and its samples.

    *time* orders the sets of a gauge; *time* and *clock*, of its batch, those of an info.
    """

    seen: int
    ids: tuple[int, ...]
    time: int = -1
    clock: int = 0


class Change(NamedTuple):
    """What one batch changes, as it was sent.

    *time* is the server's own time in microseconds: in no history are two batches applied at the
    same one.
    """

    clock: int
    writer: str
    sequence: int
    rows: tuple[tuple[int, Sample], ...]
    time: int = 0
    kind: int = 1

    @property
    def stamp(self) -> tuple[int, str, int, int]:
        return self.clock, self.writer, self.sequence, self.time


Field = dict[int, Row]
Base = dict[int, Field]


class Gone(NamedTuple):
    """The values of processes that are gone, by writer: one field of the hash."""

    rows: dict[str, Row]

    @property
    def seen(self) -> int:
        return max((row.seen for row in self.rows.values()), default=0)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(sorted(each for row in self.rows.values() for each in row.ids))


# By series and writer. Processes that are gone share the writer "".
Values = dict[tuple[int, str], Row | Gone]


class Exemplar(NamedTuple):
    """The newest sample of a series and bucket, by time and then by the clock of its batch."""

    time: int
    clock: int
    id: int


def bucket_of(sample: Sample) -> int:
    return sample.id % 2


def exemplar_of(sample: Sample, clock: int) -> Exemplar:
    return Exemplar(min(sample.time, clock // 1000), clock, sample.id)


def applied(row: Row | None, sample: Sample, clock: int) -> Row:
    """Return a total with one more sample; sets of a gauge count by time, then by clock."""
    seen = clock // 1000
    ids, before = (row.ids, row.time) if row else ((), -1)
    if not sample.kind:
        return Row(seen, tuple(sorted((*ids, sample.id))))
    if sample.kind in ("info", "clear"):
        if (time := min(sample.time, seen)) < before:
            return Row(seen, ids, before, row.clock if row else 0)
        return Row(seen, (sample.id,) if sample.kind == "info" else (), time, clock)
    time = sample.time if sample.own and sample.kind == "set" else min(sample.time, seen)
    if sample.kind == "add":
        return Row(seen, (*ids, sample.id), max(before, time))
    return Row(seen, (sample.id,), time) if time >= before else Row(seen, ids, before)


def folded(base: Base, changes: Iterable[Change]) -> Base:
    """Return the fields that *changes* touch as they become, unchanged rows included."""
    result: Base = {}
    for change in changes:
        for series, sample in change.rows:
            number = series // FIELD
            rows = result.setdefault(number, dict(base.get(number, {})))
            rows[series] = applied(rows.get(series), sample, change.clock)
    return result


def known_first(changes: tuple[Change, ...], version: int) -> tuple[Change, ...]:
    """Return the changes before the first one that *version* does not know."""
    return tuple(takewhile(lambda change: change.kind <= version, changes))


def rows_of(base: Base) -> Field:
    return {series: row for rows in base.values() for series, row in rows.items()}


def sums(values: Mapping[tuple[str, str], Row | Gone], time: int, live: bool) -> dict[str, Row]:
    """Return the sum of the values of all processes by tags; if *live*, of those not gone."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for (tags, writer), row in values.items():
        if not live or (writer and row.seen >= time - HEARTBEAT):
            found[tags] += row.ids
    return {tags: Row(0, tuple(sorted(ids))) for tags, ids in found.items()}


def newest_infos(rows: dict[str, Row], *, all_set: bool = False) -> dict[str, Row]:
    """Return what an info shows for each first letter of the tags: the newest value.

    With *all_set*, all values that were set and not cleared.
    """
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for tags, row in rows.items():
        if row.ids:
            found[tags[0]].append(row)
    shown = {}
    for first, several in found.items():
        newest = [max(several, key=lambda row: (row.time, row.clock))]
        ids = [number for row in (several if all_set else newest) for number in row.ids]
        shown[first] = Row(0, tuple(sorted(ids)))
    return shown


def take_off(values: Values, series: int, writer: str, *, live: bool) -> None:
    """Remove a value; unless only live ones count, add it to the values of gone processes."""
    row = values.pop((series, writer))
    if not live:
        gone = values.get((series, ""), Gone({}))
        assert isinstance(gone, Gone)
        assert isinstance(row, Row)
        values[series, ""] = Gone({**gone.rows, writer: row})


class TotalsRead(NamedTuple):
    """What a reader of totals has read."""

    base: Base
    first: int
    changes: tuple[Change, ...]
    series: dict[str, int]
    values: Values
    exemplars: dict[tuple[int, int], Exemplar]

    def tags_of(self) -> dict[int, str]:
        return {series: tags for tags, series in self.series.items()}

    def values_by_tags(self) -> dict[tuple[str, str], Row | Gone]:
        """Return the values of processes, by tags and writer; skip ids without a series."""
        tags = self.tags_of()
        found = self.values.items()
        return {(tags[series], key): row for (series, key), row in found if series in tags}

    def exemplars_by_tags(self) -> dict[tuple[str, int], Exemplar]:
        """Return exemplars, by tags and bucket; skip ids without a series."""
        tags = self.tags_of()
        found = self.exemplars.items()
        return {(tags[series], key): one for (series, key), one in found if series in tags}

    def unknown(self, version: int) -> int:
        """Return how many changes *version* does not know and has to skip."""
        return sum(change.kind > version for change in self.changes)

    def page(self, version: int = NEWEST, time: int = 0, live: bool = False) -> dict[str, Row]:
        """Return the totals by tags, as a process of *version* shows them at *time*."""
        known = [change for change in self.changes if change.kind <= version]
        rows = rows_of({**self.base, **folded(self.base, known)})
        page = {tags: rows[series] for tags, series in self.series.items() if series in rows}
        return {**page, **sums(self.values_by_tags(), time, live)}
