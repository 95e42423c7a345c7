"""What a worker works out: samples into minutes, minutes into hours, hours into days. Pure.

A *cell* is one slot of one chunk of series: a table of rollup rows, and, of a minute, its exact samples while they are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar import arrays, rollup_table
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import CLUSTERED, Table
from redismetrics.columnar.samples import CENTROID, CHANGE, Samples, no_samples, summarise
from redismetrics.columnar.samples import concat as concat_samples
from redismetrics.columnar.summaries import concat as concat_summaries
from redismetrics.model.retention import Resolution
from redismetrics.model.time import MINUTE

SAMPLES_PER_MINUTE = 100  # of a series are kept exactly, each with its time and metadata; beyond, a summary and a digest
OPEN = 2  # a minute that is still written to may have so many times its points before they are clustered, so not each time

CellKey = tuple[int, int]  # start of the slot in ms, chunk


@dataclass(slots=True, eq=False)
class Cell:
    """A minute of one chunk."""

    table: Table
    samples: Samples


def cell_keys(parts: list[Samples], chunk_series: int) -> list[CellKey]:
    """Which cells samples fall into, in order; a chunk is so many series."""
    found: set[CellKey] = set()
    for part in parts:
        for series, time in ((part.series, part.time), (part.summed, part.summaries.last_ms)):
            if len(series):
                minutes, chunks = time // MINUTE, series // chunk_series
                both = np.unique(minutes * (int(chunks.max()) + 1) + chunks)
                width = int(chunks.max()) + 1
                found.update(
                    (int(number) // width * MINUTE, int(number) % width) for number in both
                )
    return sorted(found)


def seal(
    parts: list[Samples],
    held: Mapping[CellKey, Cell],
    chunk_series: int,
    minute: Resolution,
    raw_from_ms: int,
) -> dict[CellKey, Cell]:
    """Merge samples, in order of arrival and with series by id, into what their cells hold; return those cells as they become.

    Exact samples are kept from *raw_from_ms* on, where a series-minute has no more than `SAMPLES_PER_MINUTE`.
    """
    new = concat_samples(parts)
    pairs = [summarise(part) for part in parts] if len(new.summed) else [summarise(new)]
    old = rollup_table.concat([cell.table for cell in held.values()])
    old_samples = concat_samples([cell.samples for cell in held.values()]) if held else no_samples()
    summaries = concat_summaries([old.summaries, *(rows for _, rows in pairs)])
    series = np.concatenate([old.series, *(of_rows for of_rows, _ in pairs)])

    # Groups are series-minutes, in order of minute and series.
    minutes = summaries.last_ms // MINUTE
    known_minutes, minute_of = arrays.numbered(minutes)
    width = int(series.max()) + 1
    cells, group = arrays.numbered(minute_of * width + series)
    slot, of_series = known_minutes[cells // width] * MINUTE, cells % width

    def group_of(time: Ints, series: Ints) -> Ints:
        keys = np.searchsorted(known_minutes, time // MINUTE) * width + series
        return np.searchsorted(cells, keys)

    old_rows, old_values, old_weights = old.spread()
    new_group = group[len(old) :] if not len(new.summed) else group_of(new.time, new.series)
    new_exact = (new.flags & CENTROID) == 0
    table = rollup_table.merge(
        group, slot, of_series, summaries,
        np.concatenate([group[: len(old)][old_rows], new_group]),
        np.concatenate([old_values, new.value]),
        np.concatenate([old_weights, new.weight]),
        np.concatenate([old.kind[old_rows] != CLUSTERED, new_exact]),
        minute.points, OPEN * minute.points,
    )  # fmt: skip

    # Exact samples, where all are there and few enough.
    samples = concat_samples([old_samples, new])
    sample_group = np.concatenate([group_of(old_samples.time, old_samples.series), new_group])
    count = np.bincount(sample_group, minlength=len(cells))
    weight = arrays.sum_whole(sample_group, len(cells), samples.weight)
    whole = (
        (count <= SAMPLES_PER_MINUTE)
        & (weight == table.summaries.count)
        & (table.kind != CLUSTERED)
    )
    keep = whole[sample_group] & (samples.time >= raw_from_ms)
    samples, sample_group = (
        samples.take(keep, np.zeros(len(samples.summed), np.bool_)),
        sample_group[keep],
    )
    samples = ordered(samples, sample_group)
    sample_group = np.sort(sample_group)

    # Cut into cells.
    number = (
        np.searchsorted(known_minutes, slot // MINUTE) * (width // chunk_series + 1)
        + of_series // chunk_series
    )
    first = arrays.starts(number)
    ends = np.append(first[1:], len(number))
    sample_ends = np.searchsorted(sample_group, np.append(first, len(number)))
    return {
        (int(slot[begin]), int(of_series[begin]) // chunk_series): Cell(
            table.rows(np.arange(begin, end)),
            _piece(samples, int(sample_ends[at]), int(sample_ends[at + 1])),
        )
        for at, (begin, end) in enumerate(zip(first.tolist(), ends.tolist(), strict=True))
    }


def ordered(samples: Samples, key: Ints) -> Samples:
    """Sorted by *key*, then time, of equal ones in order of arrival; the metadata goes with its rows."""
    order = np.lexsort((samples.time, key))
    metadata = {}
    if samples.metadata:
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        metadata = {int(place[row]): text for row, text in samples.metadata.items()}
    return Samples(
        samples.series[order], samples.time[order], samples.value[order], samples.weight[order],
        samples.flags[order] & ~np.uint8(CHANGE), metadata,
    )  # fmt: skip


def _piece(samples: Samples, begin: int, end: int) -> Samples:
    of_piece = slice(begin, end)
    metadata = {row - begin: text for row, text in samples.metadata.items() if begin <= row < end}
    return Samples(
        samples.series[of_piece], samples.time[of_piece], samples.value[of_piece], samples.weight[of_piece],
        samples.flags[of_piece], metadata,
    )  # fmt: skip


def coarser(rows: Table, slot: int, points: int) -> Table:
    """One row a series: the whole of *rows*, of all finer slots inside the one that begins at *slot*."""
    if not len(rows):
        return rows
    series, group = arrays.numbered(rows.series)
    at, values, weights = rows.spread()
    return rollup_table.merge(
        group, np.full(len(series), slot), series, rows.summaries, group[at], values, weights,
        rows.kind[at] != CLUSTERED, points, points,
    )  # fmt: skip


def assemble(segment: Table, loose: Mapping[int, Table]) -> Table:
    """The rows of a span: those of its segment but where a slot has a field of its own, which counts instead."""
    if not loose:
        return segment
    beside = (
        segment.take(~np.isin(segment.slot, np.fromiter(loose, np.int64, len(loose))))
        if len(segment)
        else segment
    )
    return rollup_table.concat([part for part in (beside, *loose.values()) if len(part)])


def assemble_samples(segment: Samples, loose: Mapping[int, Samples]) -> Samples:
    """As `assemble`, of exact samples and minutes."""
    if not loose:
        return segment
    minutes = np.fromiter(loose, np.int64, len(loose))
    beside = segment.take(~np.isin(segment.time // MINUTE * MINUTE, minutes), np.zeros(0, np.bool_))
    parts = [part for part in (beside, *loose.values()) if len(part)]
    return concat_samples(parts) if parts else no_samples()


def fold(rows: Table, points: int) -> Table:
    """The rows of a span as they stand in a segment: by series, then slot, none with more than so many *points*."""
    return rollup_table.squeeze(rows.rows(np.lexsort((rows.slot, rows.series))), points)


def fold_samples(samples: Samples) -> Samples:
    return ordered(samples, samples.series) if len(samples) else samples
