"""The movable clock of the tests' own server: whatever tells or uses the time there follows."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests import servers
from tests.servers import Server, ServerFailed, binaries, faketime_library

NEEDS_LIBRARY = pytest.mark.skipif(
    faketime_library() is None, reason="no libfaketime for a server with a movable clock: apt-get install faketime"
)
THEN = 1_700_000_000.0
DAY = 86_400


@pytest.fixture(params=binaries(), ids=lambda path: path.name)
def clocked(request: pytest.FixtureRequest, fresh_server: Callable[..., Server]) -> Server:
    server = fresh_server(request.param, movable_clock=True)
    server.set_time(THEN)
    return server


@pytest.fixture
def client(clocked: Server) -> Iterator[redis.Redis]:
    with clocked.client() as client:
        yield client


def milliseconds(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds // 1000


@NEEDS_LIBRARY
def test_the_clock_starts_at_the_present(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(movable_clock=True)
    with server.client() as client:
        assert milliseconds(client) == round(server.time * 1000)
    assert abs(server.time - time.time()) < 60


@NEEDS_LIBRARY
def test_time_stands_still_between_moves(client: redis.Redis) -> None:
    seen = set()
    for _ in range(20):
        seen.add(milliseconds(client))
        time.sleep(0.003)
    assert seen == {round(THEN * 1000)}


@NEEDS_LIBRARY
def test_time_moves_forth_and_back_by_the_millisecond(clocked: Server, client: redis.Redis) -> None:
    for step in (0.001, 59.999, 30 * DAY, -31 * DAY, 0.25):
        before = clocked.time
        clocked.advance(step)
        assert milliseconds(client) == round((before + step) * 1000)


@NEEDS_LIBRARY
def test_scripts_see_the_moved_time(clocked: Server, client: redis.Redis) -> None:
    clocked.set_time(THEN + 5.5)
    seconds, microseconds = client.eval("return redis.call('TIME')", 0)
    assert int(seconds) == THEN + 5
    assert 500_000 <= int(microseconds) < 501_000


@NEEDS_LIBRARY
def test_a_key_lives_to_the_millisecond_of_pexpireat(clocked: Server, client: redis.Redis) -> None:
    end = THEN + 3 * DAY
    client.set("key", "value", pxat=round(end * 1000))
    clocked.set_time(end - 0.002)
    assert client.get("key") == b"value"
    assert client.pttl("key") == 2
    clocked.set_time(end + 0.001)
    assert client.get("key") is None


@NEEDS_LIBRARY
def test_expireat_and_ttl_follow(clocked: Server, client: redis.Redis) -> None:
    client.hset("hash", "field", "value")
    client.expireat("hash", round(THEN) + 100)
    assert client.ttl("hash") == 100
    clocked.advance(60)
    assert client.ttl("hash") == 40
    client.persist("hash")
    clocked.advance(DAY)
    assert client.hget("hash", "field") == b"value"
    client.expireat("hash", round(THEN))  # in the past
    assert not client.exists("hash")


@NEEDS_LIBRARY
def test_expired_keys_go_without_being_asked_for(clocked: Server, client: redis.Redis) -> None:
    client.set("key", "value", ex=10)
    clocked.advance(11)
    servers.wait_until(lambda: client.dbsize() == 0, "the expired key is gone")


@NEEDS_LIBRARY
def test_the_time_outlives_a_restart(clocked: Server, client: redis.Redis) -> None:
    client.set("alive", "value", ex=10)
    client.set("expired", "value", ex=5)
    clocked.stop()
    clocked.advance(6)  # while nobody is there to follow
    clocked.restart()
    assert milliseconds(client) == round(THEN * 1000) + 6000
    assert client.mget("alive", "expired") == [b"value", None]
    assert client.ttl("alive") == 4


@NEEDS_LIBRARY
def test_the_append_only_file_is_rewritten_under_a_still_clock(clocked: Server, client: redis.Redis) -> None:
    client.set("key", "value", ex=10)
    client.bgrewriteaof()
    servers.wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewrite is over")
    assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    clocked.restart()
    assert client.ttl("key") == 10


@NEEDS_LIBRARY
def test_the_fixture_has_a_clock_that_moves(moving_server: Server) -> None:
    moving_server.set_time(THEN)
    moving_server.advance(0.5)
    with moving_server.client() as client:
        assert milliseconds(client) == THEN * 1000 + 500


def test_a_common_server_refuses_to_move_its_clock(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with pytest.raises(AssertionError, match="movable_clock"):
        server.set_time(THEN)


def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_FAKETIME_FOLDERS", (f"{tmp_path}/*",))
    assert faketime_library() is None
    with pytest.raises(ServerFailed, match="apt-get install faketime"):
        Server.start(tmp_path, movable_clock=True)
