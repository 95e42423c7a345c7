"""Queries of metrics with `exact_samples`: percentiles, intervals and lists from single samples."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest
import redis

from redismetrics import Metrics, OutsideRetention
from redismetrics.model.options import Options
from redismetrics.store import catalog
from redismetrics.store.driver import run
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.training import curve, expected, loss, start, train
from tests.fixtures.workers import pull_forward

# Seconds. The namespace keeps exact samples for an hour.
SHORT = {"raw_retention": 3_600}


@pytest.fixture
def fill(
    make_metrics: MakeMetrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str
) -> Callable[..., Metrics]:
    """Return a function that records 3,000 steps of 2 runs that long ago, and works on them."""

    def fill(seconds: float, **options: object) -> Metrics:
        metrics = make_metrics(**SHORT)
        metrics.declare("loss", "gauge", **options)  # type: ignore[arg-type]
        train(metrics, range(2), range(3_000), start(seconds))
        metrics.flush()
        worker = make_worker(**SHORT)
        for _ in range(3):
            worker.pass_once(alone=True)
            pull_forward(admin, namespace)
        assert worker.counts.last_error is None
        return metrics

    return fill


def values(of: range = range(2)) -> list[float]:
    return [loss(number, step) for number in of for step in range(3_000)]


@pytest.mark.parametrize("rank", [1, 50, 99.9])
def test_percentiles_are_those_of_the_samples(fill: Callable[..., Metrics], rank: float) -> None:
    metrics = fill(1_200, exact_samples=True)
    found = metrics.query("loss", aggregation=f"p{rank}", window="1h")
    assert found == pytest.approx(np.percentile(values(), rank), rel=1e-12)


def test_percentiles_of_intervals_are_those_of_the_samples(fill: Callable[..., Metrics]) -> None:
    metrics = fill(1_200, exact_samples=True)
    rows = metrics.time_series("loss", interval="1m", aggregation="p50", window="1h")
    began = start(1_200)
    medians = [
        statistics.median(
            loss(number, step) for number in range(2) for step in range(first, first + 1_200)
        )
        for first in (0, 1_200)
    ]
    assert [row["p50"] for row in rows if row["p50"] is not None][:2] == pytest.approx(medians)
    assert len([row for row in rows if row["timestamp"].timestamp() >= began]) <= 22


def test_digest_has_every_value(fill: Callable[..., Metrics]) -> None:
    metrics = fill(1_200, exact_samples=True)
    assert metrics.digest("loss", window="1h").percentile(50) == pytest.approx(
        np.percentile(values(), 50), rel=1e-12
    )


def test_samples_are_listed_beyond_the_retention_of_the_namespace(
    fill: Callable[..., Metrics],
) -> None:
    metrics = fill(5 * 3_600, exact_samples=True, retention=86_400)
    for number in range(2):
        found = metrics.query("loss", tags={"run": f"r{number}"}, window="12h")
        assert curve(found) == expected(number, range(3_000))
    newest = metrics.get_metrics(name="loss", limit=3)
    assert [sample["metadata"]["step"] for sample in newest["metrics"]] == [2_999, 2_999, 2_998]
    rows = metrics.time_series("loss", interval="10s", aggregation="count", window="12h")
    assert [row["count"] for row in rows if row["count"]] == [400] * 15


def test_without_retention_the_namespace_decides(fill: Callable[..., Metrics]) -> None:
    metrics = fill(5 * 3_600, exact_samples=True)
    found = metrics.query("loss", window="12h")
    assert not any(sample.metadata for sample in found)
    assert sum(sample.count for sample in found) == 6_000
    with pytest.raises(OutsideRetention):
        metrics.time_series("loss", interval="10s", aggregation="count", window="12h")


def test_nothing_is_missing_where_a_longer_retention_came_too_late(
    fill: Callable[..., Metrics], admin: redis.Redis, namespace: str
) -> None:
    metrics = fill(5 * 3_600, exact_samples=True)
    # The minutes and samples of that time may be gone when this is said, as here.
    gone = list(admin.scan_iter(f"rm:{{{namespace}:0}}:loss:[rm]*:*"))
    assert gone
    admin.delete(*gone)
    run(admin, catalog.set_options(namespace, 0, "loss", Options(retention=86_400.0)))
    found = metrics.query("loss", window="12h")
    assert sum(sample.count for sample in found) == 6_000
    assert metrics.query("loss", aggregation="count", window="12h") == 6_000
