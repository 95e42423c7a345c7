"""Asking: query, time_series, rollup, get_metrics and what else answers. Decoded to columns, chosen, grouped and merged by numpy.

Each function checks its arguments when called, before anything is read, and returns an operation that `drive.run` drives.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.digest import Digest
from redismetrics.errors import InvalidQuery, UnknownAggregation
from redismetrics.model.sample import Sample
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.store.driver import Operation

from .aggregate import empty_result, group_results, group_rows, group_text
from .context import QueryContext
from .fetch import fetch
from .question import Edges, Question, Row, make_question
from .samples import list_samples
from .selection import SeriesData


def fetch_series(
    context: QueryContext,
    question: Question,
    interval_ms: int | None = None,
    *,
    one_by_one: bool = False,
) -> Operation[tuple[SeriesData | None, Edges]]:
    return fetch(
        context, question.name, question.window, question.tags, interval_ms, one_by_one=one_by_one
    )


def query(
    context: QueryContext,
    name: str,
    *,
    aggregation: str | None = None,
    group_by: str | Iterable[str] = (),
    window: Window = None,
    tags: Tags | None = None,
) -> Operation[Any]:
    """A number; with *group_by* a list of dicts; without *aggregation* a list of `Sample` (grouped: under ``samples``)."""
    taken = ("samples",) if aggregation is None else ()
    question = make_question(
        name, window, tags, group_by, () if aggregation is None else (aggregation,), taken
    )

    def ask() -> Operation[Any]:
        columns, _ = yield from fetch_series(context, question, one_by_one=aggregation is None)
        if aggregation is None:
            found = list_samples(name, columns)
            return _by_group(found, question.group_by) if question.group_by else found
        groups, values = group_results(columns, question, context)
        if not question.group_by:
            return values[aggregation][0] if groups else empty_result(aggregation)
        return [
            {**dict(zip(question.group_by, group, strict=True)), aggregation: value}
            for group, value in zip(groups, values[aggregation], strict=True)
        ]

    return ask()


def _by_group(samples: list[Sample], group_by: Sequence[str]) -> list[Row]:
    of_sample, ordered = group_rows([sample.tags for sample in samples], group_by)
    rows: list[Row] = [
        {**dict(zip(group_by, group, strict=True)), "samples": []} for group in ordered
    ]
    for sample, group in zip(samples, of_sample.tolist(), strict=True):
        rows[group]["samples"].append(sample)
    return rows


def rollup(
    context: QueryContext,
    name: str,
    *,
    group_by: str | Iterable[str] = (),
    aggregations: str | Iterable[str] = ("mean", "count"),
    window: Window = "last_24h",
    tags: Tags | None = None,
    keys: str = "text",
) -> Operation[dict[Any, Row]]:
    """Group -> aggregations; the group as text (see `group_text`) or, with ``keys="tuple"``, as a tuple."""
    question = make_question(name, window, tags, group_by, aggregations)
    if not question.aggregations:
        raise UnknownAggregation("aggregations: wanted at least one, got none")
    if keys not in ("text", "tuple"):
        raise InvalidQuery(f"keys: wanted 'text' or 'tuple', got {keys!r:.80}")

    def ask() -> Operation[dict[Any, Row]]:
        found, _ = yield from fetch_series(context, question)
        groups, values = group_results(found, question, context)
        return {
            group_text(group) if keys == "text" else group: {
                each: values[each][at] for each in question.aggregations
            }
            for at, group in enumerate(groups)
        }

    return ask()


def digest(
    context: QueryContext, name: str, *, window: Window = None, tags: Tags | None = None
) -> Operation[Digest]:
    """The distribution of all values in the window."""
    question = make_question(name, window, tags)

    def ask() -> Operation[Digest]:
        found, _ = yield from fetch_series(context, question)
        if found is None or not len(found):
            return Digest.of([])
        parts = [(np.zeros(len(rows.series), np.int64), rows.summaries) for rows in found.parts]
        whole = summaries.merge_all(parts, 1, frozenset({"low", "high"}))
        points = found.points()
        order = np.argsort(points.value, kind="stable")
        low, high = float(whole.low[0]), float(whole.high[0])
        return Digest(points.value[order], points.weight[order], points.centroid[order], low, high)

    return ask()
