"""Group the series of a result and aggregate each group."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.percentiles import percentiles
from redismetrics.columnar.summaries import Summaries
from redismetrics.errors import TooManyRows

from .arguments import percentile_rank
from .context import QueryContext
from .query import Query
from .selection import SeriesData

Row = dict[str, Any]
GroupKey = tuple[str | None, ...]

# The columns of summaries that each aggregation reads; `count` is always read.
_COLUMNS = {
    "sum": ("total",),
    "rate": ("total",),
    "mean": ("total",),
    "stddev": ("total", "m2"),
    "min": ("low",),
    "max": ("high",),
    "last": ("last", "last_ms"),
}


def columns_of(aggregations: Sequence[str]) -> frozenset[str]:
    """Return the columns of summaries that these aggregations need."""
    columns = {"count", *(column for name in aggregations for column in _COLUMNS.get(name, ()))}
    if any(percentile_rank(name) is not None for name in aggregations):
        columns |= {"low", "high"}
    return frozenset(columns)


def group_series(
    tags: list[dict[str, str]], group_by: Sequence[str]
) -> tuple[Ints, list[GroupKey]]:
    """Return the group number of each series, shape (series,), and the key of each group.

    The keys are sorted, with a missing tag (None) first.
    """
    keys = [tuple(of_series.get(key) for key in group_by) for of_series in tags]
    groups = sorted(set(keys), key=lambda key: [(value is not None, value or "") for value in key])
    numbers = {key: number for number, key in enumerate(groups)}
    return np.array([numbers[key] for key in keys], dtype=np.int64), groups


def aggregate(
    data: SeriesData,
    aggregations: Sequence[str],
    group_of: Callable[[Ints, Ints], Ints],
    groups: int,
    seconds: float,
) -> dict[str, list[Any]]:
    """Return one list per aggregation, with the value of each group.

    *group_of* returns the group numbers for columns of series and time (ms). *seconds* is the
    length of a group's window, for `rate`.
    """
    ranks = {name: rank for name in aggregations if (rank := percentile_rank(name)) is not None}
    columns = columns_of(aggregations)
    group_columns = [group_of(rows.series, rows.time) for rows in data.parts]
    parts = [(group, rows.summaries) for group, rows in zip(group_columns, data.parts, strict=True)]
    merged = summaries.merge_all(parts, groups, columns)
    is_counter = data.definition.type == "counter"
    result: dict[str, list[Any]] = {}
    quantiles: dict[str, Floats] = {}
    if ranks:
        points = data.sorted_points(group_columns, group_of)
        found = percentiles(points, merged.low, merged.high, np.array(list(ranks.values())))
        quantiles = dict(zip(ranks, found.T, strict=True))
    for name in aggregations:
        if name == "count":
            result[name] = merged.count.tolist()
        elif name == "sum":
            totals = merged.total.tolist()
            result[name] = [_as_whole(total) for total in totals] if is_counter else totals
        elif name == "rate":
            result[name] = ((merged.total if is_counter else merged.count) / seconds).tolist()
        else:
            column = quantiles[name] if name in ranks else _column(name, merged)
            result[name] = [
                value if count else None
                for value, count in zip(column.tolist(), merged.count.tolist(), strict=True)
            ]
    return result


def _column(aggregation: str, merged: Summaries) -> Floats:
    """Return an aggregation of each group; its value for a group without samples is undefined."""
    count = np.maximum(merged.count, 1)
    if aggregation == "mean":
        return merged.total / count
    if aggregation == "stddev":
        return np.sqrt(merged.m2 / count)
    return {"min": merged.low, "max": merged.high, "last": merged.last}[aggregation]


def _as_whole(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def empty_result(aggregation: str) -> Any:
    """Return the value of an aggregation of no samples."""
    return 0 if aggregation in ("count", "sum") else 0.0 if aggregation == "rate" else None


def aggregate_groups(
    data: SeriesData | None, query: Query, context: QueryContext
) -> tuple[list[GroupKey], dict[str, list[Any]]]:
    """Return the keys of the groups with samples, and a list of values per aggregation.

    Raises:
        TooManyRows: If there are more groups than the context allows.
    """
    if data is None or not len(data):
        return [], {name: [] for name in query.aggregations}
    group_of_series, groups = group_series(data.tags, query.group_by)
    columns = aggregate(
        data,
        ("count", *query.aggregations),
        lambda series, _: group_of_series[series],
        len(groups),
        data.seconds,
    )
    filled = [number for number, count in enumerate(columns["count"]) if count]
    check_rows(len(filled), context)
    return [groups[at] for at in filled], {
        name: [columns[name][at] for at in filled] for name in query.aggregations
    }


def check_rows(count: int, context: QueryContext) -> None:
    """Raise `TooManyRows` if the context allows fewer rows, before they are created."""
    if context.max_rows is not None and count > context.max_rows:
        raise TooManyRows(
            f"the result must have at most {context.max_rows} rows, got {count}; "
            f"use a shorter window, a longer interval or fewer groups"
        )


def group_text(group: GroupKey) -> str:
    r"""Return the values of a group in order, joined with ``/``.

    Inside a value ``/`` is written ``\/`` and ``\`` is written ``\\``. A missing tag is written as
    nothing, an empty value as ``\0``.
    """
    return "/".join(
        "" if value is None else value.replace("\\", "\\\\").replace("/", "\\/") if value else "\\0"
        for value in group
    )
