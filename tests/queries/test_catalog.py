"""The catalog: metrics, series and tags."""

from datetime import UTC, datetime, timedelta

from redismetrics import (
    Metrics,
)


def test_list_metrics_describes_metrics_by_name(metrics: Metrics) -> None:
    began = datetime.now(UTC)
    metrics.declare("size", "histogram", help="How big.", unit="bytes", max_series=5)
    metrics.histogram("size", 1)
    metrics.increment("jobs", tags={"a": 1})
    metrics.increment("jobs", tags={"a": 2})
    size, jobs = sorted(metrics.list_metrics(), key=lambda row: row["name"] != "size")
    assert [row["name"] for row in metrics.list_metrics()] == ["jobs", "size"]
    for row in (size, jobs):
        # In whole seconds, rounded down.
        assert began - timedelta(seconds=1) <= row.pop("last_seen") <= datetime.now(UTC)
    assert size == {
        "name": "size",
        "type": "histogram",
        "unit": "bytes",
        "help": "How big.",
        "series": 1,
        "options": {"max_series": 5},
    }
    assert jobs == {
        "name": "jobs",
        "type": "counter",
        "unit": "",
        "help": "",
        "series": 2,
        "options": {},
    }


def test_list_metrics_counts_many_series(metrics: Metrics) -> None:
    for number in range(100):
        metrics.increment("jobs", tags={"n": number})
    assert metrics.list_metrics()[0]["series"] == 100
    assert metrics.get_stats()["storage"]["series"] == 100


def test_tag_values_are_sorted(grouped: Metrics) -> None:
    assert grouped.tag_values("score", "dataset") == ["", "fever", "scifact"]
    assert grouped.tag_values("score", "nobody") == []


def test_empty_namespace_has_empty_results(metrics: Metrics) -> None:
    assert metrics.list_metrics() == metrics.live() == metrics.get_metrics()["metrics"] == []
    assert metrics.clear(confirm=True) == 0
    assert metrics.delete_metric("jobs") is False
    assert metrics.get_stats()["storage"]["total_metrics"] == 0
