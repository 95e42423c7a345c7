"""Histograms as counters: `_bucket`, `_sum` and `_count`."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Table
from redismetrics.columnar.samples import CENTROID, Samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.exposition.number_format import format_bound
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import ComputedSeries, SampledSeries
from redismetrics.queries.slots import SeriesSlots

from .chosen import BUCKET_LABEL, named
from .counters import CounterMath, current_totals
from .page import Form


def histogram_counters(
    math: CounterMath, name: str, form: Form, matchers: Sequence[Matcher]
) -> Iterator[ComputedSeries | SampledSeries]:
    """Yield the series of one *form* of a histogram; for buckets, one part per bound."""
    slots, summaries = math.slots, [rows.summaries for rows in math.rows]
    labels = named(slots.series, name)
    if form == "count":
        current = current_totals(slots, slice(1, 2))
        yield math.values(labels, _counts(summaries), current)
    elif form == "sum":
        current = current_totals(slots, slice(2, 4))
        yield math.values(labels, [each.total for each in summaries], current)
    else:
        bounds = slots.definition.buckets
        texts = [*map(format_bound, bounds), "+Inf"]
        conditions = [each for each in matchers if each.name == BUCKET_LABEL]
        for each in conditions:
            chosen = each.select(texts)
            texts = [text for text in texts if text in chosen]
        for number, text in enumerate([*map(format_bound, bounds), "+Inf"]):
            if text not in texts:
                continue
            if number == len(bounds):
                amounts, below = _counts(summaries), slice(1, 2)
            else:
                amounts = counts_below(slots, bounds[number])
                below = slice(4, 5 + number)
            of_bucket = [{**each, BUCKET_LABEL: text} for each in labels]
            yield math.values(of_bucket, amounts, current_totals(slots, below))


def _counts(summaries: Iterable[Summaries]) -> list[Floats]:
    return [each.count.astype(np.float64) for each in summaries]


def counts_below(slots: SeriesSlots, bound: float) -> list[Floats]:
    """Return the number of values up to *bound* in each row of `increments`, part by part."""
    return [
        *(_below_in_table(table, bound) for table, _ in slots.tables),
        _below_in_samples(slots.samples, bound),
    ]


def _below_in_table(table: Table, bound: float) -> Floats:
    """Return the counts of each row, interpolated between two centroids."""
    summaries = table.summaries
    low, high, count = summaries.low, summaries.high, summaries.count
    found = np.where(low <= bound, count, 0).astype(np.float64)
    # The rows whose values are on both sides of the bound.
    open_rows = np.flatnonzero((low <= bound) & (high > bound) & (table.kind != UNIFORM))
    if not len(open_rows):
        return found
    part = table.rows(open_rows)
    values, weights, size = part.points.values, part.points.weights, part.size
    begin = np.cumsum(size) - size
    is_below = values <= bound
    below = np.add.reduceat(np.where(is_below, weights, 0), begin)
    counts = below.astype(np.float64)
    clustered = np.flatnonzero(part.kind == CLUSTERED)
    if len(clustered):
        number = np.add.reduceat(is_below.astype(np.int64), begin)
        counts[clustered] = _between_centroids(
            bound,
            (values, weights),
            (begin[clustered], size[clustered], number[clustered]),
            (below[clustered], low[open_rows][clustered], high[open_rows][clustered]),
        )
    found[open_rows] = np.rint(counts)
    return found


def _between_centroids(
    bound: float,
    points: tuple[Floats, Ints],
    rows: tuple[Ints, Ints, Ints],
    known: tuple[Ints, Floats, Floats],
) -> Floats:
    """Return the number of values up to *bound* in rows of centroids.

    Half of a centroid's values are assumed below its mean, and values are spread evenly between two
    means.
    """
    values, weights = points
    begin, size, number = rows
    below, low, high = known
    last = len(values) - 1
    left, right = np.minimum(begin + number - 1, last), np.minimum(begin + number, last)
    has_left, has_right = number > 0, number < size
    w0, w1 = np.where(has_left, weights[left], 0), np.where(has_right, weights[right], 0)
    x0 = np.where(has_left, values[left], low)
    x1 = np.where(has_right, values[right], high)
    y0 = below - np.where(w0 > 1, w0 / 2, 0)
    y1 = below + np.where(w1 > 1, w1 / 2, 0)
    reach = x1 - x0
    share = np.where(reach > 0, (bound - x0) / np.where(reach > 0, reach, 1.0), 1.0)
    found: Floats = y0 + np.clip(share, 0.0, 1.0) * (y1 - y0)
    return found


def _below_in_samples(samples: Samples, bound: float) -> Floats:
    """Return the counts of each row of `summarise`: exact samples, then summaries of centroids."""
    centroid = (samples.flags & CENTROID) != 0
    exact = ~centroid
    of_samples = np.where(samples.value[exact] <= bound, samples.weight[exact], 0)
    if not len(samples.summed):
        return of_samples.astype(np.float64)
    # A summary has the series and time of its centroids.
    width = int(max(samples.series.max(initial=0), samples.summed.max(initial=0))) + 1
    keys = samples.summaries.last_ms * width + samples.summed
    order = np.argsort(keys, kind="stable")
    key = samples.time[centroid] * width + samples.series[centroid]
    at = order[np.minimum(np.searchsorted(keys[order], key), len(order) - 1)]
    weights = np.where(samples.value[centroid] <= bound, samples.weight[centroid], 0)
    of_summaries = np.bincount(at, weights, len(keys))
    return np.concatenate([of_samples, of_summaries]).astype(np.float64)
