"""Metrics of the process itself: CPU time, memory, files and garbage collection.

The names are those of `prometheus_client`.
"""

import gc
import os
import platform
import socket
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final

from redismetrics.errors import InvalidValue
from redismetrics.model.time import monotonic
from redismetrics.model.validation import Tags, check_number, clean_tags
from redismetrics.recording import instruments
from redismetrics.recording.methods import Recording
from redismetrics.recording.sink import Sink

from .process_slot import process_slot
from .process_stats import process_gauges
from .safe_recorder import Definitions, SafeRecorder

# Seconds; the usual interval of Prometheus scrapes.
INTERVAL = 15.0
# A sample is due this many seconds early, because flushes are not exactly on time: otherwise, a
# flush just before the end of the interval would delay the sample to the next flush.
_EARLY_SECONDS = 0.5

# Keys of `gc.get_stats()`, by metric name.
_GC_COUNTERS: Final = {
    "python_gc_collections": "collections",
    "python_gc_objects_collected": "collected",
    "python_gc_objects_uncollectable": "uncollectable",
}
_DEFINITIONS: Final[Definitions] = {
    "process_cpu_seconds": ("counter", {"unit": "seconds", "help": "User and system time spent"}),
    "process_resident_memory_bytes": ("gauge", {"unit": "bytes", "help": "Resident memory"}),
    "process_virtual_memory_bytes": ("gauge", {"unit": "bytes", "help": "Virtual memory"}),
    "process_open_fds": ("gauge", {"help": "Open file descriptors"}),
    "process_max_fds": ("gauge", {"help": "File descriptors that may be open"}),
    "process_start_time_seconds": ("gauge", {"unit": "seconds", "help": "Unix time of the start"}),
    "python_gc_collections": ("counter", {"help": "Garbage collections"}),
    "python_gc_objects_collected": ("counter", {"help": "Objects collected"}),
    "python_gc_objects_uncollectable": (
        "counter",
        {"help": "Objects found that cannot be collected"},
    ),
    "python_info": ("gauge", {"help": "The interpreter; always 1"}),
}


def watch_process(
    metrics: Recording | None = None, *, interval: float = INTERVAL, tags: Tags | None = None
) -> "ProcessMetrics":
    """Sample this process now, and from then on with the client's flushes.

    The first sample is already recorded, so call this after `configure()`. Forked children sample
    themselves from their first recording on.

    A second call for the same client changes the interval and tags of the first, and returns the
    same object. Clients of the same server and namespace share the counters: each adds what none of
    them has recorded yet.

    The tags are `host` and `slot`: the smallest number not used by another live process of this
    user and host. So there are only as many series as concurrent processes, however often they are
    replaced.

    Args:
        metrics: The client; by default the default client.
        interval: Minimum number of seconds between samples.
        tags: Tags to add to `host` and `slot`, or to replace them; ``{"slot": None}`` removes the
            slot.

    Raises:
        InvalidMetric: If *interval* is not a number above 0, or *tags* are invalid.
    """
    new = ProcessMetrics(metrics, interval=interval, tags=tags)
    for sampler in new.client().internals.samplers():
        watching = getattr(sampler, "__self__", None)
        if isinstance(watching, ProcessMetrics):
            watching.take_options(new)
            watching.sample()
            return watching
    new.start()
    return new


class ProcessMetrics:
    """Samples of the current process. See `watch_process`."""

    def __init__(
        self,
        metrics: Recording | None = None,
        *,
        interval: float = INTERVAL,
        tags: Tags | None = None,
    ) -> None:
        self._interval = check_number(interval, "interval")
        if self._interval <= 0:
            raise InvalidValue(f"interval must be a number of seconds above 0, got {interval!r}")
        clean_tags(tags)
        self._tags = dict(tags or {})
        self._metrics = metrics
        self._safe = SafeRecorder(metrics, _DEFINITIONS)
        self._due = 0.0
        _instances.add(self)

    def take_options(self, other: "ProcessMetrics") -> None:
        """Apply a new interval and tags."""
        self._interval, self._tags = other._interval, other._tags

    def start(self) -> None:
        """Sample now, and with the client's flushes from now on."""
        self.sample()
        self.client().internals.add_sampler(self.sample_if_due)

    def stop(self) -> None:
        """Stop sampling."""
        self.client().internals.remove_sampler(self.sample_if_due)

    def sample_if_due(self) -> None:
        """Sample if the last sample is at least one interval old."""
        if monotonic() >= self._due:
            self.sample()

    def sample(self) -> None:
        """Record the current values. Never raises."""
        self._due = monotonic() + self._interval - _EARLY_SECONDS
        self._safe.run(self._record)

    def client(self) -> Recording:
        """Return the client that records the samples."""
        return instruments.default_client() if self._metrics is None else self._metrics

    def _record(self, client: Recording) -> None:
        tags = {"host": socket.gethostname(), "slot": process_slot(), **self._tags}
        self._count(client, "process_cpu_seconds", sum(os.times()[:2]), tags)
        for name, value in process_gauges().items():
            client.gauge(name, value, tags=tags)
        for generation, stats in enumerate(gc.get_stats()):
            for name, key in _GC_COUNTERS.items():
                self._count(client, name, stats[key], {**tags, "generation": str(generation)})
        version = {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
        }
        client.gauge("python_info", 1, tags={**tags, "slot": None, **version})

    def _count(self, client: Recording, name: str, total: float, tags: Mapping[str, Any]) -> None:
        """Add the growth of *total* since the last sample."""
        growth = _totals_of(client).growth((name, str(tags.get("generation"))), total)
        client.increment(name, growth, tags=tags)

    def reset_after_fork(self) -> None:
        """Arrange to sample at the first flush of a forked child."""
        self._due = 0.0


class ProcessTotals:
    """The totals at the last sample, by metric name and generation of the garbage collector."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[tuple[str, str], float] = {}

    @classmethod
    def of_forked_child(cls) -> "ProcessTotals":
        """Return the totals from which a forked child counts.

        Its CPU time starts at 0. Its garbage collection totals start at the parent's, which the
        parent records.
        """
        totals = cls()
        for generation, stats in enumerate(gc.get_stats()):
            for name, key in _GC_COUNTERS.items():
                totals._totals[name, str(generation)] = stats[key]
        return totals

    def growth(self, key: tuple[str, str], total: float) -> float:
        """Return how much *total* has grown since the last call."""
        with self._lock:
            grown = max(total - self._totals.get(key, 0.0), 0.0)
            self._totals[key] = total
        return grown


# A process is counted once, however many clients watch it: by URL and namespace, or by sink.
_shared_totals: dict[tuple[str | None, str], ProcessTotals] = {}
_sink_totals: "weakref.WeakKeyDictionary[Sink, ProcessTotals]" = weakref.WeakKeyDictionary()
_instances: "weakref.WeakSet[ProcessMetrics]" = weakref.WeakSet()


def _totals_of(client: Recording) -> ProcessTotals:
    destination = client.internals.destination
    if isinstance(destination, tuple):
        return _shared_totals.setdefault(destination, ProcessTotals())
    return _sink_totals.setdefault(destination, ProcessTotals())


def _after_fork() -> None:
    for key in _shared_totals:
        _shared_totals[key] = ProcessTotals.of_forked_child()
    for sink in list(_sink_totals):
        _sink_totals[sink] = ProcessTotals.of_forked_child()
    for instance in list(_instances):
        instance.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
