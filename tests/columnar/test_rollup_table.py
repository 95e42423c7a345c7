"""Rollup tables: merging, cutting, joining and squeezing rows, compared with simple code."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar import rollup_table, summaries
from redismetrics.columnar.rollup_table import (
    CLUSTERED,
    EXACT,
    UNIFORM,
    GroupedPoints,
    Points,
    Table,
    merge,
    squeeze,
)
from redismetrics.columnar.summaries import Summaries

# Group, value, weight.
Sample = tuple[int, float, int]


def merged(
    samples: Sequence[Sample], groups: int, budget: int, limit: int, exact: Any = None
) -> Table:
    """Return a table of samples with their order as time; slot and series follow from the group."""
    group, weights = (np.array([sample[at] for sample in samples], np.int64) for at in (0, 2))
    values = np.array([sample[1] for sample in samples], np.float64)
    rows = summaries.of_points(values, weights, np.arange(len(samples)))
    exact = np.ones(len(samples), np.bool_) if exact is None else np.array(exact, np.bool_)
    numbers = np.arange(groups)
    return merge_columns(
        group, numbers * 60_000, numbers + 7, rows, group, values, weights, exact, budget, limit
    )


def merge_columns(
    group: Any,
    slot: Any,
    series: Any,
    rows: Summaries,
    point_group: Any,
    values: Any,
    weights: Any,
    exact: Any,
    budget: int,
    limit: int,
) -> Table:
    points = GroupedPoints(point_group, values, weights, exact)
    return merge(slot, series, group, rows, points, budget=budget, limit=limit)


def points_of(table: Table) -> list[list[tuple[float, int]]]:
    """Return the points of each row."""
    assert len(table.points.values) == len(table.points.weights) == table.size.sum()
    ends = np.cumsum(table.size).tolist()
    pairs = list(zip(table.points.values.tolist(), table.points.weights.tolist(), strict=True))
    return [pairs[end - size : end] for end, size in zip(ends, table.size.tolist(), strict=True)]


def assert_same(found: Table, expected: Table) -> None:
    for name in ("slot", "series", "kind", "size"):
        got, given_ = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(got, given_, name)
        assert got.dtype == given_.dtype, name
    for field in fields(Summaries):
        np.testing.assert_array_equal(
            getattr(found.summaries, field.name),
            getattr(expected.summaries, field.name),
            field.name,
        )
    assert points_of(found) == points_of(expected)


VALUES = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)


@st.composite
def crowds(draw: st.DrawFn, most: int = 60) -> list[Sample]:
    """Draw groups with few values, with many different ones, and with one value only."""
    rows = draw(st.integers(1, most))
    value = draw(st.sampled_from([VALUES, st.integers(0, 12).map(float), st.just(2.5)]))
    groups = st.integers(0, 4) if draw(st.booleans()) else st.sampled_from([0, 0, 0, 0, 0, 0, 0, 3])
    return draw(st.lists(st.tuples(groups, value, st.integers(1, 4)), min_size=rows, max_size=rows))


@given(crowds(100), st.integers(2, 30), st.integers(0, 30))
def test_merged_rows_equal_the_oracle(samples: list[Sample], budget: int, more: int) -> None:
    groups = max(group for group, _, _ in samples) + 1
    values: dict[int, Counter[float]] = defaultdict(Counter)
    rows: Counter[int] = Counter()
    for group, value, weight in samples:
        values[group][value] += weight
        rows[group] += 1
    table = merged(samples, groups, budget, budget + more)
    assert table.slot.tolist() == [group * 60_000 for group in range(groups)]
    assert table.series.tolist() == [group + 7 for group in range(groups)]
    for group, points in enumerate(points_of(table)):
        of_group = values[group]
        assert table.summaries.count[group] == of_group.total()
        assert [value for value, _ in points] == sorted(value for value, _ in points)
        if len(of_group) == 1:
            assert (table.kind[group], points) == (UNIFORM, [])
        elif rows[group] <= budget + more or len(of_group) <= budget:
            assert table.kind[group] == (EXACT if of_group else table.kind[group])
            assert points == sorted(of_group.items())
        else:
            assert table.kind[group] == CLUSTERED
            assert 1 <= len(points) <= budget
            assert sum(weight for _, weight in points) == of_group.total()
            assert min(of_group) <= points[0][0] <= points[-1][0] <= max(of_group)
            total = sum(value * weight for value, weight in of_group.items())
            size = sum(abs(value) * weight for value, weight in of_group.items())
            assert sum(mean * weight for mean, weight in points) == pytest.approx(
                total, abs=1e-9 * size
            )


@given(crowds(), st.lists(st.integers(1, 59), max_size=3))
def test_merging_in_steps_equals_merging_at_once(samples: list[Sample], cuts: list[int]) -> None:
    groups = max(group for group, _, _ in samples) + 1
    at_once = merged(samples, groups, 100, 200)
    edges = [0, *sorted(cut for cut in set(cuts) if cut < len(samples)), len(samples)]
    parts = []
    for begin, end in pairwise(edges):
        part = merged(samples[begin:end], groups, 100, 200)
        part.summaries.last_ms += begin
        parts.append(part.take(part.summaries.count > 0))
    table = rollup_table.concat(parts)
    at, values, weights = table.spread()
    group = table.series - 7
    exact = table.kind[at] != CLUSTERED
    numbers = np.arange(groups)
    found = merge_columns(
        group,
        numbers * 60_000,
        numbers + 7,
        table.summaries,
        group[at],
        values,
        weights,
        exact,
        100,
        200,
    )
    assert points_of(found) == points_of(at_once)
    np.testing.assert_array_equal(found.kind, at_once.kind)
    for name in ("count", "low", "high", "last"):
        np.testing.assert_array_equal(
            getattr(found.summaries, name), getattr(at_once.summaries, name), name
        )


def test_row_with_a_centroid_stays_clustered_and_keeps_its_points() -> None:
    samples = [(0, 1.0, 1), (0, 2.5, 4), (0, 2.5, 2), (1, 1.0, 1), (1, 2.0, 1)]
    table = merged(samples, 2, 10, 10, exact=[True, False, True, True, True])
    assert table.kind.tolist() == [CLUSTERED, EXACT]
    assert points_of(table) == [[(1.0, 1), (2.5, 6)], [(1.0, 1), (2.0, 1)]]


def test_few_distinct_values_stay_exact() -> None:
    samples = [(0, float(number % 50), 1) for number in range(500)] + [
        (1, float(number), 1) for number in range(500)
    ]
    table = merged(samples, 2, 50, 60)
    assert table.kind.tolist() == [EXACT, CLUSTERED]
    assert points_of(table)[0] == [(float(number), 10) for number in range(50)]
    assert sum(weight for _, weight in points_of(table)[1]) == 500


def test_values_that_seem_few_at_first_are_clustered() -> None:
    samples = [(0, 1.0, 1)] * 400 + [(0, float(number), 1) for number in range(400)]
    table = merged(samples, 1, 50, 60)
    assert (table.kind.tolist(), table.summaries.count.tolist()) == ([CLUSTERED], [800])
    assert 1 <= int(table.size[0]) <= 50


@pytest.mark.parametrize("largest", [1.7976931348623157e308, 1e300, 5e-320])
@pytest.mark.parametrize("signs", [1, -1, 0], ids=["positive", "negative", "both"])
def test_means_of_extreme_values_stay_within_them(largest: float, signs: int) -> None:
    values = np.random.default_rng(4).uniform(0.7 if signs else -1, 1, 400) * largest * (signs or 1)
    table = merged([(0, value, 1 + at % 7) for at, value in enumerate(values.tolist())], 1, 50, 60)
    # Centroids can be clustered again.
    for _ in range(3):
        means = table.points.values
        assert table.kind.tolist() == [CLUSTERED]
        assert np.isfinite(means).all()
        assert values.min() <= means.min() <= means.max() <= values.max()
        assert len(np.unique(means)) > 20
        assert table.points.weights.sum() == table.summaries.count[0]
        twice = rollup_table.concat([table, table])
        at, points, weights = twice.spread()
        zeros = np.zeros(len(at), np.int64)
        table = merge_columns(
            zeros[:2],
            twice.slot[:1],
            twice.series[:1],
            twice.summaries,
            zeros,
            points,
            weights,
            zeros > 0,
            50,
            60,
        )


@pytest.mark.parametrize("limit", [4, 100], ids=["clustered", "kept"])
def test_infinite_mean_of_a_recorder_is_clamped_to_its_values(limit: int) -> None:
    group = np.zeros(100, np.int64)
    values = np.linspace(1e308, 1.7e308, 100)
    rows = summaries.of_points(values, group + 1, np.arange(100))
    means = np.array([np.nan, 1.2e308, 1.3e308, 1.4e308, 1.5e308, np.inf, -np.inf])
    zeros = group[:7]
    table = merge_columns(
        group, zeros[:1], zeros[:1], rows, zeros, means, zeros + 10, zeros > 0, 4, limit
    )
    assert table.kind.tolist() == [CLUSTERED]
    assert 1e308 <= table.points.values[0] <= table.points.values[-1] <= 1.7e308
    assert table.points.weights.sum() == 70
    # The arguments are not changed.
    assert (np.isinf(means).sum(), np.isnan(means).sum()) == (2, 1)


@pytest.mark.parametrize("groups", [70_000, 60_000])
def test_many_groups_keep_their_points(groups: int) -> None:
    """From 65,536 groups on, another sort is used."""
    numbers = np.tile(np.arange(groups), 2)
    values = np.concatenate([np.arange(groups) * 2.0, np.arange(groups) * 2.0 + 1])
    ones = np.ones(len(values), np.int64)
    order = np.random.default_rng(5).permutation(len(values))
    rows = summaries.of_points(values[order], ones, ones)
    slot = np.arange(groups)
    table = merge_columns(
        numbers[order], slot, slot, rows, numbers[order], values[order], ones, ones > 0, 10, 10
    )
    assert table.points.values.tolist() == list(range(2 * groups))
    assert (table.kind == EXACT).all()
    assert (table.size == 2).all()


@given(crowds(), st.data())
def test_rows_are_taken_with_their_points(samples: list[Sample], draw: st.DataObject) -> None:
    groups = max(group for group, _, _ in samples) + 1
    table = merged(samples, groups, 8, 12)
    every = points_of(table)
    numbers = draw.draw(st.lists(st.integers(0, groups - 1), max_size=6))
    found = table.rows(np.array(numbers, np.intp))
    assert points_of(found) == [every[number] for number in numbers]
    assert found.summaries.count.tolist() == [
        int(table.summaries.count[number]) for number in numbers
    ]
    assert (found.slot.tolist(), found.series.tolist()) == (
        [n * 60_000 for n in numbers],
        [n + 7 for n in numbers],
    )
    keep = np.array(draw.draw(st.lists(st.booleans(), min_size=groups, max_size=groups)))
    taken = table.take(keep)
    assert_same(taken, table.rows(np.flatnonzero(keep)))
    assert_same(taken.take(np.ones(len(taken), np.bool_)), taken)


@given(crowds())
def test_cut_table_joined_again_is_the_same(samples: list[Sample]) -> None:
    table = merged(samples, 5, 8, 12)
    pieces = [table.rows(np.arange(begin, end)) for begin, end in ((0, 2), (2, 2), (2, 5))]
    assert_same(rollup_table.concat(pieces), table)
    assert rollup_table.concat([table]) is table
    assert_same(rollup_table.concat([rollup_table.empty(), table, rollup_table.empty()]), table)
    assert_same(rollup_table.concat([]), rollup_table.empty())


@given(crowds())
def test_spread_returns_every_value_once(samples: list[Sample]) -> None:
    table = merged(samples, 5, 200, 200)
    row, values, weights = table.spread()
    found: Counter[tuple[int, float]] = Counter()
    for group, value, weight in zip(row.tolist(), values.tolist(), weights.tolist(), strict=True):
        found[group, value] += weight
    expected: Counter[tuple[int, float]] = Counter()
    for group, value, weight in samples:
        expected[group, value] += weight
    assert found == expected


def test_points_are_decoded_once_when_used() -> None:
    table = merged([(0, 1.0, 1), (0, 2.0, 1), (1, 3.0, 1), (1, 4.0, 2)], 2, 10, 10)
    points, read = table.points, []

    def reads() -> Points:
        read.append(1)
        return points

    lazy = Table(table.slot, table.series, table.summaries, table.kind, table.size, reads)
    found = rollup_table.concat([lazy.rows(np.array([1])), lazy.take(np.array([True, False]))])
    assert (read, lazy.nbytes > 0, len(found)) == ([], True, 2)
    assert points_of(found) == [[(3.0, 1), (4.0, 2)], [(1.0, 1), (2.0, 1)]]
    assert points_of(lazy) == points_of(table)
    assert read == [1]


@given(crowds(), st.integers(2, 20))
def test_squeezed_rows_keep_their_summary_within_the_budget(
    samples: list[Sample], budget: int
) -> None:
    table = merged(samples, 5, 120, 120)
    table = table.take(table.summaries.count > 0)
    found = squeeze(table, budget)
    assert found.size.max(initial=0) <= budget
    for name in ("slot", "series"):
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name))
    for name in ("count", "total", "low", "high", "last", "last_ms", "m2"):
        np.testing.assert_array_equal(
            getattr(found.summaries, name), getattr(table.summaries, name), name
        )
    for number, (before, after) in enumerate(zip(points_of(table), points_of(found), strict=True)):
        if len(before) <= budget:
            assert (after, found.kind[number]) == (before, table.kind[number])
        else:
            assert sum(weight for _, weight in after) == sum(weight for _, weight in before)
            assert found.kind[number] == CLUSTERED
    assert_same(squeeze(found, budget), found)


def test_table_within_its_budget_is_not_changed() -> None:
    table = merged([(0, 1.0, 1), (0, 2.0, 1)], 1, 10, 10)
    assert squeeze(table, 2) is table
    assert len(squeeze(rollup_table.empty(), 2)) == 0
