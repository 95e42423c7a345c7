"""Files locked with flock(2), and memberships of an embedded server, even across forks."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redismetrics.errors import StoreUnavailable
from redismetrics.model.time import monotonic

# On Windows `available()` is False, and nothing here is called.
if sys.platform != "win32":
    import fcntl

START_LOCK, USERS_LOCK, SERVER_LOCK = "start.lock", "users.lock", "server.lock"

# Seconds between attempts: neither flock nor connect can wait with a timeout.
POLL = 0.01

# Every file descriptor that is open here: a forked child inherits them and must close them.
open_files: set[int] = set()
# Each current membership, by number: its data folder, and its share of users.lock.
memberships: dict[int, tuple[Path, int]] = {}
# During a fork: the memberships of the child.
_of_child: dict[int, tuple[Path, int]] = {}
_numbers = itertools.count()
# Held while a file is opened and noted, while the server is spawned, and during every fork. A child
# forked in between would keep copies of the lock, and of the pipes on which the spawning thread
# waits for EOF.
forking = threading.RLock()


def register(folder: Path, share: int) -> int:
    """Note a membership that holds *share* of users.lock; return its number."""
    number = next(_numbers)
    memberships[number] = folder, share
    return number


def release(number: int) -> bool:
    """Give up a membership; return False if it has already been given up."""
    _, share = memberships.pop(number, (None, -1))
    if share < 0:
        return False
    unlock(share)
    close(share)
    return True


def share_users(folder: Path) -> int:
    """Open users.lock with a shared lock, and return it."""
    fd = open_(folder / USERS_LOCK)
    # Waits only for the two lines in `is_unused`.
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def is_unused(folder: Path) -> bool:
    """Return whether no process uses the server. The caller holds the start lock."""
    with opened(folder / USERS_LOCK) as fd:
        if not lock(fd):
            return False
        # No longer needed: nobody can join while the start lock is held.
        unlock(fd)
        return True


@contextmanager
def start_lock(folder: Path, deadline: float) -> Iterator[None]:
    """Hold the start lock, which excludes other processes and other threads of this one."""
    with opened(folder / START_LOCK) as fd:
        while not lock(fd):
            if monotonic() > deadline:
                raise StoreUnavailable(
                    f"another process is still starting or stopping the server on {folder}; "
                    "try again"
                )
            time.sleep(POLL)
        try:
            yield
        finally:
            unlock(fd)


def open_(path: Path) -> int:
    """Open a file, creating it if necessary, for this process only."""
    with forking:
        # Python closes it on exec (PEP 446). A symbolic link could lead to any file of the user.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        open_files.add(fd)
    return fd


def close(fd: int) -> None:
    """Close a file from `open_`."""
    with forking:
        open_files.discard(fd)
        os.close(fd)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for the duration of a `with` block."""
    fd = open_(path)
    try:
        yield fd
    finally:
        close(fd)


def lock(fd: int) -> bool:
    """Lock a file exclusively, or return False at once if it is locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Unlock a file. Closing it is not enough: a fork in progress may hold a copy of the lock."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def _before_fork() -> None:
    """Take the child's memberships before it exists.

    Otherwise the server would stop if the parent left before the child has its own. The parent's
    cannot be used, because a lock belongs to the open file, which both processes share.
    """
    forking.acquire()
    for number, (folder, _) in list(memberships.items()):
        # Without the folder or a free file descriptor, the child is not a member.
        with suppress(OSError):
            _of_child[number] = folder, share_users(folder)


def _after_fork_in_parent() -> None:
    # Close the child's files, and never unlock them: the lock is the child's.
    for _, share in _of_child.values():
        close(share)
    _of_child.clear()
    forking.release()


def _after_fork_in_child() -> None:
    own = {share for _, share in _of_child.values()}
    inherited = open_files - own
    open_files.intersection_update(own)
    memberships.clear()
    memberships.update(_of_child)
    _of_child.clear()
    # Close the parent's files, and never unlock them: the lock is the parent's.
    for fd in inherited:
        os.close(fd)
    # Some servers fork in C and run only this hook: then nothing was acquired.
    with suppress(RuntimeError):
        forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
