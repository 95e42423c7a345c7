"""The thread that sends what the collector drained, and waits longer and longer after failures."""

import logging
import secrets
import threading
from dataclasses import dataclass

from redismetrics.errors import StoreError

from .sender import Sender

log = logging.getLogger("redismetrics")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: *first*, doubled after each failure, up to *longest*."""

    first: float = 0.1
    longest: float = 2.0


class SenderThread:
    """The loop that calls a sender. *lock* is held by the thread that calls it."""

    def __init__(self, sender: Sender, backoff: Backoff) -> None:
        self._sender = sender
        self.backoff = backoff
        self.lock = threading.Lock()
        self.wake = threading.Event()
        # Set by somebody who waits: try again now.
        self.hurry = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Send until *stop* is set, whenever `wake` is."""
        delay = self.backoff.first
        while not stop.is_set():
            self.wake.wait()
            self.wake.clear()
            if stop.is_set():
                return
            try:
                with self.lock:
                    self._sender.send_all()
                delay = self.backoff.first
            except StoreError as error:
                self._sender.on_error(error)
                # Spread by a quarter, so that processes don't return all at once.
                self.hurry.wait(delay * (0.75 + secrets.randbelow(500) / 1000))
                self.hurry.clear()
                delay = min(2 * delay, self.backoff.longest)
                self.wake.set()
            except Exception as error:
                log.exception("BUG: sending samples failed")
                self._sender.on_error(StoreError(f"BUG: {error!r}"))
                stop.wait(self.backoff.longest)
                self.wake.set()
