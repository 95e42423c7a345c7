"""Send things one after the other in a thread, and try again what was not taken."""

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
    """What one receiver must still get, at most *size* things; the oldest is dropped beyond that.

    A thing with the key of one that waits takes its place, since it is newer. A receiver that fails
    holds up nothing else. Each thing is tried until it is taken, replaced or refused for
    good, with pauses that double from 1 to 60 s.

    Args:
        name: Of the receiver, for messages; never its URL.
        send: Raises `SendingFailed` if the thing was not taken.
        done: Called with what was taken.
        clock: Monotonic seconds.

    Attributes:
        sent, failed, dropped: Things taken, attempts that failed, and things given up.
        last_error: Of the last attempt; empty if it succeeded.
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
        """Let *thing* be sent, and start the thread if it does not run."""
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
        """Return whether something with that key waits or is being sent."""
        with self._changed:
            return key in self._waiting or key == self._in_hand

    def clear(self) -> None:
        """Forget what waits: another process sends from now on. No further attempt is made."""
        with self._changed:
            self._waiting.clear()
            self._in_hand = None

    def stop(self, timeout: float) -> None:
        """End after what is in hand and each waiting thing had one more attempt."""
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
                # First in line again, unless a newer one waits.
                self._waiting = (
                    {key: thing, **self._waiting} if key not in self._waiting else (self._waiting)
                )
                self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _pause(self, seconds: float) -> None:
        """Wait, with the condition held, until the pause is over or the outbox is stopped."""
        until = self._clock() + seconds
        while not self._stopped and (left := until - self._clock()) > 0:
            self._changed.wait(left)

    def _try(self, thing: T) -> bool:
        """Send *thing* once; return whether it need not be tried again."""
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
