"""Numpy helpers, compared with plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar.arrays import numbered, ragged


@given(
    st.lists(
        st.integers(0, 200) | st.integers(10**6, 10**6 + 3) | st.integers(0, 2**61), max_size=60
    )
)
def test_numbered_positions_are_in_order(keys: list[int]) -> None:
    distinct, positions = numbered(np.array(keys, np.int64))
    assert distinct.tolist() == sorted(set(keys))
    assert [distinct.tolist()[position] for position in positions.tolist()] == keys


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=20))
def test_ragged_equals_python_ranges(runs: list[tuple[int, int]]) -> None:
    starts, sizes = (np.array([run[at] for run in runs], np.int64) for at in range(2))
    assert ragged(starts, sizes).tolist() == [
        start + step for start, size in runs for step in range(size)
    ]
