"""Read the slots of a metric's series between given edges, with their running totals.

Unlike `fetch`, which covers one window, this serves many windows at once: all edges of all windows
of a range query are known, and a slot is read whole if no edge is inside it. So windows that begin
and end on the hour read hours, and windows that begin anywhere read the exact samples of the
minutes that they cut, as long as these are stored.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples, concat, no_samples
from redismetrics.columnar.totals import TotalsTable, split_live, unpack_change
from redismetrics.model.definition import Definition
from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import MINUTE, OPEN_UNTIL, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation, gather
from redismetrics.store.replies import pairs, reading

from .context import QueryContext
from .fetch import WindowRead, columns, read_window
from .older import Share, Wanted
from .plan import Due, Plan
from .selection import Edges
from .snapshot import Snapshot

# Chooses series: takes the definition and the tags of each series by id, and returns a description
# of each chosen series and the position of each id among them, shape (largest id + 2,), -1 if none.
Choose = Callable[[Definition, Mapping[int, dict[str, str]]], tuple[list[Any], Ints]]


@dataclass(frozen=True, slots=True)
class SlotsQuery:
    """What to read of one metric.

    Attributes:
        name: The metric.
        choose: Function that chooses its series.
        since_ms: Slots that end before this are not needed.
        until_ms: Slots that begin here or later are not needed.
        edges: Ascending times in ms. A slot with an edge inside is not read whole while finer data
            is stored. None: read the finest stored data everywhere.
        finest_ms: Read no finer slots than this; 0 means exact samples.
        with_totals: Whether to read the current totals, and everything recorded until now.
        with_points: Whether the points of digests are needed.
    """

    name: str
    choose: Choose
    since_ms: int
    until_ms: int
    edges: Sequence[int] | None
    finest_ms: int = 0
    with_totals: bool = False
    with_points: bool = True


@dataclass(slots=True, eq=False)
class SeriesSlots:
    """Slots and samples of the chosen series of one metric.

    Attributes:
        definition: The metric's definition.
        series: A description of each series.
        now_ms: The server's time.
        tables: Rows of slots, with the length of the slots in ms. A series is a position in
            *series*.
        samples: Samples that are not in the tables.
        owners: Series position of each row of *totals*, shape (n,); a series may have several rows.
        totals: Current totals in the layout of keys.py, shape (n, width).
    """

    definition: Definition
    series: list[Any]
    now_ms: int
    tables: list[tuple[Table, int]]
    samples: Samples
    owners: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    totals: Floats = field(default_factory=lambda: np.zeros((0, 1)))


def read_slots(context: QueryContext, query: SlotsQuery) -> Operation[SeriesSlots | None]:
    """Return the slots and samples that cover the query's window; None for an unknown metric."""
    found = yield from read_window(context, query.name, _SlotsReading(query, _Cuts(query)))
    if found.snapshot is None:
        return None
    return _series_slots(query, found, found.snapshot)


def _series_slots(query: SlotsQuery, found: WindowRead, snapshot: Snapshot) -> SeriesSlots:
    definition = snapshot.definition
    if query.with_totals:
        live, newer = found.more
        # Data that arrived between the two round trips is in the totals, so it must be in the
        # samples too.
        found.log += newer
    tables, samples = columns(found)
    joined = concat(samples) if samples else no_samples()
    slots = SeriesSlots(definition, found.series, found.edges.now_ms, tables, joined)
    if query.with_totals:
        with reading(f"live: the totals of {query.name!r}"):
            fields = split_live(pairs(live))
            shape = keys.totals_shape(definition.type, len(definition.buckets))
            table = TotalsTable(*shape, fields.rows, list(map(unpack_change, fields.changes)))
        positions = found.positions
        owners = positions[np.minimum(table.ids, len(positions) - 1)]
        chosen = (owners >= 0) & (table.values[:, 0] != 0)
        slots.owners, slots.totals = owners[chosen], table.values[chosen]
    return slots


def read_many_slots(
    context: QueryContext, queries: Sequence[SlotsQuery]
) -> Operation[list[SeriesSlots | None]]:
    """Return the result of `read_slots` for each query, in shared round trips."""
    return (yield from gather([read_slots(context, query) for query in queries]))


class _Cuts:
    """The slots that must not be read whole."""

    def __init__(self, query: SlotsQuery) -> None:
        self._query = query
        self._by_width: dict[int, frozenset[int]] = {}

    def between(self, width: int, begin: int, end: int) -> Collection[int]:
        """Return the starts of slots of this *width* that begin in [begin, end)."""
        query = self._query
        if width <= query.finest_ms:
            return ()
        if query.edges is None:
            first = max(begin, slot_of(query.since_ms, width))
            return range(first, min(end, query.until_ms), width)
        if width not in self._by_width:
            inside = (edge for edge in query.edges if edge % width)
            self._by_width[width] = frozenset(slot_of(edge, width) for edge in inside)
        return self._by_width[width]

    def within(self, width: int, begin: int, end: int) -> Sequence[int]:
        """Return the starts of slots of this *width* that overlap [begin, end)."""
        first = slot_of(begin, width)
        found = self.between(width, first, end)
        if isinstance(found, range):
            return found
        return sorted(slot for slot in found if first <= slot < end)


@dataclass(slots=True)
class _SlotsReading:
    """The `Reading` of a `SlotsQuery`."""

    query: SlotsQuery
    _cuts: _Cuts

    def window(
        self, retention: RetentionPolicy, now_ms: int, *, is_archived: bool
    ) -> tuple[Edges, int]:
        # Whole minutes, so that minutes at the ends are read like those inside.
        since = slot_of(max(self.query.since_ms, 0), MINUTE)
        until = -slot_of(-self.query.until_ms, MINUTE)
        return Edges(since, OPEN_UNTIL if self.query.with_totals else until, now_ms), since

    def wanted(self, retention: RetentionPolicy, now_ms: int) -> Wanted:
        widths: tuple[int, ...] = (retention.coarsest.width,)
        shares = [Share(widths, retention.coarsest.kept_from(now_ms))]
        for coarser, finer in pairwise(retention.resolutions[::-1]):
            until = finer.kept_from(now_ms)
            if not self._cuts.within(coarser.width, self.query.since_ms, until):
                break
            # Redis holds only slots that should not be read as a whole.
            widths = (*widths, finer.width)
            shares.insert(0, Share(widths, until))
        return Wanted(
            tuple(shares),
            False,
            {},
            self._cuts.within,
            self.query.with_points,
            # Redis no longer has totals of other series.
            is_known_only=self.query.with_totals,
        )

    def select(self, snapshot: Snapshot) -> tuple[list[Any], Ints]:
        return self.query.choose(snapshot.definition, snapshot.series)

    def plan(
        self, sealed: tuple[int, int], retention: RetentionPolicy, due: Due, now_ms: int
    ) -> Plan:
        plan = Plan(*sealed)
        if sealed[0] < sealed[1]:
            planner = _SlotPlanner(plan, retention, due, now_ms, self._cuts)
            planner.cover(len(retention.resolutions) - 1, *sealed)
        return plan

    def more(self, context: QueryContext, shard: int, snapshot: Snapshot) -> list[Command]:
        if not self.query.with_totals:
            return []
        of = keys.metric(context.namespace.name, shard, self.query.name)
        return [
            ("HGETALL", of.totals),
            ("ZRANGEBYSCORE", of.log, b"(" + snapshot.clock, "+inf"),
        ]


@dataclass(slots=True)
class _SlotPlanner:
    """Adds slots to a plan: the coarsest that no edge cuts, as long as finer data is stored.

    A whole slot may begin before the window or end after it.
    """

    plan: Plan
    retention: RetentionPolicy
    due: Collection[tuple[str, int]]
    now_ms: int
    cuts: _Cuts

    def cover(self, at: int, begin: int, end: int) -> None:
        """Cover [begin, end) with slots of the resolution at *at*, or with finer ones."""
        resolution = self.retention.resolutions[at]
        if at == 0:
            self._cover_finest(resolution, begin, end)
            return
        finer = self.retention.resolutions[at - 1]
        first = slot_of(begin, resolution.width)
        cuts = self.cuts.between(resolution.width, first, end)
        for slot in range(first, end, resolution.width):
            is_due = (resolution.name, slot) in self.due
            if is_due or (slot in cuts and not finer.is_expired(slot, self.now_ms)):
                # The sources of a due slot are kept until it is built.
                self.cover(at - 1, max(begin, slot), min(end, slot + resolution.width))
            else:
                self._add(resolution, [slot])

    def _cover_finest(self, resolution: Resolution, begin: int, end: int) -> None:
        raw, width, length = self.retention.raw, resolution.width, resolution.partition
        first = slot_of(begin, width)
        cuts = self.cuts.between(width, first, end)
        for partition in range(slot_of(first, length), end, length):
            slots = range(max(first, partition), min(end, partition + length), width)
            # Exact samples of an hour share a key, like its minutes.
            if raw.is_expired(slot_of(partition, raw.partition), self.now_ms) or not cuts:
                self._add(resolution, slots)
                continue
            self._add(resolution, [slot for slot in slots if slot not in cuts])
            self.plan.partial += [slot for slot in slots if slot in cuts]

    def _add(self, resolution: Resolution, slots: Sequence[int]) -> None:
        if slots:
            partition = slot_of(slots[0], resolution.partition)
            self.plan.slots.setdefault((resolution, partition), []).extend(slots)
