"""The thread that sends what the collector has drained, with increasing delays after failures."""

import logging
import threading

from redismetrics.errors import StoreError

from .backoff import Backoff
from .sender import Sender

log = logging.getLogger("redismetrics")


class SenderThread:
    """The loop that calls a sender. The calling thread holds *lock* during a call."""

    def __init__(self, sender: Sender, backoff: Backoff) -> None:
        self._sender = sender
        sender.retries.backoff = backoff
        self.lock = threading.Lock()
        self.wake = threading.Event()
        # Set by a waiting caller: retry now.
        self.hurry = threading.Event()

    @property
    def backoff(self) -> Backoff:
        return self._sender.retries.backoff

    @backoff.setter
    def backoff(self, backoff: Backoff) -> None:
        self._sender.retries.backoff = backoff

    def run(self, stop: threading.Event) -> None:
        """Send whenever `wake` is set, until *stop* is set."""
        delays = self.backoff.delays()
        while not stop.is_set():
            self.wake.wait()
            self.wake.clear()
            if stop.is_set():
                return
            try:
                with self.lock:
                    self._sender.send_all(stop=stop)
                delays = self.backoff.delays()
            except StoreError as error:
                self._sender.on_error(error)
                self.hurry.wait(delays.after_failure())
                self.hurry.clear()
                self.wake.set()
            except Exception as error:
                log.exception("BUG: sending samples failed")
                self._sender.on_error(StoreError(f"BUG: {error!r}"))
                stop.wait(self.backoff.longest)
                self.wake.set()
