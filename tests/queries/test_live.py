"""The current state of all series."""

import pytest

from redismetrics import (
    Metrics,
)
from tests.fixtures.queries import at
from tests.fixtures.servers import wait_until


def test_live_returns_totals_since_the_series_began(metrics: Metrics, other: Metrics) -> None:
    metrics.declare("size", "histogram", buckets=[1, 2, 5])
    for client in (metrics, other):
        client.increment("jobs", 5, tags={"a": 1}, timestamp=at(0))
        for value in (0.5, 1.0, 1.5, 7.0):
            client.histogram("size", value)
        client.gauge("depth", 3 if client is metrics else 4)
        client.flush()
    families = {family.name: family for family in metrics.live()}
    assert families.keys() == {"jobs", "size", "depth"}
    (jobs,), (size,), (depth,) = (families[name].series for name in ("jobs", "size", "depth"))
    assert (jobs.value, jobs.tags) == (10, {"a": "1"})
    assert (size.value, size.count, size.buckets) == (20, 8, (4, 2, 0))
    assert depth.value == 4
    assert metrics.live("jobs")[0].series == [jobs]


def test_late_value_of_a_gauge_does_not_replace_a_newer_one(metrics: Metrics) -> None:
    metrics.gauge("depth", 2, timestamp=at(20))
    metrics.flush()
    metrics.gauge("depth", 1, timestamp=at(10))
    metrics.flush()
    assert (
        metrics.live("depth")[0].series[0].value == metrics.query("depth", aggregation="last") == 2
    )


def test_live_counts_beyond_the_exact_range_of_a_float(metrics: Metrics) -> None:
    for amount in (2.0**53, 1.0, 1.0):
        metrics.increment("jobs", amount)
        metrics.flush()
    assert metrics.live("jobs")[0].series[0].value == 2**53 + 2


@pytest.mark.slow
def test_live_leaves_out_idle_series(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, series_idle=1) as metrics:
        metrics.increment("jobs", tags={"a": 1})
        metrics.flush()
        assert len(metrics.live("jobs")[0].series) == 1
        wait_until(lambda: metrics.live("jobs")[0].series == [], "a series is idle for a second")
        metrics.increment("jobs", tags={"a": 1})
        assert metrics.live("jobs")[0].series[0].value == 2  # it goes on from its total
