"""Wait until everything recorded so far is stored or dropped, in a thread or an event loop."""

import threading
from contextlib import suppress
from typing import Protocol

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError, StoreUnavailable
from redismetrics.model.loop_timer import call_later
from redismetrics.model.time import monotonic

from .send_queue import SendQueue

# Errors that `flush` raises at once, because retrying cannot help.
_PERMANENT = (ScriptFailed, FormatMismatch)


class Flushable(Protocol):
    """What a flush needs from a sink."""

    send_queue: SendQueue

    @property
    def last_error(self) -> StoreError | None: ...

    @property
    def closed(self) -> bool: ...

    def begin_flush(self) -> int:
        """Drain the buffers and send soon; return the total number of samples drained so far."""


class PendingFlush:
    """A wait until everything recorded so far is settled. Creating it drains the buffers."""

    def __init__(self, sink: Flushable, timeout: float) -> None:
        self._sink = sink
        self._timeout = timeout
        self._until = monotonic() + timeout
        self._drained = sink.begin_flush()
        self._seen = sink.last_error

    @property
    def left(self) -> float:
        """Seconds until the timeout."""
        return max(self._until - monotonic(), 0)

    def is_over(self) -> bool:
        """Whether everything is settled; if not, the send queue notifies when to check again.

        The caller holds the send queue's `change`. Raises what `Sink.flush` does.
        """
        queue, error = self._sink.send_queue, self._sink.last_error
        if queue.settled >= self._drained:
            return True
        if not self.left or self._sink.closed:
            raise (type(error) if isinstance(error, _PERMANENT) else StoreUnavailable)(
                f"{self._drained - queue.settled} samples are not confirmed "
                f"after {self._timeout:g} s: {error or 'still sending'}"
            ) from error
        if isinstance(error, _PERMANENT) and error is not self._seen:
            raise type(error)(str(error)) from error
        queue.awaited = min(queue.awaited, self._drained)
        return False


def wait(sink: Flushable, timeout: float) -> None:
    """Drain the buffers and wait until everything is stored or dropped. Raises as `Sink.flush`."""
    flush = PendingFlush(sink, timeout)
    queue, changed = sink.send_queue, threading.Lock()

    def notify() -> None:
        with suppress(RuntimeError):  # it is not locked: nobody has checked since the last time
            changed.release()

    # Not `change.wait`: a signal handler that raises inside it, as for Ctrl-C, could leave it with
    # or without the lock.
    with queue.change:
        queue.listeners.append(notify)
    try:
        while True:
            changed.acquire(blocking=False)
            with queue.change:
                if flush.is_over():
                    return
            changed.acquire(timeout=flush.left)
    finally:
        with queue.change:
            queue.listeners.remove(notify)


async def await_(sink: Flushable, timeout: float) -> None:
    """`wait`, for asyncio: only draining briefly uses a thread."""
    # Here, because processes that only record don't need it.
    import asyncio

    flush = await asyncio.to_thread(PendingFlush, sink, timeout)
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def notify() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    queue = sink.send_queue
    with queue.change:
        queue.listeners.append(notify)
    try:
        while True:
            changed.clear()
            with queue.change:
                if flush.is_over():
                    return
            cancel = call_later(loop, flush.left, changed.set)
            try:
                await changed.wait()
            finally:
                cancel()
    finally:
        with queue.change:
            queue.listeners.remove(notify)
