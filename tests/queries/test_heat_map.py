"""Heat maps: every sample counts once, in the bucket and interval of its value and time."""

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import redis

from redismetrics import InvalidQuery, Metrics, OutsideRetention, TooManyRows, UnknownWindow
from redismetrics.queries.heat_map import bucket_edges
from tests.fixtures.clients import MakeWorker
from tests.fixtures.queries import DAY, HOUR, at, moment
from tests.fixtures.workers import pull_forward

LARGEST = float(np.finfo(np.float64).max)


def counted(found: dict[str, Any], time: Any, value: float) -> int:
    """Return the count of the bucket that contains *value*."""
    edges = found["edges"]
    bucket = min(int(np.searchsorted(edges, value, side="right")) - 1, len(edges) - 2)
    return int(found["counts"][found["times"].index(time)][bucket])


def test_every_sample_is_in_the_bucket_of_its_value(metrics: Metrics) -> None:
    samples = [(0, 0.5), (59, 0.5), (60, 3.0), (61, 100.0), (150, 0.52), (150, 7.0)]
    for seconds, value in samples:
        metrics.histogram("took", value, tags={"odd": str(value > 5)}, timestamp=at(seconds))
    window = (at(0), at(240))
    found = metrics.heat_map("took", interval="minute", window=window)
    assert found["times"] == [moment(seconds) for seconds in (0, 60, 120, 180)]
    assert found["interval"] == 60
    edges = found["edges"]
    assert edges == sorted(set(edges))
    assert edges[0] <= 0.5
    assert edges[-1] > 100
    assert len(edges) <= 45
    assert [sum(each) for each in found["counts"]] == [2, 2, 2, 0]
    assert {len(each) for each in found["counts"]} == {len(edges) - 1}
    assert counted(found, moment(0), 0.5) == 2
    for seconds, value in ((60, 3.0), (60, 100.0), (120, 0.52), (120, 7.0)):
        assert counted(found, moment(seconds), value) == 1
    odd = metrics.heat_map("took", interval="minute", window=window, tags={"odd": "True"})
    assert [sum(each) for each in odd["counts"]] == [0, 1, 1, 0]
    assert metrics.heat_map("took", interval=timedelta(minutes=1), window=window) == found


def test_counts_add_up_to_those_of_time_series_in_rollups_too(
    metrics: Metrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str
) -> None:
    generator = np.random.default_rng(7)
    values = generator.lognormal(3, 1, 3000)
    for number, value in enumerate(values):
        seconds = number * 3 * HOUR / len(values)
        metrics.histogram("took", value, tags={"host": f"h{number % 3}"}, timestamp=at(seconds))
    metrics.flush()

    def check(interval: str) -> None:
        window = (at(0), at(3 * HOUR))
        found = metrics.heat_map("took", interval=interval, window=window)
        rows = metrics.time_series("took", interval=interval, window=window, fill=True)
        assert found["times"] == [row["timestamp"] for row in rows]
        assert [sum(each) for each in found["counts"]] == [row["count"] for row in rows]
        # The same shape as that of the values, within a bucket on either side.
        totals = np.array(found["counts"]).sum(axis=0)
        exact = np.histogram(values, found["edges"])[0]
        assert np.abs(np.cumsum(totals) - np.cumsum(exact)).max() <= 0.02 * len(values)

    check("5m")
    worker = make_worker()
    for _ in range(3):
        worker.pass_once(alone=True)
        pull_forward(admin, namespace)
    assert worker.counts.last_error is None
    for interval in ("5m", "hour"):
        check(interval)


@pytest.mark.parametrize("type", ["counter", "gauge"])
def test_every_type_with_values_has_a_heat_map(metrics: Metrics, type: str) -> None:
    for value in (1, 1, 9):
        metrics.record("load", value, type=type, timestamp=at(0))
    found = metrics.heat_map("load", interval="minute", window=(at(0), at(60)))
    assert [sum(each) for each in found["counts"]] == [3]


def test_nothing_recorded_is_a_map_without_buckets(metrics: Metrics) -> None:
    window = (at(0), at(120))
    found = metrics.heat_map("nobody", interval="minute", window=window)
    assert (found["edges"], found["counts"]) == ([], [[], []])
    assert metrics.heat_map("nobody", window=None)["times"] == []


def test_invalid_arguments_of_rules_are_rejected(metrics: Metrics) -> None:
    for buckets in (3, 201, 4.0, True, "10"):
        with pytest.raises(InvalidQuery, match="buckets must be a whole number from 4 to 200"):
            metrics.heat_map("took", buckets=buckets)  # type: ignore[arg-type]
    with pytest.raises(UnknownWindow, match="interval must be"):
        metrics.heat_map("took", interval="fortnight")
    metrics.histogram("took", 1.0)
    with pytest.raises(OutsideRetention):
        metrics.heat_map("took", interval="minute", window=(at(-30 * DAY), at(0)))
    metrics.internals.limit_rows(400)
    assert metrics.heat_map("took", interval="minute", window="5m", buckets=40)["edges"]
    with pytest.raises(TooManyRows, match="at most 400 cells"):
        metrics.heat_map("took", interval="minute", window="1h", buckets=40)


@pytest.mark.parametrize("buckets", [4, 20, 44, 200])
@pytest.mark.parametrize(
    "values",
    [
        [5.0],
        [1.0, 2.0, 1024.0],
        [0.001, 250.0],
        [1e-300, 1e300],
        [5e-324, LARGEST],
        [0.0],
        [0.0, 5.0],
        [0.0, 1e-9, 3e9],
        [-3.0, 40.0],
        [-7.0],
        [-1e15, -1e15 + 1],
        [-LARGEST, LARGEST],
        [-5e-324, 0.0],
    ],
    ids=str,
)
def test_buckets_hold_all_values_and_are_few(values: list[float], buckets: int) -> None:
    low, high = min(values), max(values)
    least = min((value for value in values if value > 0), default=high)
    edges = bucket_edges(low, high, least, buckets)
    assert edges[0] <= low <= high <= edges[-1]
    assert (np.diff(edges) > 0).all()
    assert 2 <= len(edges) <= buckets + 1
    assert all(math.isfinite(edge) for edge in edges)


def test_edges_are_stable_under_small_changes() -> None:
    assert list(bucket_edges(1.1, 900.0, 1.1, 20)) == list(bucket_edges(1.3, 950.0, 1.3, 20))
    assert list(bucket_edges(1.0, 100.0, 1.0, 7)) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert list(bucket_edges(-3.0, 40.0, 40.0, 10)) == list(range(-5, 46, 5))
    assert list(bucket_edges(0.0, 9.0, 1.0, 5)) == [0, 1, 2, 4, 8, 16]
