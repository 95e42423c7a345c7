"""Exact samples as bytes."""

import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar.column_codec import pack_real, pack_whole
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from tests.columnar.rollups import (
    ANY,
    MAX_TIME_MS,
    MINUTE,
    NOW,
    NUMBERS,
    WEIGHTS,
    Sample,
    damaged,
    read_samples,
    samples_of,
)

SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 300) | st.just(3),
        st.integers(NOW, NOW + MINUTE - 1) | st.integers(0, MAX_TIME_MS - 1),
        ANY | NUMBERS,
        WEIGHTS | st.just(2**60),
    ),
    min_size=1,
    max_size=40,
)


@given(SAMPLES, st.dictionaries(st.integers(0, 39), st.binary(max_size=30), max_size=4))
def test_samples_round_trip(drawn: list[Sample], metadata: dict[int, bytes]) -> None:
    metadata = {row: text for row, text in metadata.items() if row < len(drawn)}
    expected = samples_of(drawn, metadata)
    found = unpack_samples(pack_samples(expected))
    for name in ("series", "time", "value", "weight", "flags"):
        got, given_ = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(got, given_, name)
        assert got.dtype == given_.dtype, name
    assert found.metadata == metadata
    assert len(found.summed) == 0


def test_flags_are_not_stored() -> None:
    samples = samples_of([(0, NOW, 1.0, 1)])
    samples.flags[:] = 3
    assert unpack_samples(pack_samples(samples)).flags.tolist() == [0]


@pytest.mark.parametrize(
    "changed",
    [
        {"weight": [1, 0]},
        {"series": [-1, 0]},
        {"time": [0, MAX_TIME_MS]},
        {"value": [1.0, float("nan")]},
    ],
)
def test_invalid_samples_are_rejected(changed: dict[str, Any]) -> None:
    columns: dict[str, Any] = {
        "series": [0, 1],
        "time": [0, 5],
        "value": [1.0, 2.0],
        "weight": [1, 2],
    }
    columns.update(changed)
    parts = [
        pack_real(np.array(column)) if name == "value" else pack_whole(np.array(column))
        for name, column in columns.items()
    ]
    with pytest.raises(FormatMismatch, match="invalid series, times, values or weights"):
        unpack_samples(struct.pack("<BIIq", 1, 2, 0, NOW) + b"".join(parts))


@pytest.mark.parametrize("metadata", [[1, 2], {"a": b"x"}, {5: b"x", -1: b"y"}, {0: "text"}, 7])
def test_invalid_metadata_is_rejected_or_ignored(metadata: Any) -> None:
    text = msgpack.packb(metadata)
    parts = [
        pack_whole(np.array([1, 2])),
        pack_whole(np.array([0, 5])),
        pack_real(np.array([1.0, 2.0])),
        pack_whole(np.array([1, 1])),
    ]
    damaged(read_samples, struct.pack("<BIIq", 1, 2, len(text), NOW) + b"".join(parts) + text)
