"""Time series: aggregations by interval."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.errors import InvalidQuery
from redismetrics.model.time import OPEN_SINCE, OPEN_UNTIL, to_datetime
from redismetrics.model.windows import interval_ms
from redismetrics.store.driver import Operation

from .aggregate import GroupKey, Row, aggregate, check_rows, columns_of, empty_result, group_series
from .context import QueryContext
from .fetch import fetch
from .query import Query
from .selection import Edges, SeriesData

# Maximum number of intervals in a filled series, so that a wrong interval can't exhaust memory.
MAX_INTERVALS = 100_000

# Number of empty cells (interval x group) that are cheaper to aggregate than to renumber the
# others.
_MAX_EMPTY_CELLS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class SeriesCells:
    """A time series as columns: its cells, ordered by time, then by group.

    Attributes:
        starts: The number of each cell's interval since the epoch.
        group_numbers: The group of each cell, a position in *groups*.
        groups: The keys of all groups.
        width: The interval in ms.
        values: The values of the cells by aggregation.
    """

    starts: list[int]
    group_numbers: list[int]
    groups: list[GroupKey]
    width: int
    values: dict[str, list[Any]]


def time_series(context: QueryContext, query: Query) -> Operation[list[Row]]:
    """Return one dict per interval and group with samples, or with *fill* for all of them.

    `timestamp` is the start of the interval.

    Raises:
        OutsideRetention: If the interval is finer than what the window still holds.
        TooManyRows: If there would be more rows than the context allows.
    """
    columns = series_cells(context, query)

    def read() -> Operation[list[Row]]:
        return _rows((yield from columns), query)

    return read()


def series_cells(context: QueryContext, query: Query) -> Operation[SeriesCells]:
    """Return the result of `time_series` as columns."""
    width = interval_ms(query.interval)

    def read() -> Operation[SeriesCells]:
        data, edges = yield from fetch(context, query, columns=columns_of(query.aggregations))
        if data is not None and len(data):
            return _columns(data, query, width, context)
        if not query.fill or query.group_by:
            return SeriesCells([], [], [], width, {name: [] for name in query.aggregations})
        intervals = intervals_of(edges, None, width)
        check_rows(len(intervals), context)
        return _fill([0], [()], query, intervals, width, {})

    return read()


def _columns(data: SeriesData, query: Query, width: int, context: QueryContext) -> SeriesCells:
    """Return the cells of *data*: intervals of *width* ms, ordered by time, then by group."""
    group_of_series, groups = group_series(data.tags, query.group_by)
    group_count = len(groups)
    first, end = data.filled(width)

    def cell_of(series: Ints, time: Ints) -> Ints:
        """Return the interval and group of each row as one number, ordered by time, then group."""
        cells: Ints = (time // width - first) * group_count + group_of_series[series]
        return cells

    def number_of(series: Ints, time: Ints) -> Ints:
        return np.searchsorted(cells, cell_of(series, time))

    aggregations = tuple(dict.fromkeys(("count", *query.aggregations)))
    max_cells = len(data) + _MAX_EMPTY_CELLS
    if context.max_rows is not None:
        max_cells = min(max_cells, context.max_rows)
    if group_count * (end - first) <= max_cells:
        # Few cells are empty: aggregate all, and don't number those that are not.
        cells = np.arange(group_count * (end - first))
        result = aggregate(data, aggregations, cell_of, len(cells), width / 1000)
    else:
        parts = [np.unique(cell_of(rows.series, rows.time)) for rows in data.parts]
        cells = np.unique(np.concatenate(parts))
        check_rows(len(cells), context)
        result = aggregate(data, aggregations, number_of, len(cells), width / 1000)
    filled = np.flatnonzero(result["count"])
    starts = (cells[filled] // group_count + first).tolist()
    group_numbers = (cells[filled] % group_count).tolist()
    values = {name: [result[name][at] for at in filled.tolist()] for name in query.aggregations}
    if query.fill:
        cell_keys = zip(starts, group_numbers, strict=True)
        by_cell = dict(zip(cell_keys, zip(*values.values(), strict=True), strict=True))
        intervals = intervals_of(data.edges, (first, end), width)
        present = sorted(set(group_numbers))
        check_rows(len(intervals) * len(present), context)
        return _fill(present, groups, query, intervals, width, by_cell)
    return SeriesCells(starts, group_numbers, groups, width, values)


def _rows(found: SeriesCells, query: Query) -> list[Row]:
    """Return one dict per cell."""
    times = {start: to_datetime(start * found.width) for start in set(found.starts)}
    groups, numbers = found.groups, found.group_numbers
    tags = [[groups[group][at] for group in numbers] for at in range(len(query.group_by))]
    names = ("timestamp", *query.group_by, *found.values)
    starts = [times[start] for start in found.starts]
    rows = zip(starts, *tags, *found.values.values(), strict=True)
    # Without strict, which costs a third more for tens of thousands of rows.
    return [dict(zip(names, row)) for row in rows]  # noqa: B905


def intervals_of(edges: Edges, filled: tuple[int, int] | None, width: int) -> range:
    """Return the first and last interval of the window, as numbers since the epoch.

    An open end of the window is at the first or last interval with samples, given by *filled*.

    Raises:
        InvalidQuery: If there are more than `MAX_INTERVALS`.
    """
    is_open = edges.since_ms == OPEN_SINCE, edges.until_ms >= OPEN_UNTIL
    if filled is None and any(is_open):
        return range(0)
    first, end = edges.since_ms // width, -(-edges.until_ms // width)
    if filled is not None:
        first, end = filled[0] if is_open[0] else first, filled[1] if is_open[1] else end
    if end - first > MAX_INTERVALS:
        raise InvalidQuery(
            f"fill must yield at most {MAX_INTERVALS} intervals, got {end - first}; "
            f"use a wider interval or a shorter window"
        )
    return range(first, end)


def _fill(
    present: list[int],
    groups: list[GroupKey],
    query: Query,
    intervals: range,
    width: int,
    values: dict[tuple[int, int], tuple[Any, ...]],
) -> SeriesCells:
    """Return a cell for every interval of each group in *present*.

    *values* holds the aggregations by interval and group, for cells with samples.
    """
    empty = tuple(map(empty_result, query.aggregations))
    cells = [(start, group) for start in intervals for group in present]
    rows = [values.get(cell, empty) for cell in cells]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(query.aggregations)}
    starts, group_numbers = [start for start, _ in cells], [group for _, group in cells]
    return SeriesCells(starts, group_numbers, groups, width, columns)
