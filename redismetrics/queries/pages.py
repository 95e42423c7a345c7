"""The second round trip of a query: read and decode the fields that a plan names."""

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

from .cache import PageKey, Part
from .context import QueryContext
from .plan import Plan
from .snapshot import Snapshot


@dataclass(slots=True)
class PageRead:
    """One page to read: the fields wanted, of them those that must come from the store, and the slots that count."""

    key: PageKey
    width: int
    is_cut: bool  # its slots are minutes that an edge of the window cuts
    slots: list[int]
    fields: list[str]  # the segment's, then those of the slots, where there can be any
    parts: dict[str, Part]
    missing: list[str]
    whole: Table | None = None  # the rows of these slots as another question put them together


def page_reads(
    context: QueryContext,
    name: str,
    known: Snapshot,
    plans: Mapping[int, Plan],
    retention: RetentionPolicy,
    now_ms: int,
) -> tuple[list[PageRead], list[PageRead]]:
    """The pages of rollups, and those of exact samples."""
    widths = {level.name: level.width for level in retention.with_raw}
    coarser = {each.name: due_slot.coarser(retention, each)[0][0] for each in retention.with_raw}

    def read(
        level: str, span: int, chunk: int, slots: list[int], *, is_cut: bool = False
    ) -> PageRead:
        key = (level, span, chunk)
        whole = context.cache.whole(name, known.version, key, slots)
        if whole is not None:
            return PageRead(key, widths[level], is_cut, slots, [], {}, [], whole)
        parts = context.cache.parts(name, known.version, key)
        fields = [keys.segment_field(chunk)]
        if (coarser[level], span) in known.due.get(
            chunk, ()
        ):  # else all is folded: the commit that made it did so
            fields += [keys.cell_field(slot, chunk) for slot in slots]
        return PageRead(
            key,
            widths[level],
            is_cut,
            slots,
            fields,
            parts,
            [each for each in fields if each not in parts],
        )

    reads, raws = [], []
    for chunk, made in plans.items():
        reads += [
            read(level.name, span, chunk, sorted(of_span))
            for (level, span), of_span in made.slots.items()
        ]
        cut: dict[int, list[int]] = {}
        for minute in sorted(made.cut):
            cut.setdefault(slot_of(minute, HOUR), []).append(minute)
        for hour, minutes in cut.items():
            reads.append(read("minute", hour, chunk, minutes, is_cut=True))
            if not retention.raw.is_expired(hour, now_ms):
                raws.append(read("raw", hour, chunk, minutes))
    return reads, raws


def read_command(context: QueryContext, shard: int, name: str, read: PageRead) -> Command:
    level, span, _ = read.key
    return ("HMGET", keys.data(context.namespace.name, shard, name, level, span), *read.missing)


def fill(
    context: QueryContext, name: str, known: Snapshot, reads: list[PageRead], replies: list[Any]
) -> None:
    """Take what came, and keep it for the next question."""
    came = iter(replies)
    for read in reads:
        if not read.missing:
            continue
        new: dict[str, Any] = dict(zip(read.missing, next(came), strict=True))
        if read.key[0] == "raw":
            new = {part: data and read_samples(data) for part, data in new.items()}
        read.parts |= new
        context.cache.put(name, known.version, read.key, new)


def assemble_tables(
    context: QueryContext, name: str, known: Snapshot, reads: list[PageRead]
) -> None:
    """Make one table of each page's parts, and keep it."""
    for read in reads:
        if read.whole is None:
            read.whole = _rows(read)
            context.cache.put_whole(name, known.version, read.key, read.slots, read.whole)


def whole_tables(reads: list[PageRead], *, is_cut: bool) -> list[Table]:
    return [
        read.whole
        for read in reads
        if read.is_cut == is_cut and read.whole is not None and len(read.whole)
    ]


def _rows(read: PageRead) -> Table:
    """The rows of a page's wanted slots; of a slot that has a field of its own, those."""
    segment, *loose = (part for part in _in_order(read) if not isinstance(part, Samples))
    own = [part for part in loose if part]
    found = [rollup_codec.unpack_tables(own)] if own else []
    left = [slot for slot, part in zip(read.slots, loose, strict=True) if part is None]
    if segment and left:
        rows = rollup_codec.unpack_table(segment)
        found.insert(
            0,
            rows
            if _are_all(left, read.width, rows)
            else rows.take(np.isin(rows.slot, np.array(left))),
        )
    return rollup_table.concat(found)


def _are_all(slots: list[int], width: int, rows: Table) -> bool:
    """Are the *rows* of no other slots? Only told of slots that are neighbours."""
    solid = slots[-1] - slots[0] == width * (len(slots) - 1)
    return solid and slots[0] <= int(rows.slot.min()) and int(rows.slot.max()) <= slots[-1]


def page_samples(read: PageRead) -> Samples:
    """The exact samples of a page's wanted minutes."""
    segment, *loose = _in_order(read)
    found = [part for part in loose if isinstance(part, Samples) and len(part)]
    if isinstance(segment, Samples) and len(segment):
        left = [slot for slot, part in zip(read.slots, loose, strict=True) if part is None]
        found.insert(
            0, segment.take(np.isin(segment.time // MINUTE * MINUTE, left), np.zeros(0, np.bool_))
        )
    return samples.concat(found) if found else samples.no_samples()


def _in_order(read: PageRead) -> list[Part]:
    """The segment, then what stands beside it for each slot wanted."""
    segment, *loose = (read.parts[each] for each in read.fields)
    return [segment, *(loose or [None] * len(read.slots))]
