"""Read the memory, files and start time of this process from the operating system."""

import os
import sys
from pathlib import Path

# Fields of /proc/self/stat, counted from its third one, the state; see proc_pid_stat(5).
_START_TIME, _VIRTUAL_BYTES, _RESIDENT_PAGES = 19, 20, 21


def process_gauges() -> dict[str, float]:
    """Return the gauges available on this system, by metric name."""
    gauges: dict[str, float] = {}
    for read in (_memory_and_start, _files):
        try:
            gauges.update(read())
        # No /proc, as on macOS, or an unusual one.
        except (OSError, ImportError, ValueError, IndexError):
            continue
    return gauges


def _memory_and_start() -> dict[str, float]:
    # The name of the program, in parentheses, may contain spaces.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    lines = Path("/proc/stat").read_text().splitlines()
    boot_time = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    return {
        "process_virtual_memory_bytes": float(fields[_VIRTUAL_BYTES]),
        "process_resident_memory_bytes": (
            float(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE")
        ),
        "process_start_time_seconds": (
            boot_time + float(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
        ),
    }


def _files() -> dict[str, float]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    # Excluding the descriptor used for listing them.
    gauges = {"process_open_fds": len(os.listdir(folder)) - 1.0}
    if limit != resource.RLIM_INFINITY:
        gauges["process_max_fds"] = float(limit)
    return gauges
