"""Time series and rollups as columns: a list of values per group, only for the largest groups.

This suits charts: it takes a fraction of the size of rows, and keeps the groups that matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.model.time import SECOND
from redismetrics.store.driver import Operation

from .aggregate import GroupKey, Row, aggregate, check_rows, empty_result, group_series
from .arguments import percentile_rank
from .context import QueryContext
from .fetch import fetch
from .query import Query
from .selection import SeriesData
from .time_series import intervals_of

_DIGITS = ".6g"


@dataclass(frozen=True, slots=True)
class Largest:
    """Which groups to return.

    Attributes:
        order: Sort groups by this aggregation over the whole window, largest first; None sorts by
            tags.
        top: Maximum number of groups; None means all.
    """

    order: str | None = None
    top: int | None = None


def time_series_columns(
    context: QueryContext, query: Query, largest: Largest
) -> Operation[dict[str, Any]]:
    """Return a time series as `times`, `interval`, `groups` and `left_off`.

    `times` are the starts of all intervals of the window, in Unix seconds, and `interval` is their
    length. Each group has `tags` and `values`: for each aggregation, a list with the value of each
    interval, None if nothing was recorded (with *fill*, 0 for count, sum and rate). `left_off` is
    the number of groups beyond *top*. Values have six significant digits.

    Raises:
        OutsideRetention: If the interval is finer than what the window still holds.
        TooManyRows: If there are more intervals times groups than the context allows rows.
    """
    width = query.interval_ms
    assert width is not None, "BUG: a time series without an interval"

    def read() -> Operation[dict[str, Any]]:
        data, edges = yield from fetch(context, query, points=_needs_points(largest))
        if data is None or not len(data):
            intervals, chosen = intervals_of(edges, None, width), _Chosen([], 0)
            check_rows(len(intervals), context)
            groups = []
            if query.fill and not query.group_by:
                nothing = {name: [empty_result(name)] for name in query.aggregations}
                groups = [
                    {
                        "tags": {},
                        "values": {name: each * len(intervals) for name, each in nothing.items()},
                    }
                ]
        else:
            intervals = intervals_of(data.edges, data.filled(width), width)
            chosen = _choose(data, query, largest)
            check_rows(len(intervals) * len(chosen.groups), context)
            groups = _columns_of_groups(data, query, chosen, intervals, width)
        return {
            "times": [start * width // SECOND for start in intervals],
            "interval": width // SECOND,
            "groups": groups,
            "left_off": chosen.left_off,
        }

    return read()


def rollup_columns(
    context: QueryContext, query: Query, largest: Largest
) -> Operation[dict[str, Any]]:
    """Return aggregations of the groups of a window, as `groups` and `left_off`.

    Each group has `tags` and `values`, with one value per aggregation.
    """
    data, _ = yield from fetch(context, query, points=_needs_points(largest))
    if data is None or not len(data):
        return {"groups": [], "left_off": 0}
    chosen = _choose(data, query, largest)
    check_rows(len(chosen.groups), context)
    count = len(chosen.groups)
    place = chosen.place_of_series(data, query)
    columns = aggregate(
        data, query.aggregations, lambda series, _: place[series], count + 1, data.seconds
    )
    groups = [
        {
            "tags": _tags(query.group_by, group),
            "values": {name: columns[name][at] for name in query.aggregations},
        }
        for at, group in enumerate(chosen.groups)
    ]
    return {"groups": groups, "left_off": chosen.left_off}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The keys of the groups to return, in order, and the number of other groups."""

    groups: list[GroupKey]
    left_off: int

    def place_of_series(self, data: SeriesData, query: Query) -> Ints:
        """Return the position of each series' group; other series share one after the last."""
        places = {group: place for place, group in enumerate(self.groups)}
        keys = (tuple(map(tags.get, query.group_by)) for tags in data.tags)
        return np.array([places.get(key, len(places)) for key in keys], dtype=np.int64)


def _needs_points(largest: Largest) -> bool:
    return largest.order is not None and percentile_rank(largest.order) is not None


def _choose(data: SeriesData, query: Query, largest: Largest) -> _Chosen:
    """Return the largest groups that have samples in the window."""
    group_of_series, groups = group_series(data.tags, query.group_by)
    order = largest.order or "count"
    columns = aggregate(
        data,
        tuple(dict.fromkeys(("count", order))),
        lambda series, _: group_of_series[series],
        len(groups),
        data.seconds,
    )
    filled = [at for at, count in enumerate(columns["count"]) if count]
    if largest.order is not None:
        sizes = columns[order]
        filled.sort(key=lambda at: math.inf if sizes[at] is None else -sizes[at])
    chosen = filled[: largest.top]
    return _Chosen([groups[at] for at in chosen], len(filled) - len(chosen))


def _columns_of_groups(
    data: SeriesData, query: Query, chosen: _Chosen, intervals: range, width: int
) -> list[Row]:
    count, end = len(chosen.groups), len(chosen.groups) * len(intervals)
    place = chosen.place_of_series(data, query)

    def cell_of(series: Ints, time: Ints) -> Ints:
        cells: Ints = place[series] * len(intervals) + time // width - intervals.start
        return np.where(place[series] < count, cells, end)

    names = tuple(dict.fromkeys(("count", *query.aggregations)))
    found = aggregate(data, names, cell_of, end + 1, width / SECOND)
    groups = []
    for at, group in enumerate(chosen.groups):
        cells = slice(at * len(intervals), (at + 1) * len(intervals))
        counts = found["count"][cells]
        values = {
            name: _rounded(found[name][cells], counts, is_filled=query.fill)
            for name in query.aggregations
        }
        groups.append({"tags": _tags(query.group_by, group), "values": values})
    return groups


def _rounded(column: list[Any], counts: list[int], *, is_filled: bool) -> list[Any]:
    """Return values with six significant digits, as many as a chart can show."""
    return [
        None if value is None or not (is_filled or count) else _six_digits(value)
        for value, count in zip(column, counts, strict=True)
    ]


def _six_digits(value: float) -> float:
    return float(format(value, _DIGITS)) if isinstance(value, float) else value


def _tags(group_by: Sequence[str], group: GroupKey) -> dict[str, str | None]:
    return dict(zip(group_by, group, strict=True))
