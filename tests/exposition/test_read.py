"""`live()`: the current values of all series, read from Redis."""

import time

from redismetrics import Metrics
from redismetrics.exposition.families import SeriesState
from tests.fixtures.servers import Server


def test_live_returns_the_current_value_of_every_series(
    server: Server, metrics: Metrics, other: Metrics
) -> None:
    with server.client() as client:
        began = client.time()[0] * 1000
    metrics.declare(
        "took", "histogram", unit="seconds", buckets=(0.5, 1), help="How long", tag_keys=["queue"]
    )
    metrics.histogram("took", 0.5, tags={"queue": "mail"})
    metrics.flush()
    other.increment("jobs", 2, tags={"queue": "mail"}, timestamp=time.time() - 1_000)
    other.increment("jobs", 3, tags={"queue": "mail"})
    other.gauge("depth", -2.5)
    other.flush()
    metrics.histogram("took", 7, tags={"queue": "mail"})
    metrics.histogram("took", 0.75, tags={"queue": "mail"})
    found = metrics.live()
    with server.client() as client:
        ended = (client.time()[0] + 1) * 1000
    assert [family.name for family in found] == [
        "took",
        "jobs",
        "depth",
    ]  # in the order first recorded
    took, jobs, depth = (family.series for family in found)
    seen = [series[0].seen_ms for series in (took, jobs, depth)]
    assert all(began <= moment <= ended for moment in seen)
    assert took == [SeriesState({"queue": "mail"}, seen[0], 8.25, 3, (1, 1))]
    assert jobs == [SeriesState({"queue": "mail"}, seen[1], 5)]
    assert depth == [SeriesState({}, seen[2], -2.5)]
    definition = found[0].definition
    assert (definition.unit, definition.help, definition.buckets, definition.tag_keys) == (
        "seconds",
        "How long",
        (0.5, 1.0),
        ("queue",),
    )


def test_live_of_one_metric_and_of_none(metrics: Metrics) -> None:
    assert metrics.live() == metrics.live("jobs") == []
    metrics.increment("jobs")
    metrics.increment("other")
    assert [family.name for family in metrics.live("jobs")] == ["jobs"]
    assert metrics.live("nobody") == []


def test_live_has_all_of_many_series(metrics: Metrics) -> None:
    for number in range(500):
        metrics.increment("jobs", number, tags={"n": number})
    (family,) = metrics.live("jobs")
    assert {live.tags["n"]: live.value for live in family.series} == {
        str(number): number for number in range(500)
    }
