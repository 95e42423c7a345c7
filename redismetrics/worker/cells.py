"""Read the minutes that sealing merges into, and write them back."""

import numpy as np

from redismetrics.columnar import rollup_codec, sample_codec
from redismetrics.columnar.rollup_codec import NO_ROWS, read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.sample_codec import NO_SAMPLES, read_samples
from redismetrics.columnar.samples import Samples
from redismetrics.model.time import HOUR, MINUTE, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.metric_keys import MetricLocation

from .commit import KeyWrites, MetricVersion, read_consistent
from .merge import Cell, CellKey


def read_cells(
    metric: MetricLocation, seen: MetricVersion, cells: list[CellKey]
) -> Operation[dict[CellKey, Cell] | None]:
    """Return what minutes hold already, or None if the metric changed since it was read.

    A minute is in a field of its own, or in the segment of its hour.
    """
    by_hour: dict[int, list[CellKey]] = {}
    for cell in cells:
        by_hour.setdefault(slot_of(cell[0], HOUR), []).append(cell)
    commands: list[Command] = []
    for hour, of_hour in by_hour.items():
        fields = [keys.cell_field(*cell) for cell in of_hour]
        segments = [keys.segment_field(chunk) for chunk in _chunks(of_hour)]
        commands += [
            ("HMGET", metric.data(resolution.name, hour), *fields, *segments)
            for resolution in (metric.retention.finest, metric.retention.raw)
        ]
    replies = yield from read_consistent(metric, seen, commands)
    if replies is None:
        return None
    found = {}
    for of_hour, tables, samples in zip(by_hour.values(), replies[::2], replies[1::2], strict=True):
        found.update(_decode_hour(of_hour, tables, samples))
    return found


def _chunks(cells: list[CellKey]) -> list[int]:
    return sorted({chunk for _, chunk in cells})


def _decode_hour(
    cells: list[CellKey], tables: list[bytes | None], samples: list[bytes | None]
) -> dict[CellKey, Cell]:
    """Decode the cells of one hour; *tables* and *samples* are its fields, then its segments."""
    chunks = _chunks(cells)
    table_segments = dict(zip(chunks, tables[len(cells) :], strict=True))
    sample_segments = dict(zip(chunks, samples[len(cells) :], strict=True))
    # Segments by chunk, decoded when the first cell needs one.
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


def write_cells(
    metric: MetricLocation,
    cells: dict[CellKey, Cell],
    stored: dict[CellKey, Cell],
    now_ms: int,
) -> list[KeyWrites]:
    """Return the writes of minutes and of their exact samples.

    The key of minutes persists: the hours over them are due, and are downsampled from it. Minutes
    are not packed densely, since merging into the segment packs them again.
    """
    minute, raw = metric.retention.finest, metric.retention.raw
    tables: dict[int, KeyWrites] = {}
    samples: dict[int, KeyWrites] = {}
    for (slot_ms, chunk), cell in cells.items():
        hour = slot_of(slot_ms, HOUR)
        field = keys.cell_field(slot_ms, chunk)
        write = tables.setdefault(hour, KeyWrites(minute, hour, persist=True))
        write.fields[field] = rollup_codec.pack_table(cell.table, dense=False)
        before = stored.get((slot_ms, chunk))
        if not raw.is_expired(hour, now_ms) and (
            len(cell.samples) or (before is not None and len(before.samples))
        ):
            write = samples.setdefault(hour, KeyWrites(raw, hour))
            write.fields[field] = sample_codec.pack_samples(cell.samples, dense=False)
    return [*tables.values(), *samples.values()]
