"""The type of a metric, and its declaration."""

import decimal
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redismetrics import (
    Counter,
    Gauge,
    Histogram,
    InvalidTags,
    Metrics,
    TypeMismatch,
)
from tests.recording.helpers import Make, only


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
        ("jobs", -1, "gauge"),  # a counter can't decrease
        ("jobs", decimal.Decimal("1.5"), "histogram"),
        ("jobs", np.float64(1), "histogram"),
        ("jobs", np.int64(1), "counter"),
        ("queue_depth", np.int32(1), "gauge"),
    ],
)
def test_a_type_is_inferred_from_name_and_value(
    metrics: Metrics, name: str, value: Any, kind: str
) -> None:
    metrics.record(name, value)
    assert only(metrics, name).type == kind


def test_an_explicit_type_takes_precedence_over_an_inferred_one(url: str, namespace: str) -> None:
    now = [time.time() - 60]
    metrics = Metrics(url, namespace=namespace, flush_interval=3600, clock=lambda: now[0])
    for value, kind in ((1, None), (5, "gauge"), (7, None)):
        metrics.record("jobs", value, type=kind)
        # Increments get their time when flushed, but earlier samples must stay older.
        now[0] += 1
    assert metrics.list_metrics()[0]["type"] == "gauge"
    assert [sample.value for sample in metrics.query("jobs")] == [1, 5, 7]
    metrics.close()


def test_a_declared_type_takes_precedence_over_use_and_inference(metrics: Metrics) -> None:
    metrics.record("jobs", 1)
    metrics.declare("jobs", "histogram")
    metrics.record("jobs", 2)
    assert metrics.list_metrics()[0]["type"] == "histogram"
    assert metrics.query("jobs", aggregation="count") == 2


def test_a_type_used_before_takes_precedence_over_an_inferred_one(metrics: Metrics) -> None:
    metrics.gauge("jobs", 1)
    metrics.record("jobs", 5)
    metrics.record("jobs", 2.5)
    assert [sample.value for sample in metrics.query("jobs")] == [1, 5, 2.5]
    assert metrics.list_metrics()[0]["type"] == "gauge"


def test_the_type_in_redis_takes_precedence_over_an_inferred_one(make: Make) -> None:
    first, second = make(), make()
    first.gauge("jobs", 3)
    first.flush()
    second.record("jobs", 8)
    assert second.query("jobs", aggregation="last") == 8
    second.record("jobs", 2)  # it now uses the type that it learned
    assert second.query("jobs", aggregation="last") == 2
    assert {sample.type for sample in second.query("jobs")} == {"gauge"}
    assert second.stats()["dropped"] == {}


def test_samples_that_the_type_in_redis_can_not_hold_are_dropped_and_counted(
    make: Make,
) -> None:
    first, second = make(), make()
    first.increment("jobs", 3)
    first.flush()
    second.record("jobs", -8)  # this process still takes it for a gauge
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
def test_another_type_raises_at_the_call_if_the_first_is_known(
    make: Make,
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


def test_another_type_in_redis_raises_at_flush_once_per_metric(
    make: Make,
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


def test_a_query_never_raises_the_mismatch_of_a_flush(make: Make) -> None:
    first, second = make(), make()
    first.gauge("x", 1)
    first.flush()
    second.increment("x")
    second.increment("y")
    assert second.query("y", aggregation="sum") == 1
    with pytest.raises(TypeMismatch):
        second.flush()


# -- declare -----


def test_a_declaration_is_stored_with_the_first_sample(
    make: Make,
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


def test_the_same_declaration_twice_is_accepted(metrics: Metrics) -> None:
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


def test_only_declared_tags_are_accepted(make: Make) -> None:
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


def test_measure_with_an_undeclared_tag_raises_before_it_runs(metrics: Metrics) -> None:
    ran: list[int] = []
    metrics.declare("took", "histogram", tag_keys=["queue"])
    with pytest.raises(InvalidTags, match="declared with the tags"):
        metrics.measure("took", lambda: ran.append(1), tags={"user": "u"})
    with pytest.raises(InvalidTags, match="declared with the tags"):
        metrics.measure("took", lambda: ran.append(1), outcome_tag="outcome")
    assert ran == []
    assert metrics.stats()["recorded"] == 0


def test_declared_tags_apply_to_a_series_on_the_fast_path(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"user": "u"})
    metrics.increment("jobs", tags={"user": "u"})
    instrument = Counter("jobs", {"user": "u"}, metrics=metrics)
    instrument.increment()
    metrics.declare("jobs", "counter", tag_keys=["queue"])
    with pytest.raises(InvalidTags):
        metrics.increment("jobs", tags={"user": "u"})
    with pytest.raises(InvalidTags):
        instrument.increment()
    assert metrics.query("jobs", aggregation="sum") == 3


def test_samples_of_an_instrument_with_undeclared_tags_can_be_dropped(
    make: Make,
) -> None:
    metrics = make(on_invalid="drop")
    metrics.declare("jobs", "counter", tag_keys=["queue"])
    instrument = Counter("jobs", {"user": "u"}, metrics=metrics)
    instrument.increment()
    instrument.increment(1.5)
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


def test_the_definition_of_another_process_wins_and_is_logged_and_counted(
    make: Make, caplog: pytest.LogCaptureFixture
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
