"""Seal: merge blocks of a metric's log into its minutes, so that cuts of the log lose nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from redismetrics.columnar import block_codec
from redismetrics.columnar.samples import Samples
from redismetrics.errors import FormatMismatch
from redismetrics.model.retention import REPLAY_US
from redismetrics.model.time import HOUR, SECOND
from redismetrics.store import keys
from redismetrics.store.driver import Operation, gather
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation

from . import merge
from .cells import read_cells, write_cells
from .commit import (
    CommitPlan,
    Fold,
    MetricVersion,
    Outcome,
    Result,
    commit,
    read_consistent,
    read_version,
)
from .due import coarser_due, kept_for_coarser, sweep_interval
from .fold import WaitingChanges, changes_command, fold, waiting_changes
from .limits import DEFAULT_LIMITS, WorkerLimits
from .merge import Cell, CellKey


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
    found = yield from _read_waiting(metric, seen, limits)
    if found is None:
        return Result(Outcome.AGAIN)
    log, changes = found
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
    stored, folded = yield from _read_stored(metric, seen, parts, chunk_series, changes)
    if stored is None:
        return Result(Outcome.AGAIN)
    if parts:
        _merge(metric, seen, plan, parts, stored, limits)
    error = folded if isinstance(folded, FormatMismatch) else None
    plan.fold = None if isinstance(folded, FormatMismatch) else folded
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
        error=error,
    )


def _read_waiting(
    metric: MetricLocation, seen: MetricVersion, limits: WorkerLimits
) -> Operation[tuple[list[tuple[bytes, bytes]], WaitingChanges] | None]:
    """Return the next blocks that are not sealed, with their clocks, and the changes to fold.

    None if the metric changed.
    """
    log = ("ZRANGEBYSCORE", metric.recorded.log, b"(" + seen.sealed, "+inf")
    replies = yield from read_consistent(
        metric,
        seen,
        [
            (*log, "WITHSCORES", "LIMIT", 0, limits.blocks_at_once),
            *changes_command(metric, seen, limits.changes_at_once),
        ],
    )
    if replies is None:
        return None
    blocks = list(zip(replies[0][::2], replies[0][1::2], strict=True))
    return blocks, waiting_changes(seen, replies[1:])


def _read_stored(
    metric: MetricLocation,
    seen: MetricVersion,
    parts: list[Samples],
    chunk_series: int,
    changes: WaitingChanges,
) -> Operation[tuple[dict[CellKey, Cell] | None, Fold | FormatMismatch | None]]:
    """Read the minutes that samples are merged into, and the totals that changes are added to.

    The minutes are None if the metric changed since it was read.
    """
    reads: list[Operation[Any]] = [fold(metric, seen, changes)]
    if parts:
        reads.append(read_cells(metric, seen, merge.cell_keys(parts, chunk_series)))
    folded, *cells = yield from gather(reads)
    return (cells[0] if cells else {}), folded


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
    stored: dict[CellKey, Cell],
    limits: WorkerLimits,
) -> None:
    """Merge samples into stored minutes, and add the writes to *plan*."""
    assert seen.definition is not None, "BUG: the metric has no definition"
    retention = metric.retention
    cells = merge.merge_into_cells(
        parts,
        stored,
        keys.CHUNK[seen.definition.type],
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


def _by_hour(parts: list[Samples]) -> dict[int, int]:
    """Return the number of samples by the start of their hour, in ms."""
    found: dict[int, int] = {}
    for part in parts:
        hours = part.time // HOUR * HOUR
        for hour in np.unique(hours).tolist():
            found[hour] = found.get(hour, 0) + int(part.weight[hours == hour].sum())
    return found
