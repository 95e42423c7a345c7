"""Time series: aggregates per interval."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.errors import InvalidQuery, UnknownAggregation
from redismetrics.model.time import OPEN_UNTIL, to_datetime
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window, interval_ms
from redismetrics.store.driver import Operation

from .aggregate import aggregate, check_rows, empty_result, group_rows
from .context import QueryContext
from .query import fetch_series
from .question import GroupKey, Question, Row, make_question
from .selection import SeriesData

MAX_POINTS = 100_000  # of one time series with fill=True, so that a slip of the interval can't take all memory


def time_series(
    context: QueryContext,
    name: str,
    *,
    interval: Any = "hour",
    aggregation: str = "count",
    aggregations: str | Iterable[str] | None = None,
    window: Window = "last_24h",
    group_by: str | Iterable[str] = (),
    tags: Tags | None = None,
    fill: bool = False,
) -> Operation[list[Row]]:
    """One dict for each interval (and group) that holds samples, with `timestamp`, its start; with *fill* for each at all."""
    wanted = aggregation if aggregations is None else aggregations
    question = make_question(name, window, tags, group_by, wanted, ("timestamp",))
    if not question.aggregations:
        raise UnknownAggregation("aggregations: wanted at least one, got none")
    width = interval_ms(interval)

    def ask() -> Operation[list[Row]]:
        found, (since, until, _) = yield from fetch_series(context, question, width)
        if found is None or not len(found):
            if not fill or question.group_by:
                return []
            slots = _slots(since, until, None, width)
            check_rows(len(slots), context)
            return _fill([0], [()], question, slots, width, {})
        return _series_rows(found, question, width, context, fill=fill)

    return ask()


def _series_rows(
    found: SeriesData, question: Question, width: int, context: QueryContext, *, fill: bool
) -> list[Row]:
    of_series, ordered = group_rows(found.tags, question.group_by)
    first = min(int(rows.time.min()) for rows in found.parts) // width
    span = max(int(rows.time.max()) for rows in found.parts) // width + 1 - first
    many = len(ordered)

    def cells_of(series: Ints, time: Ints) -> Ints:  # by time, then by group
        cells: Ints = (time // width - first) * many + of_series[series]
        return cells

    aggregations = tuple(dict.fromkeys(("count", *question.aggregations)))
    most = (
        len(found) + 65_536
        if context.max_rows is None
        else min(len(found) + 65_536, context.max_rows)
    )
    if many * span <= most:  # few cells are empty: no need to number those that aren't
        cells = np.arange(many * span)
        result = aggregate(found, aggregations, cells_of, len(cells), width / 1000)
    else:
        cells = np.unique(
            np.concatenate([np.unique(cells_of(rows.series, rows.time)) for rows in found.parts])
        )
        check_rows(len(cells), context)
        result = aggregate(
            found, aggregations, lambda series, time: np.searchsorted(cells, cells_of(series, time)), len(cells),
            width / 1000,
        )  # fmt: skip
    some = np.flatnonzero(result["count"])
    starts, groups = (cells[some] // many + first).tolist(), (cells[some] % many).tolist()
    columns = [[result[name][at] for at in some.tolist()] for name in question.aggregations]
    if fill:
        values = dict(
            zip(zip(starts, groups, strict=True), zip(*columns, strict=True), strict=True)
        )
        slots = _slots(found.since_ms, found.until_ms, (first, first + span), width)
        check_rows(len(slots) * len(set(groups)), context)
        return _fill(sorted(set(groups)), ordered, question, slots, width, values)
    return _points(starts, groups, ordered, question, width, columns)


def _points(
    starts: list[int],
    groups: list[int],
    ordered: list[GroupKey],
    question: Question,
    width: int,
    columns: list[list[Any]],
) -> list[Row]:
    """One dict of each cell: the start of its interval (in *width*s), its group among those *ordered*, its aggregations."""
    times = {start: to_datetime(start * width) for start in set(starts)}
    by_tag = [[ordered[group][at] for group in groups] for at in range(len(question.group_by))]
    names = ("timestamp", *question.group_by, *question.aggregations)
    rows = zip([times[start] for start in starts], *by_tag, *columns, strict=True)
    return [dict(zip(names, row)) for row in rows]  # noqa: B905  strict costs a third more; there are tens of thousands


def _slots(since: int, until: int, held: tuple[int, int] | None, width: int) -> range:
    """The intervals that touch the window; where it is open, those that hold samples."""
    if held is None and (since == 0 or until >= OPEN_UNTIL):
        return range(0)
    first = since // width if since or held is None else held[0]
    last = -(-until // width) if until < OPEN_UNTIL or held is None else held[1]
    if last - first > MAX_POINTS:
        raise InvalidQuery(
            f"fill: wanted at most {MAX_POINTS} intervals, got {last - first}: ask a wider interval"
        )
    return range(first, last)


def _fill(
    present: list[int], ordered: list[GroupKey], question: Question, slots: range, width: int,
    found: dict[tuple[int, int], tuple[Any, ...]],
) -> list[Row]:  # fmt: skip
    """The groups that are *present* in every interval."""
    empty = tuple(map(empty_result, question.aggregations))
    cells = [(start, group) for start in slots for group in present]
    columns = [
        list(column) for column in zip(*(found.get(cell, empty) for cell in cells), strict=True)
    ]
    return _points(
        [start for start, _ in cells],
        [group for _, group in cells],
        ordered,
        question,
        width,
        columns,
    )
