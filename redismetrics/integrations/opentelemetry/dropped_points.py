"""Report points that were recorded and then dropped to the sender."""

import math
import threading
from collections import Counter as Tally
from collections import deque
from collections.abc import Set
from contextlib import ExitStack

from redismetrics.recording.flush_result import SettledWatch

from .points import Rejections

# Unconfirmed requests that are remembered until they are repeated.
_MAX_UNCONFIRMED = 1_000
_EXPLANATIONS = {
    "too_old": "older than max_age, by the clock of Redis",
    "in_future": "further ahead than max_future, by the clock of Redis",
    "type_mismatch": "of a different type than the metric in Redis",
    "buffer_full": "Redis was unreachable, and they exceeded buffer_bytes",
    "expired": "Redis was unreachable for longer than buffer_age",
    "refused": "Redis rejects them because of their contents",
    "unsent": "the receiver was closed",
    "unknown": "the receiver was closed, or Redis was unreachable, before they were confirmed",
}


def reject_dropped(
    recorded: Tally[str],
    watch: SettledWatch,
    rejections: Rejections,
    *,
    skip_mismatches: bool = False,
) -> None:
    """Add those *recorded* points, by name, that *watch* saw dropped to *rejections*."""
    for (name, reason), dropped in watch.dropped.items():
        if reason == "type_mismatch" and skip_mismatches:
            continue
        points = recorded[name] if name else recorded.total()
        # A histogram's point is many samples, and only samples are counted.
        settled = dropped + (watch.stored[name] if name else watch.stored.total())
        count = min(math.ceil(points * dropped / settled), points)
        if count:
            explanation = _EXPLANATIONS.get(reason, "see the log of the receiver")
            rejections.add(f"{name or 'points'}: dropped as {reason}: {explanation}", count)


class UnconfirmedRequests:
    """Requests that were answered before their points were stored or dropped.

    The sender repeats such a request. Its points are recognised and not recorded again, so points
    dropped from the first request are reported in the response to the second. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[tuple[ExitStack, Tally[str], SettledWatch]] = deque()

    def add(self, stack: ExitStack, recorded: Tally[str], watch: SettledWatch) -> None:
        """Remember a request; closing *stack* ends its *watch*."""
        with self._lock:
            self._requests.append((stack, recorded, watch))
            oldest = self._requests.popleft() if len(self._requests) > _MAX_UNCONFIRMED else None
        if oldest is not None:
            oldest[0].close()

    def reject_dropped(self, names: Set[str], rejections: Rejections) -> None:
        """Report the requests with metrics of these *names*, which are all settled."""
        if not self._requests:
            return
        with self._lock:
            found = [each for each in self._requests if not names.isdisjoint(each[1])]
            for each in found:
                self._requests.remove(each)
        for stack, recorded, watch in found:
            stack.close()
            reject_dropped(recorded, watch, rejections)
