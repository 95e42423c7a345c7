"""What was drained and is not confirmed yet: the queue between the two threads, its bounds, and the count of all that passes."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from math import inf

from redismetrics.model.definition import Definition
from redismetrics.model.time import Clock
from redismetrics.settings import Settings

from . import batch as metric_batch
from .batch import MetricBatch
from .recorder import Recorder

log = logging.getLogger("redismetrics")

# A batch is cut so that its script takes about 1 ms: measured 1 us for a series of a counter or gauge, 5 of a histogram.
SERIES_COST = {"counter": 1 / 1000, "gauge": 1 / 1000, "histogram": 1 / 200}
METRIC_COST = 1 / 100
BATCH_ROWS = 200_000

SQUEEZED_ROWS = 10  # of a series and minute, when there is no room for more


class SendQueue:
    """A queue of batches, oldest first, bounded in bytes and age.

    Every sample that comes in is settled once: stored, or dropped for a reason. *change* guards all of it, and is notified when
    *awaited* samples are settled, the fewest that somebody waits for: waking a thread for each batch would take longer than
    packing it. So are the *listeners*, functions that only pass the news on. *sends*: is there a sender for it?
    """

    sends = True

    def __init__(self, settings: Settings, recorder: Recorder, clock: Clock) -> None:
        self._settings = settings
        self._recorder = recorder
        self._clock = clock
        self.change = threading.Condition(threading.Lock())
        self.listeners: list[Callable[[], None]] = []
        self.queue: deque[MetricBatch] = deque()
        self.nbytes = 0
        self.drained = self.settled = self.stored = 0
        self.awaited = inf
        self.given_up = False

    def put(self, found: list[MetricBatch]) -> int:
        """Append what was drained; return how many samples came in so far."""
        with self.change:
            self.queue.extend(found)
            self.nbytes += sum(batch.nbytes for batch in found)
            count = sum(batch.samples.count for batch in found)
            self.drained += count
            drained = self.drained
            if self.given_up:  # close() ran out of time before this drain did
                self.queue.clear()
                self.nbytes = 0
                self.settled += count
                self._recorder.drop("unsent", count)
                return drained
        self._bound()
        return drained

    def put_back(self, found: list[MetricBatch]) -> None:
        """Put batches that were taken, and are to be sent again, at the front."""
        with self.change:
            if not self.given_up:
                self.queue.extendleft(reversed(found))
                self.nbytes += sum(batch.nbytes for batch in found)

    def take(self) -> list[MetricBatch]:
        """The oldest batches, as many as make one batch, those of one metric merged."""
        taken: dict[str, list[MetricBatch]] = {}
        cost, rows = 0.0, 0
        with self.change:
            while self.queue and cost < 1 and rows < BATCH_ROWS:
                batch = self.queue[0]
                if taken and batch.alone:
                    break
                per_series = SERIES_COST[batch.kind]
                room = max(int((1 - cost) / per_series), 1)
                others = taken.get(batch.name)
                if others and others[0].definition != batch.definition:
                    break
                self.queue.popleft()
                self.nbytes -= batch.nbytes
                head, *rest = metric_batch.split(batch, room, int(1 / per_series))
                self.queue.extendleft(reversed(rest))
                self.nbytes += sum(part.nbytes for part in rest)
                taken.setdefault(head.name, []).append(head)
                cost += METRIC_COST * (others is None) + per_series * len(head.canonicals)
                rows += len(head.samples)
                if batch.alone:
                    break
        return [metric_batch.merge(group) for group in taken.values()]

    def notify(self) -> None:
        """Let those that wait look again. The caller holds *change*."""
        self.awaited = inf  # whoever waits on says so again
        self.change.notify_all()
        for listener in self.listeners:
            listener()

    def confirm(self, count: int) -> None:
        """Count samples as stored. The caller holds *change*."""
        self.stored += count
        self._settle(count)

    def drop_locked(self, reason: str, count: int) -> None:
        """Count samples as dropped. The caller holds *change*."""
        if self.given_up or not count:
            return  # what was given up was counted then
        self._recorder.drop(reason, count)
        self._settle(count)

    def _settle(self, count: int) -> None:
        self.settled += count
        if self.settled >= self.awaited:
            self.notify()

    def drop(self, reason: str, count: int) -> None:
        """`drop_locked`, for a caller that does not hold *change*."""
        with self.change:
            self.drop_locked(reason, count)

    def give_up(self, in_doubt: int) -> int:
        """At the end: count all that is left as dropped, of which *in_doubt* were sent; return how many never were.

        The caller holds *change*.
        """
        waiting = self._recorder.take_waiting()
        self.drained += waiting
        unsent = self.drained - self.settled - in_doubt  # also what the sender has in its hands
        self.queue.clear()
        self.nbytes = 0
        self.drop_locked("unknown", in_doubt)
        self.drop_locked("unsent", unsent)
        self.given_up = True
        return unsent

    def _bound(self) -> None:
        """Keep the unsent samples within their limits: first squeeze them, then drop the oldest; both are counted."""
        oldest = self._clock() * 1000 - self._settings.buffer_age * 1000
        limit = self._settings.buffer_bytes
        with self.change:
            while self.queue and self.queue[0].due_ms < oldest:
                self._drop_oldest("expired")
            if self.nbytes <= limit:
                return
            waiting = list(self.queue)
            self.queue.clear()
            self.nbytes = 0
        groups: dict[tuple[str, Definition, bool], list[MetricBatch]] = {}
        for batch in waiting:
            if not batch.squeezed:
                groups.setdefault((batch.name, batch.definition, batch.explicit), []).append(batch)
        squeezed = [batch for batch in waiting if batch.squeezed]
        for group in groups.values():
            try:
                squeezed.append(metric_batch.squeeze(metric_batch.merge(group), SQUEEZED_ROWS))
            except Exception:
                log.exception("BUG: %s: can't be squeezed", group[0].name)
                squeezed += group
        with self.change:
            if self.given_up:
                return
            self.queue.extendleft(reversed(squeezed))
            self.nbytes += sum(batch.nbytes for batch in squeezed)
            while self.queue and self.nbytes > limit:
                self._drop_oldest("buffer_full")
                self._recorder.warn_once(
                    "more unsent samples than buffer_bytes=%d hold: the oldest are dropped", limit
                )

    def _drop_oldest(self, reason: str) -> None:
        batch = self.queue.popleft()
        self.nbytes -= batch.nbytes
        self.drop_locked(reason, batch.samples.count)
