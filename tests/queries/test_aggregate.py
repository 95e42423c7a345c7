"""Aggregations, compared with plain Python, and empty results."""

import math
import time
from typing import Any

import pytest

from redismetrics import (
    Gauge,
    Metrics,
)
from tests.fixtures.queries import (
    AGGREGATIONS,
    BASE,
    VALUES,
    at,
    expected,
)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_aggregations_match_plain_python(metrics: Metrics, kind: Any, aggregation: str) -> None:
    for number, value in enumerate(VALUES):
        metrics.record("m", value, type=kind, timestamp=at(number))
    found = metrics.query("m", aggregation=aggregation, window=(at(0), at(50)))
    assert found == pytest.approx(
        expected(aggregation, VALUES, 50, counter=kind == "counter"), rel=1e-13
    )


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equal_increments_are_counted_one_by_one(metrics: Metrics, aggregation: str) -> None:
    for amount in (1, 1, 1, 2, 2, 5):
        metrics.increment("jobs", amount)
    now = time.time()
    found = metrics.query("jobs", aggregation=aggregation, window=(now - 60, now + 60))
    values = [1.0, 1.0, 1.0, 2.0, 2.0, 5.0]
    # The rate is up to now, since the rest of the window is in the future.
    if aggregation == "rate":
        assert 12 / 60 >= found > 12 / 70
    else:
        assert found == pytest.approx(expected(aggregation, values, 60), rel=1e-13)


def test_sum_of_a_counter_is_an_int_if_it_is_whole(metrics: Metrics) -> None:
    metrics.increment("jobs", 2)
    metrics.increment("jobs", 3)
    metrics.histogram("size", 5.0)
    assert repr(metrics.query("jobs", aggregation="sum")) == "5"
    assert repr(metrics.query("jobs", aggregation="count")) == "2"
    assert repr(metrics.query("size", aggregation="sum")) == "5.0"


def test_rate_of_an_open_window_covers_first_sample_to_now(metrics: Metrics) -> None:
    began = time.time()
    metrics.increment("jobs", 6, timestamp=at(0))
    metrics.increment("jobs", 4, timestamp=at(60))
    least = 10 / (time.time() + 1 - BASE)
    assert least < metrics.query("jobs", aggregation="rate") <= 10 / (began - BASE)


def test_last_is_the_newest_timestamp_not_the_latest_arrival(metrics: Metrics) -> None:
    metrics.gauge("depth", 2, timestamp=at(20))
    metrics.flush()
    metrics.gauge("depth", 1, timestamp=at(10))
    assert metrics.query("depth", aggregation="last") == 2
    assert metrics.query("depth", aggregation="last", window=(None, at(20))) == 1


@pytest.mark.parametrize("flush_between", [False, True])
def test_last_of_equal_timestamps_is_the_latest_arrival(
    metrics: Metrics, flush_between: bool
) -> None:
    for value in (3, 1, 2):
        metrics.gauge("depth", value, timestamp=at(0))
        if flush_between:
            metrics.flush()
    assert metrics.query("depth", aggregation="last") == 2


@pytest.mark.parametrize("first", ["many", "one"])
def test_last_of_equal_timestamps_is_the_latest_arrival_beside_compressed_samples(
    metrics: Metrics, first: str
) -> None:
    flushes = [
        [float(value) for value in range(150)],
        [7.5],
    ]  # 150 in one flush are more than are kept one by one
    for values in flushes if first == "many" else reversed(flushes):
        for value in values:
            metrics.gauge("depth", value, timestamp=at(0))
        metrics.flush()
    assert metrics.query("depth", aggregation="last") == (7.5 if first == "many" else 149)


def test_last_is_the_current_value_of_a_gauge_of_all_clients(
    metrics: Metrics, other: Metrics
) -> None:
    metrics.gauge("depth", 10)
    metrics.flush()
    other.gauge("depth", 20)
    assert (
        other.query("depth", aggregation="last") == metrics.query("depth", aggregation="last") == 20
    )


def test_change_of_a_gauge_is_added_to_the_shared_value(metrics: Metrics, other: Metrics) -> None:
    mine, theirs = Gauge("depth", metrics=metrics), Gauge("depth", metrics=other)
    mine.set(10)
    metrics.flush()
    theirs.add(5)
    theirs.add(2.5)
    other.flush()
    mine.add(-1)
    assert metrics.query("depth", aggregation="last") == 16.5
    assert [sample.value for sample in other.query("depth")] == [
        10,
        17.5,
        16.5,
    ]  # one sample a flush
    assert other.live("depth")[0].series[0].value == 16.5


def test_values_near_the_largest_float_raise_no_warning(metrics: Metrics) -> None:
    for value in (1.7e308, -1.7e308, 1.6e308):
        metrics.histogram("big", value)
    found = metrics.rollup(
        "big", aggregations=("count", "min", "max", "last", "stddev", "p50"), window=None
    )[""]
    wanted = {
        "count": 3,
        "min": -1.7e308,
        "max": 1.7e308,
        "last": 1.6e308,
        "stddev": math.inf,
        "p50": 1.6e308,
    }
    assert found == wanted


@pytest.mark.parametrize("known", [True, False])
def test_result_without_samples_is_zero_none_or_empty(metrics: Metrics, known: bool) -> None:
    if known:
        metrics.increment("jobs")
    window = (at(0), at(1))
    for aggregation in AGGREGATIONS:
        zero = 0 if aggregation in ("count", "sum", "rate") else None
        assert metrics.query("jobs", aggregation=aggregation, window=window) == zero, aggregation
        assert (
            metrics.query("jobs", aggregation=aggregation, window=window, group_by="tenant") == []
        )
    assert metrics.query("jobs", window=window) == []
    assert metrics.query("jobs", window=window, group_by="tenant") == []
    assert metrics.rollup("jobs", window=window) == {}
    assert metrics.get_metrics(name="jobs", since=at(0), until=at(1))["metrics"] == []
    digest = metrics.digest("jobs", window=window)
    assert digest.count == 0
    assert math.isnan(digest.percentile(50))
    assert metrics.tag_values("jobs", "tenant") == []
    assert metrics.live("jobs" if not known else "other") == []


@pytest.mark.parametrize(
    "group_by", ["model", ["model"], ("model", "model"), iter(["model"])], ids=type
)
def test_groups_are_sorted_with_a_missing_tag_first(grouped: Metrics, group_by: Any) -> None:
    assert grouped.query("score", aggregation="sum", group_by=group_by) == [
        {"model": None, "sum": 16},
        {"model": "llama-3.1", "sum": 14},
        {"model": "qwen", "sum": 33},
    ]


def test_groups_by_two_tags_are_sorted_by_both(grouped: Metrics) -> None:
    found = grouped.query("score", aggregation="sum", group_by=["model", "dataset"])
    assert [tuple(row.values()) for row in found] == [
        (None, None, 16),
        ("llama-3.1", None, 8),
        ("llama-3.1", "scifact", 6),
        ("qwen", "", 32),
        ("qwen", "fever", 1),
    ]
    assert list(found[0]) == ["model", "dataset", "sum"]
    found = grouped.query("score", aggregation="sum", group_by=["dataset", "model"])
    assert [tuple(row.values()) for row in found] == [
        (None, None, 16),
        (None, "llama-3.1", 8),
        ("", "qwen", 32),
        ("fever", "qwen", 1),
        ("scifact", "llama-3.1", 6),
    ]


def test_tag_that_no_series_has_is_one_group(grouped: Metrics) -> None:
    assert grouped.query("score", aggregation="count", group_by="nobody") == [
        {"nobody": None, "count": 6}
    ]
