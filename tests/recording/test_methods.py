"""Recording methods: what each one stores, and which values, tags, metadata and times they take."""

import decimal
import fractions
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy as np
import pytest

from redismetrics import (
    Counter,
    Gauge,
    Histogram,
    InvalidValue,
    Metrics,
)
from tests.recording.helpers import Make, only


def test_increments_add_up(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.increment("jobs", 4)
    metrics.increment("jobs", 0.5)
    assert metrics.query("jobs", aggregation="sum") == 5.5
    assert metrics.query("jobs", aggregation="count") == 3


def test_an_increment_of_0_creates_the_series(metrics: Metrics) -> None:
    metrics.increment("errors", 0, tags={"kind": "disk"})
    assert metrics.query("errors", aggregation="sum") == 0
    assert metrics.tag_values("errors", "kind") == ["disk"]


def test_increment_takes_tags_without_an_amount(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "mail"})
    assert only(metrics, "jobs").tags == {"queue": "mail"}


def test_a_gauge_keeps_every_value_and_the_last(metrics: Metrics) -> None:
    for value in (3, 9, -2.5):
        metrics.gauge("depth", value)
    assert [sample.value for sample in metrics.query("depth")] == [3, 9, -2.5]
    assert metrics.query("depth", aggregation="last") == -2.5


def test_a_histogram_keeps_its_values(metrics: Metrics) -> None:
    for value in (1, 2.5, -1):
        metrics.histogram("latency", value)
    assert sorted(sample.value for sample in metrics.query("latency")) == [-1, 1, 2.5]
    assert metrics.query("latency", aggregation="median") == 1


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_a_sample_with_all_arguments_is_returned_as_recorded(metrics: Metrics, kind: str) -> None:
    when = datetime.now(UTC).replace(microsecond=123_000) - timedelta(minutes=3)
    method = {"counter": metrics.increment, "gauge": metrics.gauge, "histogram": metrics.histogram}[
        kind
    ]
    method(
        "all", 2.5, tags={"b": 1, "a": "x"}, metadata={"note": "ü", "n": [1, None]}, timestamp=when
    )
    sample = only(metrics, "all")
    assert (sample.type, sample.value, sample.count, sample.timestamp) == (kind, 2.5, 1, when)
    assert (sample.tags, sample.metadata, sample.approximate) == (
        {"a": "x", "b": "1"},
        {"note": "ü", "n": [1, None]},
        False,
    )


def test_record_takes_a_mapping(metrics: Metrics) -> None:
    metrics.record(
        "score",
        {
            "value": 0.9,
            "tags": {"stage": "test"},
            "metadata": {"a": 1},
            "model": "llama",
            "trace_id": "t1",
        },
    )
    sample = only(metrics, "score")
    assert (sample.value, sample.type) == (0.9, "histogram")
    assert sample.tags == {"stage": "test", "model": "llama"}  # promoted; ids are not
    assert sample.metadata == {"a": 1, "model": "llama", "trace_id": "t1"}


def test_a_mapping_without_a_value_counts_one(metrics: Metrics) -> None:
    metrics.record("jobs_done", {"tags": None})
    assert (only(metrics, "jobs_done").value, only(metrics, "jobs_done").type) == (1, "counter")


def test_arguments_take_precedence_over_a_mapping(metrics: Metrics) -> None:
    inside = {"value": 1, "tags": {"a": "in", "b": "in"}, "metadata": {"m": "in", "n": "in"}}
    metrics.record("jobs", inside, tags={"a": "out"}, metadata={"m": "out"})
    sample = only(metrics, "jobs")
    assert sample.tags == {"a": "out", "b": "in"}
    assert sample.metadata == {"m": "out", "n": "in"}


def test_explicit_tags_take_precedence_over_promoted_metadata(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "said"}, metadata={"queue": "promoted", "model": None})
    assert only(metrics, "jobs").tags == {"queue": "said"}


def test_promoted_tags_are_a_setting(make: Make) -> None:
    metrics = make(promoted_tags=["trace_id"])
    metrics.increment("jobs", metadata={"trace_id": "t", "model": "m"})
    assert only(metrics, "jobs").tags == {"trace_id": "t"}


def test_default_tags_are_added_and_can_be_replaced(make: Make) -> None:
    metrics = make(tags={"host": "a", "env": "test"})
    metrics.increment("jobs", tags={"env": "own"})
    Counter("handled", metrics=metrics).increment()
    assert only(metrics, "jobs").tags == {"host": "a", "env": "own"}
    assert only(metrics, "handled").tags == {"host": "a", "env": "test"}


def test_equal_tags_in_any_order_are_one_series(metrics: Metrics) -> None:
    for tags in (
        {"a": "1", "b": "x"},
        {"b": "x", "a": "1"},
        {"a": 1, "b": "x"},
        {"a": "1", "b": "x", "c": None},
    ):
        metrics.increment("jobs", tags=tags)
        metrics.increment("jobs", tags=tags)
    assert metrics.query("jobs", aggregation="sum", group_by=["a", "b"]) == [
        {"a": "1", "b": "x", "sum": 8}
    ]
    assert metrics.list_metrics()[0]["series"] == 1


def test_equal_numbers_of_different_types_are_different_series(metrics: Metrics) -> None:
    for value in (1, 1.0, True):  # equal keys in Python
        for _ in range(2):
            metrics.increment("jobs", tags={"v": value})
    assert metrics.tag_values("jobs", "v") == ["1", "1.0", "true"]


def test_keys_and_values_of_tags_are_not_confused(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.increment("jobs", tags={"a": "b"})
        metrics.increment("jobs", tags={"b": "a"})
        metrics.increment("jobs", tags={"a": "c", "b": "d"})
    rows = metrics.query("jobs", aggregation="sum", group_by=["a", "b"])
    assert rows == [
        {"a": None, "b": "a", "sum": 2},
        {"a": "b", "b": None, "sum": 2},
        {"a": "c", "b": "d", "sum": 2},
    ]


# -- values -----


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (7, 7.0),
        (True, 1.0),
        (np.float64(2.5), 2.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.uint8(255), 255.0),
        (np.array(4), 4.0),
        (decimal.Decimal("1.25"), 1.25),
        (fractions.Fraction(3, 4), 0.75),
        (2**53 + 1, float(2**53)),
        (10**300, 1e300),
        (1e-300, 1e-300),
    ],
)
@pytest.mark.parametrize("method", ["increment", "gauge", "histogram"])
def test_any_kind_of_number_is_stored_as_a_float(
    metrics: Metrics, method: str, value: Any, kept: float
) -> None:
    for _ in range(2):  # the checked path, then the fast path
        getattr(metrics, method)("value", value)
    samples = metrics.query("value")
    assert [sample.value for sample in samples for _ in range(sample.count)] == [kept, kept]


NO_NUMBERS = [
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        np.float64("nan"),
        10**400,
        decimal.Decimal("Infinity"),
    ),
    *(
        "1",
        b"1",
        None,
        [],
        [1],
        {1},
        1j,
        object(),
        np.array([1, 2]),
        datetime.now(UTC),
        timedelta(1),
    ),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{value!r:.20}")
def test_anything_but_a_finite_number_is_rejected(metrics: Metrics, value: Any) -> None:
    calls: list[Callable[[Any], None]] = [
        lambda value: metrics.increment("wrong", value),
        lambda value: metrics.gauge("wrong", value),
        lambda value: metrics.histogram("wrong", value),
        lambda value: metrics.record("wrong", {"value": value}),
        Counter("wrong", metrics=metrics).increment,
        Gauge("wrong", metrics=metrics).set,
        Gauge("wrong", metrics=metrics).add,
        Histogram("wrong", metrics=metrics).record,
    ]
    for call in calls:
        with pytest.raises(InvalidValue, match="must be a"):
            call(value)
    assert metrics.stats()["recorded"] == 0


def test_nan_is_rejected_on_the_fast_path_too(metrics: Metrics) -> None:
    methods = {"counter": metrics.increment, "gauge": metrics.gauge, "histogram": metrics.histogram}
    for kind, method in methods.items():
        method(kind, 1.0)
        for value in (float("nan"), float("inf"), float("-inf")):
            with pytest.raises(InvalidValue):
                method(kind, value)
        assert metrics.query(kind, aggregation="count") == 1


# -- tags, metadata, times -----


class Colour(Enum):
    RED = "red"
    ONE = 1


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x" * 1024, "x" * 1024),
        ("ü" * 512, "ü" * 512),
        ("", ""),
        ('a/b"c\\d\n{}\x00é😀', 'a/b"c\\d\n{}\x00é😀'),
        (Colour.RED, "red"),
        (Colour.ONE, "1"),
        (Level.HIGH, "3"),
        (Word.YES, "yes"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (1.5, "1.5"),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_tag_value_is_stored_as_text(metrics: Metrics, given: Any, kept: str) -> None:
    for _ in range(2):
        metrics.increment("jobs", tags={"tag": given})
    Counter("handled", {"tag": given}, metrics=metrics).increment()
    assert metrics.tag_values("jobs", "tag") == metrics.tag_values("handled", "tag") == [kept]
    assert metrics.query("jobs", aggregation="sum", tags={"tag": given}) == 2
    assert only(metrics, "handled").tags == {"tag": kept}


def test_none_leaves_a_tag_out(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"a": None, "b": "x"})
    assert only(metrics, "jobs").tags == {"b": "x"}


def test_32_tags_pass(metrics: Metrics) -> None:
    tags = {f"t{n:02}": str(n) for n in range(32)}
    metrics.increment("jobs", tags=tags)
    assert only(metrics, "jobs").tags == tags


def test_the_longest_name_passes(metrics: Metrics) -> None:
    name, key = "a" + "b/-.:_0Z" * 24 + "1234567", "_" + "k" * 199
    assert len(name) == len(key) == 200
    metrics.increment(name, tags={key: "v"})
    assert only(metrics, name).tags == {key: "v"}


def test_4096_bytes_of_metadata_pass(metrics: Metrics) -> None:
    data = {"a": "x" * 4088}
    assert len(json.dumps(data, separators=(",", ":"))) == 4096
    metrics.increment("jobs", metadata=data)
    assert only(metrics, "jobs").metadata == data


@pytest.mark.parametrize(
    "form",
    [
        lambda seconds: seconds,
        int,
        np.float64,
        lambda seconds: datetime.fromtimestamp(seconds, UTC),
        lambda seconds: datetime.fromtimestamp(seconds, timezone(timedelta(hours=5, minutes=30))),
    ],
    ids=["float", "int", "numpy", "UTC", "+05:30"],
)
def test_a_time_is_an_aware_datetime_or_unix_seconds(
    metrics: Metrics, form: Callable[[float], Any]
) -> None:
    seconds = int(datetime.now(UTC).timestamp()) - 100.0
    metrics.gauge("depth", 1, timestamp=form(seconds))
    assert only(metrics, "depth").timestamp == datetime.fromtimestamp(seconds, UTC)


def test_a_sample_without_a_time_has_the_time_of_the_clock(make: Make) -> None:
    seconds = int(datetime.now(UTC).timestamp()) - 100.25
    metrics = make(clock=lambda: seconds)
    metrics.histogram("latency", 1)
    metrics.increment("jobs", metadata={"a": 1})
    expected = datetime.fromtimestamp(seconds, UTC)
    assert (only(metrics, "latency").timestamp, only(metrics, "jobs").timestamp) == (
        expected,
        expected,
    )
