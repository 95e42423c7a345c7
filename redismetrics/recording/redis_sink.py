"""The sink that sends samples to Redis, with the two threads of a recording process.

The *collector* drains the buffers on wall-clock multiples of the flush interval, whether or not
Redis answers. The *sender* sends the drained samples in numbered batches over its own connection,
and repeats a batch until Redis confirms it; record.lua applies it only once. Both start when the
process first records; a forked child starts its own.
"""

import logging
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from redismetrics.errors import RedisMetricsError, StoreError, TypeMismatch
from redismetrics.model.time import monotonic
from redismetrics.store.connection import Store

from . import lifecycle, pending_flush
from .background_thread import BackgroundThread
from .backoff import Backoff
from .collector import Collector
from .flush_result import FlushResult, SettledWatch
from .recorder import Recorder
from .send_queue import SendQueue
from .sender import Sender
from .sender_thread import SenderThread
from .sink import zero_stats
from .uninterrupted import uninterrupted

log = logging.getLogger("redismetrics")

# Seconds that a query waits for the flush before it.
QUERY_FLUSH_TIMEOUT = 10.0

DEFAULT_BACKOFF = Backoff()


class RedisSink:
    """Drains one recorder and sends its samples to one store."""

    discards = False

    def __init__(
        self,
        recorder: Recorder,
        store: Store,
        worker: BackgroundThread | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.recorder = recorder
        self.store = store
        self.worker = worker
        self._settings = recorder.settings
        self._reset(backoff or DEFAULT_BACKOFF)
        lifecycle.register(self)

    def _reset(self, backoff: Backoff) -> None:
        self.send_queue = SendQueue(self.recorder)
        self.sender = Sender(self.store, self.recorder, self.send_queue)
        self.sending = SenderThread(self.sender, backoff)
        self.collector = Collector(
            self.recorder, self.send_queue, self._wake_sender, self._end_if_unheld
        )
        # What previous flushes have reported, of everything ever settled.
        self._reported = FlushResult()
        # Reentrant, because a signal handler may close a sink that is being closed.
        self._closing = threading.RLock()
        # False after an interrupted `close`: the next one continues.
        self._ended = False
        # Held while a call sends what it recorded, at the end of the process.
        self._sending_call = threading.Lock()
        self._is_connected = False
        self._new_threads()

    def _new_threads(self) -> None:
        self._stop = threading.Event()
        self.threads: list[threading.Thread] = []

    @property
    def is_attached(self) -> bool:
        """False while another sink receives the samples of the recorder."""
        return self.recorder.sink is self

    def reset_after_fork(self) -> None:
        """Become a new writer with nothing to send: the parent sends its own samples."""
        closed = self.recorder.closed
        # It is unknown which of them the parent recorded and will send.
        lost = self.recorder.waiting() if lifecycle.noticed_late and self.is_attached else 0
        if self.worker is not None:
            self.worker.reset()
        self._reset(self.sending.backoff)
        self.store.reset_after_fork()
        if self.is_attached:
            self.recorder.reset()
            if closed:
                self.recorder.close()
                self._ended = True
        if lost:
            with self.send_queue.change:
                self.send_queue.drained += lost
                self.send_queue.drop_locked("unsent", lost)
            log.warning("forked by C code without Python's fork hooks: %d samples are lost", lost)

    # -- threads ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads that are not running yet."""
        lifecycle.close_in_multiprocessing_child()
        if lifecycle.ending.begun:
            self.recorder.send_each_call(self._send_call)
            return
        running = {thread.name for thread in self.threads if thread.is_alive()}
        try:
            for name, target in (
                ("redismetrics-collector", self.collector.run),
                ("redismetrics-sender", self.sending.run),
            ):
                if name not in running:
                    thread = threading.Thread(
                        target=target, args=(self._stop,), name=name, daemon=True
                    )
                    thread.start()
                    self.threads.append(thread)
            if self.worker is not None:
                self.worker.start()
        except RuntimeError as error:
            # The interpreter is ending: what is recorded now is sent by close().
            if "shutdown" in str(error):
                return
            log.warning("samples are waiting for a thread to start: %s", error)
            self.recorder.start_again()

    def _wake_sender(self) -> None:
        if not self.send_queue.is_empty or self.sender.unconfirmed or self.sender.own.due():
            self.sending.wake.set()
            self.sender.wake()

    def _stop_threads(self) -> None:
        self._stop.set()
        self.sending.wake.set()
        self.sending.hurry.set()
        self.sender.wake()

    def _end_if_unheld(self) -> bool:
        """Stop the threads if no client is left and everything is sent; return whether they stop.

        The collector calls this: a finalizer of the client could run while its thread holds a lock.
        """
        self._wake_sender()
        if self.recorder.clients or not self.is_attached:
            return False
        self.collector.collect_now()
        if self._is_unsent():
            return False
        if self.worker is not None:
            self.worker.stop()
        self.recorder.close()
        self._ended = True
        self._stop_threads()
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(self._settings.socket_timeout + 1)
        self._send_rest(monotonic() + self._settings.socket_timeout)
        self.sender.connect()
        return True

    def pause(self) -> None:
        self._stop_threads()
        for thread in self.threads:
            thread.join(self._settings.socket_timeout + 1)
        if not self.recorder.closed:
            uninterrupted(self.collector.collect_now)

    def resume(self) -> None:
        self._new_threads()
        self.sending.wake.clear()
        self.sending.hurry.clear()
        self.recorder.start_again()
        if self._is_unsent():
            self.recorder.started = True
            self.start()
            self.sending.wake.set()

    # -- flush ------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.recorder.closed

    @property
    def last_error(self) -> StoreError | None:
        """Why the newest samples are not stored yet; None if nothing has failed."""
        return self.sender.last_error

    def begin_flush(self) -> int:
        lifecycle.reset_if_forked()
        return uninterrupted(self._collect_and_hurry)

    def _collect_and_hurry(self) -> int:
        drained = self.collector.collect_now()
        self.sending.hurry.set()
        self.sender.hurry()
        return drained

    def _is_unsent(self) -> bool:
        """Whether anything recorded is not yet confirmed."""
        # In the order of a sample's path: the buffers, a drain in progress, the queue.
        return bool(
            self.recorder.holds()
            or self.collector.lock.locked()
            or self.send_queue.drained > self.send_queue.settled
        )

    def _needs_flush(self) -> bool:
        return self.is_attached and not self.closed and self._is_unsent()

    def flush(self, timeout: float = 10.0) -> FlushResult:
        before = self._reported
        self.settle(timeout)
        self._raise_mismatches()
        return self._report(before)

    async def aflush(self, timeout: float = 10.0) -> FlushResult:
        before = self._reported
        await self.asettle(timeout)
        self._raise_mismatches()
        return self._report(before)

    def _report(self, before: FlushResult) -> FlushResult:
        """Return what was settled since *before*, and remember that it has been reported."""
        with self.send_queue.change:
            self._reported = self.send_queue.totals()
            return self._reported.since(before)

    def watch(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        return self.send_queue.watch(names)

    def settle(self, timeout: float) -> None:
        if self._needs_flush() and not self._send_call():
            pending_flush.wait(self, timeout)

    async def asettle(self, timeout: float) -> None:
        if self._needs_flush() and not self._send_call():
            await pending_flush.await_(self, timeout)

    def flush_before_query(self) -> None:
        self.settle(self._query_timeout())

    async def aflush_before_query(self) -> None:
        await self.asettle(self._query_timeout())

    def _query_timeout(self) -> float:
        """The timeout of a flush before a query; short while Redis is known not to answer."""
        return QUERY_FLUSH_TIMEOUT if self.last_error is None else self._settings.socket_timeout

    def _raise_mismatches(self) -> None:
        """Raise `TypeMismatch` for metrics that have another type in Redis, once per metric."""
        fresh = {
            name: message
            for name, message in list(self.sender.fitting.mismatches.items())
            if message
        }
        if fresh:
            self.sender.fitting.mismatches.update(dict.fromkeys(fresh, ""))
            # The next result does not repeat what this error reports.
            with self.send_queue.change:
                count = self.send_queue.totals().dropped.get("type_mismatch", 0)
                dropped = {**self._reported.dropped, "type_mismatch": count}
                self._reported = replace(self._reported, dropped=dropped)
            raise TypeMismatch("; ".join(fresh.values()))

    def mismatched(self) -> set[str]:
        return set(self.sender.fitting.mismatches)

    def silence_mismatches(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.sender.fitting.mismatches:
                self.sender.fitting.mismatches[name] = ""

    def clear_mismatch(self, name: str) -> None:
        self.sender.clear_mismatch(name)

    def check_queries(self) -> None:
        """Do nothing: Redis can answer queries."""

    # -- close ------------------------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> None:
        if not self.is_attached:
            return
        lifecycle.reset_if_forked()
        until = monotonic() + timeout
        if not self._closing.acquire(timeout=timeout):
            return
        try:
            if not self._ended:
                self._close(until)
            self.store.close()
        except BaseException as error:
            log.warning(
                "close() was interrupted by %r: %d samples are not stored yet; "
                "the next close(), or the end of the process, continues",
                error,
                self.send_queue.drained - self.send_queue.settled + self.recorder.waiting(),
            )
            raise
        finally:
            self._closing.release()

    def _close(self, until: float) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.recorder.close()
        uninterrupted(self._stop_threads)
        try:
            if self.recorder.started or self._is_unsent():
                for thread in self.threads:
                    thread.join(max(until - monotonic(), 0))
                uninterrupted(lambda: self._collect_rest(until))
                self._send_rest(until)
        except Exception:
            log.exception("BUG: closing failed")
        self._give_up_rest()
        result = self._report(self._reported)
        log.log(
            logging.WARNING if result.dropped else logging.DEBUG,
            "closed: since the last flush %d samples were stored, dropped: %s",
            result.stored,
            ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or "none",
        )
        if self.worker is not None:
            self.worker.join(max(until - monotonic(), 0))
        # Once modules can't be imported, no new connection can be made.
        self._is_connected = lifecycle.ending.closes and self.last_error is None
        if not self._is_connected:
            self.sender.connect()

    def _give_up_rest(self) -> None:
        """Count unsent samples as dropped, and log them."""
        with self.send_queue.change:
            unknown = self.sender.in_doubt
            self.sender.unconfirmed.clear()
            unsent = self.send_queue.give_up(unknown)
            self._ended = True
        if unsent or unknown:
            log.warning(
                "closed with %d samples never sent and %d sent but never confirmed: %s",
                unsent,
                unknown,
                self.last_error,
            )

    def _collect_rest(self, until: float) -> None:
        if self.collector.lock.acquire(timeout=max(until - monotonic(), 0)):
            self.collector.lock.release()
            self.collector.collect_now()

    def _send_rest(self, until: float) -> None:
        delay = self.sending.backoff.first
        queue, own = self.send_queue, self.sender.own
        own.end(attempts=0 if self.last_error else 2)
        while (queue.drained > queue.settled or own.tries_to_end()) and monotonic() < until:
            if not uninterrupted(lambda: self._send_once(until)):
                # Redis doesn't reply to the sender's thread; its batch stays unconfirmed.
                self.sender.abandoned = True
                return
            if queue.is_empty and not self.sender.unconfirmed:
                return
            threading.Event().wait(min(delay, max(until - monotonic(), 0)))

    def _send_once(self, until: float) -> bool:
        """Try to send everything that is left; return False if another thread is sending."""
        if not self.sending.lock.acquire(timeout=max(until - monotonic(), 0)):
            return False
        try:
            self.sender.abandoned = False
            if not self._is_connected:
                self.sender.connect(max(until - monotonic(), 0.01))
                self._is_connected = lifecycle.ending.begun
            self.sender.send_all(until - monotonic())
        except RedisMetricsError as error:
            self._is_connected = False
            self.sender.last_error = error if isinstance(error, StoreError) else None
        finally:
            self.sending.lock.release()
        return True

    # -- after the end ----------------------------------------------------------------------------

    def send_each_call(self) -> None:
        if self.is_attached and not self.sender.abandoned:
            self._ended = self.send_queue.given_up = False
            self.recorder.send_each_call(self._send_call)

    def _send_call(self) -> bool:
        """Send what a call recorded after the exit handler; return False if there is no exit.

        Never raises our own errors. If it interrupts another call of itself, that one continues.
        """
        if self.recorder.after_each is None:
            return False
        while self._is_unsent() and self._sending_call.acquire(blocking=False):
            began = monotonic()
            try:
                if lifecycle.ending.seconds > 0 and self._can_send():
                    uninterrupted(self.collector.collect_now)
                    self._send_rest(began + lifecycle.ending.seconds)
            except Exception as error:  # noqa: BLE001 - much of the interpreter may be gone
                log.warning("samples can't be sent at the end of the process: %r", error)
            finally:
                lifecycle.ending.seconds -= monotonic() - began
                self._sending_call.release()
            if self._is_unsent():
                self.recorder.close()
                self._give_up_rest()
                break
        return True

    def _can_send(self) -> bool:
        """Return False if one of our methods in this thread holds a lock that sending needs."""
        for lock in (self.collector.lock, self.send_queue.change, self.sending.lock):
            if not lock.acquire(timeout=0.1):
                return False
            lock.release()
        return True

    def stop_worker(self, timeout: float) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker.join(timeout)
            if not self.closed:
                self.recorder.start_again()

    # -- stats ------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        sender = self.sender
        with self.send_queue.change:
            return {
                **zero_stats(),
                **self.send_queue.counts(),
                **sender.counts(),
                "metadata_dropped": self.collector.metadata_dropped,
                "worker": None if self.worker is None else self.worker.counts(),
            }
