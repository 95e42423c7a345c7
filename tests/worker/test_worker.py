"""Passes of one and of several workers, and metrics that fail."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from redismetrics import Metrics, StoreUnavailable
from redismetrics.model.retention import MARGIN
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import driver, keys, stats
from redismetrics.store.driver import run
from redismetrics.worker import Worker, queue
from redismetrics.worker.limits import WorkerLimits
from tests.fixtures.servers import Server, wait_until
from tests.fixtures.workers import contents, pull_forward
from tests.system.faults.proxy import Proxy
from tests.worker.tools import (
    DAY_MS,
    NOWHERE,
    Make,
    due,
    of_metric,
    record_many,
    set_back,
    totals,
    waiting,
)


def damage(admin: redis.Redis, namespace: str, what: str) -> Callable[[], None]:
    """Damage data of the metric jobs that a worker needs; return a function that repairs it."""
    recorded, sealed = keys.metric(namespace, 0, "jobs"), keys.rollup(namespace, 0, "jobs")
    spans = dict(field.decode().split() for field in admin.hkeys(sealed.held))
    data = {
        level: keys.data(namespace, 0, "jobs", level, int(spans[level]) * 1000)
        for level in ("minute", "raw")
    }
    if what in ("table", "samples"):
        key = data["minute" if what == "table" else "raw"]
        was = admin.hgetall(key)
        for field, value in was.items():
            admin.hset(key, field, b"\xff" + value[1:])
        return lambda: admin.hset(key, mapping=was)
    if what == "block":
        (member,) = admin.zrangebyscore(
            recorded.log, f"({admin.hget(sealed.state, 'sealed').decode()}", "+inf"
        )
        score = admin.zscore(recorded.log, member)
        admin.zrem(recorded.log, member)
        bad = member[:-20]
        admin.zadd(recorded.log, {bad: score})
        return lambda: admin.zrem(recorded.log, bad) and admin.zadd(recorded.log, {member: score})
    if what == "definition":
        catalogue = keys.shard(namespace, 0).catalogue
        was = admin.hget(catalogue, "jobs")
        admin.hset(catalogue, "jobs", b"\xff" * 20)
        return lambda: admin.hset(catalogue, "jobs", was)
    key = {**data, **recorded._asdict(), **sealed._asdict()}[what]
    kept = f"{key}-kept"
    admin.rename(key, kept)
    admin.set(key, "of another type")
    return lambda: admin.rename(kept, key)


SPOILED = (
    "minute",
    "raw",
    "table",
    "samples",
    "block",
    "definition",
    "log",
    "state",
    "due",
    "held",
    "touched",
)


def test_run_gives_few_blocks_four_intervals(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    running = make(limits=WorkerLimits(interval=0.5))

    def noted(*, patience: float) -> None:
        asked.append(patience)
        running.stop.set()

    monkeypatch.setattr(running, "pass_once", noted)
    running.run()
    assert asked == [2.0]


def test_run_continues_after_an_unexpected_error(
    make: Make,
    metrics: Metrics,
    often: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = [KeyError("k"), KeyError("k")]
    whole = Worker.pass_once

    def pass_once(self: Worker, **how: Any) -> int:
        if faults:
            raise faults.pop()
        return whole(self, **how)

    monkeypatch.setattr(Worker, "pass_once", pass_once)
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        wait_until(lambda: one.counts.samples == 1, "it continues")
    finally:
        one.stop.set()
        thread.join()
    assert [record.levelname for record in caplog.records if "BUG" in record.message] == ["ERROR"]


def test_two_workers_share_the_metrics(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 200)
    first, second = make(), make()
    run(second.client(), queue.heartbeat(namespace, second.id))
    first.pass_once()
    left = waiting(admin, namespace)
    assert 60 <= len(left) <= 140
    first.pass_once()
    # The rest belongs to the other worker.
    assert waiting(admin, namespace) == left
    second.pass_once()
    assert waiting(admin, namespace) == []
    assert first.counts.samples + second.counts.samples == 200
    assert first.counts.conflicts == second.counts.conflicts == 0
    assert totals(metrics, 200) == sum(range(201))


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_shares_are_even(make: Make, workers: int) -> None:
    live = [f"{number:016x}" for number in range(0x1234567, 0x1234567 + workers)]
    names = [f"jobs_{number}" for number in range(1_000)]
    shares = []
    for each in live:
        one = make()
        one.id = each
        shares.append(sum(one.is_mine(name, live) for name in names))
    assert sum(shares) == 1_000
    assert min(shares) > 0.75 * 1_000 / workers


def test_share_of_a_dead_worker_is_taken_over(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 40)
    dead, one = make(), make()
    now_ms, _ = run(dead.client(), queue.heartbeat(namespace, dead.id))
    one.pass_once()
    assert 0 < len(waiting(admin, namespace)) < 40
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - stats.ALIVE_MS + 25_000})
    one.pass_once()
    assert 0 < len(waiting(admin, namespace)) < 40
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - stats.ALIVE_MS - 1})
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert totals(metrics, 40) == sum(range(41))
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - 10 * stats.ALIVE_MS - 1})
    one.pass_once()
    # Removed in the end.
    assert admin.zrange(keys.workers(namespace), 0, -1) == [one.id.encode()]


def test_two_workers_that_consider_each_other_dead_do_nothing_twice(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 20)
    one, other = make(), make()
    one.pass_once()
    sealed = contents(admin, namespace)
    admin.delete(keys.workers(namespace))
    other.pass_once()
    assert other.counts.samples == 0
    assert contents(admin, namespace) == sealed


def test_other_retentions_than_the_namespace_are_logged_once(
    make: Make, admin: redis.Redis, url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Metrics(
        url, namespace=namespace, minute_retention=2 * 86_400, hour_retention=7 * 86_400
    ) as first:
        first.increment("jobs")
    first_worker = make(minute_retention=30 * 86_400, hour_retention=60 * 86_400)
    for _ in range(3):
        first_worker.pass_once()
    logged = [record.message for record in caplog.records if "retentions" in record.message]
    assert len(logged) == 1
    assert "minute:172800 hour:604800" in logged[0]
    assert f"namespace {namespace} " in logged[0]
    pull_forward(admin, namespace)
    first_worker.pass_once()
    assert due(admin, namespace, "jobs") == set()
    now_ms = int(time.time() * 1000)
    for level, span, retention in (("minute", HOUR, 2 * DAY_MS), ("hour", DAY_MS, 7 * DAY_MS)):
        key = keys.data(namespace, 0, "jobs", level, slot_of(now_ms, span))
        ends_ms = now_ms + admin.pttl(key)
        assert abs(ends_ms - (slot_of(now_ms, span) + span + retention + MARGIN)) < 60_000


def test_default_retentions_are_not_logged(
    make: Make, url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Metrics(url, namespace=namespace, minute_retention=2 * 86_400) as first:
        first.increment("jobs")
    make().pass_once()
    assert [record.message for record in caplog.records if "retentions" in record.message] == []


@pytest.mark.slow
@pytest.mark.parametrize("what", SPOILED)
def test_failing_metric_does_not_hold_up_others(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    metrics.increment("jobs", 2)
    metrics.flush()
    first = make()
    first.pass_once()
    first.leave()
    metrics.increment("jobs", 3)
    metrics.histogram("took", 1.5)
    record_many(metrics, 40)
    mend = damage(admin, namespace, what)
    # One that does not remember what is damaged now.
    one = make()
    spoiled = of_metric(admin, namespace, "jobs")
    for number in range(1, 4):
        one.pass_once()
        assert waiting(admin, namespace) == ["jobs"]
        assert one.counts.failures == number
        assert one.counts.last_error is not None
        assert one.counts.last_error.startswith("jobs: ")
        expected = {
            "table": "table: ",
            "samples": "samples: ",
            "block": "corrupt block",
            "definition": "cannot read the definition of ",
        }
        assert expected.get(what, "WRONGTYPE") in one.counts.last_error
    # Nothing is half done.
    assert of_metric(admin, namespace, "jobs") == spoiled
    assert one.counts.samples == 41
    assert totals(metrics, 40) == sum(range(41))
    assert [
        record.levelname for record in caplog.records if record.message.startswith("jobs: ")
    ] == ["ERROR"]
    mend()
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert one.counts.last_error is None
    assert metrics.query("jobs", aggregation="sum") == 5


def test_many_metrics_share_round_trips(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_many(metrics, 200)
    trips: list[int] = []
    whole = driver._send

    def send(client: Any, commands: Any) -> Any:
        trips.append(len(commands))
        return whole(client, commands)

    monkeypatch.setattr(driver, "_send", send)
    one = make()
    assert one.pass_once() == 200
    assert waiting(admin, namespace) == []
    # Seven batches of 32, and what every pass reads.
    assert len(trips) <= 7 * 4 + 12
    pull_forward(admin, namespace)
    trips.clear()
    assert one.pass_once() == 200 * 3
    assert len(trips) <= 3 * 7 * 3 + 12
    assert all(not due(admin, namespace, f"jobs_{number}") for number in range(200))
    assert totals(metrics, 200) == sum(range(201))


def test_scripts_flushed_by_the_server_are_loaded_again(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = time.time() - 2 * 3600
    with Metrics(metrics.settings.url, namespace=namespace) as other:
        other.increment("jobs", 2, timestamp=before)
        gone = other.stats()["writer"]
    record_many(metrics, 40)
    set_back(admin, namespace, gone, 30 * DAY_MS)
    whole = driver._loading

    def forgetful(commands: Any) -> Any:
        admin.script_flush()
        return whole(commands)

    monkeypatch.setattr(driver, "_loading", forgetful)
    one = make()
    one.pass_once()
    pull_forward(admin, namespace)
    one.pass_once()
    monkeypatch.undo()
    assert waiting(admin, namespace) == []
    assert due(admin, namespace, "jobs") == set()
    assert (one.counts.samples, one.counts.failures, one.counts.writers_pruned) == (41, 0, 1)
    assert metrics.query("jobs", aggregation="sum") == 2
    assert totals(metrics, 40) == sum(range(41))


def test_lost_reply_is_not_a_failure_of_the_metric(
    make: Make, metrics: Metrics, server: Server, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 3)
    with Proxy(server, unix=True) as proxy:
        one = make(proxy.url)
        proxy.lose_replies(1)
        with pytest.raises(StoreUnavailable):
            one.pass_once()
        one.disconnect()
        one.pass_once()
    assert one.counts.failures == 0
    assert waiting(admin, namespace) == []
    assert totals(metrics, 3) == 6


def test_log_contains_no_password(
    caplog: pytest.LogCaptureFixture, often: None, make: Make
) -> None:
    caplog.set_level(logging.DEBUG)
    one = make(NOWHERE)
    thread = threading.Thread(target=one.run)
    thread.start()
    wait_until(lambda: one.counts.last_error, "it has failed")
    one.stop.set()
    thread.join()
    assert "is waiting for redis://someone:***@127.0.0.1:1/0" in caplog.text
    assert "secret" not in caplog.text + str(one.counts)
