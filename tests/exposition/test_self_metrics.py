"""Metrics of redismetrics itself: on the Prometheus page, and from `stats()` without Redis."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redismetrics import AsyncMetrics, Metrics, StoreUnavailable
from redismetrics.export import export, negotiate
from redismetrics.exposition import self_metrics
from redismetrics.worker.worker import Counts
from tests.fixtures.exposition import (
    OPENMETRICS,
    TEXT,
    needs_promtool,
    of_users,
    promtool,
    samples,
)
from tests.fixtures.servers import Server
from tests.system.faults.proxy import Proxy

NEVER = 3_600.0
Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=NEVER, on_invalid="drop") as client:
        yield client


def own(metrics: Metrics, *, openmetrics: bool = False) -> Page:
    page = samples(export(metrics=metrics, openmetrics=openmetrics, self_metrics=True), openmetrics)
    return {at: value for at, value in page.items() if at[0].startswith("redismetrics_")}


def at(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"redismetrics_{name}", frozenset(labels.items())


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_page_has_the_process_and_the_namespace(metrics: Metrics, openmetrics: bool) -> None:
    for number in range(5):
        metrics.increment("jobs", 2, tags={"id": str(number)})
    metrics.gauge("depth", float("nan"))
    page = own(metrics, openmetrics=openmetrics)
    assert page[at("recorded_total")] == 6
    assert page[at("stored_total")] == 5
    assert page[at("dropped_total", reason="invalid")] == 1
    assert page[at("pending")] == page[at("retries_total")] == 0
    assert page[at("buffered_series")] == 5
    assert page[at("batches_total")] == 1
    assert page[at("flush_seconds")] > 0
    assert page[at("store_metrics")] == 1
    assert page[at("store_series")] == page[at("store_samples")] == 5
    assert page[at("store_writers")] == 1
    assert page[at("store_workers")] == 0
    assert page[at("store_bytes", level="log")] > 0
    assert page[at("store_bytes", level="minute")] == 0
    assert page[at("store_dropped", reason="late")] == 0
    assert page[at("store_worker_lag_seconds")] >= 0


def test_a_page_takes_four_round_trips(metrics: Metrics, server: Server, namespace: str) -> None:
    metrics.increment("jobs")
    metrics.gauge("depth", 1)
    metrics.flush()
    with Proxy(server) as proxy, Metrics(proxy.url, namespace=namespace) as other:
        negotiate(None, metrics=other)  # connect, and read the namespace's configuration
        before = proxy.requests
        assert b"\njobs_total 1\n" in negotiate(None, metrics=other)[0]
        assert proxy.requests - before == 4


def test_a_process_that_recorded_nothing_shows_only_the_namespace(
    metrics: Metrics, url: str, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    with Metrics(url, namespace=namespace) as other:
        page = own(other)
    assert page[at("store_series")] == 1
    assert all(name.startswith("redismetrics_store_") for name, _ in page)


@needs_promtool
def test_promtool_accepts_the_page_with_user_metrics_of_reserved_names(metrics: Metrics) -> None:
    metrics.increment("redismetrics_recorded", 41)
    metrics.gauge("redismetrics_store_series", 42)
    metrics.histogram("redismetrics_store_bytes", 43, tags={"level": "log"})
    metrics.gauge("redismetrics_recorded_total", 44)
    promtool(export(metrics=metrics, self_metrics=True))


def test_a_user_metric_with_a_reserved_name_is_renamed_on_every_page(
    metrics: Metrics,
) -> None:
    metrics.increment("redismetrics_recorded", 41)
    metrics.gauge("redismetrics_store_series", 42)
    theirs = export(metrics=metrics)
    assert "redismetrics_recorded_2_total 41" in theirs
    assert "redismetrics_store_series_2 42" in theirs
    whole = export(metrics=metrics, self_metrics=True)
    assert set(theirs.splitlines()) <= set(whole.splitlines())
    page = own(metrics)
    assert page[at("store_series")] == 2
    assert page[at("recorded_total")] == 2


def test_a_served_page_has_self_metrics_by_default(metrics: Metrics) -> None:
    metrics.increment("jobs")
    body, kind = negotiate(None, metrics=metrics)
    assert kind == TEXT
    assert b"redismetrics_recorded_total 1\n" in body
    body, kind = negotiate("application/openmetrics-text", metrics=metrics, self_metrics=False)
    assert kind == OPENMETRICS
    assert body.decode() == export(metrics=metrics, openmetrics=True)
    assert of_users(body.decode()) == body.decode()


def test_the_asyncio_client_returns_the_same(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()

    async def ask() -> list[Any]:
        async with AsyncMetrics(metrics=metrics) as other:
            return await other.self_metrics()

    names = [family.name for family in asyncio.run(ask())]
    assert (
        names
        == [family.name for family in metrics.self_metrics()]
        == [family.name for family in self_metrics.reserved_families()]
    )


def test_the_permissions_of_a_reader_are_enough(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(port=True)
    with server.client() as client:
        rights = ("on", ">secret", "resetchannels", "~rm:*", "-@all", "+@read", "+time")
        client.execute_command("ACL", "SETUSER", "reader", *rights)
    with (
        Metrics(server.url) as writer,
        Metrics(f"redis://reader:secret@127.0.0.1:{server.port}/0") as reader,
    ):
        writer.increment("jobs")
        writer.flush()
        assert own(reader)[at("store_series")] == 1


def test_stats_work_while_redis_is_unreachable(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, worker=True, socket_timeout=0.2) as metrics:
        metrics.increment("jobs", tags={"queue": "mail"})
        metrics.flush()
        server.kill()
        metrics.increment("jobs")
        with pytest.raises(StoreUnavailable):
            metrics.flush(0.3)
        stats = metrics.stats()
        assert (stats["recorded"], stats["stored"], stats["pending"], stats["buffered_series"]) == (
            2,
            1,
            1,
            2,
        )
        assert stats["last_error"]
        assert stats["worker"]["samples"] == stats["worker"]["lag_seconds"] == 0
        metrics.close(0)


def test_every_statistic_is_on_the_page() -> None:
    stats = Metrics("none://").stats()
    shown = {
        family.name.removeprefix("redismetrics_") for family in self_metrics.process_families({})
    }
    assert set(stats) - shown == {"worker", "writer", "last_error"}
    counts = {
        family.name.removeprefix("redismetrics_worker_")
        for family in self_metrics.worker_families({})
    }
    assert set(Counts().as_dict()) - counts == {"lag_ms", "last_error"}
