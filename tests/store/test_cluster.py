"""A real cluster: it works like one server, also while slots move and after a failover."""

import asyncio
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from redis.crc import key_slot

from redismetrics import AsyncMetrics, Gauge, Sample, ScriptFailed, StoreUnavailable
from redismetrics.export import export
from redismetrics.recording.known_namespace import CHECK_INTERVAL
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster, slot_of_shard
from tests.fixtures.copies import work
from tests.fixtures.servers import PATIENCE, Server, wait_in_step, wait_until
from tests.fixtures.workers import new_worker

pytestmark = pytest.mark.slow


def names(many: int) -> list[str]:
    return [f"jobs_{number}" for number in range(many)]


def test_everything_works_with_sixteen_shards(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    metrics = make_metrics(cluster.url)
    with metrics.subscribe("jobs_*") as stream:
        for number, name in enumerate(names(40)):
            metrics.increment(name, number + 1, tags={"a": "b"})
        metrics.histogram("took", 2.5)
        metrics.gauge("depth", 4)
        Gauge("users", metrics=metrics).add(1)
        metrics.flush()
        heard = [stream.get(PATIENCE) for _ in range(40)]
    assert sorted(sample.value for sample in heard) == [number + 1 for number in range(40)]
    assert {sample.name for sample in heard} == set(names(40))
    shards = {keys.shard_of(name, 16) for name in names(40)}
    assert len(shards) > 10
    assert {cluster.owner(slot_of_shard(namespace, shard)) for shard in shards} == {0, 1, 2}
    for _ in range(2):
        assert [metrics.query(name, aggregation="sum") for name in names(40)] == [
            n + 1 for n in range(40)
        ]
        work(cluster.url, namespace)
    reader = make_metrics(cluster.url)
    assert len(reader.list_metrics()) == 43
    assert reader.get_metrics(limit=100)["count"] >= 42
    assert reader.live("users")[0].series[0].value == 1
    assert 'jobs_7_total{a="b"} 8' in export(metrics=reader)
    stats = reader.get_stats()["storage"]
    assert (stats["names"], stats["metrics_stored"]) == (43, 43)
    assert stats["memory_bytes"] > 0
    assert reader.delete_metric("jobs_7")
    assert reader.query("jobs_7", aggregation="sum") == 0
    assert reader.clear(confirm=True) == 42


def test_asyncio_works_with_sixteen_shards(cluster: Cluster, namespace: str) -> None:
    async def use() -> None:
        async with AsyncMetrics(cluster.url, namespace=namespace, flush_interval=3_600) as metrics:
            async with metrics.subscribe() as stream:
                for name in names(20):
                    metrics.increment(name, 3)
                await metrics.flush()
                heard = [await stream.get(PATIENCE) for _ in range(20)]
            assert {sample.name for sample in heard} == set(names(20))
            sums = await asyncio.gather(
                *(metrics.query(name, aggregation="sum") for name in names(20))
            )
            assert sums == [3] * 20
            assert len(await metrics.list_metrics()) == 20
            assert (await metrics.get_stats())["storage"]["names"] == 20

    asyncio.run(use())


# -- processes that fork and end -------------------------------------------------------------------


def test_all_types_and_exemplars_work_in_every_shard(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    metrics = make_metrics(cluster.url)
    traces = {name: {"trace_id": name} for name in names(20)}
    for name, trace in traces.items():
        metrics.increment(name, exemplar=trace)
        metrics.summary(f"{name}_took").record(1.5)
        metrics.info(f"{name}_build").set({"version": "1"})
        metrics.state_set(f"{name}_state", ["on", "off"]).set("off")
    metrics.flush()
    assert {name: metrics.exemplars(name)[0].labels for name in traces} == traces
    values = {
        family.name: sum(each.value for each in family.series)
        for family in metrics.live(exemplars=True)
        if family.definition.type != "counter" or family.series[0].exemplars
    }
    expected = dict.fromkeys(traces, 1.0)
    expected |= {f"{name}_took": 1.5 for name in traces}
    expected |= {f"{name}_{kind}": 1.0 for name in traces for kind in ("build", "state")}
    assert values == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_use_the_connections_of_its_parent(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    metrics = make_metrics(cluster.url)
    for name in names(20):
        metrics.increment(name)
    metrics.flush()
    assert metrics.query("jobs_0", aggregation="sum") == 1
    for name in names(20):
        metrics.increment(name, 10)  # the parent's to send
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert metrics.stats()["recorded"] == 0
            for name in names(20):
                metrics.increment(name, 100)
            metrics.flush(PATIENCE)
            assert metrics.query("jobs_3", aggregation="sum") in (
                101,
                111,
            )  # the parent is sending, too
            metrics.close()
            status = 0
        finally:
            os._exit(status)
    assert [metrics.query(name, aggregation="sum") for name in names(20)] >= [
        11
    ] * 20  # while the child sends
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [metrics.query(name, aggregation="sum") for name in names(20)] == [111] * 20
    assert metrics.stats()["lost_batches"] == 0


def test_close_sends_unsent_samples_to_every_shard(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    metrics = make_metrics(cluster.url)
    for name in names(40):
        metrics.increment(name)
    metrics.close()
    stats = metrics.stats()
    assert (stats["stored"], stats["pending"], stats["dropped"]) == (40, 0, {})
    reader = make_metrics(cluster.url)
    assert [reader.query(name, aggregation="sum") for name in names(40)] == [1] * 40


def test_close_does_not_exceed_its_timeout_if_a_node_is_down(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    cluster = Cluster(fresh_server)
    metrics = make_metrics(cluster.url, socket_timeout=0.3)
    for name in names(40):
        metrics.increment(name)
    metrics.flush()
    cluster.nodes[1].kill()
    for name in names(40):
        metrics.increment(name)
    began = monotonic()
    metrics.close(1.0)
    assert monotonic() - began < PATIENCE
    stats = metrics.stats()
    assert stats["pending"] == 0
    assert stats["stored"] + sum(stats["dropped"].values()) == stats["recorded"] == 80
    assert sum(stats["dropped"].values()) > 0


# -- slots that move -------------------------------------------------------------------------------


def test_a_slot_can_move_while_it_is_written_processed_and_queried(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    """Under load, to another node and back: each increment counts once, each query is complete."""
    metrics, reader = make_metrics(cluster.url, flush_interval=0.01), make_metrics(cluster.url)
    metrics.increment("jobs")
    metrics.flush()
    slot = slot_of_shard(namespace, keys.shard_of("jobs", 16))
    worker = new_worker(cluster.url, namespace)
    ended = threading.Event()
    failures: list[Exception] = []
    recorded = 1

    def seal() -> None:
        while not ended.is_set():
            try:
                worker.pass_once(alone=True)
            except StoreUnavailable:  # while keys are on two nodes no script can have them all
                worker.disconnect()
            except Exception as error:  # noqa: BLE001
                failures.append(error)
                return

    answers: list[float] = []

    def ask() -> None:
        while not ended.is_set():
            try:
                answers.append(reader.query("jobs", aggregation="sum"))
            except Exception as error:  # noqa: BLE001
                failures.append(error)
                return

    threads = [threading.Thread(target=each) for each in (seal, ask)]
    for thread in threads:
        thread.start()
    try:
        home = cluster.owner(slot)
        for to in ((home + 1) % 3, (home + 2) % 3, home):
            source = cluster.begin_move(slot, to)
            while cluster.move_keys(slot, source, to, most=1):
                metrics.increment("jobs")
                metrics.increment(f"new_{recorded}")  # whose keys are nowhere yet
                recorded += 1
                assert threads[1].is_alive()
            cluster.end_move(slot, source, to)
            metrics.flush(PATIENCE)
    finally:
        ended.set()
        for thread in threads:
            thread.join(PATIENCE)
        worker.leave()
        worker.store.close()
    assert failures == []
    assert answers == sorted(answers)  # none was torn, none counted anything twice
    assert recorded > 15
    work(cluster.url, namespace)
    assert reader.query("jobs", aggregation="sum") == recorded
    stats = metrics.stats()
    assert (stats["stored"], stats["dropped"], stats["lost_batches"]) == (2 * recorded - 1, {}, 0)
    assert cluster.owner(slot) == home


def test_a_query_during_a_move_is_read_in_order(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    """Its keys are on two nodes: each is read where it is, the version first and last."""
    metrics = make_metrics(cluster.url)
    metrics.increment("jobs", 5)
    metrics.flush()
    work(cluster.url, namespace)
    slot = slot_of_shard(namespace, keys.shard_of("jobs", 16))
    source = cluster.owner(slot)
    to = (source + 1) % 3
    cluster.begin_move(slot, to)
    assert cluster.move_keys(slot, source, to, most=4) == 4
    try:
        reader = make_metrics(cluster.url)
        assert reader.query("jobs", aggregation="sum") == 5
        assert reader.query("jobs", aggregation="p50") == 5

        async def ask() -> Any:
            async with AsyncMetrics(cluster.url, namespace=namespace) as asking:
                return await asking.query("jobs", aggregation="sum")

        assert asyncio.run(ask()) == 5
        metrics.increment("jobs")
        with pytest.raises(StoreUnavailable, match="did not settle"):
            metrics.flush(3)
    finally:
        cluster.move_keys(slot, source, to)
        cluster.end_move(slot, source, to)
    metrics.flush(PATIENCE)
    assert metrics.query("jobs", aggregation="sum") == 6


# -- a primary that dies ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_replica_takes_over_from_a_dead_or_unreachable_primary(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics, namespace: str, how: str
) -> None:
    cluster = Cluster(fresh_server, primaries=3, replicas=3)
    metrics = make_metrics(cluster.url, flush_interval=0.05, socket_timeout=0.5)
    for name in names(30):
        metrics.increment(name)
    metrics.flush()
    work(cluster.url, namespace)
    reader = make_metrics(cluster.url, socket_timeout=0.5)
    with reader.subscribe() as stream:
        victim = cluster.owner(slot_of_shard(namespace, keys.shard_of("jobs_0", 16)))
        wait_in_step(cluster.nodes[victim], cluster.nodes[victim + 3])
        getattr(
            cluster.nodes[victim], how
        )()  # paused, it has the batch in its socket, and runs it when it wakes
        for name in names(30):  # the first of them while nobody has the slots
            metrics.increment(name, 2)
        assert metrics.stats()["pending"] > 0
        metrics.flush(PATIENCE)
        heard: dict[str, float] = {}
        while len(heard) < 30:
            sample = stream.get(PATIENCE)
            if isinstance(sample, Sample):
                heard[sample.name] = heard.get(sample.name, 0) + sample.value
    assert set(heard.values()) == {2}
    if how == "pause":
        cluster.nodes[victim].resume()
        wait_until(lambda: cluster.follows(victim), "the old primary follows the new one")
    assert [reader.query(name, aggregation="sum") for name in names(30)] == [3] * 30
    work(cluster.url, namespace)
    assert [reader.query(name, aggregation="sum") for name in names(30)] == [3] * 30
    stats = metrics.stats()
    assert (stats["stored"], stats["dropped"], stats["lost_batches"], stats["pending"]) == (
        60,
        {},
        0,
        0,
    )

    async def ask() -> Any:
        async with AsyncMetrics(cluster.url, namespace=namespace) as asking:
            return await asking.query("jobs_0", aggregation="sum")

    assert asyncio.run(ask()) == 3


def test_the_documented_permissions_are_enough_on_a_cluster(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    writes = (
        "resetchannels",
        "~rm:*",
        "&rm:*",
        "+@read",
        "+@write",
        "+publish",
        "+time",
        "+evalsha",
        "+script|load",
    )
    users = {"writer": writes, "reader": ("resetchannels", "%R~rm:*", "+@read", "+time")}
    everywhere = ("+cluster|slots", "+asking")
    for number in range(3):
        for user, rights in users.items():
            cluster.command(
                number, "ACL", "SETUSER", user, "reset", "on", ">secret", *rights, *everywhere
            )
    urls = {user: cluster.url.replace("://", f"://{user}:secret@") for user in users}
    metrics, reader = make_metrics(urls["writer"]), make_metrics(urls["reader"])
    for name in names(20):
        metrics.increment(name)
    metrics.flush()
    work(urls["writer"], namespace)
    assert [reader.query(name, aggregation="sum") for name in names(20)] == [1] * 20
    assert "jobs_7_total 1" in export(metrics=reader)
    reader.increment("jobs_1")
    with pytest.raises(ScriptFailed, match=r"(?i)no permissions|evalsha"):
        reader.flush()
    reader.close(0.1)


# -- nodes that lose their data --------------------------------------------------------------------


def _lose(cluster: Cluster, nodes: list[int]) -> None:
    for number in nodes:
        cluster.command(number, "FLUSHALL")


@pytest.mark.parametrize("lost", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_a_new_reader_finds_everything_after_nodes_lost_their_data(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics, namespace: str, lost: list[int]
) -> None:
    cluster = Cluster(fresh_server)
    metrics = make_metrics(cluster.url)
    now = [1_000.0]
    metrics._recorder.steady_clock = lambda: now[0]
    for _ in range(2):
        for name in names(20):
            metrics.increment(name, 3)
        metrics.flush()
    _lose(cluster, lost)
    kept = {
        name
        for name in names(20)
        if cluster.owner(slot_of_shard(namespace, keys.shard_of(name, 16))) not in lost
    }
    now[0] += CHECK_INTERVAL
    for name in names(20):
        metrics.increment(name, 5)
    metrics.flush()
    reader = make_metrics(cluster.url)
    assert {name: reader.query(name, aggregation="sum") for name in names(20)} == {
        name: 11 if name in kept else 5 for name in names(20)
    }
    assert len(reader.list_metrics()) == 20
    work(cluster.url, namespace)
    later = make_metrics(cluster.url)
    assert sum(later.query(name, aggregation="sum") for name in names(20)) == 100 + 6 * len(kept)


def test_a_configuration_lost_alone_in_a_cluster_is_written_again(
    cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    """Its node has none of the metric's data, so that no batch is missing."""
    metrics = make_metrics(cluster.url)
    now = [1_000.0]
    metrics._recorder.steady_clock = lambda: now[0]
    for turn in range(1, 4):
        metrics.increment("jobs", 800)
        metrics.flush()
        assert make_metrics(cluster.url).query("jobs", aggregation="sum") == 800 * turn
        key = keys.config(namespace)
        cluster.command(cluster.owner(key_slot(key.encode())), "DEL", key)
        now[0] += CHECK_INTERVAL
    assert metrics.stats()["lost_batches"] == 0


def test_the_configuration_is_written_before_the_first_flush_after_the_loss_returns(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    cluster = Cluster(fresh_server)
    metrics = make_metrics(cluster.url)
    metrics.increment("jobs")
    metrics.flush()
    _lose(cluster, [0, 1, 2])
    metrics.increment("jobs", 800)
    metrics.flush()
    assert make_metrics(cluster.url).query("jobs", aggregation="sum") == 800
