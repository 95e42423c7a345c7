"""Deletion of metrics and of everything in a namespace."""

from typing import Any

import pytest

from redismetrics import (
    InvalidQuery,
    Metrics,
)
from redismetrics.store.keys import metric
from tests.fixtures.servers import Server


def test_delete_metric_deletes_one(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs", 5, tags={"a": 1})
    metrics.increment("kept")
    other.increment("jobs", 7, tags={"a": 2})
    other.flush()
    assert metrics.delete_metric("jobs") is True
    assert metrics.delete_metric("jobs") is False
    assert metrics.query("jobs", aggregation="sum") == other.query("jobs", aggregation="sum") == 0
    assert metrics.tag_values("jobs", "a") == []
    assert [family.name for family in metrics.live()] == ["kept"]
    assert metrics.query("kept", aggregation="sum") == 1
    other.increment("jobs", 1, tags={"a": 2})
    assert other.live("jobs")[0].series[0].value == 1


def test_deleted_metric_can_be_recorded_as_another_type(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs")
    metrics.delete_metric("jobs")
    other.gauge("jobs", 3)
    assert other.query("jobs", aggregation="last") == 3
    assert [row["type"] for row in metrics.list_metrics()] == ["gauge"]


def test_clear_deletes_only_its_namespace(metrics: Metrics, url: str) -> None:
    with Metrics(url, namespace=metrics.settings.namespace + ".2") as neighbour:
        neighbour.increment("jobs")
        neighbour.flush()
        metrics.increment("jobs")
        metrics.gauge("depth", 1)
        metrics.flush()
        assert metrics.clear(confirm=True) == 2
        assert metrics.list_metrics() == []
        assert metrics.query("jobs", aggregation="sum") == 0
        assert neighbour.query("jobs", aggregation="sum") == 1


def test_clear_deletes_unsent_samples(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.clear(confirm=True)
    assert metrics.query("jobs", aggregation="sum") == 0


@pytest.mark.parametrize("options", [{}, {"confirm": False}, {"confirm": 1}, {"confirm": "yes"}])
def test_clear_requires_confirmation(nowhere: Metrics, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery, match="confirm=True"):
        nowhere.clear(**options)


def test_all_clients_record_into_the_right_series_after_a_clear(
    metrics: Metrics, other: Metrics
) -> None:
    for client in (metrics, other):
        for tenant in ("a", "b", "c"):
            client.increment("jobs", tags={"tenant": tenant})
        client.flush()
    metrics.clear(confirm=True)
    # In another order than before, so that a reused id would show.
    metrics.increment("jobs", 10, tags={"tenant": "c"})
    metrics.flush()
    other.increment("jobs", 20, tags={"tenant": "b"})
    other.increment("jobs", 30, tags={"tenant": "a"})
    other.flush()
    expected = [{"tenant": "a", "sum": 30}, {"tenant": "b", "sum": 20}, {"tenant": "c", "sum": 10}]
    assert metrics.query("jobs", aggregation="sum", group_by="tenant") == expected
    assert other.query("jobs", aggregation="sum", group_by="tenant") == expected


def test_series_ids_are_never_reused(server: Server, metrics: Metrics) -> None:
    used: list[int] = []
    of = metric(metrics.settings.namespace, 0, "jobs")
    with server.client() as client:
        for _ in range(3):
            for tenant in ("a", "b"):
                metrics.increment("jobs", tags={"tenant": tenant})
            metrics.flush()
            used += [int(number) for number in client.hvals(of.series)]
            metrics.clear(confirm=True)
    assert len(used) == len(set(used)) == 6
