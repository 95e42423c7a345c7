"""What the store holds for a question: two round trips, then columns.

The first finds the metric as one moment has it: its version, what is sealed, which slots are due, its series. The second reads
the slots of the plan and the log after what is sealed, between two looks at the version; unless both are that of the first,
all is asked again. What was decoded before and has not changed since comes out of the cache.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from redismetrics.columnar import arrays, block_codec, rollup_table
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples, concat, no_samples, summarise
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import MINUTE
from redismetrics.model.windows import Window, window_ms
from redismetrics.store import keys
from redismetrics.store.driver import Operation

from . import plan
from .context import QueryContext
from .pages import (
    PageRead,
    assemble_tables,
    fill,
    page_reads,
    page_samples,
    read_command,
    whole_tables,
)
from .plan import Plan
from .selection import Rows, SeriesData
from .snapshot import NEVER, Snapshot, read_snapshot


def fetch(
    context: QueryContext,
    name: str,
    window: Window,
    wanted: Mapping[str, str | None],
    interval_ms: int | None = None,
    *,
    one_by_one: bool = False,
) -> Operation[tuple[SeriesData | None, tuple[int, int, int]]]:
    """Everything that answers for *window*, of the series with the tags *wanted* (None: without that tag).

    Returns what was found, None for an unknown metric, and (since, until, now) in ms as the server's clock has them.
    With *interval_ms* nothing is coarser than such intervals; *one_by_one* prefers exact samples wherever they are kept.

    Raises:
        OutsideRetention: the interval is finer than what the window still holds.
    """
    config = yield from context.namespace.config()
    shard = keys.shard_of(name, config.shards)
    while True:
        known, now_ms = yield from read_snapshot(context, shard, name)
        since, until = window_ms(window, now_ms)
        begin = (
            since
            if interval_ms is None
            else plan.check_interval(interval_ms, since, config.retention, now_ms)
        )
        edges = (since, until, now_ms)
        if known is None:
            return None, edges
        tags, positions = _chosen(known.series, wanted)
        chunk_series = keys.CHUNK[known.definition.type]
        chunks = sorted(
            {number // chunk_series for number in np.flatnonzero(positions >= 0).tolist()}
        )
        inside = begin, begin  # of what is sealed: nothing yet
        if known.sealed != NEVER:
            inside = plan.bounds(begin, until, config.retention, now_ms, known.sealed_ms)
        exact_from = config.retention.raw.kept_from(now_ms) if one_by_one else None
        plans = _plans(chunks, known.due, inside, config.retention, now_ms, interval_ms, exact_from)
        reads, raws = page_reads(context, name, known, plans, config.retention, now_ms)
        commands = [
            read_command(context, shard, name, read) for read in (*reads, *raws) if read.missing
        ]
        of = keys.metric(context.namespace.name, shard, name)
        began, log, *replies, ended = yield [
            ("HGET", of.state, "version"),
            ("ZRANGEBYSCORE", of.log, b"(" + known.sealed, known.clock),
            *commands,
            ("HGET", of.state, "version"),
        ]
        if not began == known.version == ended:
            continue
        fill(context, name, known, [*reads, *raws], replies)
        assemble_tables(context, name, known, reads)
        return _found(known, tags, positions, edges, inside, reads, raws, log), edges


def _chosen(
    series: Mapping[int, dict[str, str]], wanted: Mapping[str, str | None]
) -> tuple[list[dict[str, str]], Ints]:
    """The tags of the series that fit, and the position among them of each id; -1 for the others."""
    tags: list[dict[str, str]] = []
    positions = np.full(max(series, default=-1) + 2, -1)
    for number, of_series in series.items():
        if not wanted or all(of_series.get(key) == value for key, value in wanted.items()):
            positions[number] = len(tags)
            tags.append(of_series)
    return tags, positions


def _plans(
    chunks: Iterable[int], due: Mapping[int, plan.Due], inside: tuple[int, int], retention: RetentionPolicy, now_ms: int,
    interval_ms: int | None,
    exact_from_ms: int | None,
) -> dict[int, Plan]:  # fmt: skip
    """The plan of each chunk; those with the same slots due share one."""
    made: dict[plan.Due, Plan] = {}
    plans = {}
    for chunk in chunks:
        slots = due.get(chunk, frozenset())
        if slots not in made:
            made[slots] = plan.plan(*inside, retention, slots, now_ms, interval_ms, exact_from_ms)
        plans[chunk] = made[slots]
    return plans


def _found(
    known: Snapshot, tags: list[dict[str, str]], positions: Ints, edges: tuple[int, int, int], inside: tuple[int, int],
    reads: list[PageRead], raws: list[PageRead], log: list[bytes],
) -> SeriesData:  # fmt: skip
    since, until, now_ms = edges
    rolled = [_of_series(rows, positions, len(tags)) for rows in whole_tables(reads, is_cut=False)]
    rolled = [rows for rows in rolled if len(rows)]
    parts: list[Samples] = []
    cut = [_of_series(rows, positions, len(tags)) for rows in whole_tables(reads, is_cut=True)]
    if any(map(len, cut)):
        # As far as the last chunk goes: samples of series that were deleted may have greater numbers than any that is left.
        beyond = -len(positions) % keys.CHUNK[known.definition.type]
        padded = np.pad(positions, (0, beyond), constant_values=-1)
        exact = [samples.of_series(padded) for read in raws if len(samples := page_samples(read))]
        rows, part = _cut(rollup_table.concat(cut), exact, inside)
        rolled += [rows] if len(rows) else []
        parts += [part] if len(part) else []
    log_parts = [part for data in log if len(part := _unsealed(data, positions, since, until))]
    summed = [summarise(part) for part in _joined([*parts, *log_parts])]
    listed = concat(parts + log_parts) if parts or log_parts else no_samples()
    counted = [Rows(rows.series, rows.slot, rows.summaries) for rows in rolled]
    counted += [Rows(series, rows.last_ms, rows) for series, rows in summed if len(series)]
    return SeriesData(known.definition, tags, since, until, now_ms, counted, rolled, listed)


def _joined(parts: list[Samples]) -> list[Samples]:
    """One list where none of them is compacted; else each by itself, so that their summaries keep their context."""
    return parts if any(len(part.summed) for part in parts) or len(parts) < 2 else [concat(parts)]


def _of_series(rows: Table, positions: Ints, chosen: int) -> Table:
    """The rows of the series chosen, which are then positions among them."""
    if (
        chosen == len(positions) - 1
        and (positions[:-1] == np.arange(chosen)).all()
        and (rows.series < chosen).all()
    ):
        return rows  # fast path: all of them, none was ever deleted
    series = positions[np.minimum(rows.series, len(positions) - 1)]
    fit = series >= 0
    if not fit.all():
        rows, series = rows.take(fit), series[fit]
    return Table(rows.slot, series, rows.summaries, rows.kind, rows.size, lambda: rows.points)


def _cut(rows: Table, parts: list[Samples], inside: tuple[int, int]) -> tuple[Table, Samples]:
    """Exchange the rows of minutes that an edge of the window cuts for exact samples, where all of a series-minute are there."""
    since, until = inside
    samples = concat(parts) if parts else no_samples()
    width = int(max(rows.series.max(initial=0), samples.series.max(initial=0))) + 1
    row_key = rows.slot // MINUTE * width + rows.series
    order = np.argsort(row_key)
    sample_key = samples.time // MINUTE * width + samples.series
    at = np.minimum(np.searchsorted(row_key[order], sample_key), len(order) - 1)
    known = row_key[order][at] == sample_key
    row = order[at[known]]
    weight = arrays.sum_whole(row, len(rows), samples.weight[known])
    whole = weight == rows.summaries.count
    counted = np.zeros(len(samples), np.bool_)
    counted[known] = whole[row]
    counted &= (samples.time >= since) & (samples.time < until)
    rest = rows.take(~whole & (rows.slot >= since) & (rows.slot < until))
    return rest, samples.take(counted, np.zeros(0, np.bool_))


def _unsealed(data: bytes, positions: Ints, since: int, until: int) -> Samples:
    """The samples of a block of the log that are asked for."""
    block = block_codec.unpack(data)
    part = block.samples.of_series(positions[np.minimum(block.ids, len(positions) - 1)])
    keep = (part.time >= since) & (part.time < until)
    if not keep.all():
        times = part.summaries.last_ms
        part = part.take(keep, (times >= since) & (times < until))
    return part
