"""Three real sentinels watch a primary and its replica; the primary dies during recording."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redismetrics import AsyncMetrics, Metrics, StoreError, StoreUnavailable
from tests.fixtures.sentinels import SERVICE, SentinelServers
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.workers import new_worker

pytestmark = pytest.mark.slow


@pytest.fixture
def watched(fresh_server: Callable[..., Server], tmp_path: Path) -> Iterator[SentinelServers]:
    found = SentinelServers(fresh_server, tmp_path)
    yield found
    found.end()


def test_recording_continues_after_the_primary_dies(
    watched: SentinelServers, namespace: str
) -> None:
    with (
        Metrics(
            watched.url, namespace=namespace, flush_interval=0.02, socket_timeout=0.5
        ) as metrics,
        Metrics(watched.url, namespace=namespace, socket_timeout=0.5) as reader,
    ):
        metrics.increment("jobs")
        metrics.flush()
        assert reader.query("jobs", aggregation="sum") == 1
        worker = new_worker(watched.url, namespace)
        worker.pass_once()
        with reader.subscribe("jobs") as stream:
            watched.wait_for_replica()
            watched.primary.kill()
            recorded = 1
            while not watched.primary_is(watched.replica):
                metrics.increment("jobs")
                recorded += 1
                threading.Event().wait(0.002)
            metrics.increment("jobs")
            recorded += 1
            metrics.flush(PATIENCE)
            heard = 0
            while heard < recorded - 1:
                item = stream.get(PATIENCE)
                assert item is not None
                heard += getattr(item, "count", 0)
        assert heard == recorded - 1
        wait_until(lambda: asks(reader) == recorded, "the reader found the new primary")
        stats = metrics.stats()
        assert (stats["stored"], stats["dropped"], stats["lost_batches"]) == (recorded, {}, 0)
        assert stats["retries"] + stats["batches"] > 2
        worker.disconnect()
        assert worker.pass_once(alone=True) > 0
        worker.leave()
        worker.store.close()
        assert reader.query("jobs", aggregation="sum") == recorded

        wait_until(lambda: watched.clients() == 0, "the sentinels are let go of")

    async def ask() -> float:
        async with AsyncMetrics(watched.url, namespace=namespace) as asking:
            asking.increment("jobs", 2)
            await asking.flush()
            found = await asyncio.gather(
                *(asking.query("jobs", aggregation="sum") for _ in range(50))
            )
            return found[0] if len(set(found)) == 1 else -1

    assert asyncio.run(ask()) == recorded + 2


def asks(reader: Metrics) -> float:
    try:
        return reader.query("jobs", aggregation="sum")
    except StoreError:
        return -1


def test_an_unconfirmed_batch_counts_once_after_a_failover(
    watched: SentinelServers, namespace: str
) -> None:
    """The old primary runs the batch when it resumes, but its data is discarded."""
    with Metrics(
        watched.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.3
    ) as metrics:
        metrics.increment("jobs", 5)
        metrics.flush()
        watched.wait_for_replica()
        watched.primary.pause()
        metrics.increment("jobs", 7)
        with pytest.raises(StoreUnavailable):
            metrics.flush(0.4)
        assert metrics.stats()["in_doubt"] == 1
        wait_until(
            lambda: watched.primary_is(watched.replica),
            "the sentinels made the replica the primary",
        )
        metrics.flush(PATIENCE)
        watched.primary.resume()
        with watched.primary.client() as client:
            client.replicaof(
                "127.0.0.1", watched.replica.port
            )  # as the sentinels do within ten seconds
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "it follows"
            )
        assert metrics.query("jobs", aggregation="sum") == 12
        metrics.increment("jobs")
        metrics.flush()
        assert metrics.query("jobs", aggregation="sum") == 13
        assert metrics.stats()["lost_batches"] == 0
        with Metrics(watched.primary.url, namespace=namespace) as of_replica:
            wait_until(
                lambda: of_replica.query("jobs", aggregation="sum") == 13,
                "the replica has the same",
            )


def test_an_unknown_service_and_a_wrong_password_are_reported(
    watched: SentinelServers, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for url in (
        watched.url.replace(f"/{SERVICE}/", "/other/"),
        watched.url.replace("=watch", "=geheim"),
    ):
        with Metrics(url, namespace=namespace, socket_timeout=0.3) as metrics:
            metrics.increment("jobs")
            with pytest.raises(StoreUnavailable) as raised:
                metrics.flush(0.5)
            metrics.close(0.1)
        assert "geheim" not in str(raised.value) + caplog.text

        async def ask(url: str = url) -> None:
            async with AsyncMetrics(url, namespace=namespace, socket_timeout=0.3) as asking:
                await asking.query("jobs")

        with pytest.raises(StoreUnavailable) as araised:
            asyncio.run(ask())
        assert "geheim" not in str(araised.value) + caplog.text
