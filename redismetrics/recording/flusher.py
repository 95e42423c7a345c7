"""The two threads of a recording process.

The *collector* drains the buffers on wall-clock multiples of the flush interval, whatever Redis does. The *sender* sends what
was drained, in batches, over its own connection, and repeats a batch until Redis confirms it: record.lua applies it once.
Both start at the process's first recording; a forked child starts its own.
"""

import atexit
import logging
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from redismetrics.errors import (
    FormatMismatch,
    RedisMetricsError,
    ScriptFailed,
    StoreError,
    StoreUnavailable,
    TypeMismatch,
)
from redismetrics.model.time import Clock, system_clock
from redismetrics.settings import Settings
from redismetrics.store.connection import Store
from redismetrics.worker.thread import Thread

from . import batch as metric_batch
from . import drain
from .batch import MetricBatch
from .buffers import MetricBuffers
from .recorder import CACHED, Recorder
from .send_queue import SendQueue
from .sender import Sender

log = logging.getLogger("redismetrics")

IDLE_FLUSHES = 600  # a buffer that was empty so often is forgotten, when there are too many
RETIRED_FLUSHES = (
    60  # a replaced metric is still drained so often, for threads that are just appending to it
)
BACKOFF, LONGEST_BACKOFF = 0.1, 2.0
EXIT_TIMEOUT = 2.0

_NOT_BY_WAITING = (
    ScriptFailed,
    FormatMismatch,
)  # a flush tells at once, since waiting mends nothing


class Flusher:
    """Drains one recorder and sends what it held to one store."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock = system_clock,
        worker: Thread | None = None,
    ) -> None:
        self.worker = worker
        self.settings = settings
        self.store = store
        self.clock = clock
        self.recorder = Recorder(settings, self.start, clock)
        self._retired_left: dict[int, int] = {}
        self._reset()
        _flushers.add(self)

    def _reset(self) -> None:
        self.send_queue = make_send_queue(self)
        self.sender = Sender(self.settings, self.store, self.recorder, self.send_queue, self.clock)
        self._drain_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._hurry = threading.Event()  # somebody waits: try again now
        self._threads: list[threading.Thread] = []
        self._no_metadata = 0
        self._flushes = 0

    def reset_after_fork(self) -> None:
        """The child's side of a fork: a new writer with nothing to send; what the parent held is the parent's."""
        closed = self.recorder.closed
        if self.worker is not None:
            self.worker.reset()
        self._reset()
        self.store.reset_after_fork()
        self.recorder.reset()
        if closed:
            self.recorder.close()

    # -- threads ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, at a process's first recording."""
        if not self.send_queue.sends:
            return
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            # atexit doesn't run in multiprocessing's forked children: os._exit follows its own finalizers
            from multiprocessing.util import Finalize

            Finalize(
                None, close_at_exit, exitpriority=100
            )  # not of this object: it would close all when this one goes
        running = {thread.name for thread in self._threads if thread.is_alive()}
        try:
            for name, target in (
                ("collector", self._collect_forever),
                ("sender", self._send_forever),
            ):
                if f"redismetrics-{name}" not in running:
                    thread = threading.Thread(
                        target=target, name=f"redismetrics-{name}", daemon=True
                    )
                    thread.start()
                    self._threads.append(thread)
            if self.worker is not None:
                self.worker.start()
        except RuntimeError as error:
            if "shutdown" in str(
                error
            ):  # the interpreter is ending: what is recorded now goes out with close()
                return
            log.warning("samples wait for a thread to start: %s", error)
            self.recorder.start_again()

    def _collect_forever(self) -> None:
        interval = self.settings.flush_interval
        due = (self.clock() // interval + 1) * interval
        while not self._stop.wait(max(due - self.clock(), 0.001)):
            if self.clock() < due - 2 * interval:  # the clock was set back
                due = (self.clock() // interval + 1) * interval
                continue
            if self.clock() < due:
                continue
            for sampler in list(self.recorder.samplers):
                try:
                    sampler()
                except Exception:
                    log.exception("BUG: %r failed", sampler)
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
                    self.sender.send_all()
                backoff = BACKOFF
            except StoreError as error:
                self.sender.on_error(error)
                self._hurry.wait(backoff * (0.75 + secrets.randbelow(500) / 1000))
                self._hurry.clear()
                backoff = min(2 * backoff, LONGEST_BACKOFF)
                self._wake.set()
            except Exception as error:
                log.exception("BUG: sending samples failed")
                self.sender.on_error(StoreError(f"BUG: {error!r}"))
                self._stop.wait(LONGEST_BACKOFF)
                self._wake.set()

    # -- collecting ---------------------------------------------------------------------------------------------

    def collect(self, due_ms: int) -> int:
        """Drain all buffers into the queue; return how many samples were drained in all so far."""
        with self._drain_lock:
            self._flushes += 1
            recorder = self.recorder
            found: list[MetricBatch] = []
            for metric in [*recorder.retired, *list(recorder.metrics.values())]:
                stamp_ms = due_ms if metric.until_ms is None else min(due_ms, metric.until_ms)
                try:
                    batch, lost = drain.drain(
                        metric.name, metric.definition, metric.explicit, list(metric.buffers.values()), stamp_ms,
                        self.settings.samples_per_flush,
                    )  # fmt: skip
                except Exception:
                    log.exception("BUG: %s: what was drained is lost", metric.name)
                    continue
                if lost:
                    self._no_metadata += lost
                    recorder.warn_once(
                        "%s: metadata of some samples is dropped, too many in one flush",
                        metric.name,
                    )
                if batch is not None:  # it stays raw until the store's definition is known
                    found.append(metric_batch.finish(batch) if metric.learned else batch)
            self._forget_idle()
            recorder.dropped()
            drained = self.send_queue.put(found)
        if self.send_queue.queue or self.sender.doubt:
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
        if (
            self._flushes % 60
            or sum(len(metric.buffers) for metric in list(recorder.metrics.values())) <= CACHED
        ):
            return
        bound = recorder.bound_buffers()
        for metric in list(recorder.metrics.values()):
            gone = MetricBuffers(metric.name, metric.definition, explicit=metric.explicit)
            for canonical, buffer in list(metric.buffers.items()):
                buffer.idle += 60
                held = buffer.values or buffer.extra or buffer.wholes
                if buffer.idle >= IDLE_FLUSHES and buffer not in bound and not held:
                    gone.buffers[canonical] = metric.buffers.pop(canonical)
            if gone.buffers:
                recorder.forget_series()
                recorder.retired.append(gone)

    # -- flush, close, stats ------------------------------------------------------------------------------------

    def unsent(self) -> bool:
        """Is there anything recorded and not yet confirmed?"""
        # In the order that samples go: from the buffers, through a drain under way, to the queue.
        return bool(
            self.recorder.holds()
            or self._drain_lock.locked()
            or self.send_queue.drained > self.send_queue.settled
        )

    def flush(self, timeout: float = 10.0) -> None:
        """Send all that was recorded before this call, and wait until it is stored.

        Raises:
            StoreUnavailable: Redis did not confirm within *timeout* seconds; the samples are kept and sent later.
            ScriptFailed, FormatMismatch: Redis refused, or holds another format; they are kept likewise.
            TypeMismatch: a metric is of another type in the store; once a metric, its samples are counted as dropped.
        """
        self._flush(timeout)
        self._tell_mismatches()

    async def aflush(self, timeout: float = 10.0) -> None:
        """`flush` for asyncio: only draining takes a thread, and that for a moment."""
        await self._aflush(timeout)
        self._tell_mismatches()

    def flush_before_query(self) -> None:
        """`flush` for a question, whose fault a metric's wrong type is not: an explicit `flush` tells of it."""
        self._flush(self._flush_timeout())

    async def aflush_before_query(self) -> None:
        await self._aflush(self._flush_timeout())

    def _flush_timeout(self) -> float:
        """While the store is known to be away, a question waits no longer for it than for one reply."""
        return 10.0 if self.sender.last_error is None else self.settings.socket_timeout

    def _tell_mismatches(self) -> None:
        fresh = {name: message for name, message in list(self.sender.mismatches.items()) if message}
        if fresh:
            self.sender.mismatches.update(dict.fromkeys(fresh, ""))
            raise TypeMismatch("; ".join(fresh.values()))

    def _flush(self, timeout: float) -> None:
        if self.recorder.closed or not self.unsent():
            return
        flush = _Flush(self, timeout)
        with self.send_queue.change:
            while not flush.over():
                self.send_queue.change.wait(flush.left)

    async def _aflush(self, timeout: float) -> None:
        if self.recorder.closed or not self.unsent():
            return
        import asyncio  # recording processes stay light

        flush = await asyncio.to_thread(_Flush, self, timeout)
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(told.set)

        with self.send_queue.change:
            self.send_queue.listeners.append(tell)
        try:
            while True:
                told.clear()
                with self.send_queue.change:
                    if flush.over():
                        return
                with suppress(TimeoutError):
                    async with asyncio.timeout(flush.left):
                        await told.wait()
        finally:
            with self.send_queue.change:
                self.send_queue.listeners.remove(tell)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left, within *timeout* seconds, from the calling thread; count the rest as dropped. Never raises."""
        if self.recorder.closed:
            return
        until = monotonic() + timeout
        if self.worker is not None:
            self.worker.stop()
        self.recorder.close()
        self._stop.set()
        self._wake.set()
        self._hurry.set()
        try:
            if self.recorder.started or self.unsent():
                for thread in self._threads:
                    thread.join(max(until - monotonic(), 0))
                if self._drain_lock.acquire(timeout=max(until - monotonic(), 0)):
                    self._drain_lock.release()
                    self.collect(int(self.clock() * 1000))
                self._send_rest(until)
        except Exception:
            log.exception("BUG: closing failed")
        with self.send_queue.change:
            unknown = self.sender.in_doubt
            self.sender.doubt.clear()
            unsent = self.send_queue.give_up(unknown)
        if unsent or unknown:
            log.warning(
                "closed with %d samples never sent and %d sent but never confirmed: %s",
                unsent,
                unknown,
                self.sender.last_error,
            )
        if self.worker is not None:
            self.worker.join(max(until - monotonic(), 0))
        self.sender.connect()

    def _send_rest(self, until: float) -> None:
        while (self.send_queue.queue or self.sender.doubt) and monotonic() < until:
            if not self._send_lock.acquire(timeout=max(until - monotonic(), 0)):
                self.sender.abandoned = (
                    True  # the thread is held up by a deaf server; its batch stays in doubt
                )
                return
            try:
                self.sender.connect(max(until - monotonic(), 0.01))
                self.sender.send_all(until - monotonic())
            except RedisMetricsError as error:
                self.sender.last_error = error if isinstance(error, StoreError) else None
                if monotonic() + BACKOFF < until:
                    threading.Event().wait(BACKOFF)
            finally:
                self._send_lock.release()

    def stats(self) -> dict[str, Any]:
        """This process's figures, without asking Redis; see docs/settings.md."""
        send_queue, sender = self.send_queue, self.sender
        worker = None if self.worker is None else self.worker.worker
        with send_queue.change:
            dropped = dict(self.recorder.dropped())
            overflow: dict[str, dict[str, int]] = {}
            for (name, tag), count in list(self.recorder.overflows.items()):
                overflow.setdefault(name, {})[tag] = count
            waiting = self.recorder.waiting()
            lost_early = sum(
                count for reason, count in dropped.items() if reason in ("invalid", "closed")
            )
            return {
                "recorded": send_queue.drained + waiting + lost_early,
                "stored": send_queue.stored,
                "pending": send_queue.drained - send_queue.settled + waiting,
                "in_doubt": sender.in_doubt,
                "dropped": dropped,
                "metadata_dropped": self._no_metadata,
                "buffer_bytes": send_queue.nbytes,
                "overflow": overflow,
                "batches": sender.batches,
                "retries": sender.retries,
                "lost_batches": sender.lost_batches,
                "unpublished": sender.unpublished,
                "definition_conflicts": sender.conflicts,
                "flush_seconds": sender.batch_seconds,
                "buffered_series": sum(
                    len(metric.buffers) for metric in list(self.recorder.metrics.values())
                ),
                "worker": None if worker is None else worker.counts.as_dict(),
                "writer": sender.writer,
                "last_error": None if sender.last_error is None else str(sender.last_error),
            }


class _Flush:
    """One wait until everything recorded so far is settled; begins by draining it."""

    def __init__(self, flusher: Flusher, timeout: float) -> None:
        self._flusher = flusher
        self._timeout = timeout
        self._until = monotonic() + timeout
        self._wanted = flusher.collect(int(flusher.clock() * 1000))
        self._seen = flusher.sender.last_error
        flusher._hurry.set()

    @property
    def left(self) -> float:
        return max(self._until - monotonic(), 0)

    def over(self) -> bool:
        """Is all settled? Else the send_queue will tell when. Raises what `Flusher.flush` does. The caller holds its *change*."""
        send_queue, error = self._flusher.send_queue, self._flusher.sender.last_error
        if send_queue.settled >= self._wanted:
            return True
        if not self.left or self._flusher.recorder.closed:
            message = f"{self._wanted - send_queue.settled} samples are not confirmed after {self._timeout:g} s: "
            message += str(error or "still sending")
            raise (type(error) if isinstance(error, _NOT_BY_WAITING) else StoreUnavailable)(
                message
            ) from error
        if isinstance(error, _NOT_BY_WAITING) and error is not self._seen:
            raise type(error)(str(error)) from error
        send_queue.awaited = min(send_queue.awaited, self._wanted)
        return False


def _send_queue(flusher: Flusher) -> SendQueue:
    return SendQueue(flusher.settings, flusher.recorder, flusher.clock)


make_send_queue: Callable[[Flusher], SendQueue] = (
    _send_queue  # testing.py puts one in its place that keeps what it is given
)
_flushers: "weakref.WeakSet[Flusher]" = weakref.WeakSet()


def close_at_exit() -> None:
    """Send what is left at the end of the process; 2 s at most for all clients together."""
    until = monotonic() + EXIT_TIMEOUT
    for flusher in list(_flushers):
        flusher.close(max(until - monotonic(), 0.05))
        flusher.store.close()


def flush_all() -> None:
    """Send what is left while the process goes on; 2 s at most for all clients together. Raises the last `StoreError`."""
    until = monotonic() + EXIT_TIMEOUT
    failed: RedisMetricsError | None = None
    for flusher in list(_flushers):
        try:
            flusher.flush(max(until - monotonic(), 0.05))
        except RedisMetricsError as error:
            failed = error
    if failed is not None:
        raise failed


def _after_fork() -> None:
    for flusher in list(_flushers):
        flusher.reset_after_fork()


atexit.register(close_at_exit)
os.register_at_fork(after_in_child=_after_fork)
