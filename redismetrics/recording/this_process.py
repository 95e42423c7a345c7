"""The identity of this process: its id, and where that id is valid."""

import os
import socket
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from redismetrics.columnar.process_values import Process

_MOST_HOST_BYTES = 100


def this_process() -> Process:
    """Return the identity of this process."""
    return Process(os.getpid(), this_place(), host_name())


@lru_cache(1)
def host_name() -> str:
    """Return the name of this host in the form that is stored."""
    name = socket.gethostname().encode(errors="replace")[:_MOST_HOST_BYTES]
    return name.decode(errors="ignore")


@lru_cache(1)
def this_place() -> bytes:
    """Return 8 bytes that identify the running kernel and the container, which has its own pids."""
    parts = [host_name()]
    sources: tuple[Callable[[], object], ...] = (
        Path("/proc/sys/kernel/random/boot_id").read_text,
        Path("/proc/self/ns/pid").readlink,
    )
    for read in sources:
        try:
            parts.append(str(read()))
        # Not Linux, or not readable: the host's name must do.
        except OSError:
            continue
    return blake2b("\0".join(parts).encode(), digest_size=8).digest()
