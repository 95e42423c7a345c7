"""The collector: drains the buffers of a recorder on multiples of the flush interval."""

import logging
import threading
from collections.abc import Callable

from redismetrics.settings import Settings

from . import batch as metric_batch
from . import drain, exemplars
from .batch import MetricBatch
from .bindings import CACHED
from .buffers import MetricBuffers
from .recorder import Recorder
from .send_queue import SendQueue

log = logging.getLogger("redismetrics")

# Maximum seconds until the threads of an unreferenced client stop.
LOOK_SECONDS = 1.0

# With more than `CACHED` buffers, a buffer that was empty in this many flushes is forgotten.
IDLE_FLUSHES = 600
# Likewise if the tags of all buffers take more bytes.
CACHED_BYTES = 16 << 20
# Idle buffers are searched once every this many flushes.
IDLE_CHECK_FLUSHES = 60
# A replaced metric is drained this many more times, for threads that are just appending to it.
RETIRED_FLUSHES = 60


class Collector:
    """Drains one recorder into one send queue, whether or not Redis answers.

    Args:
        on_collected: Called after each drain.
        end_if_unheld: Called once a second; returns True if no client that could record is left,
            and everything is sent. The loop then ends.
    """

    def __init__(
        self,
        recorder: Recorder,
        send_queue: SendQueue,
        on_collected: Callable[[], None] = lambda: None,
        end_if_unheld: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recorder = recorder
        self._settings: Settings = recorder.settings
        self._send_queue = send_queue
        self._on_collected = on_collected
        self._end_if_unheld = end_if_unheld
        self.lock = threading.Lock()
        self._flushes = 0
        self._retired_left: dict[int, int] = {}
        # Samples that lost their metadata.
        self.metadata_dropped = 0

    def run(self, stop: threading.Event) -> None:
        """Drain on wall-clock multiples of the flush interval until *stop* is set.

        If the clock does not move, as in a test that freezes time, use the monotonic clock.
        """
        now, interval = self._recorder.now, self._settings.flush_interval
        steady = self._recorder.steady_clock
        due, ahead = (now() // interval + 1) * interval, now() - steady()
        drained_at = steady()
        # Doubled while the clock does not move, so that it is not polled constantly.
        shortest = 0.001
        while not self._wait(stop, max(due - now(), shortest)):
            was_ahead, ahead = ahead, now() - steady()
            if ahead > was_ahead + 2 * interval:  # the clock was set forward
                due = (now() // interval) * interval
            if now() < due - 2 * interval:  # the clock was set back
                due = (now() // interval + 1) * interval
                continue
            late = now() >= due
            if not late and steady() < drained_at + 2 * interval:
                shortest = min(2 * shortest, interval)
                continue
            shortest = 0.001
            self._sample()
            try:
                # 1 ms before the multiple: the last interval of a minute stays in its minute.
                self.collect(round(due * 1000) - 1 if late else int(now() * 1000))
            except Exception:
                log.exception("BUG: collecting samples failed")
            drained_at = steady()
            if late:
                due = max(due, (now() // interval) * interval) + interval

    def _wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait; return True if the loop must end."""
        while not stop.wait(min(seconds, LOOK_SECONDS)):
            if self._end_if_unheld():
                return True
            seconds -= LOOK_SECONDS
            if seconds <= 0:
                return False
        return True

    def _sample(self) -> None:
        for sampler in list(self._recorder.samplers):
            try:
                sampler()
            except Exception:
                log.exception("BUG: %r failed", sampler)

    def collect_now(self) -> int:
        """Call `collect` with the time of the recorder's clock."""
        return self.collect(int(self._recorder.now() * 1000))

    def collect(self, due_ms: int) -> int:
        """Drain all buffers into the queue; return the total number of samples drained so far.

        *due_ms* is the time given to samples without an explicit one.
        """
        with self.lock:
            self._flushes += 1
            found: list[MetricBatch] = []
            for metric in self._recorder.registry.all():
                batch = self._drain(metric, due_ms)
                if batch is not None:
                    # It stays raw until the metric's definition in Redis is known.
                    found.append(metric_batch.finish(batch) if metric.learned else batch)
            self._forget_retired()
            self._forget_idle()
            self._recorder.dropped()
            drained = self._send_queue.put(found)
        self._on_collected()
        return drained

    def _drain(self, metric: MetricBuffers, due_ms: int) -> MetricBatch | None:
        stamp_ms = due_ms if metric.until_ms is None else min(due_ms, metric.until_ms)
        taken = exemplars.take(metric) if metric.exemplars else None
        try:
            batch, lost = drain.drain(
                metric.name,
                metric.definition,
                metric.explicit,
                list(metric.buffers.values()),
                stamp_ms,
                self._settings.samples_per_flush,
            )
        except Exception:
            log.exception("BUG: %s: drained samples are lost", metric.name)
            return None
        if lost:
            self.metadata_dropped += lost
            self._recorder.warn_once(
                "%s: too many samples with metadata in one flush; some metadata is dropped",
                metric.name,
            )
        if batch is not None and taken:
            batch.exemplars = exemplars.of_batch(taken, batch.canonicals)
        return batch

    def _forget_retired(self) -> None:
        retired = self._recorder.registry.retired
        for metric in list(retired):
            left = self._retired_left.setdefault(id(metric), RETIRED_FLUSHES) - 1
            self._retired_left[id(metric)] = left
            if left <= 0:
                retired.remove(metric)
                del self._retired_left[id(metric)]

    def _forget_idle(self) -> None:
        recorder = self._recorder
        metrics = list(recorder.metrics.values())
        if self._flushes % IDLE_CHECK_FLUSHES:
            return
        series = sum(len(metric.buffers) for metric in metrics)
        if series <= CACHED and sum(metric.nbytes for metric in metrics) <= CACHED_BYTES:
            return
        bound = recorder.bindings.buffers()
        for metric in metrics:
            gone = MetricBuffers(metric.name, metric.definition, explicit=metric.explicit)
            for canonical, buffer in list(metric.buffers.items()):
                buffer.idle += IDLE_CHECK_FLUSHES
                if buffer.idle >= IDLE_FLUSHES and buffer not in bound and buffer.is_empty:
                    gone.buffers[canonical] = metric.buffers.pop(canonical)
                    metric.nbytes -= len(canonical)
                    metric.known_series.forget(canonical)
            if gone.buffers:
                recorder.bindings.clear_caches()
                recorder.registry.retired.append(gone)
