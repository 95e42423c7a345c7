"""redis+sentinel://: three real sentinels watch a primary and its replica; the primary dies while a process records."""

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from redismetrics import AsyncMetrics, Metrics, StoreError, StoreUnavailable
from tests.fixtures.servers import Server, _free_port, default_binary, wait_in_step, wait_until
from tests.fixtures.workers import new_worker

SERVICE = "store"


class Watched:
    """A primary, its replica, and the sentinels; *url* names these. *password* is the sentinels'."""

    def __init__(self, start: Callable[..., Server], folder: Path, sentinels: int = 3) -> None:
        no_delay = ("--repl-diskless-sync-delay", "0")
        self.primary = start(port=True, args=no_delay)
        self.replica = start(
            port=True, args=("--replicaof", "127.0.0.1", str(self.primary.port), *no_delay)
        )
        self.ports = [_free_port() for _ in range(sentinels)]
        self.processes = []
        for number, port in enumerate(self.ports):
            configuration = folder / f"sentinel-{number}.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass watch\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 2000\n"
            )
            command = [default_binary(), configuration, "--sentinel"]
            self.processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        for port in self.ports:
            wait_until(
                lambda port=port: self._ready(port, sentinels),
                "the sentinels know each other and the replica",
            )

    def _ready(self, port: int, sentinels: int) -> bool:
        try:
            with redis.Redis(port=port, password="watch", socket_timeout=1) as client:
                state = client.sentinel_masters()[
                    SERVICE
                ]  # the one question of these that redis-py 6.4 can ask
                return state["num-other-sentinels"] == sentinels - 1 and state["num-slaves"] == 1
        except (redis.RedisError, OSError):
            return False

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{places}/{SERVICE}/0?sentinel_password=watch"

    def in_step(self) -> None:
        """Wait until the replica has all that was written."""
        wait_in_step(self.primary, self.replica)

    def primary_is(self, server: Server) -> bool:
        with redis.Redis(port=self.ports[0], password="watch", socket_timeout=1) as client:
            return bool(client.sentinel_masters()[SERVICE]["port"] == server.port)

    def asking(self) -> int:
        """How many connections the first sentinel has that no sentinel opened."""
        with redis.Redis(port=self.ports[0], password="watch", socket_timeout=1) as client:
            return (
                sum(not each["name"].startswith("sentinel-") for each in client.client_list()) - 1
            )

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def watched(fresh_server: Callable[..., Server], tmp_path: Path) -> Iterator[Watched]:
    found = Watched(fresh_server, tmp_path)
    yield found
    found.end()


def test_a_primary_dies_while_a_process_records(watched: Watched, namespace: str) -> None:
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
            watched.in_step()
            watched.primary.kill()
            recorded = 1
            while not watched.primary_is(watched.replica):
                metrics.increment("jobs")
                recorded += 1
                threading.Event().wait(0.002)
            metrics.increment("jobs")
            recorded += 1
            metrics.flush(15)
            heard = 0
            while heard < recorded - 1:
                item = stream.get(5)
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

        wait_until(lambda: watched.asking() == 0, "the sentinels are let go of")

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


def test_a_batch_in_doubt_is_repeated_once_and_the_deaf_primary_comes_back(
    watched: Watched, namespace: str
) -> None:
    """The old primary has the batch in its socket and runs it when it wakes; what it does then is thrown away."""
    with Metrics(
        watched.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.3
    ) as metrics:
        metrics.increment("jobs", 5)
        metrics.flush()
        watched.in_step()
        watched.primary.pause()
        metrics.increment("jobs", 7)
        with pytest.raises(StoreUnavailable):
            metrics.flush(0.4)
        assert metrics.stats()["in_doubt"] == 1
        wait_until(
            lambda: watched.primary_is(watched.replica),
            "the sentinels made the replica the primary",
        )
        metrics.flush(15)
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


def test_a_service_that_the_sentinels_do_not_know_and_a_wrong_password_are_told(
    watched: Watched, namespace: str, caplog: pytest.LogCaptureFixture
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
