"""Names, types, values and tags that are accepted, and how they are stored."""

import array
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.errors import InvalidName, InvalidTags, InvalidValue, TypeMismatch
from redismetrics.model.definition import infer_type
from redismetrics.model.validation import (
    check_name,
    check_number,
    check_type,
    clean_tags,
    did_you_mean,
    pack_tags,
    tag_text,
    unpack_tags,
)


class Colour(Enum):
    RED = "red"
    THREE = 3


@pytest.mark.parametrize(
    "name", ["a", "_", "jobs_completed", "http.server/requests:total-5m", "A" * 200]
)
def test_a_valid_name_is_returned_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "-a", "a b", "a\n", "a{", "é", "A" * 201, ".a", None, 5, b"a", ["a"]]
)
def test_an_invalid_name_is_rejected_and_shown(name: Any) -> None:
    with pytest.raises(InvalidName, match=r"^invalid metric name .*: use a letter or underscore"):
        check_name(name)


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "summary", "info", "stateset"])
def test_there_are_six_types(kind: str) -> None:
    assert check_type(kind) == kind


@pytest.mark.parametrize("kind", ["Counter", "sketch", "", None, 1])
def test_another_type_is_rejected(kind: Any) -> None:
    with pytest.raises(TypeMismatch, match=r"^type must be counter, gauge, .* or stateset, got "):
        check_type(kind)


# The table of the original: a float is a histogram, an integer a gauge by its name, else a counter.
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("score", 0.5, "histogram"),
        ("queue_depth", 1.5, "histogram"),
        ("queue_depth", 42, "gauge"),
        ("page_size", 1, "gauge"),
        ("inactive_users", 3, "gauge"),
        ("current", 1, "gauge"),
        ("item_count", 5, "counter"),
        ("jobs", 1, "counter"),
        ("jobs", 0, "counter"),
        ("jobs", np.float64(2), "histogram"),
        ("jobs", -1, "gauge"),  # repaired: a counter can't go down
    ],
)
def test_a_type_is_inferred_from_value_and_name(name: str, value: float, expected: str) -> None:
    assert infer_type(name, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (-2.5, -2.5),
        (True, 1.0),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
        (np.array(3.0), 3.0),
        (1.7e308, 1.7e308),
        (5e-324, 5e-324),
        (2**60, 2.0**60),
    ],
    ids=repr,
)
def test_a_value_is_anything_that_converts_to_a_finite_float(value: Any, expected: float) -> None:
    assert check_number(value) == expected
    assert type(check_number(value)) is float


@pytest.mark.parametrize(
    "value",
    [
        None,
        "1",
        b"1",
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        Decimal("NaN"),
        [1],
        {},
        1j,
        object(),
        np.array([1.0, 2.0]),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_value_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^value must be a "):
        check_number(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"),
        ("", ""),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (Colour.RED, "red"),
        (Colour.THREE, "3"),
        (np.int64(5), "5"),
        (np.float32(0.1), "0.1"),
        (np.float64(1e-4), "0.0001"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("é\n🦊", "é\n🦊"),
        ("a" * 4096, "a" * 4096),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_tag_value_becomes_text(value: Any, expected: str) -> None:
    assert tag_text("key", value) == expected


@pytest.mark.parametrize(
    "value",
    [b"x", [], {}, object(), np.array([1, 2]), "a" * 4097, "é" * 2049, "\ud800"],
    ids=lambda v: repr(v)[:20],
)
def test_a_tag_of_another_type_or_too_long_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidTags, match=r"^tag 'key' must be "):
        tag_text("key", value)


def test_clean_tags_are_text_sorted_by_key_and_without_none() -> None:
    assert list(clean_tags({"b": 2, "c": None, "a": True}).items()) == [("a", "true"), ("b", "2")]
    assert clean_tags(None) == clean_tags({}) == {}


@pytest.mark.parametrize(
    "tags", [[("a", "b")], "a=b", 5, {"a": []}, {f"k{number}": "v" for number in range(65)}]
)
def test_tags_that_are_not_a_mapping_or_too_many_are_rejected(tags: Any) -> None:
    with pytest.raises(InvalidTags):
        clean_tags(tags)


@pytest.mark.parametrize("key", ["", "a b", "1", 5, None])
def test_an_invalid_tag_key_is_rejected(key: Any) -> None:
    with pytest.raises(InvalidName, match=r"^invalid tag key "):
        clean_tags({key: "v"})


def test_thirty_two_tags_are_accepted() -> None:
    assert len(clean_tags({f"k{number}": "v" for number in range(64)})) == 64


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=8), st.randoms())
def test_equal_tags_pack_to_equal_bytes_and_unpack(tags: dict[str, str], random: Any) -> None:
    items = list(tags.items())
    random.shuffle(items)
    assert pack_tags(dict(items)) == pack_tags(tags)
    assert unpack_tags(pack_tags(tags)) == tags


@pytest.mark.parametrize(
    ("given_name", "hint"),
    [
        ("guage", "; did you mean 'gauge'?"),
        ("Counter", "; did you mean 'counter'?"),
        ("meter", "; did you mean 'gauge'?"),
        ("fortnight", ""),
        (5, ""),
    ],
)
def test_a_near_miss_suggests_the_closest_name(given_name: object, hint: str) -> None:
    assert did_you_mean(given_name, ("counter", "gauge"), {"meter": "gauge"}) == hint


class Length(np.ndarray):
    """An array of another library, with a unit that makes `float` raise any error."""

    def __float__(self) -> float:
        raise LookupError("metres are no number")


@pytest.mark.parametrize(
    "value",
    [
        np.timedelta64(10**9, "ns"),
        np.timedelta64("NaT"),
        np.datetime64("2024-01-01", "s"),
        np.array(5, "m8[s]"),
        np.array([5], "M8[s]"),
        timedelta(seconds=1),
        datetime.now(UTC),
        1j,
        np.complex128(1 + 2j),
        np.complex64(1),
        np.array(1 + 0j),
        np.array("5"),
        np.array(b"5"),
        np.bytes_(b"5"),
        np.str_("5"),
        memoryview(b"12"),
        array.array("b", b"12"),
        UUID(int=5),
        np.array([1.0]).view(Length),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_real_numbers_are_values(value: Any) -> None:
    with pytest.raises(InvalidValue, match="value must be a finite number, got "):
        check_number(value)


@pytest.mark.parametrize("value", [10**5_000, -(10**5_000)], ids=["large", "small"])
def test_an_integer_that_python_cannot_print_is_rejected(value: int) -> None:
    with pytest.raises(InvalidValue, match="must be a number that fits in a float, got <int of 16"):
        check_number(value)
    with pytest.raises(InvalidTags, match="tag 'n' can't be stored as text: <int of 16610 bits>"):
        tag_text("n", value)
    with pytest.raises(InvalidName, match="invalid metric name <int of 16610 bits>: use a letter"):
        check_name(value)
    with pytest.raises(TypeMismatch, match="got <int of 16610 bits>"):
        check_type(value)
