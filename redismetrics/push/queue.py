"""The queue of a target: requests are sent in order by a thread, retried, and bounded."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from redismetrics.alerts.notify.http import SendingFailed
from redismetrics.model.time import monotonic
from redismetrics.recording.backoff import Backoff

from .request import PushRequest

log = logging.getLogger("redismetrics")

# The longest pause that a receiver may request, in seconds.
_LONGEST_PAUSE = 300.0


@dataclass(slots=True)
class PushCounts:
    """The outcomes of samples.

    Attributes:
        sent: Accepted by the target.
        refused: Permanently rejected by the target, as whole requests or one by one.
        dropped: Never accepted: the queue was full, another process took over, or the service
            ended.
        failures: Failed attempts, which are retried.
    """

    sent: int = 0
    refused: int = 0
    dropped: int = 0
    failures: int = 0


class PushQueue:
    """Sends requests to one target, oldest first, each until it is accepted or rejected.

    Nothing overtakes a failing request, because receivers want the samples of a series in order.
    Beyond *max_bytes*, the oldest requests are dropped; totals are cumulative, so a gap loses no
    counts.

    Args:
        name: Name of the target, for messages.
        send: Returns the number of rejected samples, and the reason; raises `SendingFailed`.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[PushRequest], tuple[int, str]],
        *,
        max_bytes: int,
        backoff: Backoff,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name = name
        self.counts = PushCounts()
        self.last_error = ""
        self._send, self._max_bytes, self._clock = send, max_bytes, clock
        self._backoff, self._delays = backoff, backoff.delays()
        self._changed = threading.Condition()
        self._waiting: deque[PushRequest] = deque()
        self._bytes = 0
        self._in_hand: PushRequest | None = None
        # How often everything was dropped, including the current request.
        self._clears = 0
        self._stopped = False
        self._thread = threading.Thread(
            target=self._work, name=f"redismetrics-push {name}", daemon=True
        )
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the requests that have not been accepted yet."""
        with self._changed:
            in_hand = self._in_hand
            return self._bytes + (0 if in_hand is None else len(in_hand.body))

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest samples that have not been accepted yet."""
        with self._changed:
            if self._in_hand is not None:
                return self._in_hand.time_ms
            return self._waiting[0].time_ms if self._waiting else None

    def put(self, request: PushRequest) -> None:
        """Add *request* at the end; drop the oldest ones if there are too many."""
        dropped = 0
        with self._changed:
            self._waiting.append(request)
            self._bytes += len(request.body)
            while self._bytes > self._max_bytes and len(self._waiting) > 1:
                dropped += self._take().samples
            self.counts.dropped += dropped
            self._changed.notify_all()
        if dropped:
            log.error("%s: %d samples were dropped, because the queue is full", self.name, dropped)

    def clear(self) -> None:
        """Drop waiting requests: another process pushes from now on. No further attempt is made."""
        with self._changed:
            while self._waiting:
                self.counts.dropped += self._take().samples
            self._clears += 1
            self._changed.notify_all()

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until everything is accepted or rejected; return whether it is."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and self._in_hand is None, timeout
            )

    def stop(self, timeout: float) -> None:
        """Send waiting requests without pauses until an attempt fails; then drop the rest."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _take(self) -> PushRequest:
        """Return the oldest waiting request. The caller holds the condition."""
        request = self._waiting.popleft()
        self._bytes -= len(request.body)
        return request

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return
                request = self._in_hand = self._take()
                clears = self._clears
            self._send_until_done(request, clears)
            with self._changed:
                self._in_hand = None
                self._changed.notify_all()

    def _send_until_done(self, request: PushRequest, clears: int) -> None:
        """Send *request* until it is done, or the queue was cleared after the *clears*-th time."""
        while True:
            was_stopped = self._stopped
            if self._try(request, clears):
                return
            if self._clears != clears:
                self.counts.dropped += request.samples
                return
            if was_stopped:
                self.counts.dropped += request.samples
                self.clear()
                return

    def _try(self, request: PushRequest, clears: int) -> bool:
        """Send *request* once; return whether it is done. Pause after a failure."""
        try:
            refused, reason = self._send(request)
        except SendingFailed as error:
            self.counts.failures += 1
            self._note(str(error), "did not accept a request, which is retried")
            pause = max(min(error.retry_after, _LONGEST_PAUSE), self._delays.after_failure())
            self._pause(pause, clears)
            return False
        # If the thread ended, all pushes would stop silently.
        except Exception as error:
            log.exception("BUG: %s: a request cannot be sent", self.name)
            refused, reason = request.samples, type(error).__name__
        self._delays = self._backoff.delays()
        self.counts.sent += request.samples - refused
        self.counts.refused += refused
        if refused:
            self._note(reason, f"rejected {refused} of {request.samples} samples")
        elif self.last_error:
            log.info("%s accepts all samples again", self.name)
            self.last_error = ""
        return True

    def _note(self, error: str, what: str) -> None:
        """Log an error once, until there is a different one."""
        if error != self.last_error:
            log.warning("%s %s: %s", self.name, what, error)
            self.last_error = error

    def _pause(self, seconds: float, clears: int) -> None:
        until = self._clock() + seconds
        with self._changed:
            while (
                not self._stopped and self._clears == clears and (left := until - self._clock()) > 0
            ):
                self._changed.wait(left)
