"""Heat maps: how the values of a metric are distributed over buckets, by interval."""

import math
from typing import Any

import numpy as np

from redismetrics.columnar import arrays, summaries
from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.percentiles import SortedPoints
from redismetrics.errors import TooManyRows
from redismetrics.model.time import SECOND, to_datetime
from redismetrics.store.driver import Operation

from .arguments import check_count
from .context import QueryContext
from .fetch import fetch
from .query import Query
from .selection import SeriesData
from .time_series import intervals_of

MIN_BUCKETS, MAX_BUCKETS = 4, 200
DEFAULT_BUCKETS = 44

# Buckets grow by 2 ** (2 ** -k): by 2 % at the finest; at the coarsest, three of them cover all
# numbers.
_FINEST, _COARSEST = 5, -10
_LARGEST = float(np.finfo(np.float64).max)
_DIGITS = ".6g"


def heat_map(
    context: QueryContext, query: Query, buckets: int = DEFAULT_BUCKETS
) -> Operation[dict[str, Any]]:
    """Return the number of samples by interval and value bucket.

    The result has `times` (the start of each interval of the window), `interval` (seconds), `edges`
    (of the buckets, ascending, the same for all intervals; empty without samples) and `counts` (a
    list per interval, with the number of samples in each bucket). A bucket includes its lower edge;
    the last one also includes its upper edge. There are at most *buckets* buckets.

    Raises:
        InvalidQuery: If *buckets* is out of range.
        OutsideRetention: If the interval is finer than what the window still holds.
        TooManyRows: If there are more intervals times buckets than the context allows rows.
    """
    check_count("buckets", buckets, MIN_BUCKETS, MAX_BUCKETS)
    width = query.interval_ms
    assert width is not None, "BUG: a heat map without an interval"

    def read() -> Operation[dict[str, Any]]:
        data, window = yield from fetch(context, query, points=True)
        if data is None or not len(data):
            span, edges = intervals_of(window, None, width), np.zeros(0)
            counts = np.zeros((len(span), 0), np.int64)
        else:
            span = intervals_of(data.edges, data.filled(width), width)
            _check_cells(len(span) * buckets, context)
            edges, counts = _count(data, span, width, buckets)
        return {
            "times": [to_datetime(start * width) for start in span],
            "interval": width // SECOND,
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        }

    return read()


def _check_cells(cells: int, context: QueryContext) -> None:
    if context.max_rows is not None and cells > context.max_rows:
        raise TooManyRows(
            f"the heat map must have at most {context.max_rows} cells, got {cells}; "
            f"use a shorter window, a longer interval or fewer buckets"
        )


def _count(data: SeriesData, span: range, width: int, buckets: int) -> tuple[Floats, Ints]:
    """Return the edges of the buckets, and their counts, shape (intervals, buckets)."""

    def interval_of(_: Ints, time: Ints) -> Ints:
        return np.clip(time // width - span.start, 0, len(span) - 1)

    groups = [interval_of(rows.series, rows.time) for rows in data.parts]
    points = [each for each in data.sorted_points(groups, interval_of) if len(each.values)]
    extremes = [(np.zeros(len(rows.series), np.int64), rows.summaries) for rows in data.parts]
    total = summaries.merge_all(extremes, 1, frozenset({"low", "high"}))
    low, high = float(total.low[0]), float(total.high[0])
    edges = bucket_edges(low, high, _least_positive(points, high), buckets)
    count = len(edges) - 1
    counts = np.zeros(len(span) * count, np.int64)
    for part in points:
        interval = np.repeat(part.group, part.sizes)
        bucket = np.searchsorted(edges, part.values, side="right") - 1
        cell = interval * count + np.clip(bucket, 0, count - 1)
        counts += arrays.sum_whole(cell, len(counts), part.weights)
    return edges, counts.reshape(len(span), count)


def _least_positive(points: list[SortedPoints], high: float) -> float:
    least = (float(each.values.min(initial=high, where=each.values > 0)) for each in points)
    return min(least, default=high)


def bucket_edges(low: float, high: float, least_positive: float, buckets: int) -> Floats:
    """Return the edges of at most *buckets* buckets that cover all values from *low* to *high*.

    They grow by a constant factor, so that each has the same relative error; zeros get a separate
    bucket. If there are negative values, all buckets have the same width. The edges are powers or
    multiples of round numbers, so that they are stable under small changes of the values.
    """
    if low < 0:
        edges = _even_edges(low, high, buckets)
    elif high == 0:
        edges = np.array([0.0, 1.0])
    elif low == 0:
        edges = np.append(0.0, _growing_edges(least_positive, high, buckets - 1))
    else:
        edges = _growing_edges(low, high, buckets)
    rounded: Floats = np.array([float(format(edge, _DIGITS)) for edge in edges.tolist()])
    rounded[0], rounded[-1] = min(rounded[0], low), max(rounded[-1], high)
    # Only once: several may overflow.
    return np.unique(np.clip(rounded, -_LARGEST, _LARGEST)).astype(np.float64)


def _growing_edges(low: float, high: float, buckets: int) -> Floats:
    for k in range(_FINEST, _COARSEST - 1, -1):
        first, last = (math.floor(math.log2(value) * 2.0**k) for value in (low, high))
        if last - first < buckets:
            break
    powers = np.arange(first, last + 2) / 2.0**k
    # Beyond the largest float, and below the smallest.
    with np.errstate(over="ignore", under="ignore"):
        edges: Floats = np.exp2(powers)
    return edges


def _even_edges(low: float, high: float, buckets: int) -> Floats:
    # Divided first, because the difference may overflow.
    step = max(high / buckets - low / buckets, -low * 1e-4, high * 1e-4, 1e-300)
    size = 10.0 ** math.floor(math.log10(step))
    for factor in (1, 2, 5, 10, 20):
        width = size * factor
        first, last = math.floor(low / width), math.floor(high / width)
        if last - first < buckets:
            break
    with np.errstate(over="ignore"):
        return np.arange(first, last + 2).astype(np.float64) * width
