"""The two threads of a recording process, and what is between them.

The *collector* drains the buffers on wall-clock multiples of the flush interval, whatever Redis does. The *sender* sends what
was drained, in batches, over its own connection, and repeats a batch until Redis confirms it: record.lua applies it once.
Both start at the process's first recording; a forked child starts its own.
"""

import atexit
import logging
import os
import re
import secrets
import sys
import threading
import weakref
from collections import Counter as Tally
from collections import deque
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from . import keys, operations, parcels
from .connect import Store, safe_url
from .drive import run
from .errors import FormatMismatch, RedisMetricsError, ScriptFailed, StoreError, StoreUnavailable, TypeMismatch
from .model import Definition
from .operations import Batch
from .parcels import Parcel
from .recorder import CACHED, Metric, Recorder
from .settings import Settings
from .slots import Clock, system_clock

if TYPE_CHECKING:
    import redis

log = logging.getLogger("redismetrics")

# A batch is cut so that its script takes about 1 ms: measured 2 us for a counter's or gauge's series, 5 us for a histogram's.
SERIES_COST = {"counter": 1 / 500, "gauge": 1 / 500, "histogram": 1 / 200}
METRIC_COST = 1 / 100
BATCH_ROWS = 200_000

SQUEEZED_ROWS = 10  # of a series and minute, when there is no room for more
IDLE_FLUSHES = 600  # a buffer that was empty so often is forgotten, when there are too many
RETIRED_FLUSHES = 60  # a replaced metric is still drained so often, for threads that are just appending to it
BACKOFF, LONGEST_BACKOFF = 0.1, 2.0
EXIT_TIMEOUT = 2.0
UNSEALED_WARNING_MS = 3_600_000


@dataclass(slots=True)
class InDoubt:
    """A batch that was sent and not confirmed: it stays as it is, number and bytes, until it is."""

    batch: Batch
    parcels: list[Parcel]
    first_ms: float
    refusals: int = 0

    @property
    def samples(self) -> int:
        return sum(parcel.samples.count for parcel in self.parcels)


# What a server says when it can't take a write now, or this user may not: up to 6.2 inside a script's error, and without its
# code. It may pass, so what is refused for it is kept.
_MAY_PASS = re.compile(
    "NOPERM|ACL failure|user executing the script|OOM|MISCONF|READONLY|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING|BUSY"
)


_NOT_BY_WAITING = (ScriptFailed, FormatMismatch)  # a flush tells at once, since waiting mends nothing


def _about_the_batch(error: ScriptFailed) -> bool:
    """Is it the batch that the server refuses, whenever and by whomever it is sent?"""
    cause = error.__cause__
    text = str(cause)
    return (
        type(cause) is ResponseError
        and ("WRONGTYPE" in text or "user_script" in text)
        and _MAY_PASS.search(text) is None
    )


class Flusher:
    """Drains one recorder and sends what it held to one store."""

    def __init__(self, settings: Settings, store: Store, clock: Clock = system_clock) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.recorder = Recorder(settings, self.start, clock)
        self._retired_left: dict[int, int] = {}
        self._reset()
        _flushers.add(self)

    def _reset(self) -> None:
        self.writer = secrets.token_hex(8)
        self._pid = os.getpid()
        self._drain_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._change = threading.Condition(threading.Lock())
        self._stop = threading.Event()
        self._abandon = self._given_up = False
        self._wake = threading.Event()
        self._queue: deque[Parcel] = deque()
        self._queued_bytes = 0
        self._doubt: dict[int, InDoubt] = {}
        self._client: redis.Redis | None = None
        self._shards = 0
        self._sequence: Tally[int] = Tally()
        self._confirmed: dict[int, int] = {}
        self._drained = self._settled = self._stored = 0
        self._retries = self._batches = self._lost_batches = self._unpublished = self._conflicts = self._no_metadata = 0
        self._flush_seconds = 0.0
        self._last_error: StoreError | None = None
        self._mismatches: dict[str, str] = {}
        self._offset_ms = 0.0
        self._flushes = 0
        self._threads: list[threading.Thread] = []

    def reset_after_fork(self) -> None:
        """The child's side of a fork: a new writer with nothing to send; what the parent held is the parent's."""
        closed = self.recorder.closed
        self._reset()
        self.store.reset_after_fork()
        self.recorder.reset()
        if closed:
            self.recorder.close()

    # -- threads ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, at a process's first recording."""
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            # atexit doesn't run in multiprocessing's forked children: os._exit follows its own finalizers
            from multiprocessing.util import Finalize

            Finalize(None, close_at_exit, exitpriority=100)  # not of this object: it would close all when this one goes
        threads = [
            threading.Thread(target=self._collect_forever, name="redismetrics-collector", daemon=True),
            threading.Thread(target=self._send_forever, name="redismetrics-sender", daemon=True),
        ]
        self._threads = threads
        try:
            for thread in threads:
                thread.start()
        except RuntimeError:  # the interpreter is ending: what is recorded now goes out with close()
            self._threads = [thread for thread in threads if thread.ident is not None]

    def _collect_forever(self) -> None:
        interval = self.settings.flush_interval
        due = (self.clock() // interval + 1) * interval
        while not self._stop.wait(max(due - self.clock(), 0.001)):
            if self.clock() < due - 2 * interval:  # the clock was set back
                due = (self.clock() // interval + 1) * interval
                continue
            if self.clock() < due:
                continue
            try:
                # 1 ms before the multiple at which this drain was due: the last interval of a minute stays in its minute
                self.collect(round(due * 1000) - 1)
            except Exception:
                log.exception("BUG: collecting samples failed")
            due = max(due, (self.clock() // interval) * interval) + interval

    def _send_forever(self) -> None:
        backoff = BACKOFF
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                with self._send_lock:
                    self._send_all()
                backoff = BACKOFF
            except StoreError as error:
                self._failed(error)
                self._stop.wait(backoff * (0.75 + secrets.randbelow(500) / 1000))
                backoff = min(2 * backoff, LONGEST_BACKOFF)
                self._wake.set()
            except Exception as error:
                log.exception("BUG: sending samples failed")
                self._failed(StoreError(f"BUG: {error!r}"))
                self._stop.wait(LONGEST_BACKOFF)
                self._wake.set()

    def _failed(self, error: StoreError) -> None:
        if self._last_error is None and not self._given_up:
            log.warning("samples wait for %s: %s", safe_url(self.store.url), error)
        with self._change:
            self._last_error = error
            self._retries += bool(self._doubt)
            self._change.notify_all()
        self._disconnect()
        self.store.renew()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- collecting ---------------------------------------------------------------------------------------------

    def collect(self, due_ms: int) -> int:
        """Drain all buffers into the queue; return how many samples were drained in all so far."""
        with self._drain_lock:
            self._flushes += 1
            recorder = self.recorder
            found: list[Parcel] = []
            for metric in [*recorder.retired, *list(recorder.metrics.values())]:
                try:
                    parcel, lost = parcels.drain(
                        metric.name, metric.definition, metric.explicit, list(metric.buffers.values()), due_ms,
                        self.settings.samples_per_flush,
                    )  # fmt: skip
                except Exception:
                    log.exception("BUG: %s: what was drained is lost", metric.name)
                    continue
                if lost:
                    self._no_metadata += lost
                    recorder.tell_once("%s: metadata of some samples is dropped, too many in one flush", metric.name)
                if parcel is not None:  # it stays raw until the store's definition is known
                    found.append(parcels.finish(parcel) if metric.learned else parcel)
            self._forget_idle()
            recorder.dropped()
            with self._change:
                self._queue.extend(found)
                self._queued_bytes += sum(parcel.nbytes for parcel in found)
                self._drained += sum(parcel.samples.count for parcel in found)
                drained = self._drained
            self._bound()
        if self._queue or self._doubt:
            self._wake.set()
        return drained

    def _forget_idle(self) -> None:
        recorder = self.recorder
        for metric in list(recorder.retired):
            left = self._retired_left.setdefault(id(metric), RETIRED_FLUSHES) - 1
            self._retired_left[id(metric)] = left
            if left <= 0:
                recorder.retired.remove(metric)
                del self._retired_left[id(metric)]
        if self._flushes % 60 or sum(len(metric.buffers) for metric in list(recorder.metrics.values())) <= CACHED:
            return
        bound = recorder.bound_buffers()
        for metric in list(recorder.metrics.values()):
            gone = Metric(metric.name, metric.definition, explicit=metric.explicit)
            for canonical, buffer in list(metric.buffers.items()):
                buffer.idle += 60
                if buffer.idle >= IDLE_FLUSHES and buffer not in bound and not buffer.values and not buffer.extra:
                    gone.buffers[canonical] = metric.buffers.pop(canonical)
            if gone.buffers:
                recorder.counters.clear()
                recorder.pairs.clear()
                recorder.retired.append(gone)

    def _bound(self) -> None:
        """Keep the unsent samples within their limits: first squeeze them, then drop the oldest; both are counted."""
        oldest = self.clock() * 1000 - self.settings.buffer_age * 1000
        limit = self.settings.buffer_bytes
        with self._change:
            while self._queue and self._queue[0].due_ms < oldest:
                self._drop(self._queue.popleft(), "expired")
            if self._queued_bytes <= limit:
                return
            waiting = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        groups: dict[tuple[str, Definition, bool], list[Parcel]] = {}
        for parcel in waiting:
            if not parcel.squeezed:
                groups.setdefault((parcel.name, parcel.definition, parcel.explicit), []).append(parcel)
        squeezed = [parcel for parcel in waiting if parcel.squeezed]
        for group in groups.values():
            try:
                squeezed.append(parcels.squeeze(parcels.merge(group), SQUEEZED_ROWS))
            except Exception:
                log.exception("BUG: %s: can't be squeezed", group[0].name)
                squeezed += group
        with self._change:
            self._queue.extendleft(reversed(squeezed))
            self._queued_bytes += sum(parcel.nbytes for parcel in squeezed)
            while self._queue and self._queued_bytes > limit:
                self._drop(self._queue.popleft(), "buffer_full")
                self.recorder.tell_once("more unsent samples than buffer_bytes=%d hold: the oldest are dropped", limit)

    def _drop(self, parcel: Parcel, reason: str) -> None:
        """Count a parcel taken off the queue as dropped. The caller holds the lock."""
        self._queued_bytes -= parcel.nbytes
        self._settle(reason, parcel.samples.count)

    def _settle(self, reason: str, count: int) -> None:
        if self._given_up:
            return  # counted as it was given up
        self.recorder.drop(reason, count)
        self._settled += count
        self._change.notify_all()

    def _lose(self, reason: str, count: int) -> None:
        if count:
            with self._change:
                self._settle(reason, count)

    def _lose_by_age(self, name: str, old: int, ahead: int) -> None:
        self._lose("too_old", old)
        self._lose("in_future", ahead)
        if old or ahead:
            self.recorder.tell_once(
                "%s: samples older than max_age, or further ahead than max_future, by the server's clock are dropped",
                name,
            )

    # -- sending ------------------------------------------------------------------------------------------------

    def _send_all(self, timeout: float | None = None) -> None:
        """Send until nothing is left; raises `StoreError` at the first failure. One thread at a time, under the lock."""
        until = None if timeout is None else monotonic() + timeout
        while not self._abandon and (until is None or monotonic() < until):
            if not self._doubt and not self._queue:
                return
            began = perf_counter()
            if self._client is None:
                self._client = self.store.connect(retries=0)
            if not self._shards:
                self._shards = run(self._client, operations.open_namespace(self.settings.namespace))
            for doubt in list(self._doubt.values()):
                self._send(self._client, doubt)
            found = self._next_parcels()
            if found:
                self._send_parcels(self._client, found)
            self._flush_seconds = perf_counter() - began

    def _next_parcels(self) -> list[Parcel]:
        """The oldest parcels, as many as make one batch, those of one metric merged."""
        taken: dict[str, list[Parcel]] = {}
        cost, rows = 0.0, 0
        with self._change:
            while self._queue and cost < 1 and rows < BATCH_ROWS:
                parcel = self._queue[0]
                if taken and parcel.alone:
                    break
                per_series = SERIES_COST[parcel.kind]
                room = max(int((1 - cost) / per_series), 1)
                others = taken.get(parcel.name)
                if others and others[0].definition != parcel.definition:
                    break
                self._queue.popleft()
                self._queued_bytes -= parcel.nbytes
                head, rest = parcels.split(parcel, room)
                if rest is not None:
                    self._queue.appendleft(rest)
                    self._queued_bytes += rest.nbytes
                taken.setdefault(head.name, []).append(head)
                cost += METRIC_COST * (others is None) + per_series * len(head.canonicals)
                rows += len(head.samples)
                if parcel.alone:
                    break
        return [parcels.merge(group) for group in taken.values()]

    def _send_parcels(self, client: "redis.Redis", found: list[Parcel]) -> None:
        try:
            ready = self._corrected(client, found)
        except BaseException:
            with self._change:  # nothing was sent: they wait on
                if not self._given_up:
                    self._queue.extendleft(reversed(found))
                    self._queued_bytes += sum(parcel.nbytes for parcel in found)
            raise
        by_shard: dict[int, list[Parcel]] = {}
        for parcel in ready:
            by_shard.setdefault(keys.shard_of(parcel.name, self._shards), []).append(parcel)
        doubts = []
        for shard, inside in by_shard.items():
            wires, packed = self._packed(inside)
            if not packed:
                continue
            self._sequence[shard] += 1
            sent = operations.batch(
                self.settings.namespace, shard, self.writer, self._sequence[shard], self._confirmed.get(shard, 0), wires,
                self.settings,
            )  # fmt: skip
            doubt = InDoubt(sent, packed, self.clock() * 1000)
            with self._change:
                if self._given_up:
                    return
                self._doubt[shard] = doubt
            doubts.append(doubt)
        for doubt in doubts:
            self._send(client, doubt)

    def _packed(self, found: list[Parcel]) -> tuple[list[tuple[str, bytes, bytes]], list[Parcel]]:
        """The parcels as bytes; one that can't be packed is dropped and counted, so that it holds up no other."""
        wires, packed = [], []
        for parcel in found:
            try:
                wires.append((parcel.name, *parcels.wire(parcel, self._ids(parcel.name))))
                packed.append(parcel)
            except Exception:
                log.exception("BUG: %s: %d samples can't be packed, and are dropped", parcel.name, parcel.samples.count)
                self._lose("failed", parcel.samples.count)
        return wires, packed

    def _corrected(self, client: "redis.Redis", found: list[Parcel]) -> list[Parcel]:
        """Learn from the catalogue what is new, convert what was guessed, leave out what is too old or from the future."""
        unknown: dict[int, list[str]] = {}
        for parcel in found:
            metric = self.recorder.metrics.get(parcel.name)
            if metric is None or not metric.learned:
                unknown.setdefault(keys.shard_of(parcel.name, self._shards), []).append(parcel.name)
        for shard, names in unknown.items():
            known = run(client, operations.definitions(self.settings.namespace, shard, names))
            for name in names:
                self._learn(name, known.get(name))
        now = self.clock() * 1000 + self._offset_ms
        ready = []
        for parcel in found:
            fitting = self._as_known(parcel)
            if fitting is None:
                continue
            kept, old, ahead = parcels.within(
                fitting, round(now - self.settings.max_age * 1000), round(now + self.settings.max_future * 1000)
            )
            self._lose_by_age(parcel.name, old, ahead)
            if kept is not None:
                ready.append(parcels.finish(kept))
        return ready

    def _ids(self, name: str) -> dict[bytes, bytes]:
        metric = self.recorder.metrics.get(name)
        return {} if metric is None else metric.ids

    def _learn(self, name: str, definition: Definition | None) -> None:
        """Take over the catalogue's definition of a metric."""
        metric = self.recorder.metrics.get(name)
        if metric is None:
            return
        if definition is None:
            return
        metric.learned = True
        if metric.definition == definition:
            return
        if metric.definition.type == definition.type:
            if metric.declared:
                self._conflicts += 1
                self.recorder.tell_once("%s was declared otherwise before, and that one holds: %s", name, definition)
            metric.definition = definition
        elif not metric.explicit:
            new = Metric(name, definition, explicit=False)
            new.learned = True
            self.recorder.metrics[name] = new
            self.recorder.retired.append(metric)
            self.recorder.counters.clear()
            self.recorder.pairs.clear()

    def _as_known(self, parcel: Parcel) -> Parcel | None:
        """The parcel in the definition that holds; None where it can't be."""
        metric = self.recorder.metrics.get(parcel.name)
        return parcel if metric is None else self._fit(parcel, metric.definition)

    def _fit(self, parcel: Parcel, wanted: Definition) -> Parcel | None:
        if parcel.definition == wanted:
            return parcel
        if parcel.explicit and parcel.kind != wanted.type:
            message = f"{parcel.name!r} is a {wanted.type}; got a {parcel.kind}"
            self.recorder.tell_once("TypeMismatch: %s", message)
            self._mismatches.setdefault(parcel.name, message)
            self._lose("type_mismatch", parcel.samples.count)
            return None
        fitting, bad = parcels.convert(parcel, wanted)
        self._lose("type_mismatch", bad)
        return fitting

    def _send(self, client: "redis.Redis", doubt: InDoubt) -> None:
        """Send a batch, the first time or again, and take its confirmation to heart."""
        shard = doubt.batch.shard
        if self.clock() * 1000 - doubt.first_ms > (self.settings.max_age + self.settings.max_future) * 1000:
            self._forget(doubt, "expired")  # the store may have forgotten this writer: repeating could double
            return
        try:
            reply = run(client, operations.record(doubt.batch))
        except ScriptFailed as error:
            if not _about_the_batch(error):
                raise
            doubt.refusals += 1
            if doubt.refusals < 2:  # once more: if it was applied in part, its kept reply comes now
                raise
            self._refused(doubt, error)
            return
        self._offset_ms = reply.clock / 1000 - self.clock() * 1000
        with self._change:
            if self._doubt.get(shard) is not doubt:
                return  # close() gave it up meanwhile, and counted it
            if reply.held < self._confirmed.get(shard, 0):
                self._lost_batches += self._confirmed[shard] - reply.held
                self.recorder.tell_once("the store lost confirmed batches: a failover, or its data was deleted")
                for each in list(self.recorder.metrics.values()):
                    each.ids.clear()
            self._confirmed[shard] = doubt.batch.sequence
            self._doubt.pop(shard, None)
            self._batches += 1
            self._unpublished += reply.unpublished
            if self._last_error is not None:
                log.info("%s answers again", safe_url(self.store.url))
                self._last_error = None
            refused = {index: (reason, detail) for index, reason, detail in reply.problems if reason != "overflow"}
            for index, parcel in enumerate(doubt.parcels):
                if index not in refused:
                    self._stored += parcel.samples.count
                    self._settled += parcel.samples.count
            self._change.notify_all()
        for index, reason, _ in reply.problems:
            if reason == "overflow":
                name = doubt.parcels[index].name
                self.recorder.tell_once(
                    "%s has more than max_series=%d series: the rest share one", name, self.settings.max_series
                )
        for index, ids in reply.learned:
            known = self._ids(doubt.parcels[index].name)
            if len(known) > CACHED:
                known.clear()
            known.update(zip(doubt.parcels[index].canonicals, ids, strict=True))
        for index, parcel in enumerate(doubt.parcels):
            metric = self.recorder.metrics.get(parcel.name)
            if index in refused:
                self._again(parcel, *refused[index])
            elif metric is not None and metric.definition == parcel.definition:
                metric.learned = True
        if reply.unsealed_ms > UNSEALED_WARNING_MS:
            self.recorder.tell_once("no worker seals what is recorded: run python -m redismetrics.worker")

    def _again(self, parcel: Parcel, reason: str, detail: bytes) -> None:
        """A block that the script refused, untouched: learn what it said, and send the rest under a new number."""
        kept: Parcel | None = parcel
        if reason == "definition":  # another process made the metric between our look and our batch
            wanted = Definition.unpack(detail)
            self._learn(parcel.name, wanted)
            kept = self._fit(parcel, wanted)
        elif reason == "unknown_series":  # deleted since we learned its id
            self._ids(parcel.name).clear()
        else:
            now = int(float(detail))
            kept, old, ahead = parcels.within(
                parcel, round(now - self.settings.max_age * 1000) + 1000, round(now + self.settings.max_future * 1000)
            )
            self._lose_by_age(parcel.name, old, ahead)
        if kept is not None:
            with self._change:
                self._queue.appendleft(kept)
                self._queued_bytes += kept.nbytes

    def _refused(self, doubt: InDoubt, error: ScriptFailed) -> None:
        """The server refused a batch for what is in it, and applied nothing: each metric is tried alone, then dropped."""
        if len(doubt.parcels) == 1:
            log.error("%s: %d samples are dropped: %s", doubt.parcels[0].name, doubt.samples, error)
            self._forget(doubt, "refused")
            return
        with self._change:
            self._doubt.pop(doubt.batch.shard, None)
            for parcel in reversed(doubt.parcels):
                parcel.alone = True
                self._queue.appendleft(parcel)
                self._queued_bytes += parcel.nbytes

    def _forget(self, doubt: InDoubt, reason: str) -> None:
        with self._change:
            self._doubt.pop(doubt.batch.shard, None)
            self._settle(reason, doubt.samples)

    # -- flush, close, stats ------------------------------------------------------------------------------------

    def unsent(self) -> bool:
        """Is there anything recorded and not yet confirmed?"""
        # In the order that samples go: from the buffers, through a drain under way, to the queue.
        return bool(self.recorder.waiting() or self._drain_lock.locked() or self._drained > self._settled)

    def flush(self, timeout: float = 10.0) -> None:
        """Send all that was recorded before this call, and wait until it is stored.

        Raises:
            StoreUnavailable: Redis did not confirm within *timeout* seconds; the samples are kept and sent later.
            ScriptFailed, FormatMismatch: Redis refused, or holds another format; they are kept likewise.
            TypeMismatch: a metric is of another type in the store; once a metric, its samples are counted as dropped.
        """
        self._flush(timeout)
        fresh = {name: message for name, message in list(self._mismatches.items()) if message}
        if fresh:
            self._mismatches.update(dict.fromkeys(fresh, ""))
            raise TypeMismatch("; ".join(fresh.values()))

    def _flush(self, timeout: float) -> None:
        if self.recorder.closed or not self.unsent():
            return
        until = monotonic() + timeout
        wanted = self.collect(int(self.clock() * 1000))
        with self._change:
            seen = self._last_error
            while self._settled < wanted:
                left = until - monotonic()
                if left <= 0 or self.recorder.closed:
                    error = self._last_error
                    count = wanted - self._settled
                    message = f"{count} samples are not confirmed after {timeout:g} s: {error or 'still sending'}"
                    raise (type(error) if isinstance(error, _NOT_BY_WAITING) else StoreUnavailable)(message) from error
                if isinstance(self._last_error, _NOT_BY_WAITING) and self._last_error is not seen:
                    raise type(self._last_error)(str(self._last_error)) from self._last_error
                self._change.wait(left)

    def flush_for_asking(self) -> None:
        """`flush` for a question, whose fault a metric's wrong type is not: an explicit `flush` tells of it."""
        self._flush(10.0)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left, within *timeout* seconds, from the calling thread; count the rest as dropped. Never raises."""
        if self.recorder.closed:
            return
        until = monotonic() + timeout
        self.recorder.close()
        self._stop.set()
        self._wake.set()
        try:
            if self.recorder.started:
                for thread in self._threads:
                    thread.join(max(until - monotonic(), 0))
                if self._drain_lock.acquire(timeout=max(until - monotonic(), 0)):
                    self._drain_lock.release()
                    self.collect(int(self.clock() * 1000))
                self._send_rest(until)
        except Exception:
            log.exception("BUG: closing failed")
        self._count_rest()
        self._disconnect()

    def _send_rest(self, until: float) -> None:
        while (self._queue or self._doubt) and monotonic() < until:
            if not self._send_lock.acquire(timeout=max(until - monotonic(), 0)):
                self._abandon = True  # the sender is held up by a deaf server; its batch stays in doubt
                return
            try:
                self._disconnect()
                self._client = self.store.connect(retries=0, timeout=max(until - monotonic(), 0.01))
                self._send_all(until - monotonic())
            except RedisMetricsError as error:
                self._last_error = error if isinstance(error, StoreError) else None
                if monotonic() + BACKOFF < until:
                    threading.Event().wait(BACKOFF)
            finally:
                self._send_lock.release()

    def _count_rest(self) -> None:
        with self._change:
            unknown = sum(doubt.samples for doubt in self._doubt.values())
            waiting = self.recorder.waiting()
            self._drained += waiting
            unsent = self._drained - self._settled - unknown  # also what the sender has in its hands
            self._doubt.clear()
            self._queue.clear()
            self._queued_bytes = 0
            for metric in [*self.recorder.retired, *self.recorder.metrics.values()]:
                for buffer in metric.buffers.values():
                    buffer.values.clear()
                    buffer.extra.clear()
            for reason, count in (("unknown", unknown), ("unsent", unsent)):
                if count:
                    self._settle(reason, count)
            self._given_up = True
        if unknown or unsent:
            log.warning(
                "closed with %d samples never sent and %d sent but never confirmed: %s",
                unsent,
                unknown,
                self._last_error,
            )

    def stats(self) -> dict[str, Any]:
        """This process's figures, without asking Redis; see docs/settings.md."""
        recorder = self.recorder
        with self._change:
            dropped = dict(recorder.dropped())
            waiting = recorder.waiting()
            in_doubt = sum(doubt.samples for doubt in self._doubt.values())
            lost_early = sum(count for reason, count in dropped.items() if reason in ("invalid", "closed"))
            return {
                "recorded": self._drained + waiting + lost_early,
                "stored": self._stored,
                "pending": self._drained - self._settled + waiting,
                "in_doubt": in_doubt,
                "dropped": dropped,
                "metadata_dropped": self._no_metadata,
                "buffer_bytes": self._queued_bytes,
                "batches": self._batches,
                "retries": self._retries,
                "lost_batches": self._lost_batches,
                "unpublished": self._unpublished,
                "definition_conflicts": self._conflicts,
                "flush_seconds": self._flush_seconds,
                "writer": self.writer,
                "last_error": None if self._last_error is None else str(self._last_error),
            }


_flushers: "weakref.WeakSet[Flusher]" = weakref.WeakSet()


def close_at_exit() -> None:
    """Send what is left at the end of the process; 2 s at most for all clients together."""
    until = monotonic() + EXIT_TIMEOUT
    for flusher in list(_flushers):
        flusher.close(max(until - monotonic(), 0.05))
        flusher.store.close()


def _after_fork() -> None:
    for flusher in list(_flushers):
        flusher.reset_after_fork()


atexit.register(close_at_exit)
os.register_at_fork(after_in_child=_after_fork)
