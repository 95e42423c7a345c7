"""What a worker asks of Redis, as generators: read, work out, commit, or find that somebody else was first.

Every reading begins and ends with the version it was made for, and the commit names it: so whatever two workers do at once,
what one of them read is either what the other left, or its commit changes nothing. See docs/architecture.md for the rules.
"""

import numpy as np

from redismetrics.columnar import block_codec, rollup_codec
from redismetrics.columnar.block_codec import Block
from redismetrics.columnar.rollup_codec import NOTHING, read_samples, read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples
from redismetrics.errors import FormatMismatch
from redismetrics.model.retention import REPLAY_US
from redismetrics.model.time import HOUR, MINUTE, SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.keys import SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation

from . import merge
from .commit import (
    CommitPlan,
    KeyWrites,
    MetricVersion,
    Outcome,
    Result,
    commit,
    read_consistent,
    read_version,
)
from .due import coarser_due, kept_for_coarser, sweep_interval
from .merge import Cell, CellKey

BLOCKS_PER_SLICE = 512  # of a log are read at once
FEW_BLOCKS = (
    32  # a commit costs some ms however few they are; decoding them for a question, as much
)
BYTES_PER_SLICE = 8 << 20  # and so many bytes of them sealed
CELLS_PER_COMMIT = 256  # at most so many slots and chunks are rewritten by one commit, unless one block touches more


def seal(metric: MetricLocation, patience_ms: float = 0) -> Operation[Result]:
    """Merge the next slice of a metric's log into its minutes, unless it is a few blocks younger than *patience_ms*."""
    standing = yield from read_version(metric)
    after = b"(" + standing.sealed
    replies = yield from read_consistent(
        metric,
        standing,
        [
            (
                "ZRANGEBYSCORE",
                metric.recorded.log,
                after,
                "+inf",
                "WITHSCORES",
                "LIMIT",
                0,
                BLOCKS_PER_SLICE,
            )
        ],
    )
    if replies is None:
        return Result(Outcome.AGAIN)
    found = list(zip(replies[0][::2], replies[0][1::2], strict=True))
    if not found or standing.definition is None:
        return Result(Outcome.NOTHING)
    waited_ms = max(standing.now_ms - int(found[0][1]) // 1000, 0)
    if len(found) < FEW_BLOCKS and waited_ms < patience_ms:
        return Result(Outcome.NOTHING)
    minute = metric.retention.levels[0]
    chunk_series = keys.CHUNK[standing.definition.type]
    slice_ = _read(found, chunk_series)
    parts, late = _within([samples for _, _, samples in slice_], minute.kept_from(standing.now_ms))
    orders = CommitPlan(
        blocks=[data for data, _, _ in slice_], sealed=b"%.0f" % slice_[-1][1], late=late
    )
    read_at = standing.now_ms
    if parts:
        touched = merge.cell_keys(parts, chunk_series)
        held = yield from _read_cells(metric, standing, touched)
        if held is None:
            return Result(Outcome.AGAIN)
        became = merge.seal(
            parts, held, chunk_series, minute, metric.retention.raw.kept_from(read_at)
        )
        orders.samples = _by_hour(parts)
        orders.marks = coarser_due(metric, minute, became, standing)
        orders.writes = [
            *_minutes(metric, became, held, read_at),
            *kept_for_coarser(metric, orders.marks),
        ]
    orders.tidying = [(TRIM, read_at + (REPLAY_US // 1000) + SECOND)]
    orders.unless = [(SWEEP, read_at + sweep_interval(metric.retention))]
    outcome = yield from commit(metric, standing, orders)
    if outcome is Outcome.DONE and (len(slice_) < len(found) or len(found) == BLOCKS_PER_SLICE):
        outcome = Outcome.MORE
    count = sum(samples.count for _, _, samples in slice_)
    return Result(
        outcome, len(slice_), count, late, sum(map(len, orders.blocks)), waited_ms=waited_ms
    )


def _read(
    found: list[tuple[bytes, bytes]], chunk_series: int
) -> list[tuple[bytes, float, Samples]]:
    """Decode blocks, series by id, as far as one commit may reach: up to the first that can't be read.

    Raises:
        FormatMismatch: that is the first of all.
    """
    slice_: list[tuple[bytes, float, Samples]] = []
    size, cells = 0, set[CellKey]()
    for data, score in found:
        size += len(data)
        if slice_ and size > BYTES_PER_SLICE:
            break
        try:
            block = block_codec.unpack(data)
        except FormatMismatch:
            # Left in the log, where a worker that knows its version may read it, until age or size cut it, which is counted.
            if not slice_:
                raise
            break
        samples = _by_id(block)
        cells.update(merge.cell_keys([samples], chunk_series))
        if slice_ and len(cells) > CELLS_PER_COMMIT:
            break
        slice_.append((data, float(score), samples))
    return slice_


def _by_id(block: Block) -> Samples:
    return block.samples.of_series(block.ids)


def _within(parts: list[Samples], from_ms: int) -> tuple[list[Samples], int]:
    """The samples whose minutes are kept, and how many were not: their retention passed on the way."""
    kept, late = [], 0
    for part in parts:
        keep = part.time >= from_ms
        late += int(part.weight[~keep].sum())
        rest = part if keep.all() else part.take(keep, part.summaries.last_ms >= from_ms)
        kept += [rest] if len(rest) else []
    return kept, late


def _by_hour(parts: list[Samples]) -> dict[int, int]:
    """How many samples were recorded in each hour."""
    found: dict[int, int] = {}
    for part in parts:
        hours = part.time // HOUR * HOUR
        for hour in np.unique(hours).tolist():
            found[hour] = found.get(hour, 0) + int(part.weight[hours == hour].sum())
    return found


def _read_cells(
    metric: MetricLocation, standing: MetricVersion, places: list[CellKey]
) -> Operation[dict[CellKey, Cell] | None]:
    """What the minutes hold already; None if somebody else changed them."""
    by_hour: dict[int, list[CellKey]] = {}
    for place in places:
        by_hour.setdefault(slot_of(place[0], HOUR), []).append(place)
    commands: list[Command] = []
    for hour, inside in by_hour.items():
        fields = [keys.cell_field(*place) for place in inside]
        segments = [keys.segment_field(chunk) for chunk in sorted({chunk for _, chunk in inside})]
        commands += [
            ("HMGET", metric.data(level, hour), *fields, *segments) for level in ("minute", "raw")
        ]
    replies = yield from read_consistent(metric, standing, commands)
    if replies is None:
        return None
    held = {}
    for (_, inside), tables_found, raw_found in zip(
        by_hour.items(), replies[::2], replies[1::2], strict=True
    ):
        chunks = sorted({chunk for _, chunk in inside})
        table_segments = dict(zip(chunks, tables_found[len(inside) :], strict=True))
        raw_segments = dict(zip(chunks, raw_found[len(inside) :], strict=True))
        unpacked: dict[int, tuple[Table, Samples]] = {}
        for place, data, raw in zip(inside, tables_found, raw_found, strict=False):
            slot, chunk = place
            from_segment = (data is None and table_segments[chunk]) or (
                raw is None and raw_segments[chunk]
            )
            if from_segment and chunk not in unpacked:
                unpacked[chunk] = (
                    read_table(table_segments[chunk]),
                    read_samples(raw_segments[chunk]),
                )
            table, samples = unpacked.get(chunk, NOTHING)
            if data is not None:
                table = read_table(data)
            else:
                table = table.take(table.slot == slot) if len(table) else table
            if raw is not None:
                samples = read_samples(raw)
            else:
                samples = _of_minute(samples, slot)
            if len(table):
                held[place] = Cell(table, samples)
    return held


def _of_minute(samples: Samples, slot: int) -> Samples:
    if not len(samples):
        return samples
    inside = (samples.time >= slot) & (samples.time < slot + MINUTE)
    return samples.take(inside, np.zeros(0, np.bool_))


def _minutes(
    metric: MetricLocation, became: dict[CellKey, Cell], held: dict[CellKey, Cell], now_ms: int
) -> list[KeyWrites]:
    """The writes of minutes and of their exact samples; a minute's key stays while an hour over it is due, and one will be."""
    retention = metric.retention
    minutes: dict[int, KeyWrites] = {}
    raws: dict[int, KeyWrites] = {}
    for (slot, chunk), cell in became.items():
        hour = slot_of(slot, HOUR)
        field_ = keys.cell_field(slot, chunk)
        minute = minutes.setdefault(hour, KeyWrites(retention.levels[0], hour, persist=True))
        minute.fields[field_] = rollup_codec.pack_table(
            cell.table, dense=False
        )  # until it is folded
        before = held.get((slot, chunk))
        if not retention.raw.gone(hour, now_ms) and (
            len(cell.samples) or (before is not None and len(before.samples))
        ):
            raws.setdefault(hour, KeyWrites(retention.raw, hour)).fields[field_] = (
                rollup_codec.pack_samples(cell.samples, dense=False)
            )
    return [*minutes.values(), *raws.values()]
