"""Clocks that run, and that a run moves: of the server, and of each writer.

The server runs under libfaketime, which reads the offset from a file at every call; without it its
clock is not moved. Writers read the offset from their books: they have one clock, `Metrics(clock)`,
and libfaketime (0.9.10) makes `time.sleep` of Python 3.11 fail.
"""

import contextlib
from pathlib import Path

import redis

from tests.fixtures.servers import Server, faketime_library, wait_until

# Seconds. Whatever server and writer have of these, no sample may be dropped: explicit times are
# less than `max_future` ahead of the server and less than `max_age` behind. Times that the writer
# takes from its clock are never too far ahead: they are cut to the time of arrival.
SMALL_SERVER = (-120.0, -30.0, -1.0, -0.05, 0.05, 1.0, 30.0, 7_200.0)
SMALL_WRITER = (-7_200.0, -30.0, -1.0, -0.05, 0.05, 1.0, 30.0, 600.0, 172_800.0)
# With these, samples are dropped: in_future or too_old.
LARGE_SERVER = (-172_800.0, -600.0, 108_000.0)
LARGE_WRITER = (-108_000.0, -2_592_000.0)


def movable() -> bool:
    """True if the clock of the server can be moved."""
    return faketime_library() is not None


def remove_shared_memory(pid: int) -> None:
    """Remove what libfaketime leaves behind for a server that is killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        with contextlib.suppress(OSError):
            (Path("/dev/shm") / name).unlink()


class MovableServer(Server):
    """A server whose clock runs, with an offset to ours. It keeps the offset when restarted."""

    offset = 0.0
    # It reads a long append-only file, and asks for the time at each command.
    patience = 120.0

    def shut_down(self) -> None:
        """End it as SIGTERM does, by a command.

        The server's signal handler asks for the time. Under libfaketime, which opens a file then,
        it waits for ever if it interrupts an allocation of memory.
        """
        with self.client(retry=None) as admin, contextlib.suppress(redis.ConnectionError):
            admin.execute_command("SHUTDOWN")
        wait_until(lambda: not self.running, "the server has shut down", self.patience)

    def stop(self) -> None:
        if self.running:
            self.kill()

    def move_clock(self, seconds: float) -> None:
        """Set the offset."""
        self.offset = seconds
        self._write_time()

    def _write_time(self) -> None:
        new = self._time_file.with_suffix(".new")
        new.write_text(f"{self.offset:+.6f}\n")
        # In one step, because the server may be reading.
        new.replace(self._time_file)
