"""Samples: compressing keeps the summary, and the rows that must stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar.samples import (
    CENTROID,
    CHANGE,
    OWN_TIME,
    Samples,
    compress,
)
from tests.columnar.sample_columns import NOW_MS, assert_same, columns, whole

MINUTE = 60_000


@st.composite
def crowds(draw: st.DrawFn) -> Samples:
    """Draw many values of few series in few minutes, with distinct times."""
    rows = draw(st.integers(1, 120))
    value = draw(
        st.lists(st.floats(-1e6, 1e6) | st.sampled_from([1.0, 2.0]), min_size=rows, max_size=rows)
    )
    series = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    time = [NOW_MS + offset for offset in draw(st.permutations(range(0, rows * 1500, 1500)))]
    weight = draw(st.lists(st.integers(1, 5), min_size=rows, max_size=rows))
    flags = draw(st.lists(st.sampled_from([0, OWN_TIME]), min_size=rows, max_size=rows))
    metadata = dict.fromkeys(draw(st.sets(st.integers(0, rows - 1), max_size=3)), b"{}")
    return columns(value, series=series, time=time, weight=weight, flags=flags, metadata=metadata)


@pytest.mark.slow
@given(crowds(), st.integers(1, 30), st.integers(1, 30))
def test_compressing_repeatedly_keeps_the_summary(
    samples: Samples, budget: int, second: int
) -> None:
    count, total, m2, low, high, last, last_ms = whole(samples)
    for small in (compress(samples, budget), compress(compress(samples, budget), second)):
        found = whole(small)
        assert found[0] == count
        np.testing.assert_array_equal(found[3:], [low, high, last, last_ms])
        size = float(np.abs(samples.value * samples.weight).sum())
        np.testing.assert_allclose(found[1], total, rtol=0, atol=1e-14 * size)
        np.testing.assert_allclose(
            found[2], m2, rtol=1e-9, atol=1e-12 * float((samples.value**2 * samples.weight).sum())
        )
        assert small.count == samples.count
        assert sorted(small.metadata.values()) == sorted(samples.metadata.values())


@given(crowds(), st.integers(1, 30))
def test_series_minute_keeps_no_more_rows_than_the_budget(samples: Samples, budget: int) -> None:
    small = compress(samples, budget)
    plain = np.ones(len(small), np.bool_)
    plain[list(small.metadata)] = False
    cells = np.stack([small.series, small.time // MINUTE, small.flags & OWN_TIME])[:, plain]
    _, sizes = np.unique(cells, axis=1, return_counts=True)
    if len(samples) > budget:
        assert sizes.max(initial=0) <= budget
    series, counts = np.unique(small.series, return_counts=True)
    # Each row represents as many values as its weight says.
    for number in series[counts > 0]:
        assert (
            small.weight[small.series == number].sum()
            == samples.weight[samples.series == number].sum()
        )


def test_rows_with_metadata_and_changes_are_not_compressed() -> None:
    value = [float(number) for number in range(200)]
    flags = [CHANGE if number == 5 else 0 for number in range(200)]
    small = compress(columns(value, flags=flags, metadata={3: b"{}", 150: b"[]"}), 20)
    assert small.value[list(small.metadata)].tolist() == [3.0, 150.0]
    assert small.value[(small.flags & CHANGE) != 0].tolist() == [5.0]
    assert len(small) <= 20 + 3


def test_rows_with_metadata_only_stay_as_they_are() -> None:
    samples = columns([1.0, 2.0, 3.0], metadata={0: b"1", 1: b"2", 2: b"3"})
    assert_same(compress(samples, 2), samples)


def test_equal_values_become_one_exact_row() -> None:
    small = compress(columns([2.5] * 100, time=[NOW_MS + number for number in range(100)]), 20)
    assert (small.value.tolist(), small.weight.tolist(), small.time.tolist()) == (
        [2.5],
        [100],
        [NOW_MS + 99],
    )
    assert small.flags.tolist() == [0]
    assert len(small.summed) == 0


def test_last_value_of_equal_times_is_the_latest_row() -> None:
    value = [float(number) for number in range(100)]
    small = compress(columns([*value, 7.5]), 20)
    assert small.summaries.last.tolist() == [7.5]
    assert ((small.flags & CENTROID) != 0).all()
