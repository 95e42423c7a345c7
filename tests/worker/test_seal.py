"""Sealing: which blocks a pass seals, and what it leaves in Redis."""

import time
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.store import keys, metric_keys
from redismetrics.store.driver import run
from redismetrics.store.namespace import open_namespace
from redismetrics.store.record_state import RecordState
from redismetrics.worker import queue, seal
from redismetrics.worker.commit import Outcome
from redismetrics.worker.limits import DEFAULT_LIMITS, WorkerLimits
from tests.fixtures.servers import Server
from tests.fixtures.workers import Steps
from tests.worker.tools import NEVER, SECOND_US, Make, state, waiting


def test_few_blocks_wait_for_more_or_until_they_are_old(
    metrics: Metrics, admin: redis.Redis, make: Make, namespace: str
) -> None:
    def record(name: str, flushes: int) -> None:
        for _ in range(flushes):
            metrics.increment(name)
            metrics.flush()

    record("few", DEFAULT_LIMITS.few_blocks - 1)
    record("many", DEFAULT_LIMITS.few_blocks)
    worker = make()
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == ["few"]
    assert metrics.query("few", aggregation="sum") == DEFAULT_LIMITS.few_blocks - 1
    record("few", 1)
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == []

    record("few", 1)
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == ["few"]
    log = keys.metric(namespace, 0, "few").log
    (block,) = admin.zrange(log, -1, -1)
    for key, member in (log, block), (keys.shard(namespace, 0).dirty, "few"):
        # As if recorded an hour before.
        admin.zincrby(key, -3601 * SECOND_US, member)
    clock, recorded = int(admin.zscore(log, block)), keys.shard(namespace, 0).recorded
    admin.hset(keys.rollup(namespace, 0, "few").state, "sealed", clock - 1)
    before = RecordState.unpack(admin.hget(recorded, "few"))
    admin.hset(recorded, "few", before._replace(sealed=clock - 1, waiting=clock).pack())
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == []


def test_blocks_before_a_corrupt_one_are_sealed(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for _ in range(3):
        metrics.increment("jobs", 2)
        metrics.flush()
    log = keys.metric(namespace, 0, "jobs").log
    member, score = admin.zrange(log, 1, 1, withscores=True)[0]
    admin.zrem(log, member)
    admin.zadd(log, {member[:-20]: score})
    one = make()
    one.pass_once()
    assert (one.counts.samples, one.counts.failures) == (1, 1)
    assert state(admin, namespace, "jobs")["waiting"] == int(score)


def test_lag_is_the_age_of_the_oldest_unsealed_block(
    moving_server: Server, namespace: str, make: Make
) -> None:
    one = make(moving_server.url)
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        ) as metrics,
        moving_server.client() as admin,
    ):
        metrics.increment("jobs")
        metrics.flush()
        ((_, first),) = admin.zrange(keys.metric(namespace, 0, "jobs").log, 0, -1, withscores=True)
        assert state(admin, namespace, "jobs")["waiting"] == first
        moving_server.advance(4)
        metrics.increment("jobs")
        metrics.increment("sent")
        metrics.flush()
        assert state(admin, namespace, "jobs")["waiting"] == first
        assert metrics.get_stats()["storage"]["worker_lag_seconds"] == 4
        moving_server.advance(3)
        one.pass_once()
        assert one.counts.lag_ms == 7_000
        assert waiting(admin, namespace) == []
        assert state(admin, namespace, "jobs")["waiting"] == 0
        assert metrics.get_stats()["storage"]["worker_lag_seconds"] == 0
        moving_server.advance(2)
        one.pass_once()
        assert one.counts.lag_ms == 0


def test_block_recorded_while_sealing_waits_from_its_own_time(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    one = make()
    metrics.increment("jobs")
    metrics.flush()
    config = run(one.client(), open_namespace(namespace))
    sealing = Steps(
        one.client(),
        seal.seal(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention)),
    )
    sealing.until_script()
    metrics.increment("jobs")
    metrics.flush()
    assert sealing.finish().outcome is Outcome.DONE
    assert waiting(admin, namespace) == ["jobs"]
    log = keys.metric(namespace, 0, "jobs").log
    (_, (_, second)) = admin.zrange(log, 0, -1, withscores=True)
    assert state(admin, namespace, "jobs")["waiting"] == second
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert state(admin, namespace, "jobs")["waiting"] == 0
    assert metrics.query("jobs", aggregation="sum") == 2


def test_commit_takes_a_bounded_number_of_rows(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for number in range(6):
        for part in range(4):
            metrics.histogram("took", float(number * part))
        metrics.flush()
    one = make(limits=WorkerLimits(rows_per_commit=10, attempts=1))
    step = seal.seal(
        metric_keys.MetricLocation(
            namespace, 0, "took", run(one.client(), open_namespace(namespace)).retention
        ),
        one.limits,
    )
    assert (run(one.client(), step).samples, waiting(admin, namespace)) == (8, ["took"])
    one.pass_once()
    assert (one.counts.samples, waiting(admin, namespace)) == (16, [])


def test_long_log_is_sealed_by_several_commits(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = WorkerLimits(blocks_at_once=16, cells_per_commit=5, bytes_per_commit=1_000)
    now = time.time()
    for number in range(100):
        metrics.histogram("took", float(number), timestamp=now - 61 * (number % 20))
        metrics.flush()
    one = make(limits=limits)
    assert one.pass_once() >= 100 // 16
    assert (one.counts.samples, one.counts.blocks) == (100, 100)
    assert waiting(admin, namespace) == []
    assert metrics.query("took", aggregation="sum") == sum(range(100))
    assert metrics.query("took", aggregation="p50") == 49.5


def test_few_blocks_with_many_bytes_of_changes_do_not_wait(
    metrics: Metrics, admin: redis.Redis, make: Make, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    make(limits=WorkerLimits(few_change_bytes=1_000)).pass_once(patience=3600, alone=True)
    assert waiting(admin, namespace) == ["jobs"]
    make(limits=WorkerLimits(few_change_bytes=50)).pass_once(patience=3600, alone=True)
    assert waiting(admin, namespace) == []


def test_blocks_of_the_same_minutes_are_sealed_by_one_commit(
    metrics: Metrics, admin: redis.Redis, make: Make, namespace: str
) -> None:
    """Backdated series come one after the other: each block falls into all minutes."""
    now = int(time.time())
    for series in range(8):
        for minute in range(20):
            metrics.gauge("load", series, tags={"host": str(series)}, timestamp=now - 60 * minute)
        metrics.flush()
    one = make(limits=WorkerLimits(cells_per_commit=10))
    one.pass_once()
    assert one.counts.blocks == 8
    assert state(admin, namespace, "load")["version"].startswith(b"1.")
    # A block of other minutes is not added to them.
    for first in (40, 70):
        for minute in range(20):
            metrics.gauge("load", 1, timestamp=now - 60 * (first + minute))
        metrics.flush()
    one.pass_once()
    assert state(admin, namespace, "load")["version"].startswith(b"3.")
    assert metrics.query("load", aggregation="count", window="last_24h") == 200


def test_metrics_with_many_changes_are_sealed_first(
    metrics: Metrics, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make()
    metrics.increment("busy")
    metrics.flush()
    one.pass_once()  # from then on record.lua leaves changes to workers
    metrics.increment("old")
    for _ in range(queue.MANY_CHANGES):
        metrics.increment("busy")
        metrics.flush()
    order, whole = [], seal.seal

    def spy(metric: metric_keys.MetricLocation, *args: Any) -> Any:
        order.append(metric.name)
        return whole(metric, *args)

    monkeypatch.setattr(seal, "seal", spy)
    one.pass_once()
    assert order == ["busy", "old"]


@pytest.mark.slow
def test_a_history_of_months_is_sealed(url: str, namespace: str, make: Make) -> None:
    """Redis returns at most several thousand values of one command to a script."""
    hours, long = 3_000, 400 * 86_400.0
    long_kept = {f"{each}_retention": long for each in ("raw", "minute", "hour", "day")}
    with Metrics(
        url, namespace=namespace, flush_interval=NEVER, max_age=300 * 86_400.0, **long_kept
    ) as metrics:
        now = int(time.time()) // 3_600 * 3_600
        for hour in range(hours):
            metrics.gauge("depth", hour, timestamp=now - 3_600 * hour)
        assert metrics.flush().stored == hours
        worker = make()
        worker.pass_once(alone=True)
        assert (worker.counts.last_error, worker.counts.samples) == (None, hours)
        assert metrics.query("depth", aggregation="count") == hours
