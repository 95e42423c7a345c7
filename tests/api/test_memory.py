"""Memory that a server process returns to the system."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import re, sys, time
from redismetrics.api.memory import return_memory_early

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

if sys.argv[1] == "returned":
    return_memory_early(0.01)
before = held()
pieces = [bytes([number % 256]) * 100_000 for number in range(2_000)]
assert held() > before + 150, held()
# The pieces that are left hold up the end of the heap.
del pieces[:-1]
deadline = time.monotonic() + 60
while held() > before + 20:
    if sys.argv[1] == "kept" or time.monotonic() > deadline:
        sys.exit("kept")
    time.sleep(0.01)
"""


def kept(*arguments: str) -> bool:
    """Return whether a process that freed nearly all of 200 MB keeps that memory."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.strip() in ("", "kept"), done.stderr
    return bool(done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_freed_memory_between_pieces_in_use_is_returned() -> None:
    assert not kept("returned")
    # Without it the memory stays.
    assert kept("kept")
