"""Every sample is stored once, whatever the server does.

The sum that every test here comes back to: recorded = stored + pending + dropped.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import FlushResult, Metrics, ScriptFailed, StoreUnavailable
from redismetrics.recording import sender
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.encode import EncodedBatch
from redismetrics.store import keys
from redismetrics.stream.subscription import Subscription
from tests.fixtures.clients import fail_to_send
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.recording.helpers import (
    NEVER,
    QUICK,
    Make,
    balanced,
)


def test_equal_samples_of_two_clients_at_the_same_tick_both_count(make: Make) -> None:
    now = time.time()
    clients = [make(flush_interval=NEVER, clock=lambda: now) for _ in range(4)]
    barrier = threading.Barrier(4)

    def run(metrics: Metrics) -> None:
        for _ in range(20):
            metrics.increment("jobs", tags={"a": "b"})
            metrics.gauge("depth", 1)
            barrier.wait(PATIENCE)
            metrics.flush()

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients[0].query("jobs", aggregation="sum") == 80
    assert clients[0].query("depth", aggregation="count") == 80
    assert [sample.count for sample in clients[0].query("jobs")] == [1] * 80


def test_a_writer_pruned_in_a_long_pause_has_lost_nothing(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, max_age=3600)
    metrics.increment("jobs", tags={"a": "b"})
    metrics.flush()
    with server.client() as direct:
        direct.delete(keys.shard(metrics.settings.namespace, 0).writers)
    metrics._sink.sender._confirmed_at[0] -= 3_601  # as after a long pause
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.increment("jobs", tags={"a": "b"})
        metrics.flush()
    stats = balanced(metrics)
    assert (stats["lost_batches"], stats["stored"]) == (0, 2)
    assert not [record for record in caplog.records if "lost confirmed" in record.message]


def test_max_age_is_limited_by_the_retention_of_the_namespace(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(max_age=3_000, raw_retention=3_600, minute_retention=2 * 3_600)
    first.increment("jobs")
    first.flush()
    second = make(
        flush_interval=NEVER
    )  # would take samples of a day ago, whose minutes are gone, and writers forgotten
    now = time.time()
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for age in (3_000, 4_000):
            second.increment("jobs", timestamp=now - age)
        second.flush()
    assert (balanced(second)["stored"], balanced(second)["dropped"]) == (1, {"too_old": 1})
    assert "keeps minutes for 2 hours" in caplog.text


def test_lost_confirmed_batches_are_counted(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER)
    for _ in range(3):
        metrics.increment("jobs", tags={"a": "b"})
        metrics.flush()
    with server.client() as direct:
        direct.flushall()
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(2):
            metrics.increment("jobs", tags={"a": "b"})
            metrics.increment("new", tags={"a": "b"})
            metrics.flush()
    stats = balanced(metrics)
    assert (stats["lost_batches"], stats["stored"], stats["dropped"]) == (3, 7, {})
    assert (
        len([record for record in caplog.records if "lost confirmed batches" in record.message])
        == 1
    )
    assert metrics.query("jobs", aggregation="sum", group_by="a") == [{"a": "b", "sum": 2}]
    assert metrics.query("new", aggregation="sum", group_by="a") == [{"a": "b", "sum": 2}]


def test_a_deleted_metric_begins_again(make: Make) -> None:
    first, second = make(flush_interval=NEVER), make(flush_interval=NEVER)
    for metrics in (first, second):
        metrics.increment("jobs", 5, tags={"a": "b"})
        metrics.increment("jobs", 7, tags={"a": "c"})
        metrics.flush()
    first.delete_metric("jobs")
    for metrics in (first, second, first):
        metrics.increment("jobs", tags={"a": "c"})
        metrics.increment("jobs", 2, tags={"a": "d"})
        metrics.flush()
    rows = [{"a": "c", "sum": 3}, {"a": "d", "sum": 6}]
    assert first.query("jobs", aggregation="sum", group_by="a") == rows
    (family,) = first.live("jobs")
    assert sorted((series.tags["a"], series.value) for series in family.series) == [
        ("c", 3),
        ("d", 6),
    ]
    assert balanced(first)["dropped"] == balanced(second)["dropped"] == {}


@pytest.mark.slow
def test_flush_raises_in_time_and_everything_is_stored_once_later(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=0.2)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    for number in range(3):
        metrics.increment("jobs")
        metrics.gauge("depth", number)
        began = time.monotonic()
        with pytest.raises(
            StoreUnavailable, match=rf"^{2 * number + 2} samples are not confirmed after 0.3 s"
        ):
            metrics.flush(0.3)
        assert 0.3 <= time.monotonic() - began < PATIENCE
        balanced(metrics)
    server.resume()
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["dropped"], stats["in_doubt"]) == (7, 0, {}, 0)
    assert metrics.query("jobs", aggregation="sum") == 4
    assert [sample.value for sample in metrics.query("depth")] == [0, 1, 2]


def test_an_unreachable_server_raises_at_flush_but_never_at_recording(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make("redis://user:secret@127.0.0.1:1/0", flush_interval=NEVER)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(2):
            metrics.increment("jobs")
            fail_to_send(metrics)
            with pytest.raises(StoreUnavailable, match="Redis did not answer") as raised:
                metrics.flush(0.1)
    assert (
        len([record for record in caplog.records if "samples are waiting for" in record.message])
        == 1
    )
    assert "secret" not in caplog.text + str(raised.value) + str(metrics.stats())
    assert balanced(metrics)["pending"] == 2


def test_a_damaged_key_costs_only_the_samples_of_its_metric(
    make: Make, server: Server, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("series", "totals", "log"):
        bad, good = f"bad_{part}", [f"good_{part}_1", f"good_{part}_2"]
        metrics = make(backoff=QUICK, flush_interval=NEVER)
        with server.client() as direct:
            direct.set(getattr(keys.metric(namespace, 0, bad), part), "no such thing")
        for name in (good[0], bad, good[1]):
            metrics.increment(name, 3)
            metrics.increment(name, 4)
        caplog.clear()
        with caplog.at_level(logging.ERROR, "redismetrics"):
            with contextlib.suppress(ScriptFailed):
                metrics.flush()
            wait_until(lambda metrics=metrics: metrics.stats()["pending"] == 0, "all is settled")
        stats = balanced(metrics)
        assert (stats["stored"], stats["dropped"], stats["in_doubt"]) == (4, {"refused": 2}, 0)
        assert re.search(rf"{bad}: 2 samples are dropped: .*WRONGTYPE", caplog.text)
        assert [metrics.query(name, aggregation="sum") for name in good] == [7, 7]
        metrics.increment(good[0])
        metrics.flush()
        assert metrics.query(good[0], aggregation="sum") == 8


@pytest.mark.parametrize("part", ["totals", "log"])
def test_a_corrupt_metric_is_refused_while_the_rest_of_its_batch_is_stored(
    make: Make, server: Server, namespace: str, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    metrics = make(flush_interval=NEVER)
    with server.client() as direct:
        direct.set(getattr(keys.metric(namespace, 0, "bad"), part), "no such thing")
    for name in ("first", "bad", "last"):
        metrics.increment(name)
        metrics.increment(name, 2)
    with caplog.at_level(logging.ERROR, "redismetrics"):
        assert metrics.flush() == FlushResult(4, {"refused": 2})
    stats = balanced(metrics)
    assert (stats["batches"], stats["retries"]) == (1, 0)
    assert re.search("bad: 2 samples are dropped: WRONGTYPE", caplog.text)
    # A metric that was refused was not created, and its ids were not learned.
    assert [each["name"] for each in metrics.list_metrics()] == ["first", "last"]
    assert metrics._sink.sender.known.series("bad").ids == {}


def test_flushing_the_scripts_changes_nothing(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER)
    with server.client() as direct:
        for number in range(100):
            metrics.increment("jobs", number)
            metrics.flush()
            direct.script_flush()
    metrics.increment("jobs", 100)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"], stats["retries"]) == (101, {}, 0)
    assert metrics.query("jobs", aggregation="sum") == sum(range(101))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_of_the_server_with_its_data_changes_nothing(
    make: Make, fresh_server: Callable[..., Server], how: str
) -> None:
    server = fresh_server()
    metrics = make(server.url, backoff=QUICK, flush_interval=0.02)
    stop = threading.Event()
    count = [0]

    def increments() -> None:
        while not stop.is_set():
            metrics.increment("jobs", tags={"a": "b"})
            metrics.gauge("depth", 1)
            count[0] += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=increments)
    thread.start()
    try:
        for _ in range(5):
            held = metrics.stats()["stored"]
            wait_until(lambda held=held: metrics.stats()["stored"] > held, "another batch")
            getattr(server, how)()
            server.restart()
    finally:
        stop.set()
        thread.join()
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["dropped"], stats["lost_batches"]) == ({}, 0)
    assert (
        metrics.query("jobs", aggregation="sum")
        == metrics.query("depth", aggregation="count")
        == count[0]
    )


def test_a_full_server_refuses_and_later_stores_everything_once(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, backoff=QUICK, flush_interval=NEVER)
    metrics.increment("jobs")
    metrics.flush()
    with server.client() as direct:
        direct.config_set("maxmemory", 1)
        metrics.increment("jobs", 2)
        metrics.increment("new")
        for _ in range(4):  # however often it is refused
            with pytest.raises(ScriptFailed, match=r"(?i)memory"):
                metrics.flush()
        stats = balanced(metrics)
        assert (stats["pending"], stats["dropped"]) == (2, {})
        direct.config_set("maxmemory", 0)
    wait_until(lambda: metrics.stats()["pending"] == 0, "it is taken")
    assert metrics.query("jobs", aggregation="sum") == 3
    assert metrics.query("new", aggregation="sum") == 1


def test_a_batch_that_cannot_be_encoded_is_dropped_and_delays_no_other(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    wire = sender.encode

    def fails(batch: MetricBatch, *others: Any) -> EncodedBatch:
        if batch.name == "bad":
            raise ArithmeticError("a fault of our own")
        return wire(batch, *others)

    monkeypatch.setattr(sender, "encode", fails)
    for name in ("bad", "good", "bad"):
        metrics.increment(name)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"], stats["pending"]) == (1, {"failed": 2}, 0)
    assert "BUG: bad: 2 samples can't be encoded" in caplog.text
    assert metrics.query("good", aggregation="sum") == 1


def test_a_subscriber_does_not_see_the_samples_of_a_refused_batch(
    make: Make, server: Server, namespace: str
) -> None:
    metrics = make(flush_interval=NEVER)
    with server.client() as direct:
        direct.set(keys.metric(namespace, 0, "bad").log, "no such thing")
    subscription: Subscription
    with metrics.subscribe() as subscription:
        metrics.increment("good")
        metrics.increment("bad")
        assert metrics.flush() == FlushResult(1, {"refused": 1})
        metrics.increment("good")
        metrics.flush()
        names = [subscription.get(PATIENCE).name for _ in range(2)]
        assert names == ["good", "good"]
        assert subscription.get(0.05) is None


def test_the_configuration_is_written_again_after_the_data_was_lost(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER)
    metrics.increment("jobs")
    metrics.flush()
    with server.client() as direct:
        written = direct.hgetall(keys.config(metrics.settings.namespace))
        for _ in range(2):
            direct.flushall()
            metrics.increment("jobs")
            metrics.flush()
            # By the first flush: what it stored must be found.
            assert direct.hgetall(keys.config(metrics.settings.namespace)) == written
            assert metrics.query("jobs", aggregation="sum") == 1
