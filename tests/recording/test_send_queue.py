"""The bounds of the send queue: what is compressed, dropped and counted.

The sum that every test here comes back to: recorded = stored + pending + dropped.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

import pytest

from redismetrics import Counter, StoreUnavailable
from redismetrics.recording.backoff import Backoff
from tests.fixtures.servers import Server, wait_until
from tests.recording.helpers import (
    NEVER,
    NOWHERE,
    QUICK,
    Make,
    balanced,
    collect,
    spread,
)


def test_samples_beyond_the_limit_are_compressed_before_any_is_dropped(make: Make) -> None:
    metrics = make(NOWHERE, flush_interval=NEVER, buffer_bytes=1 << 16, samples_per_flush=10_000)
    for flush in range(10):  # 33 bytes each: 330 kB in all
        spread(metrics, "took", 1_000, flush)
        collect(metrics)
        stats = balanced(metrics)
        assert stats["buffer_bytes"] <= 1 << 16
    assert (stats["recorded"], stats["pending"], stats["dropped"]) == (10_000, 10_000, {})


def test_compressed_samples_are_exact_in_all_but_percentiles(
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
    expected = {"count": 10_000, "sum": sum(values), "min": min(values), "max": max(values)}
    expected["mean"] = expected["sum"] / 10_000
    (found,) = metrics.rollup("took", aggregations=list(expected), window=None).values()
    assert found == pytest.approx(expected, rel=1e-12)
    assert metrics.query("took", aggregation="p50") == pytest.approx(sorted(values)[5_000], rel=0.2)
    assert metrics.query("jobs", aggregation="sum") == sum(
        number % 7 for number in range(1, 10_001)
    )


def test_beyond_compression_the_oldest_are_dropped_and_counted(
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


@pytest.mark.slow
def test_nothing_is_lost_while_the_server_is_stopped(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=0.1, socket_timeout=0.5)
    stop = threading.Event()
    counts = [0, 0]

    def increments() -> None:
        instrument = Counter("jobs", {"a": "b"}, metrics=metrics)
        while not stop.is_set():
            for _ in range(1_000):
                instrument.increment()
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


def test_a_server_stopped_for_longer_than_the_buffer_holds(
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


def test_samples_that_wait_longer_than_buffer_age_are_dropped(make: Make) -> None:
    now = [0.0]
    metrics = make(NOWHERE, flush_interval=NEVER, buffer_age=60)
    metrics._recorder.steady_clock = lambda: now[0]
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


def test_an_unconfirmed_batch_is_given_up_when_redis_may_have_forgotten_its_writer(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    now = [0.0]
    metrics = make(
        server.url,
        backoff=QUICK,
        flush_interval=NEVER,
        max_age=60,
        max_future=1,
        socket_timeout=0.1,
    )
    metrics._recorder.steady_clock = lambda: now[0]
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


@pytest.mark.slow
def test_a_query_after_an_outage_does_not_wait_for_the_next_attempt(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server()
    metrics = make(server.url, backoff=Backoff(3600.0, 3600.0))
    metrics.increment("jobs")
    metrics.flush()
    server.stop()
    metrics.increment("jobs")
    with pytest.raises(StoreUnavailable):
        metrics.flush(1)
    server.restart()
    assert metrics.query("jobs", aggregation="count") >= 1  # the sender's first attempt since then
    wait_until(lambda: metrics.stats()["pending"] == 0, "all is stored")
