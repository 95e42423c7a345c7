"""Bounds and counts: what is kept, what is dropped and why, and that what was recorded is stored once, whatever the server does.

The one sum that every test here comes back to: recorded = stored + pending + dropped.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redismetrics import Counter, Gauge, Metrics, ScriptFailed, StoreUnavailable
from redismetrics.model.validation import OVERFLOW_TAGS
from redismetrics.recording import drain as drain_module
from redismetrics.recording import encode
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.drain import MAX_METADATA
from redismetrics.recording.drain import drain as drain_drain
from redismetrics.recording.redis_sink import DEFAULT_BACKOFF
from redismetrics.recording.sender_thread import Backoff
from redismetrics.store import keys
from redismetrics.stream.subscription import Subscription
from tests.fixtures.servers import Server, wait_until

NOWHERE = "redis://127.0.0.1:1/0"  # nobody listens there
NEVER = 3_600.0  # a flush interval beyond any test: what is flushed is flushed by the test

# Lets the sender try again sooner than it would.
QUICK = Backoff(0.01)

Make = Callable[..., Metrics]


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes clients of this test's namespace, closed at its end."""
    made: list[Metrics] = []

    def client(to: str = url, backoff: Backoff = DEFAULT_BACKOFF, **settings: Any) -> Metrics:
        made.append(Metrics(to, namespace=namespace, **settings))
        made[-1]._sink.sending.backoff = backoff
        return made[-1]

    yield client
    for client_ in made:
        client_.close(0.2)


def collect(metrics: Metrics) -> None:
    """What the collector does at a multiple of the interval, now."""
    metrics._sink.collector.collect(int(metrics._recorder.clock() * 1000))


def balanced(metrics: Metrics) -> dict[str, Any]:
    stats = metrics.stats()
    assert stats["recorded"] == stats["stored"] + stats["pending"] + sum(
        stats["dropped"].values()
    ), stats
    return stats


def spread(metrics: Metrics, name: str, count: int, seed: int = 0) -> None:
    """Record *count* different values, so that nothing can be counted together."""
    generator = random.Random(seed)
    for _ in range(count):
        metrics.histogram(name, generator.random())


# -- bounds -------------------------------------------------------------------------------------------------------


def test_samples_beyond_the_bound_are_squeezed_before_any_is_dropped(make: Make) -> None:
    metrics = make(NOWHERE, flush_interval=NEVER, buffer_bytes=1 << 16, samples_per_flush=10_000)
    for flush in range(10):  # 33 bytes each: 330 kB in all
        spread(metrics, "took", 1_000, flush)
        collect(metrics)
        stats = balanced(metrics)
        assert stats["buffer_bytes"] <= 1 << 16
    assert (stats["recorded"], stats["pending"], stats["dropped"]) == (10_000, 10_000, {})


def test_what_was_squeezed_is_right_in_all_but_percentiles(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    server.pause()
    metrics = make(
        server.url,
        flush_interval=NEVER,
        buffer_bytes=1 << 16,
        samples_per_flush=10_000,
        socket_timeout=0.1,
    )
    generator, values = random.Random(1), []
    for _ in range(10):
        for _ in range(1_000):
            values.append(generator.expovariate(1))
            metrics.histogram("took", values[-1])
            metrics.increment("jobs", len(values) % 7)
        collect(metrics)
    server.resume()
    metrics.flush()
    assert balanced(metrics)["stored"] == 20_000
    wanted = {"count": 10_000, "sum": sum(values), "min": min(values), "max": max(values)}
    wanted["mean"] = wanted["sum"] / 10_000
    (found,) = metrics.rollup("took", aggregations=list(wanted), window=None).values()
    assert found == pytest.approx(wanted, rel=1e-12)
    assert metrics.query("took", aggregation="p50") == pytest.approx(sorted(values)[5_000], rel=0.2)
    assert metrics.query("jobs", aggregation="sum") == sum(
        number % 7 for number in range(1, 10_001)
    )


def test_beyond_that_the_oldest_are_dropped_and_counted(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    server.pause()
    metrics = make(
        server.url,
        flush_interval=NEVER,
        buffer_bytes=1 << 16,
        samples_per_flush=10_000,
        socket_timeout=0.1,
    )
    names = [f"metric_{number:03}" for number in range(100)]
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for name in names:
            spread(metrics, name, 50)
            collect(metrics)
            assert balanced(metrics)["buffer_bytes"] <= 1 << 16
    stats = balanced(metrics)
    dropped = stats["dropped"]["buffer_full"]
    assert stats["recorded"] == 5_000
    assert 0 < dropped < 5_000
    assert stats["dropped"] == {"buffer_full": dropped}
    assert len([record for record in caplog.records if "buffer_bytes" in record.message]) == 1

    server.resume()
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"]) == (5_000 - dropped, 0)
    counts = {name: metrics.query(name, aggregation="count") for name in names}
    assert sum(counts.values()) == 5_000 - dropped
    lost = [name for name in names if not counts[name]]
    assert lost == names[: len(lost)]
    assert counts[names[-1]] == 50


def test_the_server_stopped_for_a_while_loses_nothing(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=0.1, socket_timeout=0.5)
    stop = threading.Event()
    counts = [0, 0]

    def increments() -> None:
        handle = Counter("jobs", {"a": "b"}, metrics=metrics)
        while not stop.is_set():
            for _ in range(1_000):
                handle.increment()
            counts[0] += 1_000
            time.sleep(0.0005)

    def values() -> None:
        while not stop.is_set():
            for number in range(100):
                metrics.histogram("took", number + 0.5)
            counts[1] += 100
            time.sleep(0.0005)

    threads = [threading.Thread(target=increments), threading.Thread(target=values)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: metrics.stats()["stored"] > 0, "a first batch")
        server.pause()
        held = metrics.stats()["stored"]
        time.sleep(3)  # the outage itself
        assert metrics.stats()["stored"] == held
        server.resume()
        wait_until(lambda: metrics.stats()["stored"] > held, "a batch after the outage")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    metrics.flush()
    stats = balanced(metrics)
    assert stats["dropped"] == {}
    assert stats["retries"] > 0
    assert metrics.query("jobs", aggregation="sum") == counts[0] > 20_000
    assert metrics.query("took", aggregation="count") == counts[1] > 2_000
    assert stats["stored"] == stats["recorded"] == sum(counts)


def test_the_server_stopped_for_longer_than_the_buffer_holds(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=0.05, socket_timeout=0.2, buffer_bytes=1 << 16)
    server.pause()
    recorded = 0
    for _ in range(40):
        for number in range(30):
            spread(metrics, f"took_{number}", 10, recorded)
            recorded += 10
        time.sleep(0.01)
    wait_until(lambda: metrics.stats()["dropped"].get("buffer_full"), "something is dropped")
    server.resume()
    metrics.flush()
    stats = balanced(metrics)
    stored = sum(metrics.query(f"took_{number}", aggregation="count") for number in range(30))
    assert stored == stats["stored"]
    assert stats["recorded"] == recorded == stored + stats["dropped"]["buffer_full"]


def test_what_waits_for_longer_than_buffer_age_is_dropped(make: Make) -> None:
    now = [time.time()]
    metrics = make(NOWHERE, flush_interval=NEVER, buffer_age=60, clock=lambda: now[0])
    metrics.increment("old", 3)
    metrics.increment("old", 3)
    collect(metrics)
    now[0] += 59
    metrics.increment("young")
    collect(metrics)
    assert balanced(metrics)["dropped"] == {}
    now[0] += 2
    collect(metrics)
    stats = balanced(metrics)
    assert (stats["dropped"], stats["pending"], stats["recorded"]) == ({"expired": 2}, 1, 3)


def test_an_old_batch_in_doubt_is_given_up_since_the_store_may_have_forgotten_its_writer(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    now = [time.time()]
    metrics = make(
        server.url,
        backoff=QUICK,
        flush_interval=NEVER,
        max_age=60,
        max_future=1,
        socket_timeout=0.1,
        clock=lambda: now[0],
    )
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("jobs")
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.3)
    assert metrics.stats()["in_doubt"] == 1
    now[0] += 62
    wait_until(lambda: metrics.stats()["in_doubt"] == 0, "the batch is given up")
    stats = balanced(metrics)
    assert (stats["dropped"], stats["stored"], stats["pending"]) == ({"unknown": 1}, 1, 0)


def test_a_question_after_an_outage_does_not_wait_for_the_next_try(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server()
    metrics = make(server.url, Backoff(3600.0, 3600.0), socket_timeout=0.5)
    metrics.increment("jobs")
    metrics.flush()
    server.stop()
    metrics.increment("jobs")
    with pytest.raises(StoreUnavailable):
        metrics.flush(1)
    server.restart()
    assert metrics.query("jobs", aggregation="count") >= 1  # the first try of the sender since
    wait_until(lambda: metrics.stats()["pending"] == 0, "all is stored")


# -- times --------------------------------------------------------------------------------------------------------


def test_samples_of_their_own_time_that_are_too_old_or_from_the_future_are_refused(
    make: Make,
) -> None:
    metrics = make(max_age=600, max_future=60)
    now = datetime.now(UTC)
    kept = [now - timedelta(seconds=590), now, now + timedelta(seconds=50)]
    for verb in (metrics.increment, metrics.gauge, metrics.histogram):
        for when in (
            *kept,
            now - timedelta(seconds=610),
            now - timedelta(days=9),
            now + timedelta(seconds=70),
        ):
            verb(verb.__name__, 2, timestamp=when)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (9, {"too_old": 6, "in_future": 3})
    for verb in ("increment", "gauge", "histogram"):
        times = [sample.timestamp for sample in metrics.query(verb)]
        assert times == [
            when.replace(microsecond=when.microsecond // 1000 * 1000) for when in kept
        ]  # cut to the ms
    (family,) = metrics.live("increment")
    assert family.series[0].value == 6
    (family,) = metrics.live("histogram")
    assert (family.series[0].count, family.series[0].value) == (3, 6)


def test_samples_of_a_clock_that_is_far_behind_the_server_s_are_refused_by_the_script(
    make: Make,
) -> None:
    behind = make(max_age=600, clock=lambda: time.time() - 3_600)
    for _ in range(2):
        behind.increment("jobs")
        behind.gauge("depth", 1)
        behind.flush()
    stats = balanced(behind)
    assert (stats["stored"], stats["dropped"], stats["pending"]) == (0, {"too_old": 4}, 0)
    assert (
        behind.query("jobs", aggregation="count") == behind.query("depth", aggregation="count") == 0
    )


def test_a_clock_ahead_of_the_server_s_counts_at_most_as_new_as_the_batch(make: Make) -> None:
    ahead = make(clock=lambda: time.time() + 3_600)
    ahead.gauge("depth", 1)
    ahead.increment("jobs")
    ahead.flush()
    assert balanced(ahead)["stored"] == 2
    for name in ("depth", "jobs"):
        (sample,) = ahead.query(name)
        assert abs(sample.timestamp - datetime.now(UTC)) < timedelta(seconds=10)


# -- limits -------------------------------------------------------------------------------------------------------


def test_metadata_beyond_the_limit_of_a_flush_is_dropped_and_the_samples_are_not(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    for number in range(MAX_METADATA + 5):
        metrics.increment("jobs", metadata={"n": number})
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["metadata_dropped"], stats["dropped"]) == (1_005, 5, {})
    assert "jobs: metadata of some samples is dropped" in caplog.text
    samples = metrics.query("jobs")
    assert sum(sample.count for sample in samples) == 1_005
    assert [sample.metadata["n"] for sample in samples if sample.metadata] == list(range(1_000))


def test_series_beyond_the_limit_share_one_and_totals_stay_right(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(max_series=5), make(max_series=5)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for metrics in (first, second, first):
            for number in range(20):
                metrics.increment("jobs", 2, tags={"user": number})
                metrics.histogram("took", number + 0.5, tags={"user": number})
                Gauge("depth", {"user": number}, metrics=metrics).set(number)
            metrics.flush()
    assert (
        len(
            [
                record
                for record in caplog.records
                if "jobs has more than max_series=5" in record.message
            ]
        )
        == 2
    )
    assert balanced(first)["stored"] == 120
    assert first.query("jobs", aggregation="sum") == 120
    assert first.query("took", aggregation="sum") == 3 * sum(number + 0.5 for number in range(20))
    ((key, value),) = OVERFLOW_TAGS.items()
    for name, kept in (("jobs", "count"), ("took", "count"), ("depth", "count")):
        rows = first.query(name, aggregation=kept, group_by=["user", key])
        assert [row["count"] for row in rows] == [45, 3, 3, 3, 3, 3]
        assert rows[0][key] == value
        (family,) = first.live(name)
        assert len(family.series) == 6
    (family,) = first.live("jobs")
    assert sorted(series.value for series in family.series) == [6, 6, 6, 6, 6, 90]
    (family,) = first.live("took")
    assert sum(series.count for series in family.series) == 60


def test_blocks_cut_from_a_log_are_counted_as_never_sealed(make: Make) -> None:
    metrics = make(flush_interval=NEVER, log_bytes=1 << 16, samples_per_flush=10_000)
    for flush in range(20):
        spread(metrics, "took", 1_000, flush)
        metrics.increment("jobs")
        metrics.flush()
    assert balanced(metrics)["stored"] == 20_020
    left = metrics.query("took", aggregation="count")
    storage = metrics.get_stats()["storage"]
    assert 0 < left < 20_000
    assert left % 1_000 == 0
    assert storage["metrics_stored"] == 20_020
    assert storage["metrics_dropped"] == {"never_sealed": 20_000 - left, "late": 0}
    assert storage["total_metrics"] == left + 20
    assert storage["bytes"]["log"] <= 1 << 17
    assert metrics.query("jobs", aggregation="sum") == 20
    (family,) = metrics.live("took")
    assert family.series[0].count == 20_000  # the running totals know of all


def test_a_batch_of_many_metrics_and_series_is_cut_and_all_of_it_arrives(make: Make) -> None:
    metrics = make(flush_interval=NEVER, max_tag_values=3_000)
    for metric in range(150):
        for series in range(10):
            metrics.increment(f"jobs_{metric}", series, tags={"s": series})
    for series in range(3_000):
        metrics.histogram("took", 1.5, tags={"s": series})
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (4_500, {})
    assert stats["batches"] >= 15
    assert metrics.query("took", aggregation="sum") == 4_500
    assert len(metrics.tag_values("took", "s")) == 3_000
    assert {metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(150)} == {45}


def test_the_largest_values_do_no_harm_to_others(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    for _ in range(3):
        for value in (1.7e308, 1.7e308, 10**308):
            metrics.increment("jobs", value)
        metrics.gauge("depth", -1.7e308)
        Gauge("depth", metrics=metrics).add(-1.7e308)
        metrics.increment("others")
        metrics.flush()
    assert balanced(metrics)["stored"] == 18
    assert metrics.query("others", aggregation="sum") == 3
    assert metrics.query("jobs", aggregation="count") == 9


# -- once ---------------------------------------------------------------------------------------------------------


def test_equal_samples_of_two_clients_at_the_same_tick_both_count(make: Make) -> None:
    now = time.time()
    clients = [make(flush_interval=NEVER, clock=lambda: now) for _ in range(4)]
    barrier = threading.Barrier(4)

    def run(metrics: Metrics) -> None:
        for _ in range(20):
            metrics.increment("jobs", tags={"a": "b"})
            metrics.gauge("depth", 1)
            barrier.wait(10)
            metrics.flush()

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients[0].query("jobs", aggregation="sum") == 80
    assert clients[0].query("depth", aggregation="count") == 80
    assert [sample.count for sample in clients[0].query("jobs")] == [1] * 80


def test_a_writer_that_was_pruned_in_a_long_pause_has_lost_nothing(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, max_age=3600)
    metrics.increment("jobs", tags={"a": "b"})
    metrics.flush()
    with server.client() as direct:
        direct.delete(keys.shard(metrics.settings.namespace, 0).writers)
    metrics._sink.sender._confirmed_ms[0] -= 3_601_000  # as if it had paused for so long
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.increment("jobs", tags={"a": "b"})
        metrics.flush()
    stats = balanced(metrics)
    assert (stats["lost_batches"], stats["stored"]) == (0, 2)
    assert not [record for record in caplog.records if "lost confirmed" in record.message]


def test_max_age_gives_way_to_what_the_namespace_keeps(
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


def test_a_metric_deleted_under_way_starts_anew(make: Make) -> None:
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


def test_flush_raises_in_time_and_everything_arrives_once_later(
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
        assert 0.3 <= time.monotonic() - began < 1.5
        balanced(metrics)
    server.resume()
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["dropped"], stats["in_doubt"]) == (7, 0, {}, 0)
    assert metrics.query("jobs", aggregation="sum") == 4
    assert [sample.value for sample in metrics.query("depth")] == [0, 1, 2]


def test_a_server_that_is_away_raises_at_flush_and_never_at_a_recording(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make("redis://user:secret@127.0.0.1:1/0", flush_interval=NEVER)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(2):
            metrics.increment("jobs")
            with pytest.raises(StoreUnavailable, match="Redis did not answer") as raised:
                metrics.flush(0.2)
    assert len([record for record in caplog.records if "samples wait for" in record.message]) == 1
    assert "secret" not in caplog.text + str(raised.value) + str(metrics.stats())
    assert balanced(metrics)["pending"] == 2


def test_one_metric_s_damaged_key_costs_only_its_own_samples(
    make: Make, server: Server, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("series", "live", "log", "state"):
        bad, good = f"bad_{part}", [f"good_{part}_1", f"good_{part}_2"]
        metrics = make(backoff=QUICK, flush_interval=NEVER)
        with server.client() as direct:
            direct.set(getattr(keys.metric(namespace, 0, bad), part), "no such thing")
        for name in (good[0], bad, good[1]):
            metrics.increment(name, 3)
            metrics.increment(name, 4)
        caplog.clear()
        with (
            caplog.at_level(logging.ERROR, "redismetrics"),
            pytest.raises(ScriptFailed, match="WRONGTYPE"),
        ):
            metrics.flush()
        with caplog.at_level(logging.ERROR, "redismetrics"):
            wait_until(lambda metrics=metrics: metrics.stats()["pending"] == 0, "all is settled")
        stats = balanced(metrics)
        assert (stats["stored"], stats["dropped"], stats["in_doubt"]) == (4, {"refused": 2}, 0)
        assert f"{bad}: 2 samples are dropped: Redis rejected a command: " in caplog.text
        assert [metrics.query(name, aggregation="sum") for name in good] == [7, 7]
        metrics.increment(good[0])
        metrics.flush()
        assert metrics.query(good[0], aggregation="sum") == 8


def test_scripts_flushed_under_way_change_nothing(
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


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_server_restarted_with_its_data_under_way_changes_nothing(
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


def test_a_full_server_refuses_and_later_takes_everything_once(
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


def test_what_can_t_be_packed_is_dropped_and_holds_up_no_other(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    wire = encode.encode

    def fails(batch: MetricBatch, *others: Any) -> tuple[bytes, bytes]:
        if batch.name == "bad":
            raise ArithmeticError("a fault of our own")
        return wire(batch, *others)

    monkeypatch.setattr(encode, "encode", fails)
    for name in ("bad", "good", "bad"):
        metrics.increment(name)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"], stats["pending"]) == (1, {"failed": 2}, 0)
    assert "BUG: bad: 2 samples can't be encoded" in caplog.text
    assert metrics.query("good", aggregation="sum") == 1


# -- races --------------------------------------------------------------------------------------------------------


def test_flush_waits_for_a_drain_under_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = make(flush_interval=NEVER)
    taken, go_on = threading.Event(), threading.Event()
    drain = drain_drain

    def slow_drain(*args: Any) -> Any:
        result = drain(*args)  # the buffers are empty, and nothing is in the queue yet
        taken.set()
        assert go_on.wait(10)
        return result

    monkeypatch.setattr(drain_module, "drain", slow_drain)
    metrics.increment("jobs")
    collector = threading.Thread(target=collect, args=(metrics,))
    collector.start()
    assert taken.wait(10)
    answers: list[int] = []
    asker = threading.Thread(
        target=lambda: answers.append(metrics.query("jobs", aggregation="sum"))
    )
    asker.start()
    asker.join(0.2)
    go_on.set()
    asker.join()
    collector.join()
    assert answers == [1]


def test_flushes_from_many_threads_at_once(make: Make) -> None:
    metrics = make(flush_interval=0.01)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for _ in range(30):
                metrics.increment("jobs", tags={"t": number})
                metrics.flush()
                found = metrics.query("jobs", aggregation="sum", tags={"t": number})
                assert found == _ + 1
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert metrics.query("jobs", aggregation="sum") == 180


def test_the_sum_holds_at_any_moment(make: Make) -> None:
    metrics = make(flush_interval=0.01)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            metrics.increment("jobs")
            metrics.gauge("depth", 1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(100):
            balanced(metrics)
            time.sleep(0.0005)
    finally:
        stop.set()
        thread.join()
    metrics.flush()
    stats = balanced(metrics)
    assert stats["stored"] == stats["recorded"]
    assert (
        metrics.query("jobs", aggregation="sum") == metrics.query("depth", aggregation="count") > 0
    )
    assert stats["stored"] == 2 * metrics.query("jobs", aggregation="sum")


# -- the end ------------------------------------------------------------------------------------------------------


def test_close_sends_what_is_left_and_once(make: Make) -> None:
    first, second = make(flush_interval=NEVER), make()
    first.increment("jobs", 3)
    first.close()
    first.close()
    assert second.query("jobs", aggregation="sum") == 3
    stats = balanced(first)
    assert (stats["stored"], stats["pending"]) == (1, 0)


def test_close_counts_what_was_never_sent(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    metrics = make(NOWHERE, flush_interval=NEVER)
    for _ in range(3):
        metrics.increment("jobs")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.3)
    assert time.monotonic() - began < 1.5
    stats = balanced(metrics)
    assert (stats["dropped"], stats["pending"], stats["buffer_bytes"]) == ({"unsent": 3}, 0, 0)
    assert "closed with 3 samples never sent and 0 sent but never confirmed" in caplog.text


def test_close_counts_what_was_sent_and_never_confirmed(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=0.2)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("jobs", 5)
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.1)
    metrics.increment("jobs")
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.3)
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["in_doubt"]) == (1, 0, 0)
    assert stats["dropped"] == {"unknown": 1, "unsent": 1}
    assert "closed with 1 samples never sent and 1 sent but never confirmed" in caplog.text


def test_close_counts_what_the_sender_has_in_its_hands(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=1)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("new", 5)  # its sender asks the catalogue about the new name, and waits
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.1)
    metrics.close(0.1)
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["dropped"]) == (1, 0, {"unsent": 1})
    wait_until(
        lambda: not any(thread.is_alive() for thread in metrics._sink.threads),
        "its threads end",
    )
    server.resume()
    assert {**balanced(metrics), "last_error": None} == stats
    assert make(server.url).query("new", aggregation="count") == 0


def test_a_subscriber_is_not_shown_the_samples_of_a_refused_batch(
    make: Make, server: Server, namespace: str
) -> None:
    metrics = make(flush_interval=NEVER)
    with server.client() as direct:
        direct.set(keys.metric(namespace, 0, "bad").log, "no such thing")
    subscription: Subscription
    with metrics.subscribe() as subscription:
        metrics.increment("good")
        metrics.increment("bad")
        with pytest.raises(ScriptFailed):
            metrics.flush()
        wait_until(lambda: metrics.stats()["pending"] == 0, "all is settled")
        metrics.increment("good")
        metrics.flush()
        names = [subscription.get(5).name for _ in range(2)]
        assert names == ["good", "good"]
        assert subscription.get(0.05) is None
