"""Reject data folders that other users of the machine could have prepared or could change.

The server executes the contents of its append-only file, and writes its log and its process id to
files with fixed names. Anyone who can write to the data folder, or who created it, could therefore
run commands in the user's server, or have files of the user overwritten through symbolic links.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from redismetrics.errors import StoreUnavailable

from .embedded_paths import Folder, default_folder

# Maximum number of symbolic links that Linux follows in one path.
_MAX_LINKS = 40

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

# Everything that this package or the server opens in a data folder. The last two were written by
# older versions of the server, and are loaded by any version.
_FILES = (
    "start.lock",
    "users.lock",
    "server.lock",
    "valkey.log",
    "valkey.log.old",
    "valkey.pid",
    "appendonlydir",
    "appendonly.aof",
    "dump.rdb",
)


def resolved(folder: Folder) -> Path:
    """Return the absolute path of *folder* without symbolic links; None means the user's folder.

    Raises:
        StoreUnavailable: If a symbolic link in the path belongs to another user, who could change
            its target.
    """
    path = Path.cwd() / (default_folder() if folder is None else folder)
    links = 0
    done, left = Path(path.anchor), list(reversed(path.parts[1:]))
    while left:
        name = left.pop()
        if name == "..":
            done = done.parent
            continue
        part = done / name
        try:
            found = os.lstat(part)
        # It does not exist, or is inaccessible: creating it gives the reason.
        except OSError:
            done = part
            continue
        if not stat.S_ISLNK(found.st_mode):
            done = part
            continue
        links += 1
        if links > _MAX_LINKS:
            raise StoreUnavailable(f"the embedded server can't use {path}: it is a loop of links")
        if found.st_uid not in _trusted_users():
            raise _unsafe(part, found, "a symbolic link of another user", "give another folder")
        target = Path(os.readlink(part))
        if target.is_absolute():
            done = Path(target.anchor)
        left.extend(reversed([each for each in target.parts if each != target.anchor]))
    return done


def check_data_folder(folder: Path) -> None:
    """Raise `StoreUnavailable` unless only this user can have written the contents of *folder*.

    *folder* is resolved. Its parents must not let other users replace it: they must belong to this
    user or root, and may only be writable by others if the sticky bit is set, as in /tmp. Members
    of the group of a parent folder are trusted.
    """
    for parent in folder.parents:
        found = os.lstat(parent)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in _trusted_users():
            raise _unsafe(
                parent,
                found,
                "a folder that belongs to neither this user nor root",
                "give a folder elsewhere",
            )
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise _unsafe(
                parent,
                found,
                "a folder in which all users may rename files of others",
                f"run chmod o-w {parent}, or give a folder elsewhere",
            )
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise _unsafe(
            folder, found, f"not a folder of user {os.geteuid()}", "give a folder of your own"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise _unsafe(
            folder,
            found,
            "a folder that others may write to",
            f"if nobody else has put files there, run chmod go-w {folder}; otherwise give another "
            "folder",
        )
    for path in _files(folder):
        _check_file(path)


def _files(folder: Path) -> Iterator[Path]:
    """Return all existing files that the server would read or write."""
    for name in _FILES:
        path = folder / name
        if os.path.lexists(path):
            yield path
    if (folder / "appendonlydir").is_dir():
        yield from (folder / "appendonlydir").iterdir()


def _check_file(path: Path) -> None:
    try:
        found = os.lstat(path)
    # The running server has rewritten its append-only file in the meantime.
    except FileNotFoundError:
        return
    is_folder = path.name == "appendonlydir"
    expected = stat.S_ISDIR if is_folder else stat.S_ISREG
    if not expected(found.st_mode) or found.st_uid != os.geteuid():
        kind = "folder" if is_folder else "file"
        raise _unsafe(
            path,
            found,
            f"not a {kind} of user {os.geteuid()}",
            "another user may have put it there: give another folder",
        )
    if found.st_mode & _OTHERS_WRITE:
        raise _unsafe(
            path,
            found,
            "open to others for writing",
            f"if nobody has changed it, run chmod go-w {path}; otherwise give another folder",
        )


def _trusted_users() -> set[int]:
    """Return the users whose folders may contain the data folder: this user and root.

    Inside a container that maps only some users, the outside root appears as the overflow user.
    """
    users = {0, os.geteuid()}
    try:
        mapped = Path("/proc/self/uid_map").read_text().split()
        if mapped != ["0", "0", "4294967295"]:
            users.add(int(Path("/proc/sys/fs/overflowuid").read_text()))
    except (OSError, ValueError):
        pass
    return users


def _unsafe(path: Path, found: os.stat_result, what: str, advice: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the data folder of the embedded server is not safe: {path} is {what} "
        f"({stat.filemode(found.st_mode)} of user {found.st_uid}); {advice}"
    )
