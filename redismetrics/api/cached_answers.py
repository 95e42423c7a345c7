"""A cache for expensive responses that many readers request: each is kept for a few seconds."""

import threading
from collections.abc import Callable, Hashable
from time import monotonic


class CachedAnswers:
    """Response bodies by request, each kept for some seconds; limited in number and bytes.

    Only one is computed at a time, so concurrent readers of the same one share it.
    """

    def __init__(
        self,
        max_bytes: int = 16 << 20,
        clock: Callable[[], float] = monotonic,
        *,
        max_answers: int = 1_000,
    ) -> None:
        self._max_bytes = max_bytes
        # The request is kept too, and may be longer than the response.
        self._max_answers = max_answers
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, bytes]] = {}
        self._bytes = 0

    def get(self, key: Hashable, seconds: float, make: Callable[[], bytes]) -> bytes:
        """Return the body for *key*; compute it unless there is one younger than *seconds*."""
        with self._lock:
            now = self._clock()
            for old in [each for each, (until, _) in self._kept.items() if until <= now]:
                self._drop(old)
            if key in self._kept:
                return self._kept[key][1]
            body = make()
            if len(body) <= self._max_bytes:
                self._kept[key] = self._clock() + seconds, body
                self._bytes += len(body)
                while self._bytes > self._max_bytes or len(self._kept) > self._max_answers:
                    self._drop(next(iter(self._kept)))
            return body

    def _drop(self, key: Hashable) -> None:
        self._bytes -= len(self._kept.pop(key)[1])
