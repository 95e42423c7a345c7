"""The worker's arithmetic: samples into minutes, minutes into hours, hours into days. No I/O.

A *cell* is one slot of one chunk of series: a table of rollup rows and, for a minute, its exact
samples as long as there are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redismetrics.columnar import arrays, metadata_columns, rollup_table
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import GroupedPoints, Table
from redismetrics.columnar.samples import CENTROID, CHANGE, Samples, no_samples, summarise
from redismetrics.columnar.samples import concat as concat_samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.columnar.summaries import concat as concat_summaries
from redismetrics.model.retention import Resolution
from redismetrics.model.time import MINUTE

# A minute that still receives samples may have this many times its usual number of points before
# they are clustered, so that not every commit clusters them again.
OPEN_FACTOR = 2

# Start of the slot in ms, and chunk.
CellKey = tuple[int, int]


@dataclass(slots=True, eq=False)
class Cell:
    """A minute of one chunk."""

    table: Table
    samples: Samples


def cell_keys(parts: list[Samples], chunk_series: int) -> list[CellKey]:
    """Return the minutes and chunks that samples fall into, in order.

    *chunk_series* is the number of series in a chunk.
    """
    found: set[CellKey] = set()
    for part in parts:
        for series, time in ((part.series, part.time), (part.summed, part.summaries.last_ms)):
            if len(series):
                minutes, chunks = time // MINUTE, series // chunk_series
                width = int(chunks.max()) + 1
                numbers = arrays.distinct(minutes * width + chunks).tolist()
                found.update((number // width * MINUTE, number % width) for number in numbers)
    return sorted(found)


@dataclass(slots=True, eq=False)
class _SeriesMinutes:
    """Groups of rows by series-minute, ordered by minute, then series.

    Attributes:
        minutes: Distinct minutes, in minutes since the epoch.
        width: Greater than every series id.
        keys: Number of each group, position of its minute * width + series, shape (groups,).
    """

    minutes: Ints
    width: int
    keys: Ints

    @classmethod
    def of(cls, time: Ints, series: Ints) -> "tuple[_SeriesMinutes, Ints]":
        """Return the groups of rows, and the group of each row, shape (rows,)."""
        minutes, minute_of = arrays.numbered(time // MINUTE)
        width = int(series.max()) + 1
        keys, group = arrays.numbered(minute_of * width + series)
        return cls(minutes, width, keys), group

    @property
    def slot(self) -> Ints:
        return self.minutes[self.keys // self.width] * MINUTE

    @property
    def series(self) -> Ints:
        return self.keys % self.width

    def find(self, time: Ints, series: Ints) -> Ints:
        """Return the groups of other rows, each of which must belong to one."""
        keys = np.searchsorted(self.minutes, time // MINUTE) * self.width + series
        return np.searchsorted(self.keys, keys)


def merge_into_cells(
    parts: list[Samples],
    stored: Mapping[CellKey, Cell],
    chunk_series: int,
    minute: Resolution,
    raw_from_ms: int,
    samples_per_minute: int,
) -> dict[CellKey, Cell]:
    """Merge samples into their cells, and return the new cells.

    Args:
        parts: Samples in order of arrival; their series are ids.
        stored: The current contents of the cells.
        chunk_series: Number of series in a chunk.
        minute: The finest resolution.
        raw_from_ms: Exact samples are kept from this time on.
        samples_per_minute: Maximum exact samples of a series-minute; if there are more, none are
            kept.
    """
    new = concat_samples(parts)
    pairs = [summarise(part) for part in parts] if len(new.summed) else [summarise(new)]
    old = rollup_table.concat([cell.table for cell in stored.values()])
    old_samples = (
        concat_samples([cell.samples for cell in stored.values()]) if stored else no_samples()
    )
    summaries = concat_summaries([old.summaries, *(rows for _, rows in pairs)])
    series = np.concatenate([old.series, *(of_rows for of_rows, _ in pairs)])
    groups, group = _SeriesMinutes.of(summaries.last_ms, series)
    # Fast path: without summaries, the new rows are the new samples.
    new_group = groups.find(new.time, new.series) if len(new.summed) else group[len(old) :]
    points = _points(old, group[: len(old)], new, new_group)
    table = _merge_rows(groups, group, summaries, points, minute)
    samples, sample_group = _exact_samples(
        concat_samples([old_samples, new]),
        np.concatenate([groups.find(old_samples.time, old_samples.series), new_group]),
        table,
        raw_from_ms,
        samples_per_minute,
    )
    return _cut_into_cells(table, samples, sample_group, chunk_series)


def _points(old: Table, old_group: Ints, new: Samples, new_group: Ints) -> GroupedPoints:
    """Return the points of stored rows and of new samples."""
    points = old.grouped_points(old_group)
    return GroupedPoints(
        np.concatenate([points.group, new_group]),
        np.concatenate([points.values, new.value]),
        np.concatenate([points.weights, new.weight]),
        np.concatenate([points.exact, (new.flags & CENTROID) == 0]),
    )


def _merge_rows(
    groups: _SeriesMinutes,
    group: Ints,
    summaries: Summaries,
    points: GroupedPoints,
    minute: Resolution,
) -> Table:
    return rollup_table.merge(
        groups.slot,
        groups.series,
        group,
        summaries,
        points,
        budget=minute.points,
        limit=OPEN_FACTOR * minute.points,
    )


def _exact_samples(
    samples: Samples, group: Ints, table: Table, raw_from_ms: int, samples_per_minute: int
) -> tuple[Samples, Ints]:
    """Return the samples to keep one by one, sorted by group and time, and the group of each.

    These are the samples of groups (rows of *table*) that are complete and small enough.
    """
    count = np.bincount(group, minlength=len(table))
    weight = arrays.sum_whole(group, len(table), samples.weight)
    centroid = (samples.flags & CENTROID) != 0
    complete = (
        (count <= samples_per_minute)
        & (weight == table.summaries.count)
        & (np.bincount(group[centroid], minlength=len(table)) == 0)
    )
    keep = complete[group] & (samples.time >= raw_from_ms)
    kept_group = group[keep]
    kept = samples.take(keep, np.zeros(len(samples.summed), np.bool_))
    return ordered(kept, kept_group), np.sort(kept_group)


def _cut_into_cells(
    table: Table, samples: Samples, sample_group: Ints, chunk_series: int
) -> dict[CellKey, Cell]:
    """Split rows ordered by minute and series, and their samples, by minute and chunk."""
    chunk = table.series // chunk_series
    first = _cell_starts(table.slot, chunk)
    edges = np.append(first, len(table))
    tables = table.runs(edges.tolist())
    sample_edges = np.searchsorted(sample_group, edges)
    return {
        key: Cell(rows, _piece(samples, sample_begin, sample_end))
        for key, rows, sample_begin, sample_end in zip(
            zip(table.slot[first].tolist(), chunk[first].tolist(), strict=True),
            tables,
            sample_edges[:-1].tolist(),
            sample_edges[1:].tolist(),
            strict=True,
        )
    }


def _cell_starts(slot: Ints, chunk: Ints) -> NDArray[np.intp]:
    """Return the rows where slot or chunk changes, including the first row."""
    changes = np.ones(len(slot), np.bool_)
    changes[1:] = (slot[1:] != slot[:-1]) | (chunk[1:] != chunk[:-1])
    return np.flatnonzero(changes)


def _piece(samples: Samples, begin: int, end: int) -> Samples:
    rows = slice(begin, end)
    metadata: Mapping[int, bytes] = {}
    if samples.metadata:
        at = np.full(len(samples), -1)
        at[rows] = np.arange(end - begin)
        metadata = metadata_columns.moved(samples.metadata, at)
    return Samples(
        samples.series[rows],
        samples.time[rows],
        samples.value[rows],
        samples.weight[rows],
        samples.flags[rows],
        metadata,
    )


def ordered(samples: Samples, key: Ints) -> Samples:
    """Return samples sorted by *key*, then time, then order of arrival."""
    order = np.lexsort((samples.time, key))
    metadata: Mapping[int, bytes] = {}
    if samples.metadata:
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        metadata = metadata_columns.moved(samples.metadata, position)
    return Samples(
        samples.series[order],
        samples.time[order],
        samples.value[order],
        samples.weight[order],
        samples.flags[order] & ~np.uint8(CHANGE),
        metadata,
    )


def downsample_rows(rows: Table, slot_ms: int, points: int) -> Table:
    """Return one row per series that covers all finer *rows* of the slot that starts at *slot_ms*.

    *points* is the maximum number of points per row.
    """
    if not len(rows):
        return rows
    series, group = arrays.numbered(rows.series)
    slot = np.full(len(series), slot_ms)
    return rollup_table.merge(
        slot, series, group, rows.summaries, rows.grouped_points(group), budget=points
    )


def assemble(segment: Table, cells: Mapping[int, Table]) -> Table:
    """Return the rows of a partition: *cells*, by slot, replace those in the segment."""
    if not cells:
        return segment
    rest = segment
    if len(segment):
        rest = segment.take(~np.isin(segment.slot, np.fromiter(cells, np.int64, len(cells))))
    return rollup_table.concat([part for part in (rest, *cells.values()) if len(part)])


def assemble_samples(segment: Samples, cells: Mapping[int, Samples]) -> Samples:
    """Return the exact samples of a partition: *cells*, by minute, replace the others."""
    if not cells:
        return segment
    minutes = np.fromiter(cells, np.int64, len(cells))
    keep = ~np.isin(segment.time // MINUTE * MINUTE, minutes)
    rest = segment.take(keep, np.zeros(0, np.bool_))
    parts = [part for part in (rest, *cells.values()) if len(part)]
    return concat_samples(parts) if parts else no_samples()


def segment_rows(rows: Table, points: int) -> Table:
    """Return *rows* in the order of a segment: by series and slot, at most *points* points each."""
    return rollup_table.squeeze(rows.rows(np.lexsort((rows.slot, rows.series))), points)


def segment_samples(samples: Samples) -> Samples:
    """Return exact samples in the order of a segment: by series, then time."""
    return ordered(samples, samples.series) if len(samples) else samples
