"""JSON-ready results: the `get_...` methods and `to_json`."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redismetrics import (
    Gap,
    Metrics,
    Sample,
    Summary,
)
from tests.fixtures.queries import (
    at,
    moment,
)


def test_get_metrics_returns_the_newest_of_all_metrics_first(metrics: Metrics) -> None:
    metrics.gauge("depth", 1, timestamp=at(1))
    metrics.histogram("size", 2.5, timestamp=at(3), tags={"a": "b"}, metadata={"note": "x"})
    metrics.increment("jobs", 3, timestamp=at(2))
    found = metrics.get_metrics()
    assert found["metrics"] == [
        {
            "name": "size",
            "type": "histogram",
            "value": 2.5,
            "tags": {"a": "b"},
            "timestamp": moment(3).isoformat(),
            "metadata": {"note": "x"},
        },
        {
            "name": "jobs",
            "type": "counter",
            "value": 3,
            "tags": {},
            "timestamp": moment(2).isoformat(),
            "metadata": {},
        },
        {
            "name": "depth",
            "type": "gauge",
            "value": 1,
            "tags": {},
            "timestamp": moment(1).isoformat(),
            "metadata": {},
        },
    ]
    assert found["count"] == 3
    assert abs(datetime.fromisoformat(found["timestamp"]) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    assert json.loads(metrics.to_json(found)) == found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"limit": 2}, [5, 4]),
        ({"limit": 0}, []),
        ({"limit": 10**9}, [5, 4, 3, 2, 1]),
        ({"name": "depth"}, [5, 3, 1]),
        ({"type": "histogram"}, [4, 2]),
        ({"type": "counter"}, []),
        ({"name": "depth", "type": "histogram"}, []),
        ({"tags": {"odd": True}}, [5, 3, 1]),
        ({"tags": {"odd": None}}, [4, 2]),
        ({"since": at(2), "until": at(4)}, [3, 2]),
        ({"since": moment(4)}, [5, 4]),
        ({"until": at(2), "limit": 5}, [1]),
        ({"name": "nobody"}, []),
    ],
    ids=str,
)
def test_get_metrics_accepts_filters_and_a_limit(
    metrics: Metrics, options: dict[str, Any], expected: list[int]
) -> None:
    for value in range(1, 6):
        if value % 2:
            metrics.gauge("depth", value, tags={"odd": True}, timestamp=at(value))
        else:
            metrics.histogram("size", value, timestamp=at(value))
    found = metrics.get_metrics(**options)
    assert [row["value"] for row in found["metrics"]] == expected
    assert found["count"] == len(expected)


def test_get_metrics_lists_increments_one_by_one_up_to_the_limit(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.increment("jobs")
    metrics.increment("jobs", 5, timestamp=at(0))
    assert [row["value"] for row in metrics.get_metrics(name="jobs")["metrics"]] == [1, 1, 1, 5]
    assert [row["value"] for row in metrics.get_metrics(name="jobs", limit=2)["metrics"]] == [1, 1]
    for _ in range(5000):
        metrics.increment("jobs")
    assert metrics.get_metrics()["count"] == 1000  # the limit unless told otherwise


def test_get_aggregation_returns_the_result_and_its_arguments(grouped: Metrics) -> None:
    found = grouped.get_aggregation("score", aggregation="sum", group_by="model", window="last_24h")
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "results": grouped.query("score", aggregation="sum", group_by="model"),
        "aggregation": "sum",
        "group_by": ["model"],
        "window": "last_24h",
    }
    assert grouped.get_aggregation("score", aggregation="count")["results"] == 6
    samples = grouped.get_aggregation("score", window=(at(0), moment(1)))
    assert samples["window"] == [moment(0).isoformat(), moment(1).isoformat()]
    assert samples["results"] == [
        {
            "name": "score",
            "type": "gauge",
            "value": 1,
            "tags": {"dataset": "fever", "model": "qwen"},
            "timestamp": moment(0).isoformat(),
            "metadata": {},
        }
    ]
    assert json.loads(grouped.to_json(samples)) == samples  # the original could not encode these


def test_get_time_series_returns_times_as_text(grouped: Metrics) -> None:
    found = grouped.get_time_series(
        "score", aggregation="max", group_by="dataset", tags={"model": "qwen"}
    )
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "series": [
            {"timestamp": moment(0).isoformat(), "dataset": "", "max": 32},
            {"timestamp": moment(0).isoformat(), "dataset": "fever", "max": 1},
        ],
        "interval": "hour",
        "aggregation": "max",
        "window": "last_24h",
    }
    several = grouped.get_time_series(
        "score", aggregations=["min", "max"], interval=timedelta(hours=1), window=None
    )
    assert several["aggregation"] == ["min", "max"]
    assert json.loads(grouped.to_json(several)) == several


def test_get_rollups_returns_the_rollup_and_its_arguments(grouped: Metrics) -> None:
    found = grouped.get_rollups(
        "score", group_by=["model"], aggregations=["count", "p95"], window="2d"
    )
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "rollups": grouped.rollup("score", group_by=["model"], aggregations=["count", "p95"]),
        "group_by": ["model"],
        "aggregations": ["count", "p95"],
        "window": "2d",
    }
    assert grouped.get_rollups("score")["aggregations"] == ["mean", "count"]


def test_get_stats_counts_stored_and_recorded_samples(metrics: Metrics, other: Metrics) -> None:
    for number in range(3):
        metrics.increment("jobs", tags={"n": number})
    other.gauge("depth", 1)
    other.flush()
    found = metrics.get_stats()
    assert found.keys() == {"storage", "recorder", "timestamp"}
    storage, recorder = found["storage"], found["recorder"]
    assert (storage["total_metrics"], storage["metrics_stored"], storage["metrics_pruned"]) == (
        4,
        4,
        0,
    )
    assert (storage["names"], storage["series"], storage["blocks"], storage["writers"]) == (
        2,
        4,
        2,
        2,
    )
    assert storage["retention_hours"] == 24
    assert storage["memory_bytes"] > 0 < storage["bytes"]["log"]
    assert recorder["metrics_recorded"] == recorder["recorded"] == recorder["stored"] == 3
    assert json.loads(metrics.to_json(found)) == found


def test_to_json_accepts_every_result(grouped: Metrics) -> None:
    grouped.increment("jobs", tags={"model": "ü"})
    assert json.loads(grouped.to_json(grouped.query("score", aggregation="mean"))) == 10.5
    assert json.loads(grouped.to_json(grouped.query("jobs")))[0]["tags"] == {"model": "ü"}
    assert "ü" in grouped.to_json(grouped.query("jobs"))
    for answer in (
        grouped.time_series("score"),
        grouped.rollup("score", group_by="model"),
        grouped.list_metrics(),
    ):
        assert len(json.loads(grouped.to_json(answer))) == len(answer) > 0
    groups = json.loads(grouped.to_json(grouped.query("score", group_by="model")))
    assert groups[0]["samples"][0]["value"] == 16


def test_numbers_too_large_for_a_float_become_null_in_every_result() -> None:
    infinite, nan = float("inf"), float("nan")
    now = datetime.now(UTC)
    sample = Sample("depth", "gauge", infinite, 1, {}, now, {"note": nan})
    summary = Summary("depth", "gauge", {}, now, now, 2, infinite, 1.0, 1.7e308, nan)
    found = json.loads(Metrics.to_json([sample, {"inside": (summary,)}, Gap(now, now)]))
    assert found[0]["value"] is found[0]["metadata"]["note"] is None
    of_summary = found[1]["inside"][0]
    assert of_summary["sum"] is of_summary["mean"] is of_summary["last"] is None
    assert of_summary["max"] == 1.7e308
    assert found[2]["missed"] is None


def test_get_rollups_has_null_for_a_sum_too_large_for_a_float(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.histogram("huge", 1.7e308)
    found = metrics.get_rollups("huge", aggregations=["sum", "max"])
    assert found["rollups"] == {"": {"sum": None, "max": 1.7e308}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
