"""What was recorded between the edges of windows, as columns without loops.

Each row of a slot says how much was recorded from its begin to its end, and each sample is a row of
one millisecond. A row is added to the cell of the first edge at or behind its end. So the sum of
the cells up to an edge is what was recorded before it, and the difference of two such sums is what
was recorded between two edges. A row that edges cut is shared out by time.
"""

from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged
from redismetrics.columnar.samples import summarise
from redismetrics.columnar.summaries import Summaries
from redismetrics.columnar.summaries import concat as concat_summaries
from redismetrics.queries.slots import SeriesSlots


@dataclass(slots=True, eq=False)
class Increments:
    """Rows of slots and samples, columns of shape (n,).

    Attributes:
        series: Position of the series.
        begin: Start of the slot, or the time of the sample, in ms.
        end: End of the slot or now, whichever is first; 1 ms after *begin* for a sample.
        summaries: What was recorded.
        grids: Width of the slots, or None, and number of rows, of parts whose rows all have begin
            and end at multiples of that width.
    """

    series: Ints
    begin: Ints
    end: Ints
    summaries: Summaries
    grids: list[tuple[int | None, int]]

    def __len__(self) -> int:
        return len(self.series)

    def numbers(self, edges: Ints) -> tuple[Ints, Ints]:
        """Return the number of the first edge behind the begin of each row, and not before its end.

        Both have shape (rows,). Many rows have the same begin and end.
        """
        first, last, at = np.empty(len(self), np.int64), np.empty(len(self), np.int64), 0
        for width, count in self.grids:
            rows = slice(at, at + count)
            at += count
            if width is None:
                first[rows] = np.searchsorted(edges, self.begin[rows], side="right")
                last[rows] = np.searchsorted(edges, self.end[rows], side="left")
                continue
            begin = self.begin[rows]
            low, high = int(begin.min()), int(begin.max())
            slots = np.arange(low, high + 1, width)
            slot = (begin - low) // width
            first[rows] = np.searchsorted(edges, slots, side="right")[slot]
            last[rows] = np.searchsorted(edges, slots + width, side="left")[slot]
        return first, last


def increments(slots: SeriesSlots) -> Increments:
    """Return the rows of all tables, then those of the samples."""
    series, begins, ends, summaries, grids = [], [], [], [], []
    for table, width in slots.tables:
        end = table.slot + width
        is_over = int(table.slot.max(initial=0)) + width <= slots.now_ms
        if not is_over:
            # Nothing is recorded in the rest of a slot, except ahead of the clock.
            end = np.maximum(np.minimum(end, slots.now_ms), table.summaries.last_ms + 1)
        series.append(table.series)
        begins.append(table.slot)
        ends.append(end)
        summaries.append(table.summaries)
        grids.append((width if is_over and len(table) else None, len(table)))
    owners, of_samples = summarise(slots.samples)
    times = of_samples.last_ms
    return Increments(
        np.concatenate([*series, owners]),
        np.concatenate([*begins, times]),
        np.concatenate([*ends, times + 1]),
        concat_summaries([*summaries, of_samples]),
        [*grids, (None, len(owners))],
    )


@dataclass(slots=True, eq=False)
class Placement:
    """To which cell each row belongs: one line of cells for each series, one cell for each edge.

    The last cell of a line is for what ends after all edges. *row* and *share* are None if each row
    is in one cell. *latest* is when each series was last recorded before each edge, shape (series,
    edges); -1 is never.
    """

    series: int
    edges: Ints
    latest: Ints
    cell: Ints
    row: Ints | None
    share: Floats | None

    def cumulated(self, amounts: Floats) -> Floats:
        """Return what was recorded before each edge and in all, shape (series, edges + 1)."""
        if self.row is not None and self.share is not None:
            amounts = amounts[self.row] * self.share
        width = len(self.edges) + 1
        sums = np.bincount(self.cell, amounts, self.series * width)
        found: Floats = np.cumsum(sums.reshape(self.series, width), axis=1)
        return found

    def at(self, times: Ints) -> Ints:
        """Return the number of the edge at each of *times*, which must be edges."""
        found: Ints = np.searchsorted(self.edges, times)
        return found


def place(rows: Increments, series: int, edges: Ints) -> Placement:
    """Return the cells of *rows* for ascending, distinct *edges*."""
    width = len(edges) + 1
    first, last = rows.numbers(edges)
    latest = _last_recorded(rows, series, edges, first)
    # How many edges are inside each row.
    cuts = last - first
    if not cuts.any():
        return Placement(series, edges, latest, rows.series * width + last, None, None)
    row = np.repeat(np.arange(len(rows)), cuts + 1)
    column = ragged(first, cuts + 1)
    ends = np.minimum(np.append(edges, np.iinfo(np.int64).max)[column], rows.end[row])
    begins = np.maximum(np.insert(edges, 0, np.iinfo(np.int64).min)[column], rows.begin[row])
    share = (ends - begins) / (rows.end - rows.begin)[row]
    return Placement(series, edges, latest, rows.series[row] * width + column, row, share)


def _last_recorded(rows: Increments, series: int, edges: Ints, first: Ints) -> Ints:
    """Return when each series was last recorded before each edge, shape (series, edges).

    -1: never, as far as was read. In a slot that was read whole, its end: the exact time would cost
    the reading of one more column.
    """
    width = len(edges) + 1
    latest = np.full(series * width, -1)
    np.maximum.at(latest, rows.series * width + first, rows.end - 1)
    found: Ints = latest.reshape(series, width)[:, :-1]
    np.maximum.accumulate(found, axis=1, out=found)
    return np.minimum(found, edges - 1, out=found)


def is_known(latest: Ints, times: Ints, horizon_ms: int) -> Bools:
    """Return whether each series was recorded within *horizon_ms* before each time."""
    found: Bools = (latest >= 0) & (latest >= times - horizon_ms)
    return found
