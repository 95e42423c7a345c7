"""The shards of a cluster are sent independently: an unreachable primary delays only its own."""

from collections.abc import Callable, Iterator

import pytest

from redismetrics import Metrics, StoreUnavailable
from redismetrics.store import keys
from redismetrics.store.cluster import SHARDS
from tests.fixtures.clusters import Cluster, slot_of_shard
from tests.fixtures.servers import Server, wait_until
from tests.recording.helpers import NEVER, Make, balanced


@pytest.fixture
def breakable(fresh_server: Callable[..., Server]) -> Iterator[Cluster]:
    """A cluster of three primaries that keeps running without one of them."""
    cluster = Cluster(fresh_server)
    for number in range(3):
        cluster.command(number, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    yield cluster
    for node in cluster.nodes:
        node.resume()


def names_by_node(cluster: Cluster, namespace: str) -> dict[int, list[str]]:
    """Return three metrics of each primary."""
    names: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for at in range(1_000):
        name = f"jobs_{at}"
        owner = cluster.owner(slot_of_shard(namespace, keys.shard_of(name, SHARDS)))
        if len(names[owner]) < 3:
            names[owner].append(name)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("away", [0, 1, 2])
def test_shards_of_other_primaries_are_stored_while_one_is_paused(
    make: Make, breakable: Cluster, namespace: str, away: int
) -> None:
    # With this timeout, whatever waits for the paused primary waits for longer than this test.
    metrics = make(breakable.url, flush_interval=NEVER, socket_timeout=600)
    by_node = names_by_node(breakable, namespace)
    names = [name for of_node in by_node.values() for name in of_node]

    def record() -> None:
        for name in names:
            metrics.increment(name, 2)
            metrics.increment(name, 3, tags={"a": "b"})

    record()
    metrics.flush()
    stored, here = 18, 12
    breakable.nodes[away].pause()
    for turn in range(1, 4):
        # So that the configuration, which one of the primaries has, is read again.
        metrics._sink.sender._namespace.doubt()
        record()
        with pytest.raises(StoreUnavailable, match=rf"^{6 * turn} samples are not confirmed"):
            metrics.flush(1)
        stored += here
        assert balanced(metrics)["stored"] == stored
    breakable.nodes[away].resume()
    metrics.flush(30)
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"], stats["pending"]) == (72, {}, 0)
    assert {name: metrics.query(name, aggregation="sum") for name in names} == dict.fromkeys(
        names, 20
    )


@pytest.mark.slow
def test_shards_of_other_primaries_are_stored_while_one_refuses_connections(
    make: Make, breakable: Cluster, namespace: str
) -> None:
    metrics = make(breakable.url, flush_interval=NEVER)
    by_node = names_by_node(breakable, namespace)
    names = [name for of_node in by_node.values() for name in of_node]
    for name in names:
        metrics.increment(name)
    metrics.flush()
    breakable.nodes[1].kill()
    for turn in range(1, 4):
        for name in names:
            metrics.increment(name)
        with pytest.raises(StoreUnavailable, match=rf"^{3 * turn} samples are not confirmed"):
            metrics.flush(1)
        assert balanced(metrics)["stored"] == 9 + 6 * turn
    assert metrics.stats()["last_error"] is not None
    breakable.nodes[1].restart()
    metrics.flush(30)
    wait_until(lambda: metrics.stats()["last_error"] is None, "all answer again")
    assert balanced(metrics)["stored"] == 36
    assert {metrics.query(name, aggregation="sum") for name in names} == {4}


@pytest.mark.slow
def test_close_sends_samples_that_other_primaries_accept(
    make: Make, breakable: Cluster, namespace: str
) -> None:
    metrics: Metrics = make(breakable.url, flush_interval=NEVER, socket_timeout=600)
    by_node = names_by_node(breakable, namespace)
    for name in (*by_node[0], *by_node[1], *by_node[2]):
        metrics.increment(name)
    metrics.flush()
    breakable.nodes[2].pause()
    for name in (*by_node[0], *by_node[1], *by_node[2]):
        metrics.increment(name)
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.5)
    for name in (*by_node[0], *by_node[1]):
        metrics.increment(name)
    metrics.close(2)
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (9 + 6 + 6, {"unknown": 3})
