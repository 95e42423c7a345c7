"""The send queue between the collector and the sender, bounded by bytes and age.

Every sample that passes through is counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from operator import attrgetter
from typing import Any

from redismetrics.columnar import block_codec
from redismetrics.model.definition import Definition
from redismetrics.store import keys

from . import batch as metric_batch
from .batch import MetricBatch
from .flush_result import FlushResult, SettledWatch
from .recorder import Recorder

log = logging.getLogger("redismetrics")

# A batch is limited so that its script takes less than 1 ms, and less than 3 ms if it also folds.
# Measured: 0.15 µs per series of any type, and 10 µs per metric. A fold handles whole changes, so
# the number of series is bounded by the time to fold them: 0.6 µs for a counter, 0.9 µs for a gauge
# or summary, and 1.3 to 2.8 µs for a histogram. A new series of any type takes 2 to 3 µs.
SERIES_COST = {
    "counter": 1 / 2000,
    "gauge": 1 / 1500,
    "histogram": 1 / 500,
    "summary": 1 / 1500,
    "info": 1 / 1500,
    "stateset": 1 / 1500,
}
NEW_SERIES_COST = 1 / 500
METRIC_COST = 1 / 100
BATCH_ROWS = 200_000

# Rows of a series and minute that remain when the queue is full.
SQUEEZED_ROWS = 10


class _Condition(threading.Condition):
    """A condition whose `with` statement uses the methods of its lock directly.

    The methods of `Condition` are Python functions: a signal handler that raises inside one, as
    Ctrl-C does, would leave the lock held for ever.
    """

    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))


class SendQueue:
    """A queue of batches for each shard, oldest first.

    Every sample that enters is settled exactly once: stored, or dropped for a reason.

    Attributes:
        lines: The batches by shard. All are in line 0 until the number of shards is known.
        change: Guards the whole queue. It is notified when *awaited* samples, the smallest number
            that anyone waits for, are settled: waking a thread for each batch would take longer
            than encoding it.
        listeners: Functions that are called when `change` is notified.
        watches: Count what is settled of some metrics.
        given_up: True after `give_up`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._settings = recorder.settings
        self._recorder = recorder
        self.change = _Condition(threading.Lock())
        self.listeners: list[Callable[[], None]] = []
        self.watches: list[SettledWatch] = []
        self.lines: dict[int, deque[MetricBatch]] = {}
        self._shards = 1
        self.nbytes = 0
        self.drained = self.settled = self.stored = 0
        self.awaited = inf
        self.given_up = False

    def counts(self) -> dict[str, Any]:
        """Return the part of `Metrics.stats` about the queue and the recorder.

        The caller holds `change`.
        """
        recorder = self._recorder
        dropped = dict(recorder.dropped())
        overflow: dict[str, dict[str, int]] = {}
        for (name, tag), count in list(recorder.drops.overflows.items()):
            overflow.setdefault(name, {})[tag] = count
        waiting = recorder.waiting()
        # These never reached a buffer.
        lost_early = dropped.get("invalid", 0) + dropped.get("closed", 0)
        return {
            "recorded": self.drained + waiting + lost_early,
            "stored": self.stored,
            "pending": self.drained - self.settled + waiting,
            "dropped": dropped,
            "overflow": overflow,
            "buffer_bytes": self.nbytes,
            "buffered_series": sum(
                len(metric.buffers) for metric in list(recorder.metrics.values())
            ),
        }

    def totals(self) -> FlushResult:
        """Return what has been settled so far, over all metrics. The caller holds `change`."""
        return FlushResult(self.stored, dict(self._recorder.dropped()))

    @property
    def is_empty(self) -> bool:
        return not any(self.lines.values())

    def shards(self) -> list[int]:
        """Return the shards with waiting batches."""
        with self.change:
            return [shard for shard, line in self.lines.items() if line]

    def set_shards(self, shards: int) -> None:
        """Divide the queue by shard: each shard is sent separately."""
        with self.change:
            if shards != self._shards:
                self._shards = shards
                self._append(self._take_all())

    def _line(self, batch: MetricBatch) -> deque[MetricBatch]:
        shard = keys.shard_of(batch.name, self._shards) if self._shards > 1 else 0
        return self.lines.setdefault(shard, deque())

    def _append(self, found: Iterable[MetricBatch]) -> None:
        for batch in found:
            self._line(batch).append(batch)

    def _put_first(self, found: list[MetricBatch]) -> None:
        for batch in reversed(found):
            self._line(batch).appendleft(batch)
        self.nbytes += sum(batch.nbytes for batch in found)

    def _take_all(self) -> list[MetricBatch]:
        waiting = [batch for line in self.lines.values() for batch in line]
        self.lines.clear()
        return waiting

    def _oldest_line(self) -> deque[MetricBatch] | None:
        lines = [line for line in self.lines.values() if line]
        return min(lines, key=lambda line: line[0].queued_at, default=None)

    def put(self, found: list[MetricBatch]) -> int:
        """Append drained batches; return the total number of samples received so far."""
        now = self._recorder.steady_clock()
        for batch in found:
            batch.queued_at = now
        with self.change:
            self._append(found)
            self.nbytes += sum(batch.nbytes for batch in found)
            count = sum(batch.samples.count for batch in found)
            self.drained += count
            drained = self.drained
            if self.given_up:  # close() timed out before this drain finished
                self.lines.clear()
                self.nbytes = 0
                self.settled += count
                self._recorder.drop("unsent", count)
                for watch in self.watches:
                    watch.drop("", "unsent", count)
                return drained
        self._enforce_limits()
        return drained

    def put_back(self, found: list[MetricBatch]) -> None:
        """Put batches that must be sent again at the front."""
        with self.change:
            if not self.given_up:
                self._put_first(found)

    def take(self, shard: int) -> list[MetricBatch]:
        """Take a shard's oldest batches, up to one request; merge batches of the same metric."""
        taken: dict[str, list[MetricBatch]] = {}
        cost, rows = 0.0, 0
        with self.change:
            line = self.lines.get(shard, deque())
            while line and cost < 1 and rows < BATCH_ROWS:
                batch = line[0]
                if taken and batch.alone:
                    break
                per_series = self._cost(batch)
                max_series = max(int((1 - cost) / per_series), 1)
                others = taken.get(batch.name)
                if others and not _may_merge(others, batch):
                    break
                line.popleft()
                self.nbytes -= batch.nbytes
                head = batch
                if len(batch.canonicals) > max_series:
                    head, *rest = metric_batch.split(batch, max_series, int(1 / per_series))
                    line.extendleft(reversed(rest))
                    self.nbytes += sum(part.nbytes for part in rest)
                taken.setdefault(head.name, []).append(head)
                cost += METRIC_COST * (others is None) + per_series * len(head.canonicals)
                rows += len(head.samples)
                if batch.alone:
                    break
        return [metric_batch.merge(group) for group in taken.values()]

    def _cost(self, batch: MetricBatch) -> float:
        """Return the cost per series of a batch, where one request may cost at most 1."""
        metric = self._recorder.metrics.get(batch.name)
        known = 0 if metric is None else len(metric.known_series.ids)
        cost = SERIES_COST[batch.kind]
        return cost if len(batch.canonicals) <= known else max(cost, NEW_SERIES_COST)

    @contextmanager
    def watch(self, names: Iterable[str]) -> Iterator[SettledWatch]:
        """Count samples of metrics with these *names* that are settled inside the block."""
        watch = SettledWatch(names)
        with self.change:
            self.watches.append(watch)
        try:
            yield watch
        finally:
            with self.change:
                self.watches.remove(watch)

    def notify(self) -> None:
        """Wake up waiting threads and listeners. The caller holds `change`."""
        # Threads that continue waiting set it again.
        self.awaited = inf
        self.change.notify_all()
        for listener in self.listeners:
            listener()

    def confirm(self, name: str, count: int) -> None:
        """Count samples of a metric as stored. The caller holds `change`."""
        self.stored += count
        for watch in self.watches:
            watch.store(name, count)
        self._settle(count)

    def drop_locked(self, reason: str, count: int, name: str = "") -> None:
        """Count samples of one or more metrics as dropped. The caller holds `change`."""
        # `give_up` has counted all that was left.
        if self.given_up or not count:
            return
        self._recorder.drop(reason, count)
        for watch in self.watches:
            watch.drop(name, reason, count)
        self._settle(count)

    def _settle(self, count: int) -> None:
        self.settled += count
        if self.settled >= self.awaited:
            self.notify()

    def drop(self, reason: str, count: int, name: str = "") -> None:
        """Count samples as dropped. The caller does not hold `change`."""
        with self.change:
            self.drop_locked(reason, count, name)

    def give_up(self, in_doubt: int) -> int:
        """Count everything left at the end as dropped; return how many samples were never sent.

        *in_doubt* of them were sent but not confirmed. The caller holds `change`.
        """
        waiting = self._recorder.take_waiting()
        self.drained += waiting
        # That includes what the sender has taken and not sent yet.
        unsent = self.drained - self.settled - in_doubt
        self.lines.clear()
        self.nbytes = 0
        self.drop_locked("unknown", in_doubt)
        self.drop_locked("unsent", unsent)
        self.given_up = True
        return unsent

    def _enforce_limits(self) -> None:
        """Keep the unsent samples within `buffer_age` and `buffer_bytes`.

        First, batches are compressed, unless their metric keeps its samples; then the oldest are
        dropped and counted.
        """
        oldest = self._recorder.steady_clock() - self._settings.buffer_age
        limit = self._settings.buffer_bytes
        with self.change:
            while (line := self._oldest_line()) and line[0].queued_at < oldest:
                self._drop_oldest(line, "expired")
            if self.nbytes <= limit:
                return
            waiting = self._take_all()
            self.nbytes = 0
        squeezed = self._squeeze(waiting)
        with self.change:
            if self.given_up:
                return
            self._put_first(squeezed)
            while self.nbytes > limit and (line := self._oldest_line()):
                self._drop_oldest(line, "buffer_full")
                self._recorder.warn_once(
                    "unsent samples exceed buffer_bytes=%d: the oldest are dropped", limit
                )

    def _squeeze(self, batches: list[MetricBatch]) -> list[MetricBatch]:
        """Merge the batches of each metric and compress them, each only once."""
        groups: dict[tuple[str, Definition, bool], list[MetricBatch]] = {}
        for batch in batches:
            if not batch.squeezed and not batch.definition.keeps_samples:
                groups.setdefault((batch.name, batch.definition, batch.explicit), []).append(batch)
        squeezed = [batch for batch in batches if batch.squeezed or batch.definition.keeps_samples]
        for group in groups.values():
            try:
                squeezed.append(metric_batch.squeeze(metric_batch.merge(group), SQUEEZED_ROWS))
            except Exception:
                log.exception("BUG: %s: can't be compressed", group[0].name)
                squeezed += group
        return squeezed

    def _drop_oldest(self, line: deque[MetricBatch], reason: str) -> None:
        batch = line.popleft()
        self.nbytes -= batch.nbytes
        self.drop_locked(reason, batch.samples.count, batch.name)


def _may_merge(others: list[MetricBatch], batch: MetricBatch) -> bool:
    """Return whether a batch may be merged with *others* of its metric."""
    if others[0].definition != batch.definition:
        return False
    if not batch.definition.keeps_samples:
        return True
    rows = sum(len(each.samples) for each in others) + len(batch.samples)
    return rows <= block_codec.MAX_ROWS
