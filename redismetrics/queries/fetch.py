"""Fetch the data of a query from Redis: two round trips, then columns.

The first trip reads a snapshot of the metric: its version, how far the log is sealed, which slots
are due, and its series. The second reads the slots of the plan and the unsealed part of the log,
and the version before and after them. Unless both versions equal that of the snapshot, both trips
are repeated. Decoded pages that have not changed come from the cache.

If the context has an archive, the part of a window that Redis no longer holds is read from it,
between the two trips; see older.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from redismetrics.columnar import arrays, block_codec, rollup_table
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples, concat, no_samples, summarise
from redismetrics.columnar.summaries import ALL
from redismetrics.model.definition import Definition
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import MINUTE
from redismetrics.model.windows import window_ms
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation

from .arguments import percentile_rank
from .context import QueryContext
from .older import OlderData, OlderQuestion, Share, Wanted, ask_older
from .pages import (
    PageRead,
    assemble_tables,
    fill,
    page_reads,
    page_samples,
    page_tables,
    read_command,
)
from .plan import (
    Due,
    Plan,
    check_interval,
    fitting_resolutions,
    make_plan,
    sealed_bounds,
)
from .query import Query
from .selection import Edges, Rows, SeriesData
from .snapshot import NEVER, Snapshot, read_snapshot


def fetch(
    context: QueryContext,
    query: Query,
    *,
    exact: bool = False,
    points: bool = False,
    columns: frozenset[str] = ALL,
    where: Callable[[Mapping[str, str]], bool] | None = None,
) -> Operation[tuple[SeriesData | None, Edges]]:
    """Return the data of a query's series and window, and the window by the server's clock.

    The data is None for an unknown metric. If the query has an interval, no row is coarser than
    that. With *exact*, samples are returned as recorded as long as they are stored that way; so are
    those of a metric that keeps its samples, for percentiles or if *points* are requested. Only
    *columns* of an archive's summaries are read. With *where*, only series whose tags it accepts
    are read.

    Raises:
        OutsideRetention: If the interval is finer than what the window still holds.
    """
    points = points or any(percentile_rank(each) is not None for each in query.aggregations)
    reading = _QueryReading(query, exact, points, columns, where)
    found = yield from read_window(context, query.name, reading)
    if found.snapshot is None:
        return None, found.edges
    return _series_data(found), found.edges


class Reading(Protocol):
    """What `read_window` should read of a metric."""

    def window(
        self, retention: RetentionPolicy, now_ms: int, *, is_archived: bool
    ) -> tuple[Edges, int]:
        """Return the window, and its start within the retention, in ms."""
        ...

    def wanted(self, retention: RetentionPolicy, now_ms: int) -> Wanted:
        """Return what to read from an archive, for the part that Redis no longer holds."""
        ...

    def select(self, snapshot: Snapshot) -> tuple[list[Any], Ints]:
        """Return a description of each selected series, and the positions of ids among them.

        The positions have shape (largest id + 2,) and are -1 for series that are not selected.
        """
        ...

    def plan(
        self, sealed: tuple[int, int], retention: RetentionPolicy, due: Due, now_ms: int
    ) -> Plan:
        """Return the plan for a chunk with these *due* slots, for the window *sealed*."""
        ...

    def more(self, context: QueryContext, shard: int, snapshot: Snapshot) -> list[Command]:
        """Return extra commands for the second round trip."""
        ...


@dataclass(slots=True, eq=False)
class WindowRead:
    """The data read of one metric.

    Attributes:
        edges: The window, by the server's clock.
        snapshot: The state of the metric; None if it is unknown, and then the rest is empty.
        series: A description of each selected series.
        positions: The position of each id in *series*.
        sealed: The part of the window that can hold sealed data.
        reads: Pages of rollups.
        raw_reads: Pages of exact samples.
        log: Unsealed blocks.
        more: Replies to the commands from `Reading.more`.
        older: Rows from an archive, with the length of the slots in ms; their series are positions.
    """

    edges: Edges
    snapshot: Snapshot | None = None
    series: list[Any] = field(default_factory=list)
    positions: Ints = field(default_factory=lambda: np.full(1, -1))
    sealed: tuple[int, int] = (0, 0)
    reads: list[PageRead] = field(default_factory=list)
    raw_reads: list[PageRead] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)
    more: list[Any] = field(default_factory=list)
    older: list[tuple[Table, int]] = field(default_factory=list)


def read_window(context: QueryContext, name: str, reading: Reading) -> Operation[WindowRead]:
    """Read a window of one metric in two round trips, as a consistent state."""
    config = yield from context.namespace.config()
    shard = keys.shard_of(name, config.shards)
    asked, older = None, None
    while True:
        snapshot, now_ms = yield from read_snapshot(context, shard, name)
        retention = config.retention
        if snapshot is not None:
            retention = retention.readable(snapshot.definition.options, now_ms)
        edges, begin = reading.window(retention, now_ms, is_archived=context.older is not None)
        if context.older is not None:
            question = _question(context, name, snapshot, edges, reading.wanted(retention, now_ms))
            if question is None:
                older = None
            elif question != asked:
                older = yield from ask_older(context.older, question)
            asked = question
            begin = begin if older is None else max(begin, older.until_ms)
        if snapshot is None:
            return _join(WindowRead(edges), older, reading)
        series, positions = reading.select(snapshot)
        # The part of the window that can have sealed data; empty if there is none.
        sealed = begin, begin
        if snapshot.sealed != NEVER:
            sealed = sealed_bounds(begin, edges.until_ms, retention, now_ms, snapshot.sealed_ms)
        plans = _plans(snapshot, positions, sealed, retention, now_ms, reading)
        reads, raw_reads = page_reads(context, name, snapshot, plans, retention, now_ms)
        all_reads = [*reads, *raw_reads]
        of = keys.metric(context.namespace.name, shard, name)
        worked = keys.rollup(context.namespace.name, shard, name)
        state_version = ("HGET", worked.state, "version")
        more = reading.more(context, shard, snapshot)
        before, log, *replies, after = yield [
            state_version,
            ("ZRANGEBYSCORE", of.log, b"(" + snapshot.sealed, snapshot.clock),
            *more,
            *(read_command(context, shard, name, read) for read in all_reads if read.missing),
            state_version,
        ]
        if not before == snapshot.version == after:
            continue
        fill(context, name, snapshot, all_reads, replies[len(more) :])
        assemble_tables(context, name, snapshot, reads)
        more_replies = replies[: len(more)]
        found = WindowRead(
            edges, snapshot, series, positions, sealed, reads, raw_reads, log, more_replies
        )
        return _join(found, older, reading)


def _question(
    context: QueryContext, name: str, snapshot: Snapshot | None, edges: Edges, wanted: Wanted
) -> OlderQuestion | None:
    """Return the query to the archive; None if Redis holds the whole window."""
    if not any(edges.since_ms < share.until_ms for share in wanted.shares):
        return None
    known = {} if snapshot is None else snapshot.series
    kind = None if snapshot is None else snapshot.definition.type
    oldest = None if snapshot is None or not snapshot.sealed_ms else snapshot.sealed_ms[0]
    return OlderQuestion(
        context.namespace.name, name, kind, known, oldest, edges.since_ms, edges.until_ms, wanted
    )


def _join(found: WindowRead, older: OlderData | None, reading: Reading) -> WindowRead:
    """Add the data from an archive to the data read."""
    if older is None or not older.tables:
        return found
    if found.snapshot is None:
        assert older.type is not None, "BUG: rows of no type"
        found.snapshot = Snapshot(None, NEVER, b"0", Definition(older.type), None, {}, {})
    known = found.snapshot.series
    together = replace(found.snapshot, series={**known, **older.series})
    found.series, positions = reading.select(together)
    count = len(found.series)
    found.older = [(_select_rows(table, positions, count), width) for table, width in older.tables]
    # Redis has no ids for the archive's series: its remaining data of deleted series may have those
    # ids.
    found.positions = np.append(positions[: max(known, default=-1) + 1], -1)
    return found


@dataclass(slots=True)
class _QueryReading:
    """The `Reading` of a query: with exact samples if requested or if the metric keeps them."""

    query: Query
    exact: bool
    exact_if_kept: bool
    columns: frozenset[str]
    where: Callable[[Mapping[str, str]], bool] | None

    def window(
        self, retention: RetentionPolicy, now_ms: int, *, is_archived: bool
    ) -> tuple[Edges, int]:
        edges = Edges(*window_ms(self.query.window, now_ms), now_ms)
        interval = self.query.interval_ms
        if interval is None or (is_archived and fitting_resolutions(interval, retention)):
            return edges, edges.since_ms
        return edges, check_interval(interval, edges.since_ms, retention, now_ms)

    def wanted(self, retention: RetentionPolicy, now_ms: int) -> Wanted:
        interval = self.query.interval_ms
        fitting = fitting_resolutions(interval, retention)[::-1]
        widths = tuple(each.width for each in fitting)
        shares = (Share(widths, fitting[0].kept_from(now_ms)),) if fitting else ()
        with_points = self.exact or self.exact_if_kept
        return Wanted(
            shares, interval is not None, self.query.tags, None, with_points, columns=self.columns
        )

    def select(self, snapshot: Snapshot) -> tuple[list[dict[str, str]], Ints]:
        if self.exact_if_kept and snapshot.definition.keeps_samples:
            self.exact = True
        return _select_series(snapshot.series, self.query.tags, self.where)

    def plan(
        self, sealed: tuple[int, int], retention: RetentionPolicy, due: Due, now_ms: int
    ) -> Plan:
        exact_from_ms = retention.raw.kept_from(now_ms) if self.exact else None
        return make_plan(*sealed, retention, due, now_ms, self.query.interval_ms, exact_from_ms)

    def more(self, context: QueryContext, shard: int, snapshot: Snapshot) -> list[Command]:
        return []


def _select_series(
    series: Mapping[int, dict[str, str]],
    tags: Mapping[str, str | None],
    where: Callable[[Mapping[str, str]], bool] | None,
) -> tuple[list[dict[str, str]], Ints]:
    """Return the tags of the selected series, and the positions of ids among them.

    The positions have shape (largest id + 2,) and are -1 for series that are not selected.
    """
    selected: list[dict[str, str]] = []
    positions = np.full(max(series, default=-1) + 2, -1)
    for number, of_series in series.items():
        if tags and any(of_series.get(key) != value for key, value in tags.items()):
            continue
        if where is None or where(of_series):
            positions[number] = len(selected)
            selected.append(of_series)
    return selected, positions


def _plans(
    snapshot: Snapshot,
    positions: Ints,
    sealed: tuple[int, int],
    retention: RetentionPolicy,
    now_ms: int,
    reading: Reading,
) -> dict[int, Plan]:
    """Return the plan of each chunk with selected series, shared if the due slots are equal."""
    chunk_series = keys.CHUNK[snapshot.definition.type]
    chunks = {number // chunk_series for number in np.flatnonzero(positions >= 0).tolist()}
    by_due: dict[Due, Plan] = {}
    plans = {}
    for chunk in sorted(chunks):
        due = snapshot.due.get(chunk, frozenset())
        if due not in by_due:
            by_due[due] = reading.plan(sealed, retention, due, now_ms)
        plans[chunk] = by_due[due]
    return plans


def _series_data(found: WindowRead) -> SeriesData:
    """Combine the data: whole slots, minutes at the window's edges, and blocks of the log."""
    tables, samples = columns(found)
    parts = [Rows(table.series, table.slot, table.summaries) for table, _ in tables]
    for part in _joined(samples):
        series, summaries = summarise(part)
        if len(series):
            parts.append(Rows(series, summaries.last_ms, summaries))
    joined = concat(samples) if samples else no_samples()
    assert found.snapshot is not None, "BUG: data of an unknown metric"
    return SeriesData(
        found.snapshot.definition,
        found.series,
        found.edges,
        parts,
        [table for table, _ in tables],
        joined,
    )


def columns(found: WindowRead) -> tuple[list[tuple[Table, int]], list[Samples]]:
    """Return the tables, each with the length of its slots in ms, and the samples.

    Together they count every value once. Series are numbered by their positions.
    """
    positions, selected = found.positions, len(found.series)
    tables = [(table, width) for table, width in found.older if len(table)]
    tables += [
        (table, read.width)
        for read in found.reads
        if not read.is_partial and read.table is not None and len(read.table)
        if len(table := _select_rows(read.table, positions, selected))
    ]
    samples: list[Samples] = []
    partial = [
        _select_rows(table, positions, selected)
        for table in page_tables(found.reads, is_partial=True)
    ]
    if any(map(len, partial)):
        assert found.snapshot is not None, "BUG: rows of an unknown metric"
        # Up to the end of the last chunk: samples of series deleted since may have larger ids than
        # any remaining series.
        missing = -len(positions) % keys.CHUNK[found.snapshot.definition.type]
        padded = np.pad(positions, (0, missing), constant_values=-1)
        exact = [
            _select_samples(part, padded)
            for read in found.raw_reads
            if len(part := page_samples(read))
        ]
        rest, inside = _replace_partial_minutes(rollup_table.concat(partial), exact, found.sealed)
        tables += [(rest, MINUTE)] if len(rest) else []
        samples += [inside] if len(inside) else []
    unsealed = (
        _unsealed_samples(data, positions, found.edges)
        for data in found.log
        if block_codec.latest_time(data) >= found.edges.since_ms
    )
    return tables, samples + [part for part in unsealed if len(part)]


def _joined(parts: list[Samples]) -> list[Samples]:
    """Join *parts*, unless some are compressed, because those need their own summaries."""
    return parts if any(len(part.summed) for part in parts) or len(parts) < 2 else [concat(parts)]


def _select_rows(table: Table, positions: Ints, selected: int) -> Table:
    """Return the rows of the *selected* (a number) series, with positions instead of ids."""
    is_all = selected == len(positions) - 1 and bool(
        (positions[:-1] == np.arange(selected)).all() and (table.series < selected).all()
    )
    if is_all:
        # Fast path: all series are selected, and none has ever been deleted.
        return table
    series = positions[np.minimum(table.series, len(positions) - 1)]
    is_selected = series >= 0
    if not is_selected.all():
        table, series = table.take(is_selected), series[is_selected]
    return Table(table.slot, series, table.summaries, table.kind, table.size, lambda: table.points)


def _select_samples(samples: Samples, positions: Ints) -> Samples:
    """Return the samples of the selected series, with positions instead of ids."""
    last = len(positions) - 1
    if samples.series.max() > last:
        # Damaged: no series of the chunk has such an id. The last position does not belong to a
        # series.
        samples = replace(samples, series=np.minimum(samples.series, last))
    return samples.of_series(positions)


def _replace_partial_minutes(
    table: Table, parts: list[Samples], sealed: tuple[int, int]
) -> tuple[Table, Samples]:
    """Replace rows of minutes cut by an edge of the window by the exact samples inside the window.

    A row is replaced if all samples of its series and minute are in *parts*; otherwise it is kept
    if its start is in the window.
    """
    since, until = sealed
    samples = concat(parts) if parts else no_samples()
    width = int(max(table.series.max(initial=0), samples.series.max(initial=0))) + 1
    row_key = table.slot // MINUTE * width + table.series
    order = np.argsort(row_key)
    sample_key = samples.time // MINUTE * width + samples.series
    at = np.minimum(np.searchsorted(row_key[order], sample_key), len(order) - 1)
    has_row = row_key[order][at] == sample_key
    row = order[at[has_row]]
    weight = arrays.sum_whole(row, len(table), samples.weight[has_row])
    is_complete = weight == table.summaries.count
    inside = np.zeros(len(samples), np.bool_)
    inside[has_row] = is_complete[row]
    inside &= (samples.time >= since) & (samples.time < until)
    rest = table.take(~is_complete & (table.slot >= since) & (table.slot < until))
    return rest, samples.take(inside, np.zeros(0, np.bool_))


def _unsealed_samples(data: bytes, positions: Ints, edges: Edges) -> Samples:
    """Return the samples in a block of the log that are in the window and of selected series."""
    block = block_codec.unpack(data)
    samples = block.samples.of_series(positions[np.minimum(block.ids, len(positions) - 1)])
    since, until = edges.since_ms, edges.until_ms
    inside = (samples.time >= since) & (samples.time < until)
    if not inside.all():
        times = samples.summaries.last_ms
        samples = samples.take(inside, (times >= since) & (times < until))
    return samples
