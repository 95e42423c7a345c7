"""Which slots are due to be downsampled or merged, and when."""

from collections.abc import Iterable

from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import due_slot
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation

from .commit import KeyWrites, MetricVersion
from .merge import CellKey

# Parts of a partition; each is merged into the segment when it has passed.
MERGES = 4


def coarser_due(
    metric: MetricLocation,
    resolution: Resolution,
    cells: Iterable[CellKey],
    seen: MetricVersion,
    grace_ms: int,
) -> dict[DueSlot, int]:
    """Return the work that becomes due when *cells* of *resolution* are written, by time in ms."""
    schedule = {}
    above = due_slot.coarser(metric.retention, resolution)
    for slot_ms, chunk in cells:
        for name, width in above:
            start = slot_of(slot_ms, width)
            slot = DueSlot(name, start, chunk)
            if not seen.is_due(slot):
                schedule[slot] = max(start + width, seen.now_ms) + grace_ms
    return schedule | merges_due(resolution, cells, seen, grace_ms)


def merges_due(
    resolution: Resolution, cells: Iterable[CellKey], seen: MetricVersion, grace_ms: int
) -> dict[DueSlot, int]:
    """Return the parts of partitions over *cells* to merge into segments, with their time in ms.

    The last part is left out: downsampling the partition merges it.
    """
    schedule = {}
    part = resolution.partition // MERGES
    for slot_ms, chunk in cells:
        start = slot_of(slot_ms, part)
        when = max(start + part, seen.now_ms) + grace_ms
        slot = DueSlot.merge(resolution.name, start, chunk)
        end = slot_of(slot_ms, resolution.partition) + resolution.partition
        if when < end and not seen.is_due(slot):
            schedule[slot] = when
    return schedule


def kept_for_coarser(metric: MetricLocation, slots: Iterable[DueSlot]) -> list[KeyWrites]:
    """Return the writes that keep the source keys of *slots* until they are downsampled.

    Minutes are left out: sealing has just written them.
    """
    return [
        KeyWrites(resolution, partition_ms, persist=True, refuse=False)
        for resolution, partition_ms in sources(metric, slots)
        if resolution is not metric.retention.finest
    ]


def sources(metric: MetricLocation, slots: Iterable[DueSlot]) -> set[tuple[Resolution, int]]:
    """Return the data keys that *slots* are downsampled from: resolution and partition's start."""
    found = set()
    for slot in slots:
        source = slot.source(metric.retention)
        if source is not None:
            found.add((source, slot.slot_ms))
    return found


def sweep_interval(retention: RetentionPolicy) -> int:
    """Return the time between two sweeps of a metric, in ms."""
    return max(retention.coarsest.retention // 8, HOUR)
