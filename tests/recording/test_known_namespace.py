"""The namespace's configuration survives the loss of Redis' data while a writer is running."""

from collections.abc import Callable

import redis

from redismetrics import Metrics
from redismetrics.recording.known_namespace import CHECK_INTERVAL
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import Server

RETENTIONS = {"raw_retention": 7_200, "minute_retention": 86_400 * 2}


def _flush(metrics: Metrics, times: int = 1) -> None:
    for _ in range(times):
        metrics.increment("jobs")
        metrics.flush()


def test_the_configuration_is_written_as_it_was_not_as_this_process_would(
    make_metrics: MakeMetrics, fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    first = make_metrics(server.url, **RETENTIONS)
    _flush(first)
    metrics = make_metrics(server.url)
    _flush(metrics)
    with server.client() as direct:
        written = direct.hgetall(keys.config(namespace))
        direct.flushall()
        _flush(metrics)
        assert direct.hgetall(keys.config(namespace)) == written


def test_a_configuration_that_is_lost_alone_is_written_again_after_a_while(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics(**RETENTIONS)
    now = [1_000.0]
    metrics._recorder.steady_clock = lambda: now[0]
    _flush(metrics)
    written = admin.hgetall(keys.config(namespace))
    admin.delete(keys.config(namespace))
    now[0] += CHECK_INTERVAL - 1
    _flush(metrics)
    assert not admin.exists(keys.config(namespace))
    now[0] += 1
    _flush(metrics)
    assert admin.hgetall(keys.config(namespace)) == written
    assert metrics.stats()["lost_batches"] == 0


def test_the_configuration_is_there_when_the_first_flush_after_the_loss_returns(
    make_metrics: MakeMetrics, fresh_server: Callable[..., Server], namespace: str
) -> None:
    """A new metric is sent without series ids, so no second batch has to follow."""
    server = fresh_server()
    metrics = make_metrics(server.url)
    _flush(metrics)
    with server.client() as direct:
        written = direct.hgetall(keys.config(namespace))
        direct.flushall()
        metrics.increment("other")
        metrics.flush()
        assert direct.hgetall(keys.config(namespace)) == written


def test_the_configuration_is_written_again_after_a_restart_without_data(
    make_metrics: MakeMetrics, fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    metrics = make_metrics(server.url, **RETENTIONS)
    _flush(metrics, 3)
    with server.client() as direct:
        written = direct.hgetall(keys.config(namespace))
    server.stop()
    server.forget()
    server.restart()
    _flush(metrics)
    with server.client() as direct:
        assert direct.hgetall(keys.config(namespace)) == written
    assert make_metrics(server.url).query("jobs", aggregation="sum") == 1
