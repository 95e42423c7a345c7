"""Definitions: inferred types, buckets, and their bytes."""

import math
from typing import Any

import msgpack
import pytest

from redismetrics.errors import InvalidName, InvalidTags, InvalidValue, TypeMismatch
from redismetrics.model.definition import Definition, NewerType, check_buckets, define


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
    "buckets", [[], [math.inf], [1, 1], [2, 1], [1, math.nan], ["x"], range(1001), [math.inf, 1]]
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


@pytest.mark.parametrize("count", [1, 2, 40])
def test_data_added_by_a_newer_version_is_kept_byte_for_byte(count: int) -> None:
    known = define("a", "histogram", help="x", buckets=[0.1, 1], tag_keys=["b"])
    # Not as this version would pack it: a float of 4 bytes, an integer of 8.
    rest = b"\x82\xa1a\xca\x3f\x80\x00\x00\xa1b\xcf\0\0\0\0\0\0\0\x05" + b"\xc0" * (count - 1)
    head = msgpack.Packer().pack_array_header(5 + count)
    data = head + known.pack()[1:] + rest
    found = Definition.unpack(data)
    assert found.pack() == data
    assert found != known
    assert found.agrees_with(known)
    assert known.agrees_with(found)
    assert (found.has_unknown_options, known.has_unknown_options) == (True, False)
    assert not found.agrees_with(define("a", "histogram", help="y", buckets=[0.1, 1]))
    assert str(known) == str(found)


def test_empty_options_are_none() -> None:
    packed = define("a", "counter").pack()
    assert not Definition.unpack(b"\x96" + packed[1:] + b"\x80").has_unknown_options


@pytest.mark.parametrize("change", ["short", "long", "none", "map"])
def test_corrupt_definition_is_rejected(change: str) -> None:
    packed = define("a", "counter").pack()
    data = {
        "short": packed[:-1],
        "long": packed + b"\0",
        "none": b"",
        "map": b"\x85" + packed[1:],
    }[change]
    with pytest.raises((ValueError, msgpack.UnpackException)):
        Definition.unpack(data)


def test_type_of_a_newer_version_is_named() -> None:
    packed = msgpack.packb(["sketch", "", "", [], None])
    with pytest.raises(NewerType, match="'sketch' comes from a newer version"):
        Definition.unpack(packed)
    with pytest.raises(TypeMismatch):
        Definition.unpack(msgpack.packb(["\x03?", "", "", [], None]))


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
