"""Metadata of samples, and samples as JSON."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.errors import FormatMismatch, InvalidTags
from redismetrics.model.sample import Sample, pack_metadata, read_metadata

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_metadata_survives_packing(metadata: dict[str, Any]) -> None:
    try:
        packed = pack_metadata(metadata)
    except InvalidTags:  # a lone surrogate has no UTF-8
        assert any(
            0xD800 <= ord(char) < 0xE000 for char in json.dumps(metadata, ensure_ascii=False)
        )
    else:
        assert json.loads(packed) == metadata


def test_numbers_of_numpy_in_metadata_are_numbers() -> None:
    packed = pack_metadata(
        {"step": np.int64(7), "lr": np.float32(0.5), "loss": np.array(0.25), "best": np.True_}
    )
    assert packed == b'{"step":7,"lr":0.5,"loss":0.25,"best":true}'


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": math.nan},
        {"a": math.inf},
        {"a": object()},
        {"a": np.float32("nan")},
        {"a": np.array([1, 2])},
        {"a": np.datetime64("2026-01-01", "s")},
        {"a": {1, 2}},
        {1: "a"},
        {"a": "x" * 4096},
        "text",
        [("a", 1)],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_metadata_that_is_not_json_or_too_long_is_rejected(metadata: Any) -> None:
    with pytest.raises(InvalidTags, match=r"^metadata must (be|have) "):
        pack_metadata(metadata)


def test_a_sample_as_a_dict_can_be_written_as_json() -> None:
    sample = Sample(
        "a", "gauge", 1.5, 1, {"k": "v"}, datetime(2026, 1, 1, tzinfo=UTC), {"note": [1, None]}
    )
    assert json.loads(json.dumps(sample.to_dict())) == {
        "name": "a",
        "type": "gauge",
        "value": 1.5,
        "tags": {"k": "v"},
        "timestamp": "2026-01-01T00:00:00+00:00",
        "metadata": {"note": [1, None]},
    }


def test_stored_metadata_deeper_than_what_can_be_recorded_is_rejected() -> None:
    deep = b'{"a":' * 20 + b"1" + b"}" * 20
    assert read_metadata(deep)["a"]
    with pytest.raises(FormatMismatch, match="at most 20 levels"):
        read_metadata(b'{"a":' + deep + b"}")
