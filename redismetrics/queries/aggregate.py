"""Group rows and aggregate them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.percentiles import percentiles
from redismetrics.errors import TooManyRows

from .context import QueryContext
from .question import GroupKey, Question, percentile_rank
from .selection import SeriesData


def group_rows(tags: list[dict[str, str]], group_by: Sequence[str]) -> tuple[Ints, list[GroupKey]]:
    """The group of each series, and the groups' keys; sorted, a missing tag first."""
    found = [tuple(of_series.get(key) for key in group_by) for of_series in tags]
    ordered = sorted(
        set(found), key=lambda key: [(value is not None, value or "") for value in key]
    )
    numbers = {key: number for number, key in enumerate(ordered)}
    return np.array([numbers[key] for key in found], dtype=np.int64), ordered


_NEEDS = {
    "sum": ("total",), "rate": ("total",), "mean": ("total",), "stddev": ("total", "m2"), "min": ("low",), "max": ("high",),
    "last": ("last",),
}  # fmt: skip


def aggregate(
    found: SeriesData,
    aggregations: Sequence[str],
    group_of: Callable[[Ints, Ints], Ints],
    groups: int,
    seconds: float,
) -> dict[str, list[Any]]:
    """Each aggregation of each group as a list: *group_of* tells the groups from columns of series and time."""
    ranks = {name: rank for name in aggregations if (rank := percentile_rank(name)) is not None}
    needs = {"count", *(need for name in aggregations for need in _NEEDS.get(name, ()))}
    of_parts = [group_of(rows.series, rows.time) for rows in found.parts]
    parts = [(group, rows.summaries) for group, rows in zip(of_parts, found.parts, strict=True)]
    merged = summaries.merge_all(
        parts, groups, frozenset(needs | ({"low", "high"} if ranks else set()))
    )
    quantiles = None
    if ranks:
        runs = found.runs(of_parts, group_of)
        quantiles = percentiles(runs, merged.low, merged.high, np.array(list(ranks.values())))
    counter = found.definition.type == "counter"
    count = np.maximum(merged.count, 1)
    result: dict[str, list[Any]] = {}
    for name in aggregations:
        if name == "count":
            result[name] = merged.count.tolist()
            continue
        if name == "sum":
            result[name] = [_whole(value) if counter else value for value in merged.total.tolist()]
            continue
        if name == "rate":
            result[name] = ((merged.total if counter else merged.count) / seconds).tolist()
            continue
        if name == "mean":
            column = merged.total / count
        elif name == "stddev":
            column = np.sqrt(merged.m2 / count)
        elif name in ("min", "max", "last"):
            column = {"min": merged.low, "max": merged.high, "last": merged.last}[name]
        else:
            assert quantiles is not None, "BUG: a percentile that was not worked out"
            column = quantiles[:, list(ranks).index(name)]
        some = (merged.count > 0).tolist()
        result[name] = [
            value if there else None for value, there in zip(column.tolist(), some, strict=True)
        ]
    return result


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def empty_result(aggregation: str) -> Any:
    """The answer where there are no samples."""
    return 0 if aggregation in ("count", "sum") else 0.0 if aggregation == "rate" else None


def group_results(
    found: SeriesData | None, question: Question, context: QueryContext
) -> tuple[list[GroupKey], dict[str, list[Any]]]:
    """The groups that hold samples, and their aggregations."""
    if found is None or not len(found):
        return [], {name: [] for name in question.aggregations}
    of_series, ordered = group_rows(found.tags, question.group_by)
    result = aggregate(
        found,
        ("count", *question.aggregations),
        lambda series, _: of_series[series],
        len(ordered),
        found.seconds,
    )
    filled = [number for number, count in enumerate(result["count"]) if count]
    check_rows(len(filled), context)
    return [ordered[at] for at in filled], {
        name: [result[name][at] for at in filled] for name in question.aggregations
    }


def check_rows(count: int, context: QueryContext) -> None:
    """Refuse an answer before its rows are made."""
    if context.max_rows is not None and count > context.max_rows:
        raise TooManyRows(
            f"answer: wanted at most {context.max_rows} rows, got {count}: ask a shorter window, a wider interval or fewer groups"
        )


def group_text(group: GroupKey) -> str:
    r"""The values joined by ``/``, in order; inside a value ``/`` is ``\/``, ``\`` is ``\\``. Missing is "", empty is ``\0``."""
    return "/".join(
        "" if value is None else value.replace("\\", "\\\\").replace("/", "\\/") if value else "\\0"
        for value in group
    )
