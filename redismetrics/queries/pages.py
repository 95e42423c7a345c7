"""The second round trip of a query: read and decode the fields named by a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from redismetrics.columnar import rollup_codec, rollup_table, samples
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.sample_codec import read_samples
from redismetrics.columnar.samples import Samples
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import HOUR, MINUTE, slot_of
from redismetrics.store import due_slot, keys
from redismetrics.store.driver import Command

from .cache import FieldData, PageKey
from .context import QueryContext
from .plan import Plan
from .snapshot import Snapshot


@dataclass(slots=True)
class PageRead:
    """A page to read: some slots of one chunk in one partition.

    Attributes:
        key: The page.
        width: Length of a slot, in ms.
        is_partial: Whether the slots are minutes that are cut by an edge of the window.
        slots: The start of each slot to read, in ms.
        fields: The segment's field, then the slots' own fields, if there can be any.
        data: The data of the fields read from the cache or from Redis.
        missing: The fields that have to be read from Redis.
        table: The rows of the slots, once assembled.
    """

    key: PageKey
    width: int
    is_partial: bool
    slots: list[int]
    fields: list[str]
    data: dict[str, FieldData]
    missing: list[str]
    table: Table | None = None


def page_reads(
    context: QueryContext,
    name: str,
    snapshot: Snapshot,
    plans: Mapping[int, Plan],
    retention: RetentionPolicy,
    now_ms: int,
) -> tuple[list[PageRead], list[PageRead]]:
    """Return the pages of rollups and of exact samples to read."""
    widths = {each.name: each.width for each in retention.with_raw}
    coarser = {each.name: due_slot.coarser(retention, each)[0][0] for each in retention.with_raw}

    def read(key: PageKey, slots: list[int], *, is_partial: bool = False) -> PageRead:
        resolution, partition, chunk = key
        width, version = widths[resolution], snapshot.version
        table = context.cache.table(name, version, key, slots)
        if table is not None:
            return PageRead(key, width, is_partial, slots, [], {}, [], table)
        data = context.cache.fields(name, version, key)
        fields = [keys.segment_field(chunk)]
        # Unless the slot above is due, the commit that built it has merged everything into the
        # segment.
        if (coarser[resolution], partition) in snapshot.due.get(chunk, ()):
            fields += [keys.cell_field(slot, chunk) for slot in slots]
        missing = [field for field in fields if field not in data]
        return PageRead(key, width, is_partial, slots, fields, data, missing)

    reads, raw_reads = [], []
    for chunk, chunk_plan in plans.items():
        for (resolution, partition), slots in chunk_plan.slots.items():
            reads.append(read((resolution.name, partition, chunk), sorted(slots)))
        partial: dict[int, list[int]] = {}
        for minute in sorted(chunk_plan.partial):
            partial.setdefault(slot_of(minute, HOUR), []).append(minute)
        for hour, minutes in partial.items():
            reads.append(read(("minute", hour, chunk), minutes, is_partial=True))
            if not retention.raw.is_expired(hour, now_ms):
                raw_reads.append(read(("raw", hour, chunk), minutes))
    return reads, raw_reads


def read_command(context: QueryContext, shard: int, name: str, read: PageRead) -> Command:
    """Return the command that reads the missing fields of a page."""
    resolution, partition, _ = read.key
    key = keys.data(context.namespace.name, shard, name, resolution, partition)
    return ("HMGET", key, *read.missing)


def fill(
    context: QueryContext, name: str, snapshot: Snapshot, reads: list[PageRead], replies: list[Any]
) -> None:
    """Add the missing fields to each page from the replies to `read_command`, and cache them."""
    incomplete = [read for read in reads if read.missing]
    for read, values in zip(incomplete, replies, strict=True):
        new: dict[str, Any] = dict(zip(read.missing, values, strict=True))
        if read.key[0] == "raw":
            new = {field: data and read_samples(data) for field, data in new.items()}
        read.data |= new
        context.cache.put_fields(name, snapshot.version, read.key, new)


def assemble_tables(
    context: QueryContext, name: str, snapshot: Snapshot, reads: list[PageRead]
) -> None:
    """Assemble and cache the table of each page that has none yet."""
    for read in reads:
        if read.table is None:
            read.table = _assemble_table(read)
            context.cache.put_table(name, snapshot.version, read.key, read.slots, read.table)


def page_tables(reads: list[PageRead], *, is_partial: bool) -> list[Table]:
    """Return the assembled tables with rows, of whole slots or of partial minutes."""
    return [
        read.table
        for read in reads
        if read.is_partial == is_partial and read.table is not None and len(read.table)
    ]


def _assemble_table(read: PageRead) -> Table:
    """Return the rows of a page's slots. A slot's own field replaces its rows in the segment."""
    segment, *own = (data for data in _in_order(read) if not isinstance(data, Samples))
    packed = [data for data in own if data]
    tables = [rollup_codec.unpack_tables(packed)] if packed else []
    left = [slot for slot, data in zip(read.slots, own, strict=True) if data is None]
    if segment and left:
        table = rollup_codec.unpack_table(segment)
        if not _covers(left, read.width, table):
            table = table.take(np.isin(table.slot, np.array(left)))
        tables.insert(0, table)
    return rollup_table.concat(tables)


def _covers(slots: list[int], width: int, table: Table) -> bool:
    """Return True if *slots* is contiguous and covers every row; False means unknown."""
    is_contiguous = slots[-1] - slots[0] == width * (len(slots) - 1)
    return (
        is_contiguous and slots[0] <= int(table.slot.min()) and int(table.slot.max()) <= slots[-1]
    )


def page_samples(read: PageRead) -> Samples:
    """Return the exact samples of a page's minutes."""
    segment, *own = _in_order(read)
    parts = [data for data in own if isinstance(data, Samples) and len(data)]
    if isinstance(segment, Samples) and len(segment):
        left = [slot for slot, data in zip(read.slots, own, strict=True) if data is None]
        is_left = np.isin(segment.time // MINUTE * MINUTE, left)
        parts.insert(0, segment.take(is_left, np.zeros(0, np.bool_)))
    return samples.concat(parts) if parts else samples.no_samples()


def _in_order(read: PageRead) -> list[FieldData]:
    """Return the data of the segment, then of each slot (None: no separate field)."""
    segment, *own = (read.data[field] for field in read.fields)
    return [segment, *(own or [None] * len(read.slots))]
