"""Evaluate a query of one metric: a value, rows by group, samples, a rollup or a digest.

Each function returns an operation, which `store.driver.run` or `arun` runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.digest import Digest
from redismetrics.errors import InvalidQuery
from redismetrics.model.sample import Sample
from redismetrics.store.driver import Operation

from .aggregate import Row, aggregate_groups, columns_of, empty_result, group_series, group_text
from .context import QueryContext
from .fetch import fetch
from .query import Query, check_keys
from .samples import list_samples


def evaluate(context: QueryContext, query: Query) -> Operation[Any]:
    """Return the aggregation, rows by group, or without an aggregation the samples.

    The result is a number or None; with *group_by*, a list of dicts of the tags and the
    aggregation. Samples are a list of `Sample`, or, if grouped, a list of dicts of the tags and
    ``samples``.
    """
    if len(query.aggregations) > 1:
        raise InvalidQuery("a query must have at most one aggregation; use rollup() for several")
    return _list_samples(context, query) if not query.aggregations else _aggregate(context, query)


def _aggregate(context: QueryContext, query: Query) -> Operation[Any]:
    (aggregation,) = query.aggregations
    data, _ = yield from fetch(context, query, columns=columns_of(query.aggregations))
    groups, columns = aggregate_groups(data, query, context)
    values = columns[aggregation]
    if not query.group_by:
        return values[0] if groups else empty_result(aggregation)
    return [
        {**dict(zip(query.group_by, group, strict=True)), aggregation: value}
        for group, value in zip(groups, values, strict=True)
    ]


def _list_samples(context: QueryContext, query: Query) -> Operation[list[Any]]:
    data, _ = yield from fetch(context, query, exact=True)
    samples = list_samples(query.name, data)
    return _samples_by_group(samples, query.group_by) if query.group_by else samples


def _samples_by_group(samples: list[Sample], group_by: Sequence[str]) -> list[Row]:
    group_of_sample, groups = group_series([sample.tags for sample in samples], group_by)
    rows: list[Row] = [
        {**dict(zip(group_by, group, strict=True)), "samples": []} for group in groups
    ]
    for sample, group in zip(samples, group_of_sample.tolist(), strict=True):
        rows[group]["samples"].append(sample)
    return rows


def rollup(context: QueryContext, query: Query) -> Operation[dict[Any, Row]]:
    """Return the aggregations by group; the key is a str (see `group_text`) or a tuple."""
    keys = check_keys(query.keys)

    def read() -> Operation[dict[Any, Row]]:
        data, _ = yield from fetch(context, query, columns=columns_of(query.aggregations))
        groups, columns = aggregate_groups(data, query, context)
        return {
            group_text(group) if keys == "text" else group: {
                name: column[at] for name, column in columns.items()
            }
            for at, group in enumerate(groups)
        }

    return read()


def digest(context: QueryContext, query: Query) -> Operation[Digest]:
    """Return the distribution of all values in the window."""
    data, _ = yield from fetch(context, query, points=True)
    if data is None or not len(data):
        return Digest.of([])
    parts = [(np.zeros(len(rows.series), np.int64), rows.summaries) for rows in data.parts]
    total = summaries.merge_all(parts, 1, frozenset({"low", "high"}))
    points = data.points()
    order = np.argsort(points.value, kind="stable")
    low, high = float(total.low[0]), float(total.high[0])
    return Digest(points.value[order], points.weight[order], points.centroid[order], low, high)
