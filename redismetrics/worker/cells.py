"""Read the minutes that sealing merges samples into, and write them back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from redismetrics.columnar import rollup_codec, sample_codec
from redismetrics.columnar.rollup_codec import NO_ROWS, read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.sample_codec import NO_SAMPLES, read_samples
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.model.time import HOUR, MINUTE, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command
from redismetrics.store.metric_keys import MetricLocation

from .commit import KeyWrites
from .merge import Cell, CellKey


@dataclass(frozen=True, slots=True)
class PackedHour:
    """Stored cells of one hour: their own fields, then the segments of the chunks."""

    cells: list[CellKey]
    tables: list[bytes | None]
    samples: list[bytes | None]


def cells_commands(metric: MetricLocation, cells: list[CellKey]) -> list[Command]:
    """Return the commands that read the current contents of minutes.

    A minute is in its own field, or in the segment of its hour.
    """
    commands: list[Command] = []
    for hour, of_hour in cells_by_hour(cells).items():
        fields = [keys.cell_field(*cell) for cell in of_hour]
        segments = [keys.segment_field(chunk) for chunk in chunks_of(of_hour)]
        commands += [
            ("HMGET", metric.data(resolution.name, hour), *fields, *segments)
            for resolution in (metric.retention.finest, metric.retention.raw)
        ]
    return commands


def packed_hours(cells: list[CellKey], replies: list[Any]) -> list[PackedHour]:
    """Return the replies to `cells_commands`."""
    return list(map(PackedHour, cells_by_hour(cells).values(), replies[::2], replies[1::2]))


def cells_by_hour(cells: list[CellKey]) -> dict[int, list[CellKey]]:
    """Return cells by the start of their hour, in ms."""
    found: dict[int, list[CellKey]] = {}
    for cell in cells:
        found.setdefault(slot_of(cell[0], HOUR), []).append(cell)
    return found


def decode_cells(hours: list[PackedHour]) -> dict[CellKey, Cell]:
    """Return the non-empty cells."""
    found = {}
    for hour in hours:
        found.update(_decode_hour(hour.cells, hour.tables, hour.samples))
    return found


def own_fields(hours: list[PackedHour]) -> dict[CellKey, tuple[bytes | None, bytes | None]]:
    """Return the packed rows and exact samples of all cells.

    Raises:
        NotSmall: If some of them are in segments.
    """
    found: dict[CellKey, tuple[bytes | None, bytes | None]] = {}
    for hour in hours:
        count = len(hour.cells)
        if any(hour.tables[count:]) or any(hour.samples[count:]):
            raise NotSmall
        found.update(zip(hour.cells, zip(hour.tables, hour.samples, strict=True), strict=False))
    return found


def chunks_of(cells: list[CellKey]) -> list[int]:
    """Return the chunks of cells in ascending order."""
    return sorted({chunk for _, chunk in cells})


def _decode_hour(
    cells: list[CellKey], tables: list[bytes | None], samples: list[bytes | None]
) -> dict[CellKey, Cell]:
    """Decode the cells of one hour; *tables* and *samples* are its fields, then its segments."""
    chunks = chunks_of(cells)
    table_segments = dict(zip(chunks, tables[len(cells) :], strict=True))
    sample_segments = dict(zip(chunks, samples[len(cells) :], strict=True))
    # Segments by chunk, decoded when a cell first needs one.
    segments: dict[int, tuple[Table, Samples]] = {}
    found = {}
    for (slot_ms, chunk), own_table, own_samples in zip(cells, tables, samples, strict=False):
        in_segment = (own_table is None and table_segments[chunk]) or (
            own_samples is None and sample_segments[chunk]
        )
        if in_segment and chunk not in segments:
            segments[chunk] = (
                read_table(table_segments[chunk]),
                read_samples(sample_segments[chunk]),
            )
        segment, exact = segments.get(chunk, (NO_ROWS, NO_SAMPLES))
        table = _rows_of(segment, slot_ms) if own_table is None else read_table(own_table)
        if len(table):
            kept = _samples_of(exact, slot_ms) if own_samples is None else read_samples(own_samples)
            found[slot_ms, chunk] = Cell(table, kept)
    return found


def _rows_of(segment: Table, slot_ms: int) -> Table:
    return segment.take(segment.slot == slot_ms) if len(segment) else segment


def _samples_of(segment: Samples, slot_ms: int) -> Samples:
    if not len(segment):
        return segment
    inside = (segment.time >= slot_ms) & (segment.time < slot_ms + MINUTE)
    return segment.take(inside, np.zeros(0, np.bool_))


def packed_cells(
    cells: dict[CellKey, Cell], stored: dict[CellKey, Cell], *, dense_samples: bool = False
) -> dict[CellKey, tuple[bytes, bytes | None]]:
    """Return the bytes of cells and of their exact samples; None if there were and are no samples.

    They are not packed densely, because merging into the segment packs them again. With
    *dense_samples*, the samples are: a minute may have very many.
    """
    packed = {}
    for key, cell in cells.items():
        before = stored.get(key)
        samples = None
        if len(cell.samples) or (before is not None and len(before.samples)):
            samples = sample_codec.pack_samples(cell.samples, dense=dense_samples)
        packed[key] = rollup_codec.pack_table(cell.table, dense=False), samples
    return packed


def inexact_count(cells: Iterable[Cell]) -> int:
    """Return the number of samples in cells that are not kept one by one."""
    return sum(int(cell.table.summaries.count.sum()) - cell.samples.count for cell in cells)


def write_cells(
    metric: MetricLocation, packed: dict[CellKey, tuple[bytes, bytes | None]], now_ms: int
) -> list[KeyWrites]:
    """Return the writes of minutes and of their exact samples.

    The key of minutes persists, because the hours above are due, and are downsampled from it.
    """
    minute, raw = metric.retention.finest, metric.retention.raw
    tables: dict[int, KeyWrites] = {}
    samples: dict[int, KeyWrites] = {}
    for (slot_ms, chunk), (of_table, of_samples) in packed.items():
        hour = slot_of(slot_ms, HOUR)
        field = keys.cell_field(slot_ms, chunk)
        write = tables.setdefault(hour, KeyWrites(minute, hour, persist=True))
        write.fields[field] = of_table
        if of_samples is not None and not raw.is_expired(hour, now_ms):
            write = samples.setdefault(hour, KeyWrites(raw, hour))
            write.fields[field] = of_samples
    return [*tables.values(), *samples.values()]
