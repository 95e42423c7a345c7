"""Columns in plain Python are those of numpy, byte for byte."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.columnar import column_codec, small_columns
from redismetrics.columnar.column_codec import Reader
from redismetrics.columnar.small_columns import NOT_SMALL
from redismetrics.errors import FormatMismatch

WHOLE = st.lists(
    st.one_of(st.integers(0, 3), st.integers(-70_000, 70_000), st.integers(-(1 << 62), 1 << 62)),
    min_size=1,
    max_size=12,
)
REAL = st.lists(
    st.one_of(
        st.sampled_from([0.0, 1.5, 0.1, -3.0, 2.0**31, 2.0**53, 1e308, 1e-320]),
        st.floats(allow_nan=False),
        st.integers(-70_000, 70_000).map(float),
    ),
    min_size=1,
    max_size=12,
)


@given(WHOLE)
@settings(max_examples=300)
def test_whole_numbers_are_packed_alike(column: list[int]) -> None:
    packed = small_columns.pack_whole(column)
    assert packed == column_codec.pack_whole(np.array(column, np.int64))


@given(REAL)
@settings(max_examples=500)
def test_floats_are_packed_alike(column: list[float]) -> None:
    packed = small_columns.pack_real(column)
    assert packed == column_codec.pack_real(np.array(column))


@pytest.mark.parametrize("dense", [False, True])
@given(WHOLE, REAL)
@settings(max_examples=200)
def test_columns_are_unpacked_alike(dense: bool, whole: list[int], real: list[float]) -> None:
    numbers = column_codec.pack_whole(np.array(whole, np.int64), dense=dense)
    floats = column_codec.pack_real(np.array(real), dense=dense)
    data = b"x" + numbers + floats
    try:
        found, at = small_columns.unpack_whole(data, 1, len(whole))
    except NOT_SMALL:
        assert numbers[0] in (4, 8, 11)
        return
    assert (found, at) == (whole, 1 + len(numbers))
    try:
        values, at = small_columns.unpack_real(data, at, len(real))
    except NOT_SMALL:
        assert floats[0] in (4, 8, 9, 11)
        return
    assert struct.pack(f"<{len(real)}d", *values) == struct.pack(f"<{len(real)}d", *real) or (
        values == real
    )
    assert at == len(data)


@given(st.binary(max_size=40), st.integers(1, 6))
@settings(max_examples=500)
def test_data_rejected_by_numpy_is_not_small(data: bytes, count: int) -> None:
    for unpack, kind in (
        (small_columns.unpack_whole, np.int64),
        (small_columns.unpack_real, float),
    ):
        column: Any = np.empty(count, kind)
        reader = Reader(data, 0, "data")
        try:
            reader.fill(column)
        except (FormatMismatch, OverflowError):
            # The reader of the last column checks that its position is within the data.
            try:
                _, at = unpack(data, 0, count)
            except NOT_SMALL:
                continue
            assert at > len(data)
            continue
        try:
            found, at = unpack(data, 0, count)
        except NOT_SMALL:
            continue
        assert at == reader.at
        if kind is float:
            np.testing.assert_array_equal(np.array(found), column)
        elif all(-(1 << 63) <= each < 1 << 63 for each in found):
            assert found == column.tolist()
