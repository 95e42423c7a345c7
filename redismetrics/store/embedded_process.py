"""The server's process: start it, connect to it, and shut it down. Callers hold the start lock."""

import hashlib
import itertools
import logging
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from redismetrics.errors import StoreUnavailable
from redismetrics.model.time import monotonic

from . import embedded_locks as locks
from . import embedded_paths as paths

_LOG = "valkey.log"
# Size at which the log is rotated. A start and a stop write 1.7 kB, so a job a minute writes
# 2.4 MB a day.
_LOG_BYTES = 1 << 20
# Seconds for the server to become a daemon. No process can be forked in the meantime.
_SPAWN_TIMEOUT = 10.0
# Warnings that the server logs when it cannot load its data because of its contents. All of them
# name the files. A full disk or a missing permission is something else.
_LOADING_FAILED = re.compile(
    r"^\S+ .*# (?!.*(?:No space left|Permission denied))"
    r".*(?:AOF|append.only|append log|RDB|short read|signature)",
    re.IGNORECASE,
)

logger = logging.getLogger("redismetrics")


def reach(folder: Path, program: Path, deadline: float) -> Path:
    """Return the socket of a server that answers; start one if there is none."""
    started = False
    while True:
        with locks.opened(folder / locks.SERVER_LOCK) as server_file:
            if locks.lock(server_file):
                if started:
                    raise StoreUnavailable(
                        f"the embedded server on {folder} ended on startup"
                        f"{_repair_advice(folder, program)}; {_log_tail(folder)}"
                    )
                _spawn(folder, program, server_file)
                started = True
            socket = _read_socket(server_file)
        try:
            # Not PING: a server whose disk is full rejects it, although it answers queries.
            ask(socket, "DBSIZE")
        except StoreUnavailable as error:
            # The server is not listening yet, or still loading its data.
            if monotonic() > deadline:
                raise StoreUnavailable(
                    f"the embedded server on {folder} is running but does not answer: {error}; "
                    f"{_log_tail(folder)}"
                ) from error
            time.sleep(locks.POLL)
        else:
            if started:
                logger.info("started the embedded server on %s, socket %s", folder, socket)
            return socket


def shut_down(folder: Path, deadline: float) -> bool:
    """Stop the server and wait until it has exited; return False if there is none.

    Raises:
        StoreUnavailable: If the server is still running at *deadline*.
    """
    socket, refusal = find_socket(folder), None
    if socket is None:
        return False
    try:
        ask(socket, "SHUTDOWN")
    except StoreUnavailable as error:
        # A server that is shutting down also closes the connection.
        refusal = error
    while find_socket(folder) is not None:
        if monotonic() > deadline:
            raise StoreUnavailable(
                f"the embedded server on {folder} does not stop: {refusal}; {_log_tail(folder)}"
            ) from refusal
        time.sleep(locks.POLL)
    logger.info("stopped the embedded server on %s", folder)
    return True


def find_socket(folder: Path) -> Path | None:
    """Return the socket of the running server, or None."""
    with locks.opened(folder / locks.SERVER_LOCK) as server_file:
        return None if locks.lock(server_file) else _read_socket(server_file)


def ask(socket: Path, command: str) -> Any:
    """Send one command to the server; raise `StoreUnavailable` if it does not answer."""
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        # The path comes from server.lock, which may be writable by others.
        paths.check_private(socket.parent)
        with Redis(
            unix_socket_path=str(socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        ) as client:
            return client.execute_command(command)
    # OSError: the runtime folder was cleaned up.
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"{socket}: {error}") from error


def _spawn(folder: Path, program: Path, server_file: int) -> None:
    """Start the server. It inherits *server_file* with its lock, and no other file of ours.

    The server becomes a daemon, so that it is not our child and leaves no zombie. It gets a new
    session even before that, so that Ctrl-C cannot stop it. It uses relative names, with *folder*
    as its working directory, so that long and unusual paths do not matter.
    """
    socket = paths.socket_path(hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] + ".sock")
    os.ftruncate(server_file, 0)
    os.pwrite(server_file, os.fsencode(socket), 0)
    log = folder / _LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    options = {
        "daemonize": "yes",
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "pidfile": "valkey.pid",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": _LOG,
        "loglevel": "notice",
    }
    arguments = itertools.chain.from_iterable((f"--{name}", text) for name, text in options.items())
    try:
        with locks.forking:
            done = subprocess.run(
                [str(program), *arguments],
                cwd=folder,
                pass_fds=(server_file,),
                start_new_session=True,
                umask=0o077,
                check=False,
                timeout=_SPAWN_TIMEOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(
            f"the embedded server on {folder} did not start within {_SPAWN_TIMEOUT:g} s"
        ) from error
    if done.returncode:
        output = done.stdout.decode(errors="replace").strip()
        raise StoreUnavailable(
            f"the embedded server on {folder} did not start: {output or f'exit {done.returncode}'}"
        )


def _read_socket(server_file: int) -> Path:
    return Path(os.fsdecode(os.pread(server_file, 4096, 0)))


def _repair_advice(folder: Path, program: Path) -> str:
    """Return advice if the log ends with an error about the append-only file, otherwise ''."""
    try:
        lines = _log_lines(folder)[-20:]
    except OSError:
        return ""
    if not any(_LOADING_FAILED.search(line) for line in lines):
        return ""
    files = folder / "appendonlydir"
    steps = [
        ": its append-only file is damaged, incomplete, or written by a newer server.",
        f"Copy {folder} first.",
    ]
    commands = re.findall(r"append only file ([\w.]+\.incr\.aof)", "\n".join(lines))
    if commands:
        # The package has no valkey-check-aof: the server is this program if it is called by that
        # name. It cannot read the manifest of a snapshot in the format of Valkey 9, only one file.
        damaged = shlex.quote(str(files / commands[-1]))
        repair = f"exec -a valkey-check-aof {shlex.quote(str(program))} --fix {damaged}"
        steps += [
            "To keep what was written before the damage, run:",
            f"bash -c {shlex.quote(repair)}",
        ]
    steps += [
        "To start without the old data, unless you can restore a backup, run:",
        f"mv {shlex.quote(str(files))} {shlex.quote(f'{files}.damaged')}",
        "See 'Repair the embedded server' in docs/operating.md",
    ]
    return "\n".join(steps)


def _log_tail(folder: Path) -> str:
    try:
        lines = _log_lines(folder)[-5:]
    except OSError as error:
        return f"it has no log: {error}"
    return "\n".join([f"its log {folder / _LOG}, each line after its process id, ends:", *lines])


def _log_lines(folder: Path) -> list[str]:
    return (folder / _LOG).read_text(errors="replace").splitlines()
