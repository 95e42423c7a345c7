"""What a flush and `close` report, under every reason for which samples are dropped."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

import redismetrics
from redismetrics import AsyncMetrics, FlushResult, Metrics, TypeMismatch
from redismetrics.client import default
from redismetrics.recording import sender
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.encode import EncodedBatch
from redismetrics.store import keys
from tests.fixtures.servers import Server, wait_until
from tests.recording.helpers import NEVER, NOWHERE, QUICK, Make, balanced, collect, spread


def test_flush_reports_what_was_stored(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    assert metrics.flush() == FlushResult(stored=0, dropped={})
    for _ in range(3):
        metrics.increment("jobs")
    metrics.gauge("depth", 4)
    assert metrics.flush() == FlushResult(stored=4)
    assert metrics.flush() == FlushResult()
    with pytest.raises(AttributeError):
        metrics.flush().stored = 1  # type: ignore[misc]


def test_flush_of_asyncio_and_of_the_module_report_the_same(url: str, namespace: str) -> None:
    async def work() -> FlushResult:
        async with AsyncMetrics(url, namespace=namespace, flush_interval=NEVER) as metrics:
            metrics.increment("jobs", 2)
            metrics.increment("jobs", timestamp=time.time() - 30 * 24 * 3600)
            return await metrics.flush()

    assert asyncio.run(work()) == FlushResult(1, {"too_old": 1})
    with default.restored():
        redismetrics.configure(url, namespace=namespace, flush_interval=NEVER)
        redismetrics.increment("jobs")
        assert redismetrics.flush() == FlushResult(1)
        redismetrics.close()
    with Metrics("none://") as nowhere:
        nowhere.increment("jobs")
        assert nowhere.flush() == FlushResult()


def test_flush_reports_what_the_background_thread_settled_before(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    metrics.increment("jobs")
    metrics.increment("jobs", timestamp=time.time() + 3600)
    collect(metrics)
    metrics._sink.sending.wake.set()
    wait_until(lambda: metrics.stats()["pending"] == 0, "all is settled")
    # A query sends too, and takes nothing away from the report.
    assert metrics.query("jobs", aggregation="count") == 1
    assert metrics.flush() == FlushResult(1, {"in_future": 1})
    assert metrics.flush() == FlushResult()


def test_samples_outside_the_time_bounds_are_reported(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    metrics.increment("jobs", timestamp=time.time() - 30 * 24 * 3600)
    metrics.increment("jobs", timestamp=time.time() + 3600)
    metrics.increment("jobs", timestamp=time.time() + 3600)
    metrics.increment("jobs")
    assert metrics.flush() == FlushResult(1, {"too_old": 1, "in_future": 2})


def test_invalid_samples_and_those_after_close_are_reported(make: Make) -> None:
    metrics = make(flush_interval=NEVER, on_invalid="drop")
    metrics.increment("jobs", -1)
    metrics.increment("jobs")
    assert metrics.flush() == FlushResult(1, {"invalid": 1})
    metrics.close()
    metrics.increment("jobs")
    metrics.increment("jobs")
    assert metrics.flush() == FlushResult(0, {"closed": 2})


def test_type_mismatch_raises_once_and_is_reported_afterwards(make: Make) -> None:
    first, second = make(flush_interval=NEVER), make(flush_interval=NEVER)
    first.gauge("jobs", 1)
    first.flush()
    second.increment("jobs")
    second.increment("other")
    with pytest.raises(TypeMismatch):
        second.flush()
    second.increment("jobs")
    second.increment("jobs")
    # The error has reported the first; nothing else was lost from the report.
    assert second.flush() == FlushResult(1, {"type_mismatch": 2})


def test_samples_that_redis_refuses_are_reported(
    make: Make, server: Server, namespace: str
) -> None:
    metrics = make(backoff=QUICK, flush_interval=NEVER)
    with server.client() as direct:
        direct.set(keys.metric(namespace, 0, "bad").log, "no such thing")
    metrics.increment("bad")
    metrics.increment("good")
    assert metrics.flush() == FlushResult(1, {"refused": 1})


def test_samples_that_can_not_be_encoded_are_reported(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = make(flush_interval=NEVER)
    original = sender.encode

    def fails(batch: MetricBatch, *others: Any) -> EncodedBatch:
        if batch.name == "bad":
            raise ArithmeticError("a fault of our own")
        return original(batch, *others)

    monkeypatch.setattr(sender, "encode", fails)
    for name in ("bad", "good", "bad"):
        metrics.increment(name)
    assert metrics.flush() == FlushResult(1, {"failed": 2})


def test_samples_beyond_the_buffer_are_reported(make: Make) -> None:
    metrics = make(flush_interval=NEVER, buffer_bytes=1 << 16, samples_per_flush=10_000)
    for number in range(100):
        spread(metrics, f"metric_{number:03}", 50)
    result = metrics.flush()
    assert result.dropped["buffer_full"] > 0
    assert result == FlushResult(
        5_000 - result.dropped["buffer_full"], {"buffer_full": result.dropped["buffer_full"]}
    )
    assert result.dropped == metrics.stats()["dropped"]


def test_samples_that_waited_too_long_are_reported(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    server.pause()
    now = [0.0]
    metrics = make(
        server.url,
        flush_interval=NEVER,
        buffer_age=60,
        backoff=QUICK,
    )
    metrics._recorder.steady_clock = lambda: now[0]
    metrics.increment("jobs")
    collect(metrics)
    now[0] += 61
    metrics.increment("jobs")
    collect(metrics)
    assert balanced(metrics)["dropped"] == {"expired": 1}
    server.resume()
    assert metrics.flush() == FlushResult(1, {"expired": 1})


def test_close_logs_what_it_reports(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    metrics = make(NOWHERE, flush_interval=NEVER, on_invalid="drop")
    metrics.increment("jobs", -1)
    metrics.increment("jobs")
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.1)
    assert "closed with 1 samples never sent" in caplog.text
    assert (
        "closed: since the last flush 0 samples were stored, dropped: 1 invalid, 1 unsent"
        in caplog.text
    )
    assert metrics.flush() == FlushResult()


def test_close_logs_unconfirmed_samples(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=0.2)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("jobs", 5)
    collect(metrics)
    metrics._sink.sending.wake.set()
    wait_until(lambda: metrics.stats()["in_doubt"] == 1, "the batch is sent")
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.1)
    server.resume()
    assert "since the last flush 0 samples were stored, dropped: 1 unknown" in caplog.text


def test_close_without_drops_logs_no_warning(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    metrics = make(flush_interval=NEVER)
    metrics.increment("jobs")
    with caplog.at_level(logging.DEBUG, "redismetrics"):
        metrics.close()
    (record,) = [each for each in caplog.records if "since the last flush" in each.message]
    assert record.levelno == logging.DEBUG
    assert record.message.endswith("1 samples were stored, dropped: none")


def _too_old(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    metrics.increment("jobs", timestamp=time.time() - 30 * 24 * 3600)


def _in_future(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    metrics.increment("jobs", timestamp=time.time() + 3600)


def _invalid(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    metrics.increment("jobs", -1)


def _type_mismatch(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    with Metrics(metrics.settings.url, namespace=metrics.settings.namespace) as other:
        other.gauge("jobs", 1)
    metrics.increment("jobs")


def _refused(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    with redis.Redis.from_url(metrics.settings.url or "") as direct:
        direct.set(keys.metric(metrics.settings.namespace, 0, "jobs").log, "no such thing")
    metrics.increment("jobs")


def _failed(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> EncodedBatch:
        raise ArithmeticError("a fault of our own")

    monkeypatch.setattr(sender, "encode", fails)
    metrics.increment("jobs")


def _expired(metrics: Metrics, _: pytest.MonkeyPatch) -> None:
    now = [0.0]
    metrics._recorder.steady_clock = lambda: now[0]
    metrics.increment("jobs")
    collect(metrics)
    now[0] += 10_000
    collect(metrics)


@pytest.mark.parametrize(
    "drop", [_too_old, _in_future, _invalid, _type_mismatch, _refused, _failed, _expired]
)
def test_close_logs_every_reason(
    make: Make,
    drop: Callable[[Metrics, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = make(backoff=QUICK, flush_interval=NEVER, on_invalid="drop")
    drop(metrics, monkeypatch)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close()
    reason = drop.__name__[1:]
    assert balanced(metrics)["dropped"] == {reason: 1}
    assert f"closed: since the last flush 0 samples were stored, dropped: 1 {reason}" in caplog.text


def test_close_logs_samples_beyond_the_buffer(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    metrics = make(flush_interval=NEVER, buffer_bytes=1 << 16, samples_per_flush=10_000)
    for number in range(100):
        spread(metrics, f"metric_{number:03}", 50)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close()
    stats = balanced(metrics)
    count = stats["dropped"]["buffer_full"]
    assert f"{5_000 - count} samples were stored, dropped: {count} buffer_full" in caplog.text


def test_the_first_sample_after_close_is_logged_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    jobs = redismetrics.Counter("jobs", metrics=metrics)
    metrics.close()
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(3):
            metrics.increment("jobs")
            jobs.increment()
    assert balanced(metrics)["dropped"] == {"closed": 6}
    assert caplog.text.count("samples are dropped as `closed`") == 1
