"""What a batch adds to the totals of its series, against a plain loop over its rows."""

from bisect import bisect_left
from collections import Counter as Tally
from dataclasses import replace
from itertools import pairwise
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st

from redismetrics.columnar.arrays import LARGEST
from redismetrics.columnar.samples import CHANGE, OWN_TIME, Samples, compress
from redismetrics.model.definition import define
from redismetrics.recording import bucket_counts, totals_changes
from redismetrics.recording.batch import MetricBatch, changes_of, finish, merge, split
from redismetrics.recording.encode import encode
from redismetrics.recording.known_series import KnownSeries
from tests.columnar.sample_columns import columns

SERIES = 6
BOUNDS = (-1.0, 0.0, 2.5, 10.0)
# Whole numbers and halves, whose sums are exact in any order, bounds among them.
HALVES = st.just(-0.0) | st.integers(-8, 30).map(lambda half: half / 2)
Row = tuple[int, int, float, int, int]


def rows(value: st.SearchStrategy[float], flags: st.SearchStrategy[int]) -> Any:
    """Return a strategy of rows: series, time, value, weight, flags."""
    times = st.integers(1_000, 200_000)
    row = st.tuples(st.integers(0, SERIES - 1), times, value, st.integers(1, 5), flags)
    one_each = st.tuples(*[st.tuples(value, flags)] * SERIES).map(
        lambda pairs: [(at, 5_000 + at, each, 1, flag) for at, (each, flag) in enumerate(pairs)]
    )
    return st.lists(row, min_size=1, max_size=40) | one_each


def samples_of(found: list[Row]) -> Samples:
    series, time, value, weight, flags = map(list, zip(*found, strict=True))
    return columns(value, series=series, time=time, weight=weight, flags=flags)


def batch_of(kind: Any, samples: Samples, budget: int = 100) -> MetricBatch:
    definition = define("metric", kind)
    if kind == "histogram":
        definition = replace(definition, buckets=BOUNDS)
    canonicals = [b"%d" % number for number in range(SERIES)]
    return finish(MetricBatch("metric", definition, True, canonicals, samples, budget))


@hypothesis.given(rows(HALVES, st.just(0)))
def test_counters_add_up(found: list[Row]) -> None:
    changes = totals_changes.of_counter(samples_of(found), SERIES)
    expected = [0.0] * SERIES
    for series, _, value, weight, _ in found:
        expected[series] += value * weight
    assert list(map(repr, changes.amount.tolist())) == list(map(repr, expected))


def test_sums_end_at_the_largest_float() -> None:
    for found in ([1e308, -1e308], [1e308, -1e308, 1.0, 1.0]):
        series = [0, 1, 0, 0][: len(found)]
        samples = columns(found, series=series, weight=[3, 3, 1, 1][: len(found)])
        assert totals_changes.of_counter(samples, 2).amount.tolist() == [LARGEST, -LARGEST]


@hypothesis.given(rows(HALVES, st.just(0)))
def test_histograms_count_each_bucket(found: list[Row]) -> None:
    samples = samples_of(found)
    counted = bucket_counts.count(samples, BOUNDS)
    changes = totals_changes.of_histogram(samples, SERIES, counted)
    count, total, cells = [0] * SERIES, [0.0] * SERIES, Tally[tuple[int, int]]()
    for series, _, value, weight, _ in found:
        count[series] += weight
        total[series] += value * weight
        bucket = bisect_left(BOUNDS, value)
        if bucket < len(BOUNDS):
            cells[series, bucket] += weight
    assert (changes.count.tolist(), changes.total.tolist()) == (count, total)
    assert cells_of(changes.buckets) == sorted(cells.items())


def cells_of(counts: bucket_counts.BucketCounts) -> list[Any]:
    table = counts.series.tolist(), counts.bucket.tolist(), counts.count.tolist()
    return [((series, bucket), count) for series, bucket, count in zip(*table, strict=True)]


@hypothesis.given(rows(HALVES, st.just(0)), rows(HALVES, st.just(0)))
def test_buckets_of_merged_batches_add_up(one: list[Row], other: list[Row]) -> None:
    several = [batch_of("histogram", samples_of(found)) for found in (one, other)]
    several[1].canonicals.reverse()
    found = merge(several)
    assert found.canonicals == several[0].canonicals
    turned = [(SERIES - 1 - series, *rest) for series, *rest in other]
    expected = bucket_counts.count(samples_of([*one, *turned]), BOUNDS)  # type: ignore[list-item]
    assert found.buckets is not None
    assert cells_of(found.buckets) == cells_of(expected)


@hypothesis.given(rows(HALVES, st.sampled_from([0, 0, OWN_TIME])), st.sets(st.integers(0, 5)))
def test_gauges_keep_the_newest_value(found: list[Row], changed: set[int]) -> None:
    # One change of some series, as after `merge_gauge_changes`.
    found += [(series, 300_000 + series, 0.5, 1, CHANGE) for series in sorted(changed)]
    changes = totals_changes.of_gauge(samples_of(found), SERIES)
    expected = []
    for number in range(SERIES):
        sets = [row for row in found if row[0] == number and row[4] != CHANGE]
        newest = max((row[1] for row in sets), default=0)
        value = next((row[2] for row in reversed(sets) if row[1] == newest), 0.0)
        own = max((row[1] for row in sets if row[4]), default=-1)
        recorded = max((row[1] for row in sets if not row[4]), default=-1)
        code = (number in changed) + 2 * bool(sets) + 4 * (own > recorded)
        change = (300_000 + number, 0.5) if number in changed else (0, 0.0)
        expected.append((code, newest, value, *change))
    table = (
        changes.code.tolist(),
        changes.time.tolist(),
        changes.value.tolist(),
        changes.change_time.tolist(),
        changes.change.tolist(),
    )
    assert list(zip(*table, strict=True)) == expected


@hypothesis.given(
    st.sampled_from(["counter", "gauge", "histogram"]),
    rows(st.floats(0, 1.7e308) | HALVES.map(abs), st.sampled_from([0, 0, 0, OWN_TIME, CHANGE])),
    st.integers(1, SERIES),
    st.integers(1, SERIES),
    st.sampled_from([3, 100]),
    st.booleans(),
)
def test_parts_of_a_split_batch_are_encoded_as_if_they_had_come_alone(
    kind: str, found: list[Row], first: int, then: int, budget: int, with_metadata: bool
) -> None:
    samples = samples_of(found)
    if kind != "gauge":
        samples.flags &= np.uint8(OWN_TIME)
    if with_metadata:
        samples.metadata = {len(found) // 2: b"{}"}
    whole = batch_of(kind, samples, budget)
    parts = split(whole, first, then)
    edges = [0, *range(first, SERIES, then), SERIES]
    assert [len(part.canonicals) for part in parts] == [
        end - begin for begin, end in pairwise(edges)
    ]
    for part, (begin, end) in zip(parts, pairwise(edges), strict=True):
        rows_in = (whole.samples.series >= begin) & (whole.samples.series < end)
        summed_in = (whole.samples.summed >= begin) & (whole.samples.summed < end)
        if not rows_in.any():
            assert not len(part.samples)
            continue
        alone = whole.samples.take(rows_in, summed_in)
        alone.series, alone.summed = alone.series - begin, alone.summed - begin
        order = np.arange(len(alone))
        if len(parts) > 1:
            order = np.argsort(alone.series, kind="stable")
        assert part.samples.value.tolist() == alone.value[order].tolist()
        assert part.samples.time.tolist() == alone.time[order].tolist()
        assert part.samples.count == alone.count
        assert len(part.samples.metadata) == len(alone.metadata)
        # A copy does not know the changes, so that they are worked out from its own samples.
        assert encode(part, KnownSeries()) == encode(replace(part), KnownSeries())


def test_a_changed_batch_recomputes_its_changes() -> None:
    whole = batch_of("counter", columns([1.0, 2.0], series=[0, 1]))
    part = split(whole, 1, 10)[0]
    changed = replace(part, samples=replace(part.samples, value=part.samples.value * 3))
    expected = changes_of(changed, changed.samples)
    assert isinstance(expected, totals_changes.CounterChanges)
    assert expected.amount.tolist() == [3.0]
    assert changed.changes is None


@hypothesis.given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 8))
def test_few_rows_of_each_series_are_not_compressed(series: list[int], budget: int) -> None:
    samples = columns([float(at) for at in range(len(series))], series=series)
    small = compress(samples, budget)
    crowded = [number for number in range(5) if series.count(number) > budget]
    assert (small is samples) == (not crowded)
    for number in range(5):
        rows_left = int((small.series == number).sum())
        assert rows_left <= budget if number in crowded else rows_left == series.count(number)
