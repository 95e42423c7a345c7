"""How a batch changes the totals of its series, as columns with one row per series."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Floats, Ints, is_zero, saturated
from redismetrics.columnar.samples import CHANGE, OWN_TIME, Samples, summarise
from redismetrics.columnar.small_totals import CHANGES_SHARED, HAS_OWN_TIME, SETS

from .bucket_counts import BucketCounts


@dataclass(slots=True, eq=False)
class CounterChanges:
    """Changes of a counter.

    Attributes:
        amount: The sum of the increments, shape (series,).
    """

    amount: Floats

    def split(self, edges: list[int]) -> list["CounterChanges"]:
        return [CounterChanges(self.amount[begin:end]) for begin, end in pairwise(edges)]


@dataclass(slots=True, eq=False)
class GaugeChanges:
    """Changes of a gauge; all columns have shape (series,).

    Attributes:
        code: The sum of CHANGES_SHARED (the shared value was changed before the first set), SETS (a
            value was set) and HAS_OWN_TIME (the caller gave the time of the newest value).
        time: Time in ms of the newest value that was set, or 0.
        value: The newest value that was set, or 0.
        change_time: Time in ms of the change, or 0.
        change: The change of the shared value, or 0.
    """

    code: NDArray[np.uint8]
    time: Ints
    value: Floats
    change_time: Ints
    change: Floats

    def split(self, edges: list[int]) -> list["GaugeChanges"]:
        return [
            GaugeChanges(
                self.code[begin:end],
                self.time[begin:end],
                self.value[begin:end],
                self.change_time[begin:end],
                self.change[begin:end],
            )
            for begin, end in pairwise(edges)
        ]


@dataclass(slots=True, eq=False)
class HistogramChanges:
    """Changes of a histogram.

    Attributes:
        count: Number of values, shape (series,).
        total: Their sum, shape (series,).
        buckets: The number of values in each bucket.
    """

    count: Ints
    total: Floats
    buckets: BucketCounts

    def split(self, edges: list[int]) -> list["HistogramChanges"]:
        return [
            HistogramChanges(self.count[begin:end], self.total[begin:end], buckets)
            for (begin, end), buckets in zip(
                pairwise(edges), self.buckets.split(edges), strict=True
            )
        ]


@dataclass(slots=True, eq=False)
class SummaryChanges:
    """Changes of a summary.

    Attributes:
        count: Number of values, shape (series,).
        total: Their sum, shape (series,).
    """

    count: Ints
    total: Floats

    def split(self, edges: list[int]) -> list["SummaryChanges"]:
        return [
            SummaryChanges(self.count[begin:end], self.total[begin:end])
            for begin, end in pairwise(edges)
        ]


Changes = CounterChanges | GaugeChanges | HistogramChanges | SummaryChanges


def of_counter(samples: Samples, series: int) -> CounterChanges:
    """Return the changes of a counter with this number of *series*."""
    return CounterChanges(_sums(samples, series)[1])


def of_histogram(samples: Samples, series: int, buckets: BucketCounts) -> HistogramChanges:
    """Return the changes of a histogram with this number of *series*."""
    return HistogramChanges(*_sums(samples, series), buckets)


def of_summary(samples: Samples, series: int) -> SummaryChanges:
    """Return the changes of a summary with this number of *series*."""
    return SummaryChanges(*_sums(samples, series))


def _sums(samples: Samples, series: int) -> tuple[Ints, Floats]:
    """Return the number of values of each series and their sum, capped at the largest float."""
    if _has_one_row_each(samples, series):
        with np.errstate(over="ignore"):
            # 0 is added because a sum is never -0.
            return samples.weight, saturated(samples.value * samples.weight + 0.0)
    group, rows = summarise(samples)
    whole = summaries.merge(group, series, rows, frozenset({"count", "total"}))
    return whole.count, saturated(whole.total)


def _has_one_row_each(samples: Samples, series: int) -> bool:
    """Return whether row i is the only row of series i, so that there is nothing to merge."""
    return (
        len(samples) == series
        and not len(samples.summed)
        and np.count_nonzero(samples.series == np.arange(series)) == series
    )


def of_gauge(samples: Samples, series: int) -> GaugeChanges:
    """Return the changes of a gauge with this number of *series*."""
    change, change_ms = np.zeros(series), np.zeros(series, np.int64)
    if is_zero(samples.flags) and _has_one_row_each(samples, series):
        code = np.full(series, SETS, np.uint8)
        return GaugeChanges(code, samples.time, samples.value, change_ms, change)
    changed = (samples.flags & CHANGE) != 0
    sets = samples
    code = np.zeros(series, np.uint8)
    if changed.any():
        where = samples.series[changed]
        change[where], change_ms[where] = samples.value[changed], samples.time[changed]
        code[where] = CHANGES_SHARED
        sets = samples.take(~changed, np.ones(len(samples.summed), np.bool_))
    group, rows = summarise(sets)
    whole = summaries.merge(group, series, rows, frozenset({"count", "last"}))
    has_set = whole.count > 0
    newest_own, newest = np.full(series, -1), np.full(series, -1)
    own = (sets.flags & OWN_TIME) != 0
    np.maximum.at(newest_own, sets.series[own], sets.time[own])
    np.maximum.at(newest, sets.series[~own], sets.time[~own])
    code[has_set] += np.uint8(SETS)
    code[newest_own > newest] += np.uint8(HAS_OWN_TIME)
    return GaugeChanges(code, whole.last_ms, np.where(has_set, whole.last, 0.0), change_ms, change)
