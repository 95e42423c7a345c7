"""Seal: merge blocks of a metric's log into its minutes, so that cutting the log loses nothing."""

import sys

from redismetrics.columnar.small_columns import NotSmall
from redismetrics.errors import FormatMismatch
from redismetrics.model.retention import REPLAY_US
from redismetrics.model.time import SECOND
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import PROCESSES, SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.replies import pairs, reading

from . import merge, processes, small
from .batch import Batch, small_batch, whole_batch
from .cells import (
    PackedHour,
    cells_commands,
    decode_cells,
    inexact_count,
    own_fields,
    packed_cells,
    packed_hours,
    write_cells,
)
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
from .fold import WaitingChanges, change_fields, folding, waiting_changes
from .limits import DEFAULT_LIMITS, WorkerLimits
from .memory import Memory, PackedCell, remembered
from .merge import CellKey
from .read_ahead import KnownVersion


def seal(
    metric: MetricLocation,
    limits: WorkerLimits = DEFAULT_LIMITS,
    patience_ms: float = 0,
    seen: MetricVersion | None = None,
    memory: Memory | None = None,
) -> Operation[Result]:
    """Seal the next blocks of a metric's log.

    Does nothing if there are only a few blocks, few bytes of changes are waiting, and all blocks
    are younger than *patience_ms*. Pass *seen* if the version was just read. The resulting state of
    the metric is noted in *memory*.
    """
    seen = seen or (yield from read_version(metric))
    metric = metric.of(seen.definition)
    if isinstance(seen, KnownVersion):
        log, changes = seen.log, seen.changes
    else:
        found = yield from _read_waiting(metric, seen, limits)
        if found is None:
            return Result(Outcome.AGAIN)
        log, changes = found
    if not log or seen.definition is None:
        return Result(Outcome.NOTHING)
    waited_ms = max(seen.now_ms - int(log[0][1]) // 1000, 0)
    is_urgent = (
        len(log) >= limits.few_blocks or seen.recorded.change_bytes >= limits.few_change_bytes
    )
    if not is_urgent and waited_ms < patience_ms:
        return Result(Outcome.NOTHING)
    chunk_series = keys.CHUNK[seen.definition.type]
    keeps_samples = seen.definition.keeps_samples
    batch = None if keeps_samples else small_batch(metric, seen, log, chunk_series, limits)
    batch = batch or whole_batch(metric, seen, log, chunk_series, limits)
    plan = CommitPlan(
        blocks=[data for data, _ in log[: batch.blocks]],
        sealed=b"%.0f" % float(log[batch.blocks - 1][1]),
        late=batch.late,
        samples=batch.by_hour,
        cleanups=[(TRIM, seen.now_ms + REPLAY_US // 1000 + SECOND)],
        new_cleanups=[(SWEEP, seen.now_ms + sweep_interval(metric.retention))],
    )
    if seen.definition.options.per is not None:
        plan.new_cleanups.append((PROCESSES, seen.now_ms + processes.INTERVAL_MS))
    stored, folded = yield from _read_stored(metric, seen, batch.cells, changes)
    if stored is None:
        return Result(Outcome.AGAIN)
    packed: dict[CellKey, PackedCell] = {}
    if batch.cells:
        if keeps_samples:
            size = yield from _exact_bytes(metric, seen)
            packed, plan.inexact = _merged_exactly(metric, seen, batch, stored, size, limits)
        else:
            packed = _merged(metric, seen, log, batch, stored, chunk_series, limits)
        plan.schedule = coarser_due(metric, metric.retention.finest, packed, seen, limits.grace_ms)
        plan.writes = [
            *write_cells(metric, packed, seen.now_ms),
            *kept_for_coarser(metric, plan.schedule),
        ]
    error = folded if isinstance(folded, FormatMismatch) else None
    plan.fold = None if isinstance(folded, FormatMismatch) else folded
    known = seen.known if isinstance(seen, KnownVersion) else None
    if known is not None:
        known.keep_expiries(plan.writes)
    outcome = yield from commit(metric, seen, plan)
    if memory is not None and outcome is Outcome.DONE and not keeps_samples:
        memory.put(metric, remembered(metric, seen, plan, packed, known))
    if outcome is Outcome.DONE and (batch.blocks < len(log) or len(log) == limits.blocks_at_once):
        outcome = Outcome.MORE
    return Result(
        outcome,
        blocks=batch.blocks,
        samples=batch.samples,
        late=batch.late,
        bytes=sum(map(len, plan.blocks)),
        waited_ms=waited_ms,
        error=error,
    )


def _read_waiting(
    metric: MetricLocation, seen: MetricVersion, limits: WorkerLimits
) -> Operation[tuple[list[tuple[bytes, bytes]], WaitingChanges] | None]:
    """Return the next unsealed blocks, with their clocks, and the changes to fold.

    None if the metric has changed.
    """
    log = ("ZRANGEBYSCORE", metric.recorded.log, b"(" + seen.sealed, "+inf")
    fields = change_fields(seen.recorded, limits.changes_at_once)
    replies = yield from read_consistent(
        metric,
        seen,
        [
            (*log, "WITHSCORES", "LIMIT", 0, limits.blocks_at_once),
            *([("HMGET", metric.recorded.totals, *fields)] if fields else []),
        ],
    )
    if replies is None:
        return None
    blocks = list(zip(replies[0][::2], replies[0][1::2], strict=True))
    return blocks, waiting_changes(seen.recorded.first_change, replies[1] if fields else [])


def _read_stored(
    metric: MetricLocation, seen: MetricVersion, cells: list[CellKey], changes: WaitingChanges
) -> Operation[tuple[list[PackedHour] | None, Fold | FormatMismatch | None]]:
    """Read the minutes that samples are merged into, and the totals that changes are added to.

    The minutes are None if the metric has changed since it was read.
    """
    try:
        folding_, error = folding(metric, seen, changes), None
    except FormatMismatch as corrupt:
        folding_, error = None, corrupt
    rows = hours = None
    if isinstance(seen, KnownVersion):
        hours = seen.known.hours(cells)
        rows = None if folding_ is None else seen.rows_of(folding_.numbers)
    of_rows = [folding_.command] if folding_ is not None and rows is None else []
    of_cells = cells_commands(metric, cells) if hours is None else []
    if of_rows or of_cells:
        replies = yield from read_consistent(metric, seen, [*of_rows, *of_cells])
        if replies is None:
            return None, None
        rows = replies[0] if of_rows else rows
        hours = packed_hours(cells, replies[len(of_rows) :]) if of_cells else hours
    hours = hours or []
    if folding_ is None or rows is None:
        return hours, error
    try:
        return hours, folding_.fold(rows)
    except FormatMismatch as corrupt:
        return hours, corrupt


def _exact_bytes(metric: MetricLocation, seen: MetricVersion) -> Operation[int]:
    """Return the bytes of the exact samples within their retention."""
    (held,) = yield [("HGETALL", metric.worked.held)]
    raw, total = metric.retention.raw, 0
    with reading("held"):
        for name, size in pairs(held).items():
            what, partition_ms = keys.parse_data_name(name)
            if what == raw.name and not raw.is_expired(partition_ms, seen.now_ms):
                total += int(size)
    return total


def _merged(
    metric: MetricLocation,
    seen: MetricVersion,
    log: list[tuple[bytes, bytes]],
    batch: Batch,
    stored: list[PackedHour],
    chunk_series: int,
    limits: WorkerLimits,
) -> dict[CellKey, tuple[bytes, bytes | None]]:
    """Merge samples into stored minutes, and return the packed minutes."""
    finest, raw = metric.retention.finest, metric.retention.raw
    if batch.few is not None:
        try:
            return small.merge(
                batch.few,
                own_fields(stored),
                chunk_series,
                merge.OPEN_FACTOR * finest.points,
                limits.samples_per_minute,
            )
        except NotSmall:
            batch = whole_batch(metric, seen, log, chunk_series, limits)
    before = decode_cells(stored)
    cells = merge.merge_into_cells(
        batch.parts,
        before,
        chunk_series,
        finest,
        raw.kept_from(seen.now_ms),
        limits.samples_per_minute,
    )
    return packed_cells(cells, before)


def _merged_exactly(
    metric: MetricLocation,
    seen: MetricVersion,
    batch: Batch,
    stored: list[PackedHour],
    exact_bytes: int,
    limits: WorkerLimits,
) -> tuple[dict[CellKey, tuple[bytes, bytes | None]], int]:
    """`_merged` for a metric that keeps its samples, which take *exact_bytes* so far.

    Also return the number of samples that are no longer kept one by one, because it has too many
    bytes.
    """
    assert seen.definition is not None, "BUG: the metric has no definition"
    before = decode_cells(stored)
    cells = merge.merge_into_cells(
        batch.parts,
        before,
        keys.CHUNK[seen.definition.type],
        metric.retention.finest,
        metric.retention.raw.kept_from(seen.now_ms),
        limits.samples_per_minute if exact_bytes >= limits.exact_bytes else sys.maxsize,
    )
    lost = inexact_count(cells.values()) - inexact_count(before.values())
    return packed_cells(cells, before, dense_samples=True), max(lost, 0)
