"""Definitions: inferred types, buckets, and their bytes."""

import math
from typing import Any

import pytest

from redismetrics.errors import InvalidName, InvalidTags, InvalidValue, TypeMismatch
from redismetrics.model.definition import Definition, check_buckets, define


def test_default_buckets_depend_on_the_unit() -> None:
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


def test_a_closing_infinity_is_removed_from_the_buckets() -> None:
    assert check_buckets([1, 2, math.inf], "") == (1.0, 2.0)


@pytest.mark.parametrize(
    "buckets", [[], [math.inf], [1, 1], [2, 1], [1, math.nan], ["x"], range(101), [math.inf, 1]]
)
def test_invalid_buckets_are_rejected(buckets: Any) -> None:
    with pytest.raises(InvalidValue, match="bucket"):
        check_buckets(buckets, "")


@pytest.mark.parametrize(
    "definition",
    [
        define("a", "counter"),
        define("a", "gauge", help='Zeile\n"2"', unit="bytes"),
        define("a", "histogram", buckets=[0.1, 1e300], tag_keys=["b", "a", "b"]),
        define("a", "counter", tag_keys=[]),
    ],
)
def test_a_definition_survives_packing(definition: Definition) -> None:
    assert Definition.unpack(definition.pack()) == definition


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"help": 5}, InvalidValue),
        ({"help": "x" * 4097}, InvalidValue),
        ({"help": "\ud800"}, InvalidValue),
        ({"unit": "two words"}, InvalidName),
        ({"unit": None}, InvalidValue),
        ({"buckets": [1]}, TypeMismatch),
        ({"tag_keys": "tenant"}, InvalidTags),
        ({"tag_keys": ["a b"]}, InvalidName),
    ],
)
def test_an_invalid_definition_is_rejected(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        define("a", "counter", **options)
