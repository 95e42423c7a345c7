"""Metrics with `exact_samples`: workers keep every sample, for long, in few bytes."""

import time
from collections.abc import Callable

import pytest
import redis

from redismetrics import Metrics
from redismetrics.store import keys
from tests.fixtures.training import curve, expected, start, train
from tests.fixtures.workers import pull_forward
from tests.worker.tools import Make

DAY = 86_400


@pytest.fixture
def worked(make: Make, admin: redis.Redis, namespace: str) -> Callable[..., None]:
    """Return a function that does all work that is due; with ``all``, also work due later."""
    worker = make()

    def work(what: str = "") -> None:
        for _ in range(3):
            if what == "all":
                pull_forward(admin, namespace)
            worker.pass_once(alone=True)
        assert worker.counts.last_error is None

    return work


def raw_bytes(admin: redis.Redis, namespace: str) -> int:
    held = admin.hgetall(keys.rollup(namespace, 0, "loss").held)
    return sum(int(size) for name, size in held.items() if name.startswith(b"raw "))


@pytest.mark.slow
def test_crowded_minutes_keep_every_sample_with_its_step(
    metrics: Metrics, worked: Callable[..., None]
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True)
    began = start(1_200)
    # 1,200 a minute of each run; a minute is sealed in many parts.
    for first in range(0, 3_000, 250):
        train(metrics, range(3), range(first, first + 250), began)
        metrics.flush()
        worked()
    for _ in range(2):
        for run in range(3):
            found = metrics.query("loss", tags={"run": f"r{run}"}, window="1h")
            assert curve(found) == expected(run, range(3_000))
            assert not any(sample.approximate for sample in found)
        worked("all")
    assert metrics.query("loss", aggregation="count", window="1h") == 9_000


def test_crowded_minutes_of_other_metrics_are_compressed(
    metrics: Metrics, worked: Callable[..., None]
) -> None:
    train(metrics, [0], range(1_000), start(600))
    metrics.flush()
    worked()
    found = metrics.query("loss", window="1h")
    assert all(sample.approximate for sample in found if sample.count > 1)
    assert len(found) < 500


def test_sealed_sample_of_a_loss_takes_at_most_12_bytes(
    metrics: Metrics, admin: redis.Redis, namespace: str, worked: Callable[..., None]
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True)
    count = 0
    began = start(1_200)
    for first in range(0, 2_000, 500):
        count += train(metrics, range(10), range(first, first + 500), began)
        metrics.flush()
    worked()
    assert raw_bytes(admin, namespace) <= 12 * count
    worked("all")
    assert raw_bytes(admin, namespace) <= 12 * count


def test_samples_and_their_minutes_live_for_the_retention_of_the_metric(
    metrics: Metrics, admin: redis.Redis, namespace: str, worked: Callable[..., None]
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True, retention=400 * DAY)
    began = start(2 * 3_600)
    train(metrics, [0], range(200), began)
    metrics.flush()
    hour = int(began // 3_600 * 3_600)
    worked()
    raw = keys.data(namespace, 0, "loss", "raw", hour * 1_000)
    assert admin.ttl(raw) == pytest.approx(400 * DAY, abs=DAY)
    worked("all")
    for resolution in ("raw", "minute", "hour"):
        partition = hour if resolution != "hour" else hour // DAY * DAY
        key = keys.data(namespace, 0, "loss", resolution, partition * 1_000)
        left = admin.ttl(key)
        if resolution == "hour" and left == -1:
            continue  # The day over it is due, so it does not expire yet.
        assert left == pytest.approx(400 * DAY, abs=3 * DAY)


@pytest.mark.slow
def test_beyond_its_bytes_a_metric_is_compressed_again_and_counted(
    metrics: Metrics, make: Make, admin: redis.Redis, namespace: str
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True)
    worker = make(exact_bytes=1 << 16)
    began, count = start(1_800), 0
    for first in range(0, 12_000, 1_200):
        count += train(metrics, range(2), range(first, first + 1_200), began)
        metrics.flush()
        worker.pass_once(alone=True)
    assert raw_bytes(admin, namespace) < 2 << 16
    found = metrics.query("loss", tags={"run": "r0"}, window="1h")
    exact = [sample for sample in found if not sample.approximate and sample.metadata]
    assert curve(exact) == expected(0, range(len(exact)))
    assert 2_400 <= len(exact) <= 9_600
    storage = metrics.get_stats()["storage"]
    assert storage["metrics_inexact"] == count - 2 * len(exact)
    assert storage["metrics_dropped"] == {"never_sealed": 0, "late": 0}
    assert metrics.query("loss", aggregation="count", window="1h") == count


def test_an_option_given_later_applies_from_then_on(
    metrics: Metrics, worked: Callable[..., None]
) -> None:
    began = start(1_200)
    train(metrics, [0], range(1_200), began)
    metrics.flush()
    worked()
    metrics.declare("loss", "gauge", exact_samples=True)
    train(metrics, [0], range(1_200, 3_600), began)
    metrics.flush()
    worked("all")
    found = metrics.query("loss", window="1h")
    assert curve([each for each in found if each.metadata]) == expected(0, range(1_200, 3_600))
    assert sum(sample.count for sample in found) == 3_600


def test_centroids_of_a_process_that_compresses_are_never_taken_for_samples(
    metrics: Metrics, worked: Callable[..., None]
) -> None:
    # Drained before the process learned that the metric keeps its samples.
    metrics.histogram("loss", 1)
    metrics.flush()
    for number in range(1_000):
        metrics.histogram("loss", number / 7)
    metrics._sink.collector.collect_now()
    metrics.declare("loss", "histogram", exact_samples=True)
    metrics.flush()
    worked()
    found = metrics.query("loss", window="1h")
    assert sum(sample.count for sample in found) == 1_001
    assert any(sample.approximate for sample in found)
    assert all(sample.count == 1 for sample in found if not sample.approximate)


def test_deleted_metric_leaves_nothing(
    metrics: Metrics, admin: redis.Redis, namespace: str, worked: Callable[..., None]
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True, retention=400 * DAY)
    train(metrics, range(3), range(500), start(600))
    metrics.flush()
    worked("all")
    assert metrics.delete_metric("loss")
    of_metric = keys.metric(namespace, 0, "loss").log.removesuffix("log")
    left = set(admin.scan_iter(f"{of_metric}*".replace("{", "[{]")))
    assert left <= {keys.rollup(namespace, 0, "loss").state.encode()}


def test_without_metadata_or_times_of_their_own(
    metrics: Metrics, worked: Callable[..., None]
) -> None:
    metrics.declare("took", "histogram", exact_samples=True)
    values = [1 / (number + 1) for number in range(700)]
    for number, value in enumerate(values):
        metrics.histogram("took", value, tags={"run": number % 2})
        if number % 100 == 99:
            metrics.flush()
            worked()
            time.sleep(0)
    for run in range(2):
        found = metrics.query("took", tags={"run": str(run)})
        assert [sample.value for sample in found] == values[run::2]
