"""A small number for this process that no other live process of the user and host has."""

import logging
import os
import tempfile
from pathlib import Path

log = logging.getLogger("redismetrics")

# Maximum number of processes per user and host that get a slot.
_MAX_SLOTS = 1_000

# The process that holds a slot, and the slot.
_held: tuple[int, str | None] | None = None


def process_slot() -> str | None:
    """Return the slot of this process, or None if it cannot get one.

    A slot is held by a lock on a file, which the operating system releases when the process ends.
    """
    global _held
    # A forked child has none of its parent's locks, so it takes its own slot.
    if _held is None or _held[0] != os.getpid():
        _held = os.getpid(), take_slot(Path(tempfile.gettempdir()))
    return _held[1]


def take_slot(parent: Path) -> str | None:
    """Lock the first free file in a folder below *parent*; return its number, or None."""
    try:
        import fcntl

        folder = parent / f"redismetrics-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        # The temporary folder is shared: another user may have created a folder of this name.
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        for slot in range(_MAX_SLOTS):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(folder / f"slot-{slot}", flags, 0o600)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
            else:
                # The file stays open, and locked, as long as the process lives.
                return str(slot)
    except (ImportError, OSError) as error:
        log.warning("no slot, so processes of this host share the series of process_*: %s", error)
    return None
