"""Seal: merge blocks of a metric's log into its minutes, so that cuts of the log lose nothing."""

from dataclasses import dataclass

import numpy as np

from redismetrics.columnar import block_codec
from redismetrics.columnar.samples import Samples
from redismetrics.errors import FormatMismatch
from redismetrics.model.retention import REPLAY_US
from redismetrics.model.time import HOUR, SECOND
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation

from . import merge
from .cells import read_cells, write_cells
from .commit import (
    CommitPlan,
    MetricVersion,
    Outcome,
    Result,
    commit,
    read_consistent,
    read_version,
)
from .due import coarser_due, kept_for_coarser, sweep_interval
from .limits import DEFAULT_LIMITS, WorkerLimits
from .merge import CellKey


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of the log: its bytes, its clock in us, its samples with series ids."""

    data: bytes
    clock: float
    samples: Samples


def seal(
    metric: MetricLocation, limits: WorkerLimits = DEFAULT_LIMITS, patience_ms: float = 0
) -> Operation[Result]:
    """Seal the next blocks of a metric's log.

    Does nothing if there are only a few blocks and all are younger than *patience_ms*.
    """
    seen = yield from read_version(metric)
    log = yield from _read_log(metric, seen, limits.blocks_at_once)
    if log is None:
        return Result(Outcome.AGAIN)
    if not log or seen.definition is None:
        return Result(Outcome.NOTHING)
    waited_ms = max(seen.now_ms - int(log[0][1]) // 1000, 0)
    if len(log) < limits.few_blocks and waited_ms < patience_ms:
        return Result(Outcome.NOTHING)
    chunk_series = keys.CHUNK[seen.definition.type]
    blocks = _decode(log, chunk_series, limits)
    parts, late = _kept(
        [block.samples for block in blocks], metric.retention.finest.kept_from(seen.now_ms)
    )
    plan = CommitPlan(
        blocks=[block.data for block in blocks],
        sealed=b"%.0f" % blocks[-1].clock,
        late=late,
        cleanups=[(TRIM, seen.now_ms + REPLAY_US // 1000 + SECOND)],
        new_cleanups=[(SWEEP, seen.now_ms + sweep_interval(metric.retention))],
    )
    if parts and not (yield from _merge(metric, seen, plan, parts, chunk_series, limits)):
        return Result(Outcome.AGAIN)
    outcome = yield from commit(metric, seen, plan)
    if outcome is Outcome.DONE and (len(blocks) < len(log) or len(log) == limits.blocks_at_once):
        outcome = Outcome.MORE
    return Result(
        outcome,
        blocks=len(blocks),
        samples=sum(block.samples.count for block in blocks),
        late=late,
        bytes=sum(len(block.data) for block in blocks),
        waited_ms=waited_ms,
    )


def _read_log(
    metric: MetricLocation, seen: MetricVersion, count: int
) -> Operation[list[tuple[bytes, bytes]] | None]:
    """Return the next blocks that are not sealed, with their clocks; None if the metric changed."""
    command = ("ZRANGEBYSCORE", metric.recorded.log, b"(" + seen.sealed, "+inf")
    replies = yield from read_consistent(
        metric, seen, [(*command, "WITHSCORES", "LIMIT", 0, count)]
    )
    if replies is None:
        return None
    return list(zip(replies[0][::2], replies[0][1::2], strict=True))


def _decode(
    log: list[tuple[bytes, bytes]], chunk_series: int, limits: WorkerLimits
) -> list[_Block]:
    """Decode blocks until a commit would become too large, or up to a block that is corrupt.

    A corrupt block stays in the log, since a newer worker may know its version. It is removed when
    age or size cut the log, and counted then.

    Raises:
        FormatMismatch: If the first block is corrupt.
    """
    blocks: list[_Block] = []
    size, rows, cells = 0, 0, set[CellKey]()
    for data, clock in log:
        size += len(data)
        if blocks and size > limits.bytes_per_commit:
            break
        try:
            block = block_codec.unpack(data)
        except FormatMismatch:
            if not blocks:
                raise
            break
        samples = block.samples.of_series(block.ids)
        rows += len(samples)
        cells.update(merge.cell_keys([samples], chunk_series))
        if blocks and (len(cells) > limits.cells_per_commit or rows > limits.rows_per_commit):
            break
        blocks.append(_Block(data, float(clock), samples))
    return blocks


def _kept(parts: list[Samples], from_ms: int) -> tuple[list[Samples], int]:
    """Return the samples from *from_ms* on, and the number of older ones, whose minutes expired."""
    kept, late = [], 0
    for part in parts:
        keep = part.time >= from_ms
        late += int(part.weight[~keep].sum())
        rest = part if keep.all() else part.take(keep, part.summaries.last_ms >= from_ms)
        kept += [rest] if len(rest) else []
    return kept, late


def _merge(
    metric: MetricLocation,
    seen: MetricVersion,
    plan: CommitPlan,
    parts: list[Samples],
    chunk_series: int,
    limits: WorkerLimits,
) -> Operation[bool]:
    """Merge samples into stored minutes, and add the writes to *plan*.

    Returns False if the metric changed since it was read.
    """
    retention = metric.retention
    stored = yield from read_cells(metric, seen, merge.cell_keys(parts, chunk_series))
    if stored is None:
        return False
    cells = merge.merge_into_cells(
        parts,
        stored,
        chunk_series,
        retention.finest,
        retention.raw.kept_from(seen.now_ms),
        limits.samples_per_minute,
    )
    plan.samples = _by_hour(parts)
    plan.schedule = coarser_due(metric, retention.finest, cells, seen, limits.grace_ms)
    plan.writes = [
        *write_cells(metric, cells, stored, seen.now_ms),
        *kept_for_coarser(metric, plan.schedule),
    ]
    return True


def _by_hour(parts: list[Samples]) -> dict[int, int]:
    """Return the number of samples by the start of their hour, in ms."""
    found: dict[int, int] = {}
    for part in parts:
        hours = part.time // HOUR * HOUR
        for hour in np.unique(hours).tolist():
            found[hour] = found.get(hour, 0) + int(part.weight[hours == hour].sum())
    return found
