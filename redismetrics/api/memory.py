"""Memory management of the C library in a server process."""

import ctypes
import threading
import time
from contextlib import suppress

# Parameters of mallopt(3) in glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Seconds between returning free pages.
_TRIM_INTERVAL = 1.0


def return_memory_early(interval: float = _TRIM_INTERVAL) -> None:
    """Make glibc return freed memory to the system early.

    Does nothing with another C library. By default, each thread that builds a large response keeps
    an arena, including its freed memory. Under attack (tests/system/faults/attack.py) this process
    took 451 MB, and 280 MB with these settings. One arena is enough, because Python's threads
    allocate one at a time.

    Blocks of a megabyte or more are returned at once. The columns of a query are smaller: getting
    them from the system each time took half of the CPU time of a PromQL query over a day. Free
    memory between used blocks is returned every *interval* seconds by a thread.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        library.mallopt(_M_TRIM_THRESHOLD, 1 << 21)
        trim = library.malloc_trim

        def trim_for_ever() -> None:
            while True:
                time.sleep(interval)
                trim(0)

        threading.Thread(target=trim_for_ever, name="redismetrics-memory", daemon=True).start()
