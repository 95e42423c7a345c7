"""Metrics and series that are new to a stream are described together, in few round trips."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import AsyncMetrics, FormatMismatch, Metrics
from redismetrics.store import catalog, keys
from redismetrics.store.catalog import MetricDescription
from redismetrics.store.driver import Operation, run
from redismetrics.store.replies import STAMP_BYTES
from redismetrics.stream import hub as hubs
from redismetrics.stream.hub import LoopHub, hub_of, loop_hub_of
from redismetrics.stream.messages import BATCH_BLOCKS, BATCH_BYTES, batch_length
from redismetrics.stream.positions import PositionMark
from redismetrics.stream.steps import Compute
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.streams import send, take, values

MANY = 2_000
# Far more than the batches need, and far less than one for each metric.
FEW = MANY // 2


def reads(*servers: Server) -> int:
    """Return how often the servers have read requests from their connections."""
    total = 0
    for server in servers:
        with server.client() as client:
            total += int(client.info("stats")["total_reads_processed"])
    return total


def record_many(metrics: Metrics, value: float, **tags: Any) -> None:
    for number in range(MANY):
        metrics.gauge(f"depth_{number}", value, tags=tags)
    metrics.flush()


def most_wait(hub: Any) -> bool:
    """Return whether all messages but the first batch wait for the only feed."""
    (inbox,) = hub._relay._inboxes
    return len(inbox._messages) >= MANY - BATCH_BLOCKS


def record_for_later(reader: Metrics, writer: Metrics, value: float, **tags: Any) -> None:
    """Record the many metrics; the stream of *reader* receives them all at once."""
    hub = hub_of(reader._store)
    with hub._describing:
        record_many(writer, value, **tags)
        wait_until(lambda: most_wait(hub), "the messages wait for the stream")


def check_many(samples: list[Any], value: float, **tags: str) -> None:
    assert {(sample.value, tuple(sample.tags.items())) for sample in samples} == {
        (value, tuple(tags.items()))
    }
    assert sorted(sample.name for sample in samples) == sorted(
        f"depth_{number}" for number in range(MANY)
    )


@pytest.mark.slow
def test_thousands_of_new_metrics_and_series_take_few_round_trips(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    metrics, other = make_metrics(server.url), make_metrics(server.url)
    with metrics.subscribe() as stream:
        for value, tags in ((1, {}), (2, {"queue": "mail"})):
            record_for_later(metrics, other, value, **tags)
            before = reads(server)
            check_many(take(stream, MANY), value, **tags)
            assert reads(server) - before < FEW
        assert stream.missed == 0


@pytest.mark.slow
def test_thousands_of_new_metrics_take_few_round_trips_with_asyncio(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    other = make_metrics(server.url)

    async def work() -> None:
        async with (
            AsyncMetrics(server.url, namespace=other.settings.namespace) as metrics,
            metrics.subscribe() as stream,
        ):
            hub = loop_hub_of(metrics._loops)
            async with hub._describing:
                await asyncio.to_thread(record_many, other, 1)
                await asyncio.to_thread(wait_until, lambda: most_wait(hub), "the messages wait")
                before = await asyncio.to_thread(reads, server)
            found = [await stream.get(PATIENCE) for _ in range(MANY)]
            assert reads(server) - before < FEW
            check_many(found, 1)

    asyncio.run(work())


@pytest.mark.slow
def test_thousands_of_new_metrics_are_caught_up_in_few_round_trips(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    other = make_metrics(server.url)
    send(other, "first")
    with server.client() as client:
        clock = int(client.get(keys.shard(other.settings.namespace, 0).clock) or 0)
    record_many(other, 1)

    async def work() -> None:
        async with AsyncMetrics(server.url, namespace=other.settings.namespace) as metrics:
            stream = metrics.subscribe()
            # As a client that comes back with the id of an event.
            stream.track({0: (clock, -1)})
            before = reads(server)
            async with stream:
                found: list[Any] = []
                while len(found) < MANY:
                    item = await stream.get(PATIENCE)
                    if not isinstance(item, PositionMark):
                        found.append(item)
            assert reads(server) - before < FEW
            check_many(found, 1)

    asyncio.run(work())


@pytest.mark.slow
def test_the_metrics_of_all_shards_of_a_cluster_are_described_together(
    cluster: Cluster, make_metrics: MakeMetrics
) -> None:
    metrics, other = make_metrics(cluster.url), make_metrics(cluster.url)
    with metrics.subscribe() as stream:
        record_for_later(metrics, other, 1)
        before = reads(*cluster.nodes)
        check_many(take(stream, MANY), 1)
        assert reads(*cluster.nodes) - before < FEW


def test_a_metric_that_cannot_be_described_is_an_error_in_its_place(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    catalogue = keys.shard(namespace, 0).catalogue
    with metrics.subscribe() as stream, server.client() as client:
        hub = hub_of(metrics._store)
        with hub._describing:
            for name in ("a", "b", "c"):
                send(other, name)
            entry = client.hget(catalogue, "b")
            assert isinstance(entry, bytes)
            client.hset(catalogue, "b", b"junk" + entry[-STAMP_BYTES:])
        assert values(take(stream)) == [("a", 1)]
        with pytest.raises(FormatMismatch):
            stream.get(PATIENCE)
        assert values(take(stream)) == [("c", 1)]


def test_a_batch_has_samples_from_before_and_after_a_deletion(
    metrics: Metrics, other: Metrics
) -> None:
    """Those from before it can be delivered only if the stream knows their series already."""
    with metrics.subscribe() as stream:
        send(other, "depth", 1, queue="mail")
        send(other, "jobs", 1)
        take(stream, 2)
        hub = hub_of(metrics._store)
        with hub._describing:
            send(other, "new")
            send(other, "depth", 2, queue="mail")
            send(other, "took", 1, queue="audio")
            assert metrics.delete_metric("depth")
            assert metrics.delete_metric("took")
            send(other, "depth", 3, queue="audio")
            send(other, "took", 2, queue="mail")
            send(other, "jobs", 2)
        assert [(each.name, each.value, each.tags) for each in take(stream, 5)] == [
            ("new", 1, {}),
            ("depth", 2, {"queue": "mail"}),
            ("depth", 3, {"queue": "audio"}),
            ("took", 2, {"queue": "mail"}),
            ("jobs", 2, {}),
        ]


def test_a_duplicate_message_in_a_batch_is_delivered_once(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe() as stream, server.client() as client:
        hub = hub_of(metrics._store)
        with hub._describing:
            send(other, "new")
            send(other, "depth", 1)
            (block,) = client.zrange(keys.metric(namespace, 0, "depth").log, 0, -1)
            entry = client.hget(keys.shard(namespace, 0).catalogue, "depth")
            client.publish(keys.channel(namespace, "depth"), block + entry[-STAMP_BYTES:])
            send(other, "jobs", 2)
        assert values(take(stream, 3)) == [("new", 1), ("depth", 1), ("jobs", 2)]


def test_a_batch_is_bounded_in_blocks_and_bytes() -> None:
    assert batch_length([]) == 0
    assert batch_length([10] * 10_000) == BATCH_BLOCKS
    assert batch_length([BATCH_BYTES // 4] * 9) == 4
    assert batch_length([BATCH_BYTES * 2, 1]) == 1
    assert batch_length([1, BATCH_BYTES * 2]) == 1


def test_the_series_of_many_metrics_are_read_in_several_round_trips(
    namespace: str, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_SERIES_PER_TRIP", 10)
    sizes = {"a": 4, "b": 4, "c": 4, "d": 30, "e": 1, "f": 1}
    for name, count in sizes.items():
        for number in range(count):
            metrics.gauge(name, 1, tags={"n": str(number)})
    metrics.flush()
    trips = []

    def counted(operation: Operation[Any]) -> Operation[Any]:
        replies = None
        while True:
            try:
                commands = operation.send(replies)
            except StopIteration as done:
                return done.value
            trips.append(len(commands))
            replies = yield commands

    wanted = [(0, name) for name in (*sizes, "unknown")]
    found = run(metrics._store.client(), counted(catalog.describe_many(namespace, wanted)))
    # The numbers of series; then two commands for each of a, b | c | d | e, f, unknown.
    assert trips == [7, 4, 2, 2, 6]
    assert {name: len(found[0, name].series) for name in sizes} == sizes
    assert found[0, "unknown"] == MetricDescription(None, {})


def test_other_tasks_run_between_many_small_computations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hubs, "monotonic", lambda: now[0])
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def compute() -> None:
        now[0] += 0.001

    async def work() -> None:
        hub = LoopHub()
        task = asyncio.create_task(take_turns())
        for _ in range(100):
            await hub.compute(Compute(compute, is_large=False))
        task.cancel()

    asyncio.run(work())
    assert turns > 10
