"""A subscription delivers the samples of one store, under the tags that this store gives them."""

from collections.abc import Callable, Iterator

import pytest

from redismetrics import Gap, Metrics
from redismetrics.model.validation import pack_tags
from redismetrics.store import keys
from tests.fixtures.servers import Server
from tests.fixtures.streams import send, take, values


@pytest.fixture
def empty(fresh_server: Callable[..., Server]) -> Server:
    return fresh_server()


@pytest.fixture
def production(empty: Server) -> Iterator[Metrics]:
    with Metrics(empty.url) as made:
        yield made


@pytest.fixture
def staging(empty: Server) -> Iterator[Metrics]:
    with Metrics(empty.url.replace("db=0", "db=1")) as made:
        yield made


@pytest.mark.parametrize("names", ["orders", "ord*"])
def test_samples_of_other_databases_are_not_delivered(
    production: Metrics, staging: Metrics, names: str
) -> None:
    send(production, "orders", 1, shop="de")
    send(staging, "orders", 1, shop="TEST")
    with production.subscribe(names) as stream, staging.subscribe(names) as stream_of_staging:
        send(staging, "orders", 1000, shop="TEST")
        send(production, "orders", 2, shop="de")
        (sample,) = take(stream)
        assert (sample.value, sample.tags) == (2, {"shop": "de"})
        (sample,) = take(stream_of_staging)
        assert (sample.value, sample.tags) == (1000, {"shop": "TEST"})
        assert stream.get(0.3) is stream_of_staging.get(0) is None


@pytest.mark.parametrize("names", ["orders", None])
@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_after_the_data_is_deleted_samples_have_the_tags_of_the_new_series(
    empty: Server, production: Metrics, command: str, names: str | None
) -> None:
    with production.subscribe(names) as stream, empty.client() as client:
        send(production, "orders", 1, shop="de")
        send(production, "orders", 2, shop="fr")
        assert [sample.tags["shop"] for sample in take(stream, 2)] == ["de", "fr"]
        client.execute_command(command)
        send(production, "orders", 3, shop="fr")
        send(production, "orders", 4, shop="it")
        assert [(sample.value, sample.tags["shop"]) for sample in take(stream, 2)] == [
            (3, "fr"),
            (4, "it"),
        ]


def test_after_databases_are_swapped_samples_have_the_tags_of_the_other_store(
    empty: Server, production: Metrics, staging: Metrics
) -> None:
    for shop in ("it", "fr", "de"):
        send(staging, "orders", shop=shop)
    with production.subscribe() as stream, empty.client() as client:
        for shop in ("de", "fr", "it"):
            send(production, "orders", shop=shop)
        take(stream, 3)
        client.swapdb(0, 1)
        send(production, "orders", 5, shop="de")
        assert [(sample.value, sample.tags) for sample in take(stream)] == [(5, {"shop": "de"})]


def test_a_message_of_another_store_changes_nothing(empty: Server, production: Metrics) -> None:
    """As from a server that is reached through the same proxy, or of a metric that was deleted."""
    with production.subscribe("orders") as stream, empty.client() as client:
        send(production, "orders", 1, shop="de")
        take(stream)
        (block,) = client.zrange(keys.metric("default", 0, "orders").log, 0, -1)
        client.publish(keys.channel("default", "orders"), block + b"\xcf" + bytes(8))
        send(production, "orders", 2, shop="de")
        assert values(take(stream)) == [("orders", 2)]
        client.client_kill_filter(_type="pubsub")
        send(production, "orders", 3, shop="de")
        item = stream.get(5)
        assert not isinstance(item, Gap)
        assert item is not None
        assert item.value == 3


def test_a_block_of_the_log_is_not_read_with_the_series_of_a_later_metric(
    empty: Server, production: Metrics
) -> None:
    series = keys.metric("default", 0, "orders").series
    with production.subscribe("orders") as stream, empty.client() as client:
        send(production, "orders", 1, shop="de")
        send(production, "orders", 2, shop="fr")
        take(stream, 2)
        client.flushall()
        send(production, "orders", 3, shop="fr")
        assert client.hget(series, pack_tags({"shop": "fr"})) == b"0"
        client.client_kill_filter(_type="pubsub")
        send(production, "orders", 4, shop="de")
        assert [(sample.value, sample.tags["shop"]) for sample in take(stream, 2)] == [
            (3, "fr"),
            (4, "de"),
        ]
