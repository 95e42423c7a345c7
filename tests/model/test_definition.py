"""Types, names, tags, values, times: what is let in, and as what."""

import json
import math
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.errors import (
    InvalidName,
    InvalidTags,
    InvalidTimestamp,
    InvalidValue,
    TypeMismatch,
)
from redismetrics.model.definition import Definition, check_buckets, define, infer_type
from redismetrics.model.sample import Sample, pack_metadata
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.model.validation import (
    check_name,
    check_number,
    check_type,
    clean_tags,
    pack_tags,
    tag_text,
    unpack_tags,
)


class Colour(Enum):
    RED = "red"
    THREE = 3


# -- names and types ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "_", "jobs_completed", "http.server/requests:total-5m", "A" * 200]
)
def test_a_name_is_kept_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "-a", "a b", "a\n", "a{", "é", "A" * 201, ".a", None, 5, b"a", ["a"]]
)
def test_any_other_name_is_refused_and_shown(name: Any) -> None:
    with pytest.raises(InvalidName, match=r"^invalid metric name .*: use a letter or underscore"):
        check_name(name)


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_there_are_three_types(kind: str) -> None:
    assert check_type(kind) == kind


@pytest.mark.parametrize("kind", ["Counter", "summary", "", None, 1])
def test_there_is_no_other_type(kind: Any) -> None:
    with pytest.raises(TypeMismatch, match=r"^type must be counter, gauge or histogram, got "):
        check_type(kind)


# The table of the original: a float is a histogram, an integer a gauge by its name, else a counter.
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("score", 0.5, "histogram"), ("queue_depth", 1.5, "histogram"), ("queue_depth", 42, "gauge"),
        ("page_size", 1, "gauge"), ("inactive_users", 3, "gauge"), ("current", 1, "gauge"), ("item_count", 5, "counter"),
        ("jobs", 1, "counter"), ("jobs", 0, "counter"), ("jobs", np.float64(2), "histogram"),
        ("jobs", -1, "gauge"),  # repaired: a counter can't go down
    ],
)  # fmt: skip
def test_a_type_is_guessed_from_value_and_name(name: str, value: float, wanted: str) -> None:
    assert infer_type(name, value) == wanted


# -- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, 1.0), (-2.5, -2.5), (True, 1.0), (Decimal("0.5"), 0.5), (Fraction(1, 4), 0.25), (np.float32(0.5), 0.5),
        (np.int64(7), 7.0), (np.array(3.0), 3.0), (1.7e308, 1.7e308), (5e-324, 5e-324), (2**60, 2.0**60),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_is_whatever_makes_a_finite_float(value: Any, wanted: float) -> None:
    assert check_number(value) == wanted
    assert type(check_number(value)) is float


@pytest.mark.parametrize(
    "value",
    [None, "1", b"1", math.nan, math.inf, -math.inf, 10**400, Decimal("NaN"), [1], {}, 1j, object(), np.array([1.0, 2.0])],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_any_other_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^value must be a "):
        check_number(value)


# -- tags and metadata --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("x", "x"), ("", ""), (5, "5"), (1.5, "1.5"), (True, "true"), (False, "false"), (Colour.RED, "red"),
        (Colour.THREE, "3"), (UUID(int=1), "00000000-0000-0000-0000-000000000001"), ("é\n🦊", "é\n🦊"), ("a" * 1024, "a" * 1024),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_a_tag_is_kept_as_text(value: Any, wanted: str) -> None:
    assert tag_text("key", value) == wanted


@pytest.mark.parametrize(
    "value", [b"x", [], {}, object(), "a" * 1025, "é" * 513, "\ud800"], ids=lambda v: repr(v)[:20]
)
def test_a_tag_of_another_type_or_too_long_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTags, match=r"^tag 'key' must be "):
        tag_text("key", value)


def test_clean_tags_are_text_sorted_by_key_and_without_none() -> None:
    assert list(clean_tags({"b": 2, "c": None, "a": True}).items()) == [("a", "true"), ("b", "2")]
    assert clean_tags(None) == clean_tags({}) == {}


@pytest.mark.parametrize(
    "tags", [[("a", "b")], "a=b", 5, {"a": []}, {f"k{number}": "v" for number in range(33)}]
)
def test_tags_that_are_no_mapping_or_too_many_are_refused(tags: Any) -> None:
    with pytest.raises(InvalidTags):
        clean_tags(tags)


@pytest.mark.parametrize("key", ["", "a b", "1", 5, None])
def test_a_tag_key_follows_the_rule_of_names(key: Any) -> None:
    with pytest.raises(InvalidName, match=r"^invalid tag key "):
        clean_tags({key: "v"})


def test_thirty_two_tags_are_not_too_many() -> None:
    assert len(clean_tags({f"k{number}": "v" for number in range(32)})) == 32


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=8), st.randoms())
def test_equal_tags_have_equal_bytes_and_come_back(tags: dict[str, str], random: Any) -> None:
    items = list(tags.items())
    random.shuffle(items)
    assert pack_tags(dict(items)) == pack_tags(tags)
    assert unpack_tags(pack_tags(tags)) == tags


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_metadata_comes_back_from_its_json(metadata: dict[str, Any]) -> None:
    try:
        packed = pack_metadata(metadata)
    except InvalidTags:  # a lone surrogate has no UTF-8
        assert any(
            0xD800 <= ord(char) < 0xE000 for char in json.dumps(metadata, ensure_ascii=False)
        )
    else:
        assert json.loads(packed) == metadata


@pytest.mark.parametrize(
    "metadata",
    [{"a": math.nan}, {"a": math.inf}, {"a": object()}, {"a": {1, 2}}, {1: "a"}, {"a": "x" * 4096}, "text", [("a", 1)]],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_metadata_that_is_no_json_or_too_long_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidTags, match=r"^metadata must (be|have) "):
        pack_metadata(metadata)


# -- times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "wanted"),
    [
        (0, 0), (1_800_000_000, 1_800_000_000_000), (1_800_000_000.001, 1_800_000_000_001),
        (1_800_000_000.999, 1_800_000_000_999),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000), (np.float64(1.5), 1500),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_767_225_600_000),
        (datetime(2026, 1, 1, microsecond=999_000, tzinfo=UTC), 1_767_225_600_999),
    ],
)  # fmt: skip
def test_a_time_is_milliseconds_of_the_epoch(timestamp: Any, wanted: int) -> None:
    assert to_ms(timestamp) == wanted


@given(st.integers(0, 253_402_300_799_999))
def test_every_millisecond_comes_back(timestamp_ms: int) -> None:
    assert to_ms(to_datetime(timestamp_ms)) == timestamp_ms
    assert to_datetime(timestamp_ms).tzinfo is UTC


@given(st.integers(1_500_000_000_000, 3_000_000_000_000))
def test_every_millisecond_of_our_time_comes_back_from_seconds(timestamp_ms: int) -> None:
    assert to_ms(timestamp_ms / 1000) == timestamp_ms


def test_a_time_is_never_taken_for_a_later_one() -> None:
    # A window that begins at a moment must hold what was recorded after it, though times are kept in milliseconds.
    moment = datetime(2026, 1, 1, microsecond=700, tzinfo=UTC)
    assert to_ms(moment) == 1_767_225_600_000
    assert to_ms(moment.timestamp()) == 1_767_225_600_000
    for _ in range(1000):
        moment_s = time.time()
        assert to_ms(moment_s) in (math.floor(moment_s * 1000), moment_s * 1000)


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2026, 1, 1), "2026-01-01", b"1", True, None, -1, math.nan, math.inf, 253_402_300_800, 1e30, 10**400, [],  # noqa: DTZ001
        datetime(1969, 12, 31, tzinfo=UTC), 1_800_000_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_any_other_time_is_refused(timestamp: Any) -> None:
    with pytest.raises(InvalidTimestamp, match=r"^timestamp must be "):
        to_ms(timestamp)


# -- definitions --------------------------------------------------------------------------------------------------


def test_buckets_follow_the_unit() -> None:
    seconds = check_buckets(None, "seconds")
    assert seconds == (
        0.005,
        0.01,
        0.025,
        0.05,
        0.075,
        0.1,
        0.25,
        0.5,
        0.75,
        1.0,
        2.5,
        5.0,
        7.5,
        10.0,
    )
    assert check_buckets(None, "milliseconds") == tuple(bound * 1000 for bound in seconds)
    unitless = check_buckets(None, "")
    assert (unitless[0], unitless[-1], len(unitless)) == (1e-3, 1e5, 25)


def test_a_closing_infinity_is_taken_off_the_buckets() -> None:
    assert check_buckets([1, 2, math.inf], "") == (1.0, 2.0)


@pytest.mark.parametrize(
    "buckets", [[], [math.inf], [1, 1], [2, 1], [1, math.nan], ["x"], range(101), [math.inf, 1]]
)
def test_buckets_that_do_not_ascend_are_refused(buckets: Any) -> None:
    with pytest.raises(InvalidValue, match="bucket"):
        check_buckets(buckets, "")


@pytest.mark.parametrize(
    "definition",
    [
        define("a", "counter"), define("a", "gauge", help="Zeile\n\"2\"", unit="bytes"),
        define("a", "histogram", buckets=[0.1, 1e300], tag_keys=["b", "a", "b"]), define("a", "counter", tag_keys=[]),
    ],
)  # fmt: skip
def test_a_definition_comes_back_from_its_bytes(definition: Definition) -> None:
    assert Definition.unpack(definition.pack()) == definition


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"help": 5}, InvalidValue), ({"help": "x" * 4097}, InvalidValue), ({"help": "\ud800"}, InvalidValue),
        ({"unit": "two words"}, InvalidName), ({"unit": None}, InvalidValue), ({"buckets": [1]}, TypeMismatch),
        ({"tag_keys": "tenant"}, InvalidTags), ({"tag_keys": ["a b"]}, InvalidName),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        define("a", "counter", **options)


def test_a_sample_as_a_dict_can_be_written_as_json() -> None:
    sample = Sample(
        "a", "gauge", 1.5, 1, {"k": "v"}, datetime(2026, 1, 1, tzinfo=UTC), {"note": [1, None]}
    )
    assert json.loads(json.dumps(sample.to_dict())) == {
        "name": "a", "type": "gauge", "value": 1.5, "tags": {"k": "v"}, "timestamp": "2026-01-01T00:00:00+00:00",
        "metadata": {"note": [1, None]},
    }  # fmt: skip
