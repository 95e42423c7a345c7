"""The process itself: processor time, memory, files, garbage collection, under the names that `prometheus_client` gives them."""

import gc
import logging
import os
import platform
import socket
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redismetrics.errors import InvalidValue
from redismetrics.model.validation import Tags, check_number, clean_tags
from redismetrics.recording import instruments
from redismetrics.recording.methods import Recording

from .common import SafeRecorder

log = logging.getLogger("redismetrics")

INTERVAL = 15.0  # seconds; a scrape's usual distance
MAX_SLOTS = 1_000


def watch_process(
    metrics: Recording | None = None, *, interval: float = INTERVAL, tags: Tags | None = None
) -> "ProcessMetrics":
    """Sample this process now, and from then on whenever its client flushes, at most every *interval* seconds.

    The first sample is a recording, so it comes after `configure()`. Forked children sample themselves from their own first
    recording on. Gauges and counters have the tags `host` and `slot`: the smallest number that no other living process of this
    user and host has, so there are as many series as processes at one time, however often they are replaced. *tags* are
    added, or replace these; ``{"slot": None}`` leaves it out.

    Raises:
        InvalidMetric: a branch of it: *interval* is no positive number, or *tags* are none.
    """
    watching = ProcessMetrics(metrics, interval=interval, tags=tags)
    watching.start()
    return watching


class ProcessMetrics:
    """Samples of the process that it is in. See `watch_process`."""

    def __init__(
        self,
        metrics: Recording | None = None,
        *,
        interval: float = INTERVAL,
        tags: Tags | None = None,
    ) -> None:
        self._interval = check_number(interval, "interval")
        if self._interval <= 0:
            raise InvalidValue(f"interval: wanted seconds above 0, got {interval!r}")
        clean_tags(tags)
        self._tags = dict(tags or {})
        self._metrics = metrics
        self._quiet = SafeRecorder(
            metrics,
            {
                "process_cpu_seconds": (
                    "counter",
                    {"unit": "seconds", "help": "User and system time spent"},
                ),
                "process_resident_memory_bytes": (
                    "gauge",
                    {"unit": "bytes", "help": "Resident memory"},
                ),
                "process_virtual_memory_bytes": (
                    "gauge",
                    {"unit": "bytes", "help": "Virtual memory"},
                ),
                "process_open_fds": ("gauge", {"help": "Open file descriptors"}),
                "process_max_fds": ("gauge", {"help": "File descriptors that may be open"}),
                "process_start_time_seconds": (
                    "gauge",
                    {"unit": "seconds", "help": "Unix time of the start"},
                ),
                "python_gc_collections": ("counter", {"help": "Garbage collections"}),
                "python_gc_objects_collected": ("counter", {"help": "Objects collected"}),
                "python_gc_objects_uncollectable": (
                    "counter",
                    {"help": "Objects found that can't be collected"},
                ),
                "python_info": ("gauge", {"help": "The interpreter; always 1"}),
            },
        )
        self._counted: dict[tuple[str, str], float] = {}
        self._due = 0.0
        _watching.add(self)

    def start(self) -> None:
        """Sample now, and with the client's flushes from now on."""
        self.sample()
        samplers = self._client()._recorder.samplers
        if self.sample_if_due not in samplers:
            samplers.append(self.sample_if_due)

    def stop(self) -> None:
        """Sample no more."""
        samplers = self._client()._recorder.samplers
        if self.sample_if_due in samplers:
            samplers.remove(self.sample_if_due)

    def sample_if_due(self) -> None:
        """Sample, unless it was done within the interval."""
        if time.monotonic() >= self._due:
            self.sample()

    def sample(self) -> None:
        """Record how things stand. Never raises."""
        self._due = (
            time.monotonic() + self._interval - 0.5
        )  # not put off by a flush that comes a little early
        self._quiet.run(self._record)

    def _client(self) -> Recording:
        return instruments.default_client() if self._metrics is None else self._metrics

    def _record(self, client: Recording) -> None:
        tags = {"host": socket.gethostname(), "slot": _slot(), **self._tags}
        self._count(client, "process_cpu_seconds", sum(os.times()[:2]), tags)
        for name, value in _figures().items():
            client.gauge(name, value, tags=tags)
        for generation, figures in enumerate(gc.get_stats()):
            for name, key in _GC.items():
                self._count(client, name, figures[key], {**tags, "generation": str(generation)})
        version = {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
        }
        client.gauge("python_info", 1, tags={**tags, "slot": None, **version})

    def _count(self, client: Recording, name: str, total: float, tags: Mapping[str, Any]) -> None:
        """Add what *total* has grown by since the last sample."""
        key = (name, str(tags.get("generation")))
        client.increment(name, max(total - self._counted.get(key, 0.0), 0.0), tags=tags)
        self._counted[key] = total

    def _after_fork(self) -> None:
        """The child's processor time begins at 0; what its parent collected stands in its own figures."""
        self._due = 0.0
        self._counted = {
            (name, str(generation)): figures[key]
            for generation, figures in enumerate(gc.get_stats())
            for name, key in _GC.items()
        }


_GC = {
    "python_gc_collections": "collections",
    "python_gc_objects_collected": "collected",
    "python_gc_objects_uncollectable": "uncollectable",
}
_watching: "weakref.WeakSet[ProcessMetrics]" = weakref.WeakSet()


def _figures() -> dict[str, float]:
    """The gauges that this system can tell."""
    found: dict[str, float] = {}
    for tell in (_memory, _files):
        try:
            found.update(tell())
        except (OSError, ImportError, ValueError, IndexError):  # no /proc, as on macOS
            continue
    return found


def _memory() -> dict[str, float]:
    fields = (
        Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    )  # from the third on: state, ppid, ...
    lines = Path("/proc/stat").read_text().splitlines()
    booted = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    return {
        "process_virtual_memory_bytes": float(fields[20]),
        "process_resident_memory_bytes": float(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        "process_start_time_seconds": booted + float(fields[19]) / os.sysconf("SC_CLK_TCK"),
    }


def _files() -> dict[str, float]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    found = {"process_open_fds": len(os.listdir(folder)) - 1.0}  # less the one that lists them
    return found if limit == resource.RLIM_INFINITY else {**found, "process_max_fds": float(limit)}


_held: tuple[int, str | None] | None = None  # pid, slot


def _slot() -> str | None:
    """This process's number among those that live: it holds a lock on a file, which ends with it. None where that can't be."""
    global _held
    if _held is None or _held[0] != os.getpid():  # a forked child has none of its parent's locks
        _held = os.getpid(), _take_slot()
    return _held[1]


def _take_slot() -> str | None:
    try:
        import fcntl

        folder = Path(tempfile.gettempdir()) / f"redismetrics-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} is another user's")
        for slot in range(MAX_SLOTS):
            file = os.open(
                folder / f"slot-{slot}",
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
            else:
                return str(slot)  # the file stays open for as long as the process lives
    except (ImportError, OSError) as error:
        log.warning("processes of this host share the series of process_*: no slot: %s", error)
    return None


def _after_fork() -> None:
    for watching in list(_watching):
        watching._after_fork()


os.register_at_fork(after_in_child=_after_fork)
