"""Amounts recorded between the edges of windows, as columns without loops.

Each row of a slot says how much was recorded from its begin to its end, and each sample is a row of
one millisecond. A row is added to the cell of the first edge at or after its end. So the sum of the
cells up to an edge is the amount recorded before it, and the difference of two such sums is the
amount recorded between two edges. A row that is cut by edges is split in proportion to time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged
from redismetrics.columnar.samples import summarise
from redismetrics.columnar.summaries import Summaries
from redismetrics.queries.slots import SeriesSlots


@dataclass(slots=True, eq=False)
class IncrementRows:
    """Rows of the slots of one table, or of samples; columns of shape (n,).

    Attributes:
        series: Position of the series.
        begin: Start of the slot, or the time of the sample, in ms.
        end: End of the slot or now, whichever is first; 1 ms after *begin* for a sample.
        summaries: The recorded values.
        width: Width of the slots, if all begin and end at multiples of it; otherwise None.
    """

    series: Ints
    begin: Ints
    end: Ints
    summaries: Summaries
    width: int | None = None

    def __len__(self) -> int:
        return len(self.series)

    def numbers(self, edges: Ints) -> tuple[Ints, Ints]:
        """Return the numbers of the first edge after the begin, and at or after the end.

        Both have shape (rows,).
        """
        if self.width is None:
            first = np.searchsorted(edges, self.begin, side="right")
            return first, np.searchsorted(edges, self.end, side="left")
        # Many rows have the same begin and end.
        low, high = int(self.begin.min()), int(self.begin.max())
        slots = np.arange(low, high + 1, self.width)
        slot = (self.begin - low) // self.width
        first = np.searchsorted(edges, slots, side="right")[slot]
        return first, np.searchsorted(edges, slots + self.width, side="left")[slot]


def increments(slots: SeriesSlots) -> list[IncrementRows]:
    """Return the rows of each table, then those of the samples.

    A table has the rows of an hour or so: arrays of that size stay in the CPU cache.
    """
    parts = []
    for table, width in slots.tables:
        end = table.slot + width
        is_over = int(table.slot.max(initial=0)) + width <= slots.now_ms
        if not is_over:
            # Nothing is recorded in the rest of a slot, except ahead of the clock.
            end = np.maximum(np.minimum(end, slots.now_ms), table.summaries.last_ms + 1)
        grid = width if is_over and len(table) else None
        parts.append(IncrementRows(table.series, table.slot, end, table.summaries, grid))
    owners, of_samples = summarise(slots.samples)
    times = of_samples.last_ms
    return [*parts, IncrementRows(owners, times, times + 1, of_samples)]


@dataclass(slots=True, eq=False)
class Cells:
    """The cells of the rows in one part.

    *row* and *share* are None if each row is in one cell.
    """

    cell: Ints
    row: Ints | None = None
    share: Floats | None = None

    def shares(self, amounts: Floats) -> Floats:
        """Return each cell's share of the amounts of the rows."""
        if self.row is None or self.share is None:
            return amounts
        shared: Floats = amounts[self.row] * self.share
        return shared


@dataclass(slots=True, eq=False)
class Placement:
    """The cells of all rows: one line of cells per series, with one cell per edge.

    The last cell of a line is for rows that end after all edges. *parts* has the cells of each part
    of the rows. *latest* is when each series was last recorded before each edge, shape (series,
    edges); -1 means never.
    """

    series: int
    edges: Ints
    latest: Ints
    parts: list[Cells]

    def cumulated(self, amounts: Sequence[Floats]) -> Floats:
        """Return the amount recorded before each edge and in total, shape (series, edges + 1).

        *amounts* has a column for each part of the rows.
        """
        width = len(self.edges) + 1
        sums = np.zeros(self.series * width)
        for part, whole in zip(self.parts, amounts, strict=True):
            np.add.at(sums, part.cell, part.shares(whole))
        lines = sums.reshape(self.series, width)
        found: Floats = np.cumsum(lines, axis=1, out=lines)
        return found

    def at(self, times: Ints) -> Ints | slice:
        """Return the number of the edge at each of *times*, which must be edges and ascend."""
        found: Ints = np.searchsorted(self.edges, times)
        first, last = int(found[0]), int(found[-1])
        if last - first == len(found) - 1:
            # A view of these columns costs nothing.
            return slice(first, last + 1)
        return found


def place(rows: Sequence[IncrementRows], series: int, edges: Ints) -> Placement:
    """Return the cells of *rows* for ascending, distinct *edges*."""
    width = len(edges) + 1
    latest, parts = np.full(series * width, -1), []
    for part in rows:
        first, last = part.numbers(edges)
        line = part.series * width
        np.maximum.at(latest, line + first, part.end - 1)
        # The number of edges inside each row.
        cuts = last - first
        parts.append(_split_rows(part, edges, first, cuts) if cuts.any() else Cells(line + last))
    return Placement(series, edges, _last_recorded(latest, series, edges), parts)


def _split_rows(rows: IncrementRows, edges: Ints, first: Ints, cuts: Ints) -> Cells:
    """Return the cells of rows cut by edges: *cuts* edges, from number *first* on."""
    width = len(edges) + 1
    row = np.repeat(np.arange(len(rows)), cuts + 1)
    column = ragged(first, cuts + 1)
    ends = np.minimum(np.append(edges, np.iinfo(np.int64).max)[column], rows.end[row])
    begins = np.maximum(np.insert(edges, 0, np.iinfo(np.int64).min)[column], rows.begin[row])
    share = (ends - begins) / (rows.end - rows.begin)[row]
    return Cells(rows.series[row] * width + column, row, share)


def _last_recorded(latest: Ints, series: int, edges: Ints) -> Ints:
    """Return when each series was last recorded before each edge, shape (series, edges).

    *latest* is the last time in each cell. -1 means never, as far as was read. For a slot read as a
    whole, its end is used: the exact time would require one more column.
    """
    found: Ints = latest.reshape(series, len(edges) + 1)[:, :-1]
    np.maximum.accumulate(found, axis=1, out=found)
    return np.minimum(found, edges - 1, out=found)


def is_known(latest: Ints, times: Ints, horizon_ms: int) -> Bools:
    """Return whether each series was recorded within *horizon_ms* before each time."""
    # Never is -1.
    found: Bools = latest >= np.maximum(times - horizon_ms, 0)
    return found
