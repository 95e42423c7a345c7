"""A subscription delivers the samples of one store, under the tags that this store gives them."""

from collections.abc import Callable, Iterator

import pytest
import redis

from redismetrics import Gap, Metrics, ScriptFailed
from redismetrics.model.validation import pack_tags
from redismetrics.store import keys
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.streams import crafted, send, take, values


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


def test_each_database_has_channels_of_its_own(
    empty: Server, production: Metrics, staging: Metrics
) -> None:
    with production.subscribe("orders"), staging.subscribe("orders"), empty.client() as client:
        channels = ["rm:default:stream:orders", "rm:default:stream:@1:orders"]
        assert [count for _, count in client.pubsub_numsub(*channels)] == [1, 1]


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
        item = stream.get(PATIENCE)
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


def database_1(server: Server) -> redis.Redis:
    return redis.Redis.from_url(server.url.replace("db=0", "db=1"))


def test_messages_contain_values_and_metadata_but_no_tags(
    empty: Server, production: Metrics
) -> None:
    with database_1(empty) as client, client.pubsub() as listener:
        listener.psubscribe("rm:*")
        assert (listener.get_message(timeout=PATIENCE) or {})["type"] == "psubscribe"
        production.gauge("orders", 1, tags={"shop": "de-secret"}, metadata={"note": "loud"})
        production.flush()
        message = listener.get_message(timeout=PATIENCE) or {}
        if not message["data"]:  # Redis 6.2: a script asks whether it may publish
            message = listener.get_message(timeout=PATIENCE) or {}
        assert message["channel"] == keys.channel("default", "orders").encode()
        assert b"loud" in message["data"]
        assert b"secret" not in message["data"]
        assert b"shop" not in message["data"]


@pytest.mark.parametrize("database", [0, 1])
def test_permissions_hold_in_all_databases(
    fresh_server: Callable[..., Server], database: int
) -> None:
    server = fresh_server(port=True)
    rules = {
        "reader": ["~rm:default:*", "~rm:{default:*", "&rm:default:*"],
        "other": ["~rm:other:*", "~rm:{other:*", "&rm:other:*"],
    }
    with server.client() as admin:
        for user, rights in rules.items():
            admin.execute_command(
                *("ACL", "SETUSER", user, "on", ">secret", "resetchannels", "+@all", *rights)
            )
    urls = {user: f"redis://{user}:secret@127.0.0.1:{server.port}/{database}" for user in rules}
    own = f"redis://127.0.0.1:{server.port}/{database}"
    with (
        Metrics(own) as metrics,
        Metrics(urls["reader"]) as reader,
        Metrics(urls["other"]) as other,
    ):
        send(metrics, "orders", 7)
        assert [sample.value for sample in reader.query("orders")] == [7]
        with reader.subscribe("orders") as stream:
            send(metrics, "orders", 8)
            assert values(take(stream)) == [("orders", 8)]
        with pytest.raises(ScriptFailed, match=r"(?i)perm|key"):
            other.query("orders")
        with pytest.raises(ScriptFailed, match=r"(?i)perm|key|channel"):
            other.subscribe("orders")


def test_a_forged_message_changes_no_stored_data(empty: Server, production: Metrics) -> None:
    send(production, "orders", 1)
    with production.subscribe("orders") as stream, database_1(empty) as client:
        client.publish(keys.channel("default", "orders"), crafted(1))
        send(production, "orders", 2)
        assert values(take(stream, 2)) == [("orders", 0), ("orders", 2)]
    assert [sample.value for sample in production.query("orders")] == [1, 2]
