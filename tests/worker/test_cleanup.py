"""Trimming of logs and sweeping of series."""

import time

import msgpack
import pytest
import redis

from redismetrics import Metrics
from redismetrics.columnar.totals import field_name
from redismetrics.model.retention import REPLAY_US
from redismetrics.store import keys, metric_keys
from redismetrics.store.driver import run
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.namespace import open_namespace
from redismetrics.worker import cleanup
from redismetrics.worker.commit import Outcome
from tests.fixtures.newer import append_unknown_change, set_value
from tests.fixtures.recorded import recorded_state
from tests.fixtures.servers import Server
from tests.fixtures.workers import Steps, contents, pull_forward
from tests.worker.tools import NEVER, SECOND_US, Make, of_metric, state, waiting


def lengths(admin: redis.Redis, namespace: str, name: str) -> int:
    return sum(map(len, admin.zrange(keys.metric(namespace, 0, name).log, 0, -1)))


def numbers(admin: redis.Redis, namespace: str) -> dict[str, int]:
    found = admin.hgetall(keys.metric(namespace, 0, "jobs").series)
    return {msgpack.unpackb(tags)[1]: int(number) for tags, number in found.items()}


def test_log_is_trimmed_after_the_replay_window(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    log = keys.metric(namespace, 0, "jobs").log
    one = make()
    for _ in range(6):
        metrics.increment("jobs", 2)
        metrics.flush()
    one.pass_once()
    # Kept for subscribers that reconnect.
    assert admin.zcard(log) == 6
    for member, score in admin.zrange(log, 0, 3, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    metrics.increment("jobs", 2)
    metrics.flush()
    assert state(admin, namespace, "jobs")["log_bytes"] == lengths(admin, namespace, "jobs")
    # Sealing trims as well.
    one.pass_once()
    assert admin.zcard(log) == 3
    assert state(admin, namespace, "jobs")["log_bytes"] == lengths(admin, namespace, "jobs")

    tidying = TRIM.pending_member("jobs")
    now_ms = time.time() * 1000
    assert 20_000 < admin.zscore(keys.pending(namespace, 0), tidying) - now_ms < 65_000
    for member, score in admin.zrange(log, 0, 1, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    pull_forward(admin, namespace, also=("trim",))
    one.pass_once()
    assert admin.zcard(log) == 1
    assert state(admin, namespace, "jobs")["log_bytes"] == lengths(admin, namespace, "jobs") > 0
    # Scheduled again for the blocks that are left.
    assert admin.zscore(keys.pending(namespace, 0), tidying) > now_ms
    for member, score in admin.zrange(log, 0, 0, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    for _ in range(2):
        pull_forward(admin, namespace, also=("trim",))
        one.pass_once()
    assert admin.zcard(log) == 0
    assert state(admin, namespace, "jobs")["log_bytes"] == 0
    assert admin.zscore(keys.pending(namespace, 0), tidying) is None
    assert metrics.query("jobs", aggregation="sum") == 14


@pytest.mark.slow
def test_log_of_many_writers_does_not_grow(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    log, blocks = keys.metric(namespace, 0, "jobs").log, 300
    one = make()
    for _ in range(3):
        for _ in range(blocks):
            metrics.increment("jobs")
            metrics.flush()
        one.pass_once()
        # All older ones are gone.
        assert admin.zcard(log) == blocks
        assert state(admin, namespace, "jobs")["log_bytes"] == lengths(admin, namespace, "jobs")
        for member, score in admin.zrange(log, 0, -1, withscores=True):
            admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    assert metrics.query("jobs", aggregation="sum") == 3 * blocks


def test_log_without_new_blocks_is_trimmed_once(
    moving_server: Server, namespace: str, make: Make
) -> None:
    # A minute after a full hour, so that no hour ends meanwhile.
    moving_server.set_time(moving_server.time // 3_600 * 3_600 + 3_600 + 60)
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        ) as metrics,
        moving_server.client() as admin,
    ):
        metrics.increment("jobs", 2)
        metrics.flush()
        one = make(moving_server.url)
        one.pass_once()
        log = keys.metric(namespace, 0, "jobs").log
        moving_server.advance(59)
        one.pass_once()
        assert admin.zcard(log) == 1
        for _ in range(2):
            moving_server.advance(62)
            one.pass_once()
            assert admin.zcard(log) == 0
            assert state(admin, namespace, "jobs")["log_bytes"] == 0
        before = contents(admin, namespace)
        moving_server.advance(600)
        one.pass_once()
        assert contents(admin, namespace) == before
        assert metrics.query("jobs", aggregation="sum") == 2


def test_unsealed_blocks_are_never_trimmed(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    log = keys.metric(namespace, 0, "jobs").log
    one = make()
    metrics.increment("jobs", 2)
    metrics.flush()
    one.pass_once()
    sealed = state(admin, namespace, "jobs")["sealed"]
    # Move everything back by hours: sealed blocks, and one after them that is not sealed.
    ago = 7_200_000_000
    for member, score in admin.zrange(log, 0, -1, withscores=True):
        admin.zadd(log, {member: score - ago})
    admin.hset(keys.rollup(namespace, 0, "jobs").state, "sealed", str(sealed - ago))
    metrics.increment("jobs", 3)
    metrics.flush()
    ((member, score),) = admin.zrange(log, -1, -1, withscores=True)
    admin.zadd(log, {member: score - ago + 1})
    admin.zadd(keys.shard(namespace, 0).dirty, {"jobs": score - ago + 1})
    pull_forward(admin, namespace, also=("trim",))
    config = run(one.client(), open_namespace(namespace))
    run(
        one.client(),
        cleanup.trim(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention)),
    )
    assert admin.zrange(log, 0, -1) == [member]
    assert metrics.query("jobs", aggregation="sum") == 5
    one.pass_once()
    assert metrics.query("jobs", aggregation="sum") == 5
    assert waiting(admin, namespace) == []


def test_sweeps_are_scheduled_again(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    """Also for a metric that was deleted and recorded again."""
    swept = SWEEP.pending_member("jobs")
    one = make()
    for round_ in range(3):
        metrics.increment("jobs", 2)
        metrics.flush()
        one.pass_once()
        assert admin.zscore(keys.pending(namespace, 0), swept) is not None, round_
        first = admin.zscore(keys.pending(namespace, 0), swept)
        metrics.increment("jobs", 2)
        metrics.flush()
        one.pass_once()
        # A commit does not postpone it.
        assert admin.zscore(keys.pending(namespace, 0), swept) == first, round_
        assert metrics.delete_metric("jobs")
        assert admin.zscore(keys.pending(namespace, 0), swept) is None


def test_series_without_stored_data_are_forgotten(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    metrics, admin = swept
    metrics.increment("jobs", 3, tags={"tag": "y"})
    metrics.flush()
    one = make(moving_server.url)
    one.pass_once()
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once()
    assert one.counts.series_pruned == 1
    assert numbers(admin, namespace) == {"y": 1}
    assert metrics.tag_values("jobs", "tag") == ["y"]
    assert [(each.tags, each.value) for each in metrics.live("jobs")[0].series] == [
        ({"tag": "y"}, 5)
    ]
    # The client still knows the number of this series.
    metrics.increment("jobs", 7, tags={"tag": "x"})
    metrics.increment("jobs", 1, tags={"tag": "z"})
    metrics.flush()
    # No number is used twice.
    assert numbers(admin, namespace) == {"y": 1, "x": 2, "z": 3}
    for _ in range(2):
        rows = metrics.query("jobs", aggregation="sum", group_by="tag")
        assert rows == [
            {"tag": tag, "sum": total} for tag, total in zip("xyz", (7, 3, 1), strict=True)
        ]
        one.pass_once()
    assert metrics.stats()["dropped"] == {}


def test_metric_without_series_is_removed_and_can_return(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    metrics, admin = swept
    one = make(moving_server.url)
    pull_forward(admin, namespace, also=("sweep", "trim"))
    one.pass_once()
    assert one.counts.series_pruned == 2
    assert metrics.list_metrics() == []
    assert admin.zcard(keys.pending(namespace, 0)) == 0
    left = {key.decode().rpartition(":")[2] for key in of_metric(admin, namespace, "jobs")}
    # The next number outlives the metric.
    assert left <= {"state", "touched"}
    metrics.increment("jobs", 4, tags={"tag": "x"})
    metrics.flush()
    one.pass_once()
    assert numbers(admin, namespace) == {"x": 2}
    assert metrics.query("jobs", aggregation="sum") == 4
    assert [(each.tags, each.value) for each in metrics.live("jobs")[0].series] == [
        ({"tag": "x"}, 4)
    ]
    assert admin.zscore(keys.pending(namespace, 0), SWEEP.pending_member("jobs")) is not None


def test_nothing_is_forgotten_while_a_change_of_a_newer_version_waits(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    _, admin = swept
    one = make(moving_server.url)
    append_unknown_change(admin, namespace, "jobs", series=0)
    for _ in range(2):
        pull_forward(admin, namespace, also=("sweep",))
        one.pass_once()
    assert one.counts.series_pruned == one.counts.failures == 0
    assert numbers(admin, namespace) == {"x": 0, "y": 1}
    # It looks again. When a newer worker has folded it, the idle series are forgotten.
    first = recorded_state(admin, namespace, "jobs").first_change
    admin.hdel(keys.metric(namespace, 0, "jobs").totals, field_name(first))
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once()
    assert one.counts.series_pruned == 2


def test_values_of_processes_are_removed_only_without_their_series(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    _, admin = swept
    one = make(moving_server.url)
    kept = [set_value(admin, namespace, "jobs", 0, writer, 1.0) for writer in ("w", "")]
    for writer in ("w", ""):
        # Sent while the series was being deleted.
        set_value(admin, namespace, "jobs", 7, writer, 1.0)
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once()
    # Series 0 has a value of a process, so only a version that reads it may forget it.
    assert numbers(admin, namespace) == {"x": 0}
    live = admin.hkeys(keys.metric(namespace, 0, "jobs").totals)
    assert sorted(field.decode() for field in live if b" " in field) == sorted(kept)


@pytest.mark.parametrize("sealed", [False, True])
def test_series_recorded_during_a_sweep_is_kept(
    swept: tuple[Metrics, redis.Redis],
    moving_server: Server,
    make: Make,
    namespace: str,
    sealed: bool,
) -> None:
    metrics, admin = swept
    client = make(moving_server.url).client()
    config = run(client, open_namespace(namespace))
    sweeping = Steps(
        client, cleanup.sweep(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention))
    )
    sweeping.until_script()
    metrics.increment("jobs", 3, tags={"tag": "x"})
    metrics.flush()
    if sealed:
        make(moving_server.url).pass_once()
    before = contents(admin, namespace)
    assert sweeping.finish().outcome is Outcome.AGAIN
    assert contents(admin, namespace) == before
    one = make(moving_server.url)
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once(alone=True)
    one.pass_once(alone=True)
    assert metrics.query("jobs", aggregation="sum", group_by="tag") == [{"tag": "x", "sum": 3}]
    assert numbers(admin, namespace)["x"] == 0
