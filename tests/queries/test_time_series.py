"""Time series: intervals, groups and filling."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redismetrics import (
    InvalidQuery,
    Metrics,
)
from tests.fixtures.queries import DAY, HOUR, at, moment


@pytest.mark.parametrize(
    ("interval", "width"),
    [
        ("minute", 60),
        ("hour", HOUR),
        ("day", DAY),
        ("5m", 300),
        ("90s", 90),
        ("2h", 2 * HOUR),
        (timedelta(minutes=7), 420),
    ],
    ids=str,
)
def test_intervals_are_aligned_to_multiples_of_their_width(
    metrics: Metrics, interval: Any, width: int
) -> None:
    offsets = [-0.001, 0, 59.999, 60, 61, 299.999, 300, 3599.999, 3600, 5000, 7199.999, 7200]
    for value, seconds in enumerate(offsets):
        metrics.gauge("depth", value, timestamp=at(seconds))
    expected: dict[float, list[float]] = {}
    for value, seconds in enumerate(offsets):
        expected.setdefault(at(seconds) // width * width, []).append(value)
    assert metrics.time_series(
        "depth", interval=interval, aggregations=["count", "sum", "last", "p50", "rate"]
    ) == [
        {
            "timestamp": datetime.fromtimestamp(start, UTC),
            "count": len(values),
            "sum": sum(values),
            "last": values[-1],
            "p50": statistics.median(values),
            "rate": pytest.approx(len(values) / width),
        }
        for start, values in sorted(expected.items())
    ]


def test_default_is_count_per_hour_of_the_last_day(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, max_age=50 * DAY, minute_retention=60 * DAY) as metrics:
        for timestamp in (at(0), at(10), at(HOUR), at(-2 * DAY)):
            metrics.increment("jobs", 5, timestamp=timestamp)
        assert metrics.time_series("jobs") == [
            {"timestamp": moment(0), "count": 2},
            {"timestamp": moment(HOUR), "count": 1},
        ]


def test_intervals_without_samples_are_left_out_or_filled(metrics: Metrics) -> None:
    metrics.gauge("depth", 4, timestamp=at(61))
    metrics.gauge("depth", 6, timestamp=at(200))
    options: Any = {
        "interval": "minute",
        "window": (at(30), at(241)),
        "aggregations": ["count", "sum", "rate", "mean", "last"],
    }
    assert [row["timestamp"] for row in metrics.time_series("depth", **options)] == [
        moment(60),
        moment(180),
    ]
    empty = {"count": 0, "sum": 0, "rate": 0, "mean": None, "last": None}
    one = {"count": 1, "rate": pytest.approx(1 / 60)}
    assert metrics.time_series("depth", **options, fill=True) == [
        {"timestamp": moment(0), **empty},
        {"timestamp": moment(60), **one, "sum": 4, "mean": 4, "last": 4},
        {"timestamp": moment(120), **empty},
        {"timestamp": moment(180), **one, "sum": 6, "mean": 6, "last": 6},
        {"timestamp": moment(240), **empty},
    ]


def test_filled_open_window_spans_first_to_last_sample(
    metrics: Metrics,
) -> None:
    for seconds in (0, 180):
        metrics.increment("jobs", timestamp=at(seconds))
    found = metrics.time_series("jobs", interval="minute", window=None, fill=True)
    assert [row["count"] for row in found] == [1, 0, 0, 1]
    found = metrics.time_series("jobs", interval="minute", window=(at(-60), None), fill=True)
    assert [row["count"] for row in found] == [0, 1, 0, 0, 1]


def test_filled_last_24_hours_has_every_hour_up_to_now(metrics: Metrics) -> None:
    metrics.increment("jobs")
    found = metrics.time_series("jobs", fill=True)
    assert len(found) == 25  # the first one is partial
    assert found[-1]["count"] == 1
    starts = [row["timestamp"] for row in found]
    assert starts == [starts[0] + timedelta(hours=number) for number in range(25)]


@pytest.mark.parametrize("known", [True, False])
def test_filled_series_without_samples_is_zeros(metrics: Metrics, known: bool) -> None:
    if known:
        metrics.increment("jobs")
    window = (at(0), at(120))
    assert metrics.time_series("jobs", interval="minute", window=window, fill=True) == [
        {"timestamp": moment(0), "count": 0},
        {"timestamp": moment(60), "count": 0},
    ]
    assert (
        metrics.time_series("jobs", window=window)
        == metrics.time_series("jobs", window=None, tags={"no": "1"})
        == []
    )


def test_grouped_series_is_sorted_by_time_then_group_and_filled(
    metrics: Metrics,
) -> None:
    for seconds, tenant in ((0, "b"), (1, None), (60, "b"), (61, "a"), (180, "a")):
        metrics.increment("jobs", tags={"tenant": tenant}, timestamp=at(seconds))
    options: Any = {"interval": "minute", "group_by": "tenant", "window": (at(0), at(240))}
    assert metrics.time_series("jobs", **options) == [
        {"timestamp": moment(0), "tenant": None, "count": 1},
        {"timestamp": moment(0), "tenant": "b", "count": 1},
        {"timestamp": moment(60), "tenant": "a", "count": 1},
        {"timestamp": moment(60), "tenant": "b", "count": 1},
        {"timestamp": moment(180), "tenant": "a", "count": 1},
    ]
    filled = metrics.time_series("jobs", **options, fill=True)
    assert [(row["timestamp"], row["tenant"]) for row in filled] == [
        (moment(60 * minute), tenant) for minute in range(4) for tenant in (None, "a", "b")
    ]
    assert [row["count"] for row in filled] == [1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0]


def test_filling_too_many_intervals_is_rejected(metrics: Metrics) -> None:
    metrics.increment("jobs")
    day_and_more = (time.time() - 7 * 3600, time.time() + 23 * 3600)
    with pytest.raises(
        InvalidQuery,
        match=r"fill must yield at most 100000 intervals, got 10800[01]; use a wider interval",
    ):
        metrics.time_series("jobs", interval="1s", window=day_and_more, fill=True)
    assert len(metrics.time_series("jobs", interval="1s", window=day_and_more)) == 1
