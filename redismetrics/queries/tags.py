"""The tags of a metric, and how its samples are distributed over their values."""

from typing import Any

import numpy as np

from redismetrics.columnar import arrays
from redismetrics.columnar.arrays import Ints
from redismetrics.model.label_sets import LABELS_TAG
from redismetrics.model.validation import OVERFLOW_TAGS
from redismetrics.store.driver import Operation

from .aggregate import Row
from .context import QueryContext
from .fetch import fetch
from .query import Query


def tags(context: QueryContext, query: Query, keys: tuple[str, ...], limit: int) -> Operation[Row]:
    """Return the tags of the series with samples in the window, and their most frequent values.

    Returns only the tags in *keys*, or all if there are none. Each tag has its `key`, `count` (the
    number of its values), and `values`: at most *limit* of `value` (None: series without the tag),
    `samples`, and `share` of all samples, the most frequent first.
    """
    data, _ = yield from fetch(context, query)
    if data is None or not len(data):
        return {"tags": [], "samples": 0}
    counts = np.zeros(len(data.tags), np.int64)
    for rows in data.parts:
        counts += arrays.sum_whole(rows.series, len(counts), rows.summaries.count)
    recorded = [data.tags[at] for at in np.flatnonzero(counts).tolist()]
    counts = counts[counts > 0]
    hidden = {LABELS_TAG, *OVERFLOW_TAGS}
    found = sorted({key for of_series in recorded for key in of_series} - hidden)
    rows_by_key = [
        _spread(key, recorded, counts, limit) for key in found if not keys or key in keys
    ]
    return {"tags": rows_by_key, "samples": int(counts.sum())}


def _spread(key: str, series: list[dict[str, str]], counts: Ints, limit: int) -> dict[str, Any]:
    """Return how the samples of *series* are distributed over the values of one tag."""
    by_value: dict[str | None, int] = {}
    for of_series, count in zip(series, counts.tolist(), strict=True):
        value = of_series.get(key)
        by_value[value] = by_value.get(value, 0) + count
    total = sum(by_value.values())
    ordered = sorted(by_value.items(), key=lambda each: (-each[1], each[0] or ""))
    return {
        "key": key,
        "count": len(by_value) - (None in by_value),
        "values": [
            {"value": value, "samples": count, "share": count / total}
            for value, count in ordered[:limit]
        ],
    }
