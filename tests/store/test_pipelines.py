"""Many commands in one round trip, as redis-py would send and read them."""

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio

from redismetrics.store import pipelines
from redismetrics.store.cluster_routing import Command
from tests.fixtures.servers import Server


def send(server: Server, commands: list[Command], *, strict: bool = False) -> list[Any]:
    """Return the replies, which asyncio must get as well."""

    async def with_asyncio() -> list[Any]:
        async with redis.asyncio.from_url(server.url, protocol=2) as client:
            client.response_callbacks.clear()
            return await pipelines.asend(client, commands, strict=strict)

    with redis.from_url(server.url, protocol=2) as client:
        client.response_callbacks.clear()
        replies = pipelines.send(client, commands, strict=strict)
    assert str(asyncio.run(with_asyncio())[1:]) == str(replies[1:])
    return replies


def test_replies_come_in_order_whatever_their_size(server: Server, namespace: str) -> None:
    values = [b"x" * (7919 * number % 5_000) for number in range(2_000)]
    commands: list[Command] = [
        ("SET", f"{namespace}:{number}", value) for number, value in enumerate(values)
    ]
    assert send(server, commands) == [b"OK"] * 2_000
    asked: list[Command] = [("GET", f"{namespace}:{number}") for number in range(2_000)]
    assert send(server, asked) == values


def test_each_type_of_argument_and_reply(server: Server, namespace: str) -> None:
    key = f"{namespace}:ü"
    commands: list[Command] = [
        ("DEL", key),
        ("ZADD", key, 1.5, b"\xff\0", 7, "b c"),
        ("ZRANGE", key, 0, -1, "WITHSCORES"),
        ("GET", f"{namespace}:none"),
        ("SCRIPT EXISTS", "0" * 40),
        ("ZADD", key, "a", "b"),
        ("ZCARD", key),
    ]
    _, *replies, error, count = send(server, commands)
    assert replies == [2, [b"\xff\0", b"1.5", b"b c", b"7"], None, [0]]
    assert isinstance(error, redis.ResponseError)
    assert count == 2


def test_the_first_error_is_raised_and_the_connection_is_still_in_step(
    server: Server, namespace: str
) -> None:
    with redis.from_url(server.url, protocol=2, max_connections=1) as client:
        commands: list[Command] = [("PING",), ("HGET", namespace), ("NOSUCH",), ("PING",)]
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            pipelines.send(client, commands, strict=True)
        assert client.execute_command("ECHO", "a") == b"a"


def test_a_server_that_is_loading_is_an_error_of_the_connection() -> None:
    class Parser:
        class _reader:  # noqa: N801
            @staticmethod
            def gets() -> object:
                return redis.exceptions.BusyLoadingError("loading")

    class Connection:
        _parser = Parser()

    with pytest.raises(redis.ConnectionError):
        pipelines._take_received(Connection(), [], 1)


def test_another_version_of_redis_py_uses_its_own_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "_take_received", lambda *_: None)
    assert send(server, [("ECHO", str(number)) for number in range(99)]) == [
        b"%d" % number for number in range(99)
    ]

    def stack_only(pipeline: Any, commands: list[Command], _: object) -> None:
        pipeline.command_stack = [(command, {}) for command in commands]

    monkeypatch.setattr(pipelines, "_replace", stack_only)
    assert send(server, [("ECHO", "a"), ("SCRIPT EXISTS", "0" * 40)]) == [b"a", [0]]
