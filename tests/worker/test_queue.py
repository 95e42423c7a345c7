"""The workers' queue: pending work and writers."""

import threading

import msgpack
import redis

from redismetrics import Metrics
from redismetrics.model.retention import MARGIN
from redismetrics.store import keys
from redismetrics.store.driver import run
from redismetrics.store.namespace import open_namespace
from redismetrics.store.record_state import RecordState
from redismetrics.worker import queue
from redismetrics.worker.limits import DEFAULT_LIMITS
from tests.fixtures.servers import wait_until
from tests.fixtures.workers import Steps
from tests.worker.tools import DAY_MS, Make, set_back, waiting


def test_corrupt_pending_work_is_skipped_in_each_pass(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str, often: None
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    admin.zadd(keys.pending(namespace, 0), {"what": 0})
    one = make()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        wait_until(lambda: waiting(admin, namespace) == [], "it seals")
        wait_until(lambda: one.counts.passes >= 2, "two passes")
        assert one.counts.last_error is None
        assert admin.zscore(keys.pending(namespace, 0), "what") == 0
    finally:
        one.stop.set()
        thread.join()


def test_writers_that_are_gone_are_pruned(
    make: Make, metrics: Metrics, admin: redis.Redis, url: str, namespace: str
) -> None:
    # The retention of minutes, the furthest future, and the margin.
    kept_ms = (3 + 1) * DAY_MS + MARGIN
    names = []
    for age_ms in (kept_ms + 10_000, kept_ms - 60_000, 2 * kept_ms):
        with Metrics(url, namespace=namespace) as other:
            other.increment("jobs")
            other.flush()
            names.append(other.stats()["writer"])
            set_back(admin, namespace, names[-1], age_ms)
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    one.pass_once()
    writers = admin.hkeys(keys.shard(namespace, 0).writers)
    assert sorted(writers) == sorted([names[1].encode(), metrics.stats()["writer"].encode()])
    assert one.counts.writers_pruned == 2
    set_back(admin, namespace, names[1], 2 * kept_ms)
    one.pass_once()
    # Writers are examined once an hour.
    assert admin.hlen(keys.shard(namespace, 0).writers) == 2
    one._pruned_ms -= DEFAULT_LIMITS.prune_interval_ms
    one.pass_once()
    assert admin.hlen(keys.shard(namespace, 0).writers) == 1


def test_thousands_of_writers_are_pruned(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    old = msgpack.packb([1, 1_000_000, b"reply"], use_bin_type=False)
    key = keys.shard(namespace, 0).writers
    admin.hset(key, mapping={f"writer{number}": old for number in range(4_000)})
    one = make()
    one.pass_once()
    assert one.counts.writers_pruned == 4_000
    assert admin.hkeys(key) == [metrics.stats()["writer"].encode()]


def test_writer_that_sends_meanwhile_is_kept(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    writer = metrics.stats()["writer"]
    set_back(admin, namespace, writer, 30 * DAY_MS)
    one = make()
    one.client()
    retention = one.client() and run(one.client(), open_namespace(namespace)).retention
    look = Steps(one.client(), queue.prune_writers(namespace, 0, retention))
    look.until_script()
    metrics.increment("jobs")
    metrics.flush()
    assert look.finish() == 0
    assert admin.hkeys(keys.shard(namespace, 0).writers) == [writer.encode()]
    assert metrics.stats()["lost_batches"] == 0


def test_metrics_with_many_changes_go_first(admin: redis.Redis, namespace: str) -> None:
    recorded = keys.shard(namespace, 0).recorded
    states = {
        "few": RecordState(next_change=queue.MANY_CHANGES - 1),
        "corrupt": None,
        "many": RecordState(next_change=queue.MANY_CHANGES + 9, first_change=9),
        "heavy": RecordState(next_change=1, change_bytes=2 * queue.MANY_CHANGE_BYTES),
        "old": RecordState(next_change=10**6, first_change=10**6),
    }
    for name, state in states.items():
        admin.hset(recorded, name, b"short" if state is None else state.pack())
    names = ["few", "new", "corrupt", "many", "old", "heavy"]
    found, known = run(admin, queue.by_changes(namespace, 0, names))
    assert found == ["heavy", "many", "few", "new", "corrupt", "old"]
    assert known == {
        name: state or RecordState() for name, state in states.items() if name != "corrupt"
    } | {"new": RecordState()}
    assert run(admin, queue.by_changes(namespace, 0, [])) == ([], {})
