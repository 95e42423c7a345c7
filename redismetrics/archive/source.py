"""Read closed slots from Redis, page by page, for the archive."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar import arrays
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples
from redismetrics.model.retention import MARGIN, Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, slot_of
from redismetrics.queries.cache import Cache
from redismetrics.queries.context import QueryContext
from redismetrics.queries.pages import (
    assemble_tables,
    fill,
    page_reads,
    page_samples,
    read_command,
)
from redismetrics.queries.plan import Plan
from redismetrics.queries.snapshot import Snapshot, read_snapshot
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.namespace import Namespace
from redismetrics.store.replies import pairs, reading, stamp_at_end

from .rows import RawRows, RollupRows, SeriesOf, rollup_rows, series_of


@dataclass(slots=True)
class MetricSource:
    """The state of one metric when it was read.

    Attributes:
        stamp: Its stamp in the catalogue.
        held: Starts of the partitions that Redis holds, by resolution.
        samples: Samples merged into each hour, by its start in ms, while exact samples are kept.
        positions: Position in *of* of each series id; -1 if there is none.
    """

    name: str
    shard: int
    stamp: str
    snapshot: Snapshot
    now_ms: int
    retention: RetentionPolicy
    held: dict[str, list[int]]
    samples: dict[int, int]
    of: SeriesOf
    positions: Ints

    @property
    def chunks(self) -> list[int]:
        """The chunks that have series."""
        size = keys.CHUNK[self.snapshot.definition.type]
        return sorted({number // size for number in self.snapshot.series})

    @property
    def changes_from(self) -> int:
        """Samples older than this, in ms, are no longer merged into slots."""
        # Twice the margin, because a commit that was planned earlier may be in progress.
        return self.retention.finest.kept_from(self.now_ms - 2 * MARGIN)

    def units(self, level: str) -> Iterator[int]:
        """Yield the units of *level* that Redis holds and that are over, in ms, in order."""
        width = DAY if level == "day" else HOUR
        resolution = self.retention.named(level)
        assert resolution is not None, f"BUG: {level!r} is no level"
        for partition in self.held.get(level, []):
            if resolution.is_expired(partition, self.now_ms):
                continue
            for unit in range(partition, partition + resolution.partition, width):
                if unit + width <= self.now_ms:
                    yield unit

    def is_due(self, level: str, unit: int) -> bool:
        """Return whether workers still have to build or rebuild the rows of *unit*."""
        name = "day" if level == "day" else "hour"
        return any((name, unit) in due for due in self.snapshot.due.values())


def read_metric(namespace: Namespace, name: str) -> Operation[MetricSource | None]:
    """Read the state of a metric; None if it is unknown or nothing has been sealed yet."""
    config = yield from namespace.config()
    shard = keys.shard_of(name, config.shards)
    of_shard, worked = keys.shard(namespace.name, shard), keys.rollup(namespace.name, shard, name)
    while True:
        entry, held = yield [("HGET", of_shard.catalogue, name), ("HGETALL", worked.held)]
        snapshot, now_ms = yield from read_snapshot(_context(namespace), shard, name)
        if entry is None or snapshot is None or snapshot.version is None:
            return None
        (again,) = yield [("HGET", of_shard.catalogue, name)]
        if stamp_at_end(again or b"") == stamp_at_end(entry):
            break
    partitions: dict[str, list[int]] = {}
    samples = {}
    with reading("held"):
        for field, value in pairs(held).items():
            what, start = keys.parse_data_name(field)
            if what == "samples":
                samples[start] = int(value)
            else:
                partitions.setdefault(what, []).append(start)
    definition = snapshot.definition
    positions = np.full(max(snapshot.series, default=-1) + 2, -1)
    positions[list(snapshot.series)] = np.arange(len(snapshot.series))
    return MetricSource(
        name,
        shard,
        stamp_at_end(entry).hex(),
        snapshot,
        now_ms,
        config.retention.readable(definition.options, now_ms),
        {what: sorted(starts) for what, starts in partitions.items()},
        samples,
        series_of(namespace.name, name, definition.type, snapshot.series),
        positions,
    )


def _context(namespace: Namespace) -> QueryContext:
    # No cache, because each page is read only once.
    return QueryContext(namespace, Cache(0))


def _slots(resolution: Resolution, units: list[int]) -> dict[tuple[Resolution, int], list[int]]:
    """Return the slots of *resolution* in *units*, by partition."""
    slots: dict[tuple[Resolution, int], list[int]] = {}
    for unit in units:
        partition = slot_of(unit, resolution.partition)
        length = max(resolution.width, HOUR)
        slots.setdefault((resolution, partition), []).extend(
            range(unit, unit + length, resolution.width)
        )
    return slots


def _read_pages(
    namespace: Namespace, source: MetricSource, chunk: int, plan: Plan
) -> Operation[tuple[list[Table], list[Samples]] | None]:
    """Read the pages of *plan*, as one state; None if the metric has changed since."""
    context = _context(namespace)
    name, shard, snapshot = source.name, source.shard, source.snapshot
    reads, raw_reads = page_reads(
        context, name, snapshot, {chunk: plan}, source.retention, source.now_ms
    )
    all_reads = [*reads, *raw_reads]
    state_version = ("HGET", keys.rollup(namespace.name, shard, name).state, "version")
    before, *replies, after = yield [
        state_version,
        *(read_command(context, shard, name, read) for read in all_reads),
        state_version,
    ]
    if not before == snapshot.version == after:
        return None
    fill(context, name, snapshot, all_reads, replies)
    assemble_tables(context, name, snapshot, reads)
    tables = [each.table for each in reads if each.table is not None and len(each.table)]
    return tables, [page_samples(read) for read in raw_reads]


def read_table(
    namespace: Namespace, source: MetricSource, level: str, units: list[int], chunk: int
) -> Operation[list[Table] | None]:
    """Return the rows of *units*, which are in one partition; None if the metric has changed.

    They have the series' ids. Levels finer than hours are compared by their hours.
    """
    resolution = source.retention.named(level)
    assert resolution is not None, f"BUG: {level!r} is no level"
    plan = Plan(0, 0, _slots(resolution, units))
    found = yield from _read_pages(namespace, source, chunk, plan)
    return None if found is None else found[0]


def read_rollups(
    namespace: Namespace, source: MetricSource, level: str, units: list[int], chunk: int
) -> Operation[RollupRows | None]:
    """Return the rows of *units* for the archive; None if the metric has changed."""
    tables = yield from read_table(namespace, source, level, units, chunk)
    if tables is None:
        return None
    return rollup_rows(source.of, _selected(source, _joined(tables)))


def read_raw(
    namespace: Namespace, source: MetricSource, units: list[int], chunk: int
) -> Operation[RawRows | None]:
    """Return the exact samples of the hours *units*; None if the metric has changed.

    Minutes whose samples are not all stored one by one are left out.
    """
    minutes = [minute for unit in units for minute in range(unit, unit + HOUR, MINUTE)]
    found = yield from _read_pages(namespace, source, chunk, Plan(0, 0, {}, minutes))
    if found is None:
        return None
    tables, parts = found
    table = _selected(source, _joined(tables))
    whole = np.zeros(0, np.int64)
    parts = [part.of_series(_padded(source)) for part in parts if len(part)]
    if not parts or not len(table):
        replaced = (table.series, table.slot)
        return RawRows(source.of, whole, whole, whole, whole, np.zeros(0), whole, {}, replaced)
    return _complete(source.of, table, _concat(parts))


def _padded(source: MetricSource) -> Ints:
    """Return the positions, up to the end of the last chunk: deleted series have larger ids."""
    missing = -len(source.positions) % keys.CHUNK[source.snapshot.definition.type]
    return np.pad(source.positions, (0, missing), constant_values=-1)


def _joined(tables: list[Table]) -> Table:
    from redismetrics.columnar import rollup_table

    return rollup_table.concat(tables)


def _concat(parts: list[Samples]) -> Samples:
    from redismetrics.columnar.samples import concat

    return concat(parts)


def _selected(source: MetricSource, table: Table) -> Table:
    """Return the rows of series that still exist, with positions in place of ids."""
    positions = source.positions
    series = positions[np.minimum(table.series, len(positions) - 1)]
    is_known = series >= 0
    table, series = table.take(is_known), series[is_known]
    return Table(table.slot, series, table.summaries, table.kind, table.size, lambda: table.points)


def _complete(of: SeriesOf, table: Table, samples: Samples) -> RawRows:
    """Return the samples of those minutes of *table* that are complete in *samples*."""
    width = max(len(of.tags), 1)
    row_key = table.slot // MINUTE * width + table.series
    order = np.argsort(row_key)
    key = samples.time // MINUTE * width + samples.series
    at = np.minimum(np.searchsorted(row_key[order], key), len(order) - 1)
    has_row = row_key[order][at] == key
    row = order[at]
    weight = arrays.sum_whole(row[has_row], len(table), samples.weight[has_row])
    is_complete = has_row & (weight == table.summaries.count)[row]
    kept = samples.take(is_complete, np.zeros(0, np.bool_))
    slot = kept.time // MINUTE * MINUTE
    # Stable, so that samples of equal times stay in order of arrival.
    order = np.lexsort((kept.time, slot, kept.series))
    series, slot = kept.series[order], slot[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (series[1:] != series[:-1]) | (slot[1:] != slot[:-1])
    starts = np.flatnonzero(first)
    number = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    back = {int(old): new for new, old in enumerate(order)} if kept.metadata else {}
    metadata = {back[row]: kept.metadata[row] for row in kept.metadata}
    return RawRows(
        of,
        series,
        slot,
        number,
        kept.time[order],
        kept.value[order],
        kept.weight[order],
        metadata,
        (table.series, table.slot),
    )
