"""Options of a metric: what is allowed, and their bytes."""

from typing import Any

import msgpack
import pytest

from redismetrics.errors import InvalidValue, TypeMismatch
from redismetrics.model.definition import Definition, define
from redismetrics.model.options import MERGE_MODES, Options, check_options

ALL: dict[str, Any] = {
    "exact_samples": True,
    "retention": 86_400.0,
    "lookback": 60.0,
    "max_tag_values": 5_000,
    "max_series": 20_000,
    "per": "process",
    "merge": "livesum",
}


def test_options_survive_packing() -> None:
    definition = define("a", "gauge", **ALL)
    found = Definition.unpack(definition.pack())
    assert found == definition
    assert found.options == Options(**ALL)
    assert found.options.given() == ALL


def test_definition_without_options_has_the_bytes_that_it_always_had() -> None:
    expected = msgpack.packb(["gauge", "bytes", "help", [], ["a"]])
    for options in ({}, dict.fromkeys(ALL)):
        definition = define("a", "gauge", unit="bytes", help="help", tag_keys=["a"], **options)
        assert definition.pack() == expected
        assert definition.options == Options()


def test_options_are_one_map_behind_the_elements() -> None:
    packed = define("a", "counter", max_series=5, retention=7200).pack()
    assert msgpack.unpackb(packed) == [
        "counter", "", "", [], None, {"retention": 7200.0, "max_series": 5},
    ]  # fmt: skip


def test_given_options_replace_others_and_the_rest_stays() -> None:
    definition = define("a", "gauge", exact_samples=True, retention=7200)
    changed = definition.with_options(Options(retention=9000.0, max_series=5))
    assert changed.options == Options(exact_samples=True, retention=9000.0, max_series=5)
    assert changed.agrees_with(definition)
    assert changed.with_options(Options()) == changed
    assert changed.with_options(Options(max_series=5)) is not None
    assert changed.with_options(Options(max_series=5)).pack() == changed.pack()


# An option that no version has, one with a value of another form, and a float of 4 bytes.
NEWER = (
    b"\x83\xa3new\xcf\0\0\0\0\0\0\0\x05\xadexact_samples\xcd\x01\xf4\xa8lookback\xca\x42\x70\0\0"
)


def newer_definition() -> Definition:
    packed = define("a", "gauge").pack()
    return Definition.unpack(b"\x97" + packed[1:] + NEWER + b"\xa1x")


def test_unknown_options_are_ignored() -> None:
    found = newer_definition()
    assert found.options == Options(lookback=60.0)
    assert found.has_unknown_options


def test_unknown_options_keep_their_bytes_when_others_change() -> None:
    found = newer_definition()
    changed = found.with_options(Options(max_series=5, lookback=60.0))
    # One entry more, at the end; what did not change has its bytes.
    assert changed.rest == (b"\x84" + NEWER[1:] + msgpack.packb("max_series") + b"\x05", b"\xa1x")
    assert changed.has_unknown_options
    assert Definition.unpack(changed.pack()).options == Options(lookback=60.0, max_series=5)


@pytest.mark.parametrize("options", [b"\x81", b"\x05", b"\x82\xa1a\x01", b"\xa1x"])
def test_corrupt_options_are_rejected(options: bytes) -> None:
    packed = define("a", "counter").pack()
    with pytest.raises((ValueError, msgpack.UnpackException)):
        Definition.unpack(b"\x96" + packed[1:] + options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exact_samples": 1}, "exact_samples must be True or False, got 1"),
        ({"retention": 0}, "retention must be a number of seconds from 3600 to"),
        ({"retention": "1d"}, "retention must be a finite number, got '1d'"),
        ({"retention": True}, "retention must be a number of seconds from 3600 to"),
        ({"lookback": -1}, "lookback must be a number of seconds from 1 to"),
        ({"max_series": 0}, "max_series must be a whole number from 1 to"),
        ({"max_series": 1.5}, "max_series must be a whole number, got 1.5"),
        ({"max_tag_values": 1e12}, "max_tag_values must be a whole number from 1 to"),
        ({"per": "host"}, "per must be 'process', got 'host'"),
        (
            {"per": "process", "merge": "livesums"},
            "merge must be 'all', 'liveall', .*, got 'livesums'; did you mean 'livesum'?",
        ),
        ({"merge": "sum"}, "merge needs per='process'"),
    ],
)
def test_invalid_option_is_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        define("a", "gauge", **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "counter",
            {"exact_samples": True},
            "exact_samples is for gauge, histogram and summary metrics",
        ),
        ("histogram", {"per": "process"}, "per is for gauge metrics, got a histogram"),
        ("gauge", {"states": ["on", "off"]}, "states is for stateset metrics, got a gauge"),
    ],
)
def test_option_of_another_type_is_rejected(
    kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeMismatch, match=message):
        define("a", kind, **options)


@pytest.mark.parametrize(
    "states", [[], ["on", "on"], "on", 5, [1], [""], [str(n) for n in range(101)]]
)
def test_invalid_states_are_rejected(states: Any) -> None:
    with pytest.raises(InvalidValue, match="states must be"):
        check_options("stateset", states=states)


def test_states_keep_their_order() -> None:
    assert check_options("stateset", states=["on", "off", "broken"]).states == (
        "on",
        "off",
        "broken",
    )


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_modes_of_merging_are_those_of_prometheus_client(mode: str) -> None:
    assert check_options("gauge", per="process", merge=mode).merge == mode
