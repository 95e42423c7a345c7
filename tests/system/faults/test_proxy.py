"""The proxy, and the fault that other tests use: a reply is lost, a command is resent."""

import threading
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults.proxy import Proxy, commands_in

# The default of redis-py 6 and 7; that of 8 is 10.
RETRIES = 3


@pytest.fixture(params=["tcp", "unix"])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[Proxy]:
    with Proxy(server, unix=request.param == "unix") as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(
        proxy.url, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), RETRIES)
    ) as client:
        yield client


@pytest.fixture
def once(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client without retries."""
    with redis.Redis.from_url(
        proxy.url, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    ) as client:
        yield client


@pytest.fixture
def hasty(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client that gives up on a reply soon. It is connected."""

    def is_connected() -> bool:
        try:
            return bool(client.ping())
        except redis.TimeoutError:
            return False

    with redis.Redis.from_url(proxy.url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
        wait_until(is_connected, "it is connected")
        yield client


def increments(request: bytes) -> bool:
    return b"HINCRBY" in request


def test_without_a_fault_everything_passes(
    proxy: Proxy, client: redis.Redis, namespace: str
) -> None:
    large = bytes(range(256)) * 4_000  # a megabyte: many reads on either side
    with client.pipeline(transaction=False) as pipeline:
        for number in range(2_000):
            pipeline.rpush(f"{namespace}:list", number)
        pipeline.set(namespace, large)
        assert pipeline.execute() == [*range(1, 2_001), True]
    assert client.get(namespace) == large
    assert (proxy.connections, proxy.lost, proxy.cut) == (1, 0, 0)


def test_a_lost_reply_doubles_a_plain_increment(
    proxy: Proxy, client: redis.Redis, namespace: str
) -> None:
    proxy.lose_replies(when=increments)
    assert client.hincrby(namespace, "total", 1) == 2
    assert (proxy.lost, proxy.connections) == (1, 2)


def test_a_lost_reply_doubles_a_transaction(
    proxy: Proxy, client: redis.Redis, namespace: str
) -> None:
    proxy.lose_replies(when=increments)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hincrby(namespace, "total", 1).hincrby(namespace, "other", 1)
        assert pipeline.execute() == [2, 2]
    assert proxy.lost == 1


def test_a_long_pipeline_is_executed_before_its_reply_is_lost(
    proxy: Proxy, once: redis.Redis, server: Server, namespace: str
) -> None:
    proxy.lose_replies(when=increments)
    with once.pipeline(transaction=False) as pipeline:
        for number in range(1_000):
            pipeline.hincrby(namespace, f"field {number:040}", 1)
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    with server.client() as direct:
        assert direct.hlen(namespace) == 1_000


def test_a_request_cut_before_the_server_counts_once(
    proxy: Proxy, client: redis.Redis, namespace: str
) -> None:
    proxy.cut_requests(when=increments)
    assert client.hincrby(namespace, "total", 1) == 1
    assert (proxy.cut, proxy.lost) == (1, 0)


def test_by_default_only_scripts_are_hit(proxy: Proxy, client: redis.Redis, namespace: str) -> None:
    digest = client.script_load("return redis.call('HINCRBY', KEYS[1], 'total', 1)")
    proxy.lose_replies()
    assert client.hincrby(namespace, "total", 1) == 1
    assert client.evalsha(digest, 1, namespace) == 3
    assert proxy.lost == 1


def test_every_second_request_is_hit_until_the_count_is_reached(
    proxy: Proxy, client: redis.Redis, namespace: str
) -> None:
    proxy.lose_replies(2, every=2, when=increments)
    # Executed: 1, then 2 (lost) and 3, then 4 (lost) and 5, then no more faults.
    assert [client.hincrby(namespace, "total", 1) for _ in range(4)] == [1, 3, 5, 6]


def test_zero_ends_a_fault(proxy: Proxy, client: redis.Redis, namespace: str) -> None:
    proxy.lose_replies(100, when=increments)
    proxy.lose_replies(0)
    assert client.hincrby(namespace, "total", 1) == 1


def test_a_deaf_proxy_does_not_reply_until_it_hears_again(
    proxy: Proxy, once: redis.Redis, hasty: redis.Redis, namespace: str
) -> None:
    proxy.deaf = True
    for _ in range(2):  # on the open connection, then on a new one
        with pytest.raises(redis.TimeoutError):
            hasty.hincrby(namespace, "total", 1)
    proxy.deaf = False
    assert once.hincrby(namespace, "total", 1) == 1


def test_a_reply_later_than_the_time_out_counts_twice(
    proxy: Proxy, once: redis.Redis, hasty: redis.Redis, namespace: str
) -> None:
    proxy.delay = 0.5
    with pytest.raises(redis.TimeoutError):
        hasty.hincrby(namespace, "total", 1)
    proxy.delay = 0.0
    wait_until(lambda: once.hget(namespace, "total") == b"1", "the server has counted it")
    assert once.hincrby(namespace, "total", 1) == 2


def test_replies_may_come_byte_by_byte(proxy: Proxy, client: redis.Redis, namespace: str) -> None:
    proxy.trickle = True
    client.set(namespace, "some text\r\nof two lines")
    assert client.get(namespace) == b"some text\r\nof two lines"


def test_a_disconnect_cuts_open_connections_and_accepts_new_ones(
    proxy: Proxy, once: redis.Redis, namespace: str
) -> None:
    with once.pubsub() as subscriber:
        subscriber.subscribe(namespace)
        assert subscriber.get_message(timeout=PATIENCE)["type"] == "subscribe"
        proxy.disconnect()
        with pytest.raises(redis.ConnectionError):
            subscriber.get_message(timeout=PATIENCE)
    assert once.ping()


def test_the_proxy_s_thread_ends_with_it(server: Server) -> None:
    before = threading.active_count()
    with Proxy(server) as proxy, redis.Redis.from_url(proxy.url) as client:
        client.ping()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b"*1\r\n$4\r\nPING\r\n", 1),
        (b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", 2),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", 1),
        (b"*", None),
        (b"*2\r\n$3\r\nGET\r\n", None),
        (b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n", None),
        (b"*1\r\n$4\r\nPING\r", None),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$4", None),
    ],
)
def test_commands_are_counted_when_complete(data: bytes, commands: int | None) -> None:
    assert commands_in(data) == commands


def test_invalid_bytes_raise() -> None:
    with pytest.raises(ValueError, match=r"must begin with b'\*', got b'PING'"):
        commands_in(b"PING\r\n")
