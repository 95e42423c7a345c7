"""Downsample: build coarser slots from finer ones, and merge the finer ones into segments."""

from dataclasses import dataclass, field

from redismetrics.columnar import rollup_codec, sample_codec
from redismetrics.columnar.rollup_codec import read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.sample_codec import NO_SAMPLES, read_samples
from redismetrics.columnar.samples import Samples
from redismetrics.model.retention import MARGIN, Resolution
from redismetrics.model.time import SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.replies import reading

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
from .due import MERGES, merges_due, sources
from .limits import DEFAULT_LIMITS, WorkerLimits


def downsample(
    metric: MetricLocation,
    due: DueSlot,
    limits: WorkerLimits = DEFAULT_LIMITS,
    seen: MetricVersion | None = None,
) -> Operation[Result]:
    """Do the work named by *due*: build a coarser slot, or merge slots into their segment."""
    seen = seen or (yield from read_version(metric))
    metric = metric.of(seen.definition)
    if not seen.is_due(due):
        return Result((yield from commit(metric, seen, CommitPlan(finished=[due]))))
    if due.merged is not None:
        resolution = metric.retention.named(due.merged)
        assert resolution is not None, f"BUG: {due.field!r} names no resolution"
        return (yield from _merge_part(metric, seen, due, resolution))
    source = due.source(metric.retention)
    assert source is not None, f"BUG: {due.field!r} names no resolution"
    return (yield from _build(metric, seen, due, source, limits))


def _merge_part(
    metric: MetricLocation, seen: MetricVersion, due: DueSlot, resolution: Resolution
) -> Operation[Result]:
    """Merge the slots of a part of a partition into its segment.

    The coarser slot is due too; when it is built, the rest of the partition is merged.
    """
    start = due.slot_ms
    partition = slot_of(start, resolution.partition)
    slots = range(start, start + resolution.partition // MERGES, resolution.width)
    rows = yield from _read(metric, seen, resolution, partition, due.chunk, slots)
    if rows is None:
        return Result(Outcome.AGAIN)
    writes = _segment_writes(metric, seen, rows, persist=True)
    plan = CommitPlan(finished=[due], writes=writes)
    return Result((yield from commit(metric, seen, plan)))


def _build(
    metric: MetricLocation,
    seen: MetricVersion,
    due: DueSlot,
    source: Resolution,
    limits: WorkerLimits,
) -> Operation[Result]:
    """Build a coarser slot of one chunk from the slots of *source*, and merge these.

    Does nothing while a slot of *source* inside is due itself.
    """
    retention, start = metric.retention, due.slot_ms
    end = start + source.partition
    inside = [
        slot for slot in seen.due_slots() if slot.chunk == due.chunk and start <= slot.slot_ms < end
    ]
    if any(slot.resolution == source.name for slot in inside if slot != due):
        return Result(Outcome.NOTHING)
    slots = range(start, end, source.width)
    rows = yield from _read(metric, seen, source, start, due.chunk, slots)
    if rows is None:
        return Result(Outcome.AGAIN)
    plan = CommitPlan(
        finished=[due, *(slot for slot in inside if slot.merged == source.name)],
        expired_sizes=_expired_sizes(metric, seen, rows.held, due),
        # If the key is past its retention, it was kept for this and expires now.
        writes=_segment_writes(metric, seen, rows, persist=_is_due_elsewhere(seen, due)),
    )
    target = retention.named(due.resolution)
    coarsest = retention.coarsest
    if target is not None and not coarsest.is_expired(
        slot_of(start, coarsest.partition), seen.now_ms
    ):
        # The key persists, because the same commit that made this slot due also made the slot above
        # it due.
        partition = slot_of(start, target.partition)
        write = KeyWrites(target, partition, persist=True, refuse=False)
        coarser = merge.downsample_rows(rows.table, start, target.points)
        write.fields[keys.cell_field(start, due.chunk)] = rollup_codec.pack_table(coarser)
        plan.writes.append(write)
        plan.schedule = merges_due(target, [(start, due.chunk)], seen, limits.grace_ms)
    return Result((yield from commit(metric, seen, plan)))


@dataclass(slots=True)
class _PartitionRows:
    """The data of one chunk in a partition.

    Attributes:
        resolution: Resolution of the rows.
        partition_ms: Start of the partition.
        table: All rows.
        slots: Slots with a separate field next to the segment.
        samples: Exact samples of minutes, if any of them has a separate field.
        sample_slots: Minutes whose samples have a separate field.
        held: Fields of the metric's hash `held`.
    """

    resolution: Resolution
    partition_ms: int
    chunk: int
    table: Table
    slots: list[int]
    held: list[bytes]
    samples: Samples = NO_SAMPLES
    sample_slots: list[int] = field(default_factory=list)


def _read(
    metric: MetricLocation,
    seen: MetricVersion,
    resolution: Resolution,
    partition_ms: int,
    chunk: int,
    slots: range,
) -> Operation[_PartitionRows | None]:
    """Read the segment of a partition and the fields of *slots*; None if the metric has changed."""
    fields = [keys.segment_field(chunk), *(keys.cell_field(slot, chunk) for slot in slots)]
    commands: list[Command] = [
        ("HMGET", metric.data(resolution.name, partition_ms), *fields),
        ("HGETALL", metric.worked.held),
    ]
    if resolution is metric.retention.finest:
        commands.append(("HMGET", metric.data("raw", partition_ms), *fields))
    replies = yield from read_consistent(metric, seen, commands)
    if replies is None:
        return None
    (segment, *cells), held, *raw = replies
    tables = {
        slot: read_table(data) for slot, data in zip(slots, cells, strict=True) if data is not None
    }
    table = merge.assemble(read_table(segment), tables)
    rows = _PartitionRows(resolution, partition_ms, chunk, table, list(tables), held[::2])
    if raw:
        segment, *cells = raw[0]
        samples = {
            slot: read_samples(data)
            for slot, data in zip(slots, cells, strict=True)
            if data is not None
        }
        rows.sample_slots = list(samples)
        if samples:
            rows.samples = merge.assemble_samples(read_samples(segment), samples)
    return rows


def _segment_writes(
    metric: MetricLocation, seen: MetricVersion, rows: _PartitionRows, *, persist: bool
) -> list[KeyWrites]:
    """Return the writes that replace the fields of slots by one segment, including samples."""
    start, chunk = rows.partition_ms, rows.chunk
    segment = keys.segment_field(chunk)
    of_rows = KeyWrites(rows.resolution, start, persist=persist, refuse=False)
    if rows.slots:
        merged = merge.segment_rows(rows.table, rows.resolution.points)
        of_rows.fields[segment] = rollup_codec.pack_table(merged)
        of_rows.removed = [keys.cell_field(slot, chunk) for slot in rows.slots]
    raw = metric.retention.raw
    if not rows.sample_slots or raw.is_expired(start, seen.now_ms):
        return [of_rows]
    removed = [keys.cell_field(slot, chunk) for slot in rows.sample_slots]
    of_samples = KeyWrites(raw, start, removed=removed)
    of_samples.fields[segment] = sample_codec.pack_samples(merge.segment_samples(rows.samples))
    return [of_rows, of_samples]


def _is_due_elsewhere(seen: MetricVersion, due: DueSlot) -> bool:
    """Return whether the same slot is due for another chunk, which needs the finer key."""
    return any(
        slot.resolution == due.resolution and slot.slot_ms == due.slot_ms and slot != due
        for slot in seen.due_slots()
    )


def _expired_sizes(
    metric: MetricLocation, seen: MetricVersion, held: list[bytes], due: DueSlot
) -> list[bytes]:
    """Return the fields of `held` for keys past retention and margin that no other slot needs."""
    retention, now_ms = metric.retention, seen.now_ms
    options = None if seen.definition is None else seen.definition.options
    if options is not None and options.longest is not None:
        # Earlier keys may still exist, and a later deletion must name them.
        now_ms -= max(round(options.longest * SECOND) - retention.raw.retention, 0)
    others = [slot for slot in seen.due_slots() if slot != due]
    needed = {
        keys.data_name(resolution.name, partition_ms).encode()
        for resolution, partition_ms in sources(metric, others)
    }
    expired = []
    with reading("held"):
        for name in held:
            what, partition_ms = keys.parse_data_name(name)
            resolution = retention.raw if what == "samples" else retention.named(what)
            if (
                resolution is not None
                and resolution.is_expired(partition_ms, now_ms - MARGIN)
                and name not in needed
            ):
                expired.append(name)
    return expired
