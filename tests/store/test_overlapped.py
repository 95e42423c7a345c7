"""Work that is done while the server replies."""

import pytest
import redis

from redismetrics.errors import ScriptFailed, StoreUnavailable
from redismetrics.store.driver import Operation, Overlapped, run
from tests.fixtures.servers import PATIENCE, Server


def echo(text: str, *, fails: bool = False) -> Operation[bytes]:
    """Return *text* as the server echoes it."""

    def meanwhile() -> None:
        if fails:
            raise ArithmeticError

    (reply,) = yield Overlapped([("ECHO", text)], meanwhile)
    return bytes(reply)


def test_no_reply_is_mistaken_for_that_of_another_command(server: Server) -> None:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        for _ in range(3):
            with pytest.raises(ArithmeticError):
                run(client, echo("first", fails=True))
            assert run(client, echo("second")) == b"second"
            assert client.ping()


def test_errors_are_those_of_other_commands(server: Server) -> None:
    def wrong() -> Operation[None]:
        yield Overlapped([("HGET", "one argument")], lambda: None)

    with redis.Redis.from_url(server.url, protocol=2) as client:
        with pytest.raises(ScriptFailed, match="wrong number of arguments"):
            run(client, wrong())
        assert run(client, echo("after")) == b"after"
    with (
        redis.Redis.from_url("redis://127.0.0.1:1", protocol=2) as nowhere,
        pytest.raises(StoreUnavailable),
    ):
        run(nowhere, echo("never"))


def test_a_timeout_ends_the_connection(server: Server) -> None:
    def slow() -> Operation[None]:
        yield Overlapped([("BLPOP", "no such list", "0")], lambda: None)

    with redis.Redis.from_url(server.url, protocol=2, socket_timeout=0.1) as client:
        with pytest.raises(StoreUnavailable):
            run(client, slow())
        client.connection_pool.connection_kwargs["socket_timeout"] = PATIENCE
        assert run(client, echo("after")) == b"after"
