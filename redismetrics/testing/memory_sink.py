"""The sink of a capture: keeps batches in memory."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from redismetrics.errors import StoreUnavailable
from redismetrics.recording import batch as metric_batch
from redismetrics.recording import lifecycle
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.collector import Collector
from redismetrics.recording.flush_result import FlushResult, SettledWatch
from redismetrics.recording.recorder import Recorder
from redismetrics.recording.send_queue import SendQueue
from redismetrics.recording.sink import zero_stats


class _MemoryQueue(SendQueue):
    """Keeps the batches that Redis would receive, and counts them as stored."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._kept: list[MetricBatch] = []

    def put(self, found: list[MetricBatch]) -> int:
        now_ms = self._recorder.clock() * 1000
        oldest = int(now_ms - self._settings.max_age * 1000)
        newest = int(now_ms + self._settings.max_future * 1000)
        with self.change:
            for batch in found:
                kept, too_old, in_future = metric_batch.drop_outside(batch, oldest, newest)
                if kept is not None:
                    self._kept.append(kept)
                count = 0 if kept is None else kept.samples.count
                self.drained += count + too_old + in_future
                self.confirm(batch.name, count)
                self.drop_locked("too_old", too_old, batch.name)
                self.drop_locked("in_future", in_future, batch.name)
            return self.drained

    def take_all(self) -> list[MetricBatch]:
        """Return the batches kept since the last call."""
        with self.change:
            taken, self._kept = self._kept, []
        return taken


class MemorySink:
    """Keeps the samples of one recorder in memory. Starts no thread.

    It keeps a reference to the recorder, so that a client without other references is captured too.
    """

    discards = False

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.drops = recorder.drops
        self._reset()
        lifecycle.register(self)

    def _reset(self) -> None:
        self._queue = _MemoryQueue(self._recorder)
        self._reported = FlushResult()
        self._collector = Collector(self._recorder, self._queue)

    @property
    def is_attached(self) -> bool:
        """False inside a nested capture, and after the end of the capture."""
        return self._recorder.sink is self

    @property
    def closed(self) -> bool:
        return self._recorder.closed

    def take(self) -> list[MetricBatch]:
        """Return the batches recorded since the last call."""
        if self.is_attached:
            self._collector.collect_now()
        return self._queue.take_all()

    def start(self) -> None:
        """Do nothing: `take` drains the buffers."""

    def settle(self, timeout: float) -> None:
        if self.is_attached and not self._recorder.closed:
            self._collector.collect_now()

    async def asettle(self, timeout: float) -> None:
        self.settle(timeout)

    def flush(self, timeout: float) -> FlushResult:
        self.settle(timeout)
        before = self._reported
        with self._queue.change:
            self._reported = self._queue.totals()
        return self._reported.since(before)

    async def aflush(self, timeout: float) -> FlushResult:
        return self.flush(timeout)

    def watch(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        return self._queue.watch(names)

    def flush_before_query(self) -> None:
        self.check_queries()

    async def aflush_before_query(self) -> None:
        self.check_queries()

    def check_queries(self) -> None:
        raise StoreUnavailable("a capture keeps samples in memory, so there is nothing to query")

    def mismatched(self) -> set[str]:
        return set()

    def silence_mismatches(self, names: Iterable[str]) -> None:
        """Do nothing: there is no store to disagree with."""

    def clear_mismatch(self, name: str) -> None:
        """Do nothing: no Redis can have another type."""

    def close(self, timeout: float) -> None:
        if not self.is_attached or self._recorder.closed:
            return
        self._recorder.close()
        self._collector.collect_now()

    def send_each_call(self) -> None:
        """Do nothing: a capture stays closed."""

    def stop_worker(self, timeout: float) -> None:
        """Do nothing."""

    def stats(self) -> dict[str, Any]:
        with self._queue.change:
            return {
                **zero_stats(),
                **self._queue.counts(),
                "metadata_dropped": self._collector.metadata_dropped,
            }

    def reset_after_fork(self) -> None:
        closed = self._recorder.closed
        self._reset()
        if self.is_attached:
            self._recorder.reset()
            self.drops = self._recorder.drops
            if closed:
                self._recorder.close()

    def pause(self) -> None:
        if not self._recorder.closed:
            self._collector.collect_now()

    def resume(self) -> None:
        self._recorder.start_again()
