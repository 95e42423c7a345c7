"""Means of centroids as steps: how accurately they are restored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar.rollup_codec import pack_table, unpack_table
from redismetrics.columnar.rollup_table import CLUSTERED
from tests.columnar.rollups import MAX, NUMBERS, Row, assert_back, table_of


@given(st.lists(NUMBERS, min_size=2, max_size=40, unique=True), NUMBERS, NUMBERS)
def test_means_are_near_for_any_extremes(values: list[float], one: float, other: float) -> None:
    low, high = min(*values, one, other), max(*values, one, other)
    assert_back(table_of([(CLUSTERED, [(value, 1) for value in sorted(values)])], [(low, high)]))


@pytest.mark.parametrize(
    "values",
    [
        [-MAX, -MAX / 2, 0.0, MAX / 4, MAX],
        [0.0, 5e-324],
        [-5e-324, 0.0, 5e-324],
        [1e-320, 2e-320, 3e-320],
        [1e15, 1e15 + 0.125, 1e15 + 0.25],
        [-0.0, 1.0, 2.0],
        [MAX * 0.9, MAX * 0.95, MAX],
        [-MAX, MAX],
        [0.0, 1e-300, 1e300],
    ],
)
@pytest.mark.parametrize("other", [None, 0.0], ids=["alone", "beside another scale"])
def test_means_are_near_at_every_scale(values: list[float], other: float | None) -> None:
    beside: list[Row] = (
        [] if other is None else [(CLUSTERED, [(float(number), 1) for number in range(50)])]
    )
    assert_back(table_of([(CLUSTERED, [(value, 2) for value in values]), *beside]))


def test_close_means_after_a_wide_gap_stay_apart() -> None:
    """Requests that take a millisecond or time out look like this."""
    close = [30_000.0 + number / 10 for number in range(50)]
    table = table_of([(CLUSTERED, [(value, 3) for value in [0.5, 1.0, 1.5, *close]])])
    found = assert_back(table).points.values
    assert len(np.unique(found)) == 53
    np.testing.assert_allclose(found[5:], close[2:], atol=0.02)


@given(st.lists(st.floats(-1e-3, 1e3), min_size=2, max_size=60, unique=True), st.floats(0, 1e-9))
def test_unsorted_or_outside_means_come_back_sorted_and_inside(
    values: list[float], beyond: float
) -> None:
    """Clustering rounds means, so their last bit may be off."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    points = [
        (ordered[0] - beyond, 1),
        *((value, 1) for value in ordered),
        (ordered[-1] + beyond, 1),
        (ordered[-1], 2),
    ]
    found = unpack_table(pack_table(table_of([(CLUSTERED, points)], [(low, high)]))).points.values
    assert low <= found[0] <= found[-1] <= high
    assert (np.diff(found) >= 0).all()
