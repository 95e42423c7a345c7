"""Regression tests: rare cases in which samples were lost, counted twice or became unreadable."""

import threading
import time

import pytest
import redis

from redismetrics import Counter, Gauge, Metrics
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.recorded import change_recorded
from tests.fixtures.servers import wait_until


def balance(metrics: Metrics) -> tuple[int, int, dict[str, int]]:
    stats = metrics.stats()
    assert stats["recorded"] == stats["stored"] + stats["pending"] + sum(stats["dropped"].values())
    return stats["stored"], stats["pending"], stats["dropped"]


def test_a_corrupt_definition_affects_only_its_metric(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics, late = make_metrics(), make_metrics()
    metrics.increment("broken")
    metrics.flush()
    admin.hset(keys.shard(namespace, 0).catalogue, "broken", b"\xc1junk")
    # Of a metric whose series the client knows, nobody looks at the definition.
    metrics.increment("broken")
    metrics.increment("sound")
    metrics.flush()
    assert balance(metrics) == (3, 0, {})
    late.increment("broken", 5)  # the client must learn the definition
    late.increment("sound", 5)
    late.flush()
    assert balance(late) == (1, 0, {"refused": 1})
    assert late.query("sound", aggregation="sum") == 6


def test_changes_beyond_the_largest_float_stay_readable(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics()
    level = Gauge("level", metrics=metrics)
    level.add(1.7e308)
    level.add(1.7e308)
    metrics.flush()
    assert metrics.query("level", aggregation="last") == pytest.approx(1.797e308, rel=1e-3)
    level.set(4.0)
    metrics.flush()
    assert metrics.query("level", aggregation="last") == 4


def test_equal_samples_of_many_flushes_in_one_batch_stay_readable(
    make_metrics: MakeMetrics,
) -> None:
    metrics = make_metrics(samples_per_flush=10_000)
    when = time.time() - 60
    for _ in range(3):
        for _ in range(10_000):
            metrics.increment("jobs", timestamp=when)
        with metrics._sink.sending.lock:  # so that all three flushes become one batch
            metrics._sink.collector.collect(int(time.time() * 1000))
    metrics.flush()
    assert metrics.query("jobs", aggregation="sum") == 30_000


def test_a_change_with_a_backfilled_set_in_one_flush_is_not_lost(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics()
    level = Gauge("level", metrics=metrics)
    level.set(100.0)
    metrics.flush()
    level.add(5)
    metrics.gauge("level", 1, timestamp=time.time() - 3600)
    metrics.flush()
    level.add(1)
    metrics.flush()
    assert metrics.live("level")[0].series[0].value == 106
    assert metrics.query("level", aggregation="last") == 106


def test_a_change_after_many_sets_of_an_unknown_gauge_adds_to_the_last(
    make_metrics: MakeMetrics,
) -> None:
    metrics = make_metrics()
    level = Gauge("level", metrics=metrics)
    with metrics._sink.sending.lock:
        for value in range(1, 201):
            level.set(float(value))
        metrics._sink.collector.collect(int(time.time() * 1000))
        level.add(5)
        metrics._sink.collector.collect(int(time.time() * 1000))
    metrics.flush()
    assert metrics.query("level", aggregation="max") == 205
    assert metrics.live("level")[0].series[0].value == 205


def test_changes_of_many_flushes_in_one_batch_are_all_counted(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics(buffer_bytes=1 << 16)
    level = Gauge("level", metrics=metrics)
    with metrics._sink.sending.lock:
        for _ in range(200):  # more than the send queue holds unmerged
            level.add(2)
            metrics._sink.collector.collect(int(time.time() * 1000))
    metrics.flush()
    assert balance(metrics) == (200, 0, {})
    assert metrics.query("level", aggregation="count") == 200
    assert metrics.query("level", aggregation="last") == 400


def test_a_clock_that_jumped_and_returned_refuses_nothing(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.increment("jobs")
    metrics.flush()
    admin.set(keys.shard(namespace, 0).clock, str(int((time.time() + 2 * 86_400) * 1e6)))
    for _ in range(3):
        metrics.increment("jobs")
        metrics.flush()
    assert balance(metrics) == (4, 0, {})
    assert metrics.query("jobs", aggregation="sum") == 4


def test_a_sample_with_an_absurd_time_does_not_affect_others(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics()
    metrics.histogram("took", 1)
    metrics.flush()  # so that it is known, and compressed when drained
    now = time.time() - 60
    for _ in range(500):
        metrics.histogram("took", 2.5, tags={"of": "b"}, timestamp=now)
    metrics.histogram("took", 3, tags={"of": "a"}, timestamp=now + (1 << 26) * 60)
    metrics.flush()
    assert balance(metrics) == (501, 0, {"in_future": 1})


def test_a_thread_that_cannot_start_is_retried(
    make_metrics: MakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = make_metrics()
    jobs = Counter("jobs", metrics=metrics)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(10):
            jobs.increment()
            metrics.increment("other")
    jobs.increment()
    metrics.flush()
    assert balance(metrics) == (21, 0, {})


def test_values_of_an_unknown_type_that_becomes_a_counter_are_checked(
    make_metrics: MakeMetrics,
) -> None:
    metrics, known = make_metrics(buffer_bytes=1 << 16), make_metrics()
    known.increment("jobs", 1_000_000)
    known.flush()
    with metrics._sink.sending.lock:
        for number in range(3000):
            metrics.record(
                "jobs", float(number if number % 2 else -number), tags={"of": str(number % 7)}
            )
        metrics._sink.collector.collect(int(time.time() * 1000))
    metrics.flush()
    stored, pending, dropped = balance(metrics)
    assert (stored + sum(dropped.values()), pending) == (3000, 0)
    assert metrics.query("jobs", aggregation="count") == 1 + stored
    assert metrics.query("jobs", aggregation="min") >= 0
    assert metrics.query("jobs", aggregation="sum") >= 1_000_000


def test_samples_drained_after_close_timed_out_are_counted(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics()
    metrics.increment("jobs")
    collector = metrics._sink.collector
    lock = collector.lock
    lock.acquire()
    drained = metrics._recorder.metrics["jobs"].buffers
    taken = [buffer.values[:] for buffer in drained.values()]
    metrics.close(timeout=0.2)
    lock.release()
    for buffer, values in zip(drained.values(), taken, strict=True):
        buffer.values += values  # as if the collector was still running
    collector.collect(int(time.time() * 1000))
    stats = metrics.stats()
    assert (stats["pending"], stats["dropped"]["unsent"]) == (0, 2)


def test_a_process_limits_its_own_series(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics(max_series=10)
    for number in range(1000):
        metrics.increment("jobs", tags={"user": str(number)})
    assert len(metrics._recorder.metrics["jobs"].buffers) == 11
    metrics.flush()
    assert metrics.query("jobs", aggregation="sum") == 1000
    assert metrics.query("jobs", aggregation="sum", tags={"otel.metric.overflow": "true"}) == 990


def test_a_corrupt_block_in_the_log_is_trimmed_like_any_other(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics(log_age=60)
    metrics.increment("jobs")
    metrics.flush()
    old_us = (time.time() - 600) * 1e6
    admin.zadd(keys.metric(namespace, 0, "jobs").log, {b"\xc1junk": old_us})
    change_recorded(admin, namespace, "jobs", oldest=old_us)
    metrics.increment("jobs")
    metrics.flush(3)
    wait_until(lambda: balance(metrics)[:2] == (2, 0), "both are stored")
    assert metrics.query("jobs", aggregation="sum") == 2


def test_the_series_limit_holds_after_the_metric_was_deleted(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics(max_series=80)
    for _ in range(2):
        for number in range(100):
            metrics.increment("jobs", tags={"n": str(number)})
        metrics.flush()
        assert metrics.list_metrics()[0]["series"] == 81
        assert metrics.query("jobs", aggregation="sum") == 100
        metrics.delete_metric("jobs")
