"""Invalid calls: what is refused before anything changes, and what is dropped and counted."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from redismetrics import (
    Counter,
    InvalidMetric,
    InvalidName,
    InvalidQuery,
    InvalidSetting,
    InvalidTags,
    InvalidTimestamp,
    InvalidValue,
    Metrics,
    TypeMismatch,
)
from tests.recording.helpers import (
    NOWHERE,
    client_threads,
)

NAIVE = datetime(2025, 1, 1)  # noqa: DTZ001 - that it is naive is the point

WRONG: dict[str, tuple[type[InvalidMetric], Callable[[Metrics], Any]]] = {
    "negative counter": (InvalidValue, lambda m: m.increment("wrong", -1)),
    "negative recorded counter": (InvalidValue, lambda m: m.record("wrong", -0.5, type="counter")),
    "negative instrument": (InvalidValue, lambda m: Counter("wrong", metrics=m).increment(-1)),
    "negative float instrument": (
        InvalidValue,
        lambda m: Counter("wrong", metrics=m).increment(-0.5),
    ),
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
    "long tag": (InvalidTags, lambda m: m.increment("wrong", tags={"a": "x" * 4097})),
    "long tag in UTF-8": (InvalidTags, lambda m: m.gauge("wrong", 1, tags={"a": "ü" * 2049})),
    "65 tags": (
        InvalidTags,
        lambda m: m.histogram("wrong", 1, tags={f"t{n}": "x" for n in range(65)}),
    ),
    "65 with promoted": (
        InvalidTags,
        lambda m: m.increment(
            "wrong", tags={f"t{n}": "x" for n in range(64)}, metadata={"model": "m"}
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
    "instrument's name": (InvalidName, lambda m: Counter("a b", metrics=m)),
    "tag key": (InvalidName, lambda m: m.increment("wrong", tags={"a b": "c"})),
    "number for a tag key": (InvalidName, lambda m: m.increment("wrong", tags={1: "c"})),
    "unknown type": (TypeMismatch, lambda m: m.record("wrong", 1, type="sketch")),
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
    """Assert that nothing was recorded or started, and that the name can get any definition."""
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
def test_an_invalid_call_raises_before_anything_changes(what: str) -> None:
    error, call = {**WRONG, **ALWAYS_WRONG}[what]
    before = client_threads()
    with Metrics(NOWHERE) as metrics:
        with pytest.raises(error):
            call(metrics)
        untouched(metrics)
        assert metrics.stats()["dropped"] == {}
    assert client_threads() == before


@pytest.mark.parametrize("what", WRONG)
def test_invalid_data_can_be_dropped_and_counted(what: str) -> None:
    _, call = WRONG[what]
    before = client_threads()
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        call(metrics)
        stats = metrics.stats()
        assert (stats["recorded"], stats["dropped"], stats["pending"]) == (1, {"invalid": 1}, 0)
        assert metrics._recorder.metrics == {}
    assert client_threads() == before


@pytest.mark.parametrize("what", ALWAYS_WRONG)
def test_programming_errors_are_raised_even_if_invalid_data_is_dropped(what: str) -> None:
    error, call = ALWAYS_WRONG[what]
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        with pytest.raises(error):
            call(metrics)
        assert metrics.stats()["dropped"] == {}
        untouched(metrics)


@pytest.mark.parametrize(
    "wrong", [{"a": "x" * 4097}, {"a": ["x"]}, {f"t{n}": "x" for n in range(65)}], ids=[0, 1, 2]
)
def test_invalid_tags_of_measure_raise_before_the_function_runs(wrong: dict[str, Any]) -> None:
    ran: list[int] = []
    with Metrics(NOWHERE) as metrics:
        with pytest.raises(InvalidTags):
            metrics.measure("wrong", lambda: ran.append(1), tags=wrong)
        assert ran == []
        untouched(metrics)


def test_measure_runs_the_function_even_if_its_data_is_dropped() -> None:
    with Metrics(NOWHERE, on_invalid="drop") as metrics:
        assert metrics.measure("wrong", lambda: 7, tags={"a": "x" * 4097}) == 7
        assert metrics.stats()["dropped"] == {"invalid": 1}


def test_a_message_names_the_argument_the_rule_and_the_value(metrics: Metrics) -> None:
    metrics.gauge("queue_depth", 1)
    with pytest.raises(TypeMismatch, match=r"^'queue_depth' is a gauge; got a counter$"):
        metrics.increment("queue_depth")
    with pytest.raises(InvalidValue, match=r"^value must be a finite number, got 'x'$"):
        metrics.gauge("queue_depth", "x")
    with pytest.raises(
        InvalidTags, match=r"^tag 'a' must be at most 4096 bytes of UTF-8, got 4097$"
    ):
        metrics.gauge("queue_depth", 1, tags={"a": "x" * 4097})


def test_tags_in_place_of_a_number_are_refused_with_a_hint(metrics: Metrics) -> None:
    with pytest.raises(InvalidValue, match=r"got {'shop': 'de'}; tags are passed as tags={...}$"):
        metrics.increment("orders", {"shop": "de"})  # type: ignore[arg-type]


def test_a_series_on_the_fast_path_is_still_checked(metrics: Metrics) -> None:
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


class Mute:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        raise ZeroDivisionError("no repr")


class Surrogate:
    """An object whose repr has no encoding."""

    def __repr__(self) -> str:
        return "\udc80"


@pytest.mark.parametrize(
    "value", [10**5_000, Mute(), Surrogate()], ids=["int", "mute", "surrogate"]
)
def test_a_value_that_can_t_be_shown_raises_our_error_or_is_dropped(value: Any) -> None:
    arguments: list[dict[str, Any]] = [
        {"value": value},
        {"value": 1, "tags": {"a": value}},
        {"value": 1, "tags": value},
        {"value": 1, "timestamp": value},
        {"value": 1, "metadata": {"a": value}},
        {"value": 1, "metadata": {value: 1}},
        {"value": 1, "metadata": value},
        {"value": {"value": value}},
        {"value": {"tags": value}},
    ]
    metrics = Metrics(NOWHERE, on_invalid="drop")
    for given in arguments:
        metrics.record("jobs", **given)
        with pytest.raises(InvalidMetric) as raised:
            metrics.check("jobs", **given)
        str(raised.value).encode()
    assert metrics.stats()["dropped"] == {"invalid": len(arguments)}
    for wrong in (
        lambda: metrics.increment(value),
        lambda: metrics.record("jobs", type=value),
        lambda: metrics.measure("jobs", value),
        lambda: metrics.measure("jobs", unit=value),
        lambda: metrics.measure("jobs", outcome_tag=value),
        lambda: metrics.declare("jobs", value),
        lambda: metrics.declare("jobs", "counter", help=value),
        lambda: metrics.declare("jobs", "histogram", buckets=[value]),
        lambda: metrics.declare("jobs", "histogram", tag_keys=[value]),
        lambda: Counter(value),
        lambda: metrics.query("jobs", window=value),
        lambda: metrics.query("jobs", aggregation=value),
        lambda: metrics.subscribe(every=value),
        lambda: metrics.subscribe(value),
        lambda: Metrics(namespace=value),
        lambda: Metrics(value),
        lambda: Metrics(flush_interval=value),
        lambda: Metrics(promoted_tags=value),
        lambda: Metrics(worker=value),
        lambda: Metrics(clock=value),
    ):
        with pytest.raises((InvalidMetric, InvalidQuery, InvalidSetting)) as error:
            wrong()
        str(error.value).encode()
    metrics.close(0)
