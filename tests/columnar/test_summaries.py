"""Merging summaries, compared with plain Python: any groups, any order, at once or in steps."""

import math
from collections.abc import Sequence
from dataclasses import fields
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar import arrays, summaries
from redismetrics.columnar.arrays import sum_whole
from redismetrics.columnar.summaries import ALL, Summaries, merge

# Group, value, weight, time.
Sample = tuple[int, float, int, int]


def points(samples: Sequence[Sample]) -> tuple[Any, Summaries]:
    columns = [np.array([sample[at] for sample in samples]) for at in range(4)]
    group, weight, time = (columns[at].astype(np.int64) for at in (0, 2, 3))
    return group, summaries.of_points(columns[1].astype(np.float64), weight, time)


def oracle(samples: Sequence[Sample], group: int) -> dict[str, Any]:
    """Compute a summary the simple way: exact fractions, and the last value by a loop."""
    mine = [(value, weight, time) for number, value, weight, time in samples if number == group]
    if not mine:
        return {
            "count": 0,
            "total": 0.0,
            "m2": 0.0,
            "low": math.nan,
            "high": math.nan,
            "last": math.nan,
            "last_ms": 0,
        }
    count = sum(weight for _, weight, _ in mine)
    total = sum(Fraction(value) * weight for value, weight, _ in mine)
    mean = total / count
    m2 = sum((Fraction(value) - mean) ** 2 * weight for value, weight, _ in mine)
    last, last_ms = mine[0][0], mine[0][2]
    for value, _, time in mine[1:]:
        if time >= last_ms:
            last, last_ms = value, time
    return {
        "count": count,
        "total": float(total),
        "m2": float(m2),
        "low": min(value for value, _, _ in mine),
        "high": max(value for value, _, _ in mine),
        "last": last,
        "last_ms": last_ms,
        "size": float(sum(abs(Fraction(value)) * weight for value, weight, _ in mine)),
        "largest": max(abs(value) for value, _, _ in mine),
    }


def assert_as_oracle(found: Summaries, samples: Sequence[Sample], groups: int) -> None:
    for column in fields(Summaries):
        values = getattr(found, column.name)
        whole = column.name in ("count", "last_ms")
        assert (values.shape, values.dtype) == ((groups,), np.int64 if whole else np.float64)
    for group in range(groups):
        expected = oracle(samples, group)
        for name in ("count", "low", "high", "last", "last_ms"):
            # 0.0 equals -0.0.
            np.testing.assert_array_equal(getattr(found, name)[group], expected[name], name)
        size, count = expected.get("size", 0.0), expected["count"]
        assert abs(found.total[group] - expected["total"]) <= 1e-12 * size
        # A mean of floats is off by about 1e-16 of the largest value; so is each distance.
        largest = expected.get("largest", 0.0)
        rounded = (
            1e-300
            + count * (1e-14 * largest) ** 2
            + 1e-13 * largest * math.sqrt(expected["m2"] * count)
        )
        assert abs(found.m2[group] - expected["m2"]) <= 1e-9 * expected["m2"] + rounded


SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float) | st.floats(1e6, 1e6 + 1e-3),
        st.integers(1, 3) | st.just(1) | st.integers(2**52, 2**53),
        st.integers(0, 5) | st.just(0),
    ),
    max_size=40,
)


@given(SAMPLES)
def test_merged_samples_equal_the_oracle(samples: list[Sample]) -> None:
    group, rows = points(samples)
    assert_as_oracle(merge(group, 6, rows), samples, 6)


@given(SAMPLES, st.lists(st.integers(0, 40), max_size=4))
def test_merging_in_any_steps_gives_the_same(samples: list[Sample], cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(samples)), len(samples)]
    merged = [_merged(samples[begin:end]) for begin, end in pairwise(edges)]
    # A table has no empty rows.
    parts = [(np.flatnonzero(part.count), part.take(part.count > 0)) for part in merged]
    found = merge(
        np.concatenate([group for group, _ in parts]),
        6,
        summaries.concat([part for _, part in parts]),
    )
    assert_as_oracle(found, samples, 6)


def _merged(samples: Sequence[Sample]) -> Summaries:
    group, rows = points(samples)
    return merge(group, 6, rows)


@given(SAMPLES, st.randoms())
def test_merging_in_any_order_gives_the_same_but_the_last_of_equal_times(
    samples: list[Sample], order: Any
) -> None:
    samples = [(group, value, weight, at) for at, (group, value, weight, _) in enumerate(samples)]
    shuffled = samples.copy()
    order.shuffle(shuffled)
    group, rows = points(shuffled)
    assert_as_oracle(merge(group, 6, rows), samples, 6)


@given(SAMPLES, st.sets(st.sampled_from(sorted(ALL - {"m2", "last_ms"}))), st.booleans())
def test_only_requested_columns_are_computed(
    samples: list[Sample], names: set[str], m2: bool
) -> None:
    names |= {"count", "total", "m2"} if m2 else set()
    names |= {"last_ms"} if "last" in names else set()
    group, rows = points(samples)
    found, every = merge(group, 6, rows, frozenset(names)), merge(group, 6, rows)
    nothing = merge(group[:0], 6, summaries.empty())
    for column in fields(Summaries):
        expected = every if column.name in names else nothing
        np.testing.assert_array_equal(
            getattr(found, column.name), getattr(expected, column.name), column.name
        )


def test_last_value_of_equal_times_is_the_latest_to_arrive() -> None:
    group, rows = points(
        [(0, 1.0, 1, 7), (1, 2.0, 1, 7), (0, 3.0, 1, 7), (0, 4.0, 1, 6), (1, 5.0, 1, 0)]
    )
    found = merge(group, 2, rows)
    assert (found.last.tolist(), found.last_ms.tolist()) == ([3.0, 2.0], [7, 7])


def test_last_value_at_time_zero() -> None:
    group, rows = points([(0, 1.0, 1, 0), (0, 2.0, 1, 0)])
    assert merge(group, 1, rows).last.tolist() == [2.0]


def test_counts_beyond_exact_floats_are_exact() -> None:
    weights = [2**53, 1, 1, 1, 2**60 + 1, 2**53 + 1]
    group, rows = points([(number % 2, 1.0, weight, 0) for number, weight in enumerate(weights)])
    assert merge(group, 2, rows).count.tolist() == [2**53 + 1 + 2**60 + 1, 1 + 1 + 2**53 + 1]


def test_variance_of_close_values_far_from_zero() -> None:
    samples = [(0, 1e9 + number / 1000, 1, number) for number in range(1000)]
    group, rows = points(samples)
    found = merge(group, 1, rows)
    # The difference of the sums would have no correct digit.
    assert found.m2[0] == pytest.approx(oracle(samples, 0)["m2"], rel=1e-6)
    halves = [
        merge(group[:500], 1, rows.take(np.arange(500))),
        merge(group[500:], 1, rows.take(np.arange(500, 1000))),
    ]
    assert merge(np.zeros(2, np.int64), 1, summaries.concat(halves)).m2[0] == pytest.approx(
        found.m2[0], rel=1e-6
    )


def test_sums_beyond_the_largest_float_are_inf_without_a_warning() -> None:
    group, rows = points(
        [(0, 1.7e308, 3, 0), (1, -1.7e308, 1, 0), (1, -1.7e308, 1, 0), (2, 1.0, 1, 0)]
    )
    found = merge(group, 3, rows)
    assert found.total.tolist() == [math.inf, -math.inf, 1.0]
    assert found.low.tolist() == [1.7e308, -1.7e308, 1.0]
    assert found.count.tolist() == [3, 2, 1]
    assert found.m2[2] == 0.0


def test_merging_no_rows() -> None:
    found = merge(np.zeros(0, np.int64), 2, summaries.empty())
    assert_as_oracle(found, [], 2)
    assert len(merge(np.zeros(0, np.int64), 0, summaries.empty())) == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.integers(0, 3) | st.sampled_from([0, 1, 2**52, 2**53, 2**55 + 1])
        ),
        max_size=30,
    )
)
def test_whole_numbers_are_summed_exactly(rows: list[tuple[int, int]]) -> None:
    expected = [sum(weight for group, weight in rows if group == number) for number in range(5)]
    group, weights = (np.array([row[at] for row in rows], np.int64) for at in range(2))
    found = sum_whole(group, 5, weights)
    assert (found.tolist(), found.dtype) == (expected, np.int64)


def test_the_starts_of_runs() -> None:
    assert arrays.starts(np.array([3, 3, 4, 3, 3, 3])).tolist() == [0, 2, 3]
    assert arrays.starts(np.zeros(0, np.int64)).tolist() == []
