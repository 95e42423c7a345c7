"""Send items one by one in a thread, and retry those that are not accepted."""

import logging
import threading
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

from .http import SendingFailed

log = logging.getLogger("redismetrics")

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Outbox(Generic[T]):
    """The items still to be sent to one receiver, at most *size*; then the oldest is dropped.

    An item with the same key as a waiting one replaces it, because it is newer. A failing receiver
    does not delay others. Each item is retried until it is accepted, replaced or permanently
    rejected, with pauses that double from 1 to 60 s.

    Args:
        name: Name of the receiver for messages; never its URL.
        send: Function that raises `SendingFailed` if an item was not accepted.
        done: Called with each accepted item.
        clock: Monotonic seconds.

    Attributes:
        sent, failed, dropped: Items accepted, failed attempts, and items given up.
        last_error: Error of the last attempt; empty if it succeeded.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[T], None],
        done: Callable[[T], None] = lambda _: None,
        *,
        size: int = 1000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name = name
        self._send, self._done, self._size, self._clock = send, done, size, clock
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, T] = {}
        self._in_hand: Hashable | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.sent = self.failed = self.dropped = 0
        self.last_error = ""

    def put(self, key: Hashable, thing: T) -> None:
        """Queue *thing*, and start the thread if it is not running."""
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = thing
            while len(self._waiting) > self._size:
                del self._waiting[next(iter(self._waiting))]
                self.dropped += 1
                log.error("%s: a notification was dropped, because %d wait", self.name, self._size)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._work, name=f"redismetrics-alerts {self.name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def holds(self, key: Hashable) -> bool:
        """Return whether an item with this key is waiting or being sent."""
        with self._changed:
            return key in self._waiting or key == self._in_hand

    def clear(self) -> None:
        """Drop everything that is waiting, because another process sends from now on. No further
        attempt is made.
        """
        with self._changed:
            self._waiting.clear()
            self._in_hand = None

    def stop(self, timeout: float) -> None:
        """Stop after one more attempt for the current and each waiting item."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if not self._waiting:
                    return
                key = self._in_hand = next(iter(self._waiting))
                thing = self._waiting.pop(key)
            taken = self._try(thing)
            with self._changed:
                is_forgotten, self._in_hand = self._in_hand is None, None
                if taken:
                    pause = FIRST_PAUSE
                    continue
                if self._stopped or is_forgotten:
                    continue
                # Back to the front of the queue, unless a newer one is waiting.
                self._waiting = (
                    {key: thing, **self._waiting} if key not in self._waiting else (self._waiting)
                )
                self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _pause(self, seconds: float) -> None:
        """Wait, holding the condition, until the pause is over or the outbox is stopped."""
        until = self._clock() + seconds
        while not self._stopped and (left := until - self._clock()) > 0:
            self._changed.wait(left)

    def _try(self, thing: T) -> bool:
        """Send *thing* once; return whether it is done."""
        try:
            self._send(thing)
        except SendingFailed as error:
            self.failed += 1
            self.last_error = str(error)
            if error.may_retry:
                log.warning("%s: a notification was not accepted: %s; retrying", self.name, error)
                return False
            self.dropped += 1
            log.error("%s: a notification was rejected: %s", self.name, error)
            return True
        # A caller's function may raise anything, and must not end the thread.
        except Exception as error:  # noqa: BLE001
            self.failed += 1
            self.dropped += 1
            self.last_error = type(error).__name__
            log.error("%s: a notification failed with %s", self.name, type(error).__name__)
            return True
        self.sent += 1
        self.last_error = ""
        self._done(thing)
        return True
