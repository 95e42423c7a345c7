"""Requests that were answered before their samples or their keys were confirmed by Redis."""

import asyncio
import math
import threading
from collections import Counter as Tally
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from redismetrics.client.async_metrics import AsyncMetrics
from redismetrics.errors import StoreError
from redismetrics.model.time import monotonic
from redismetrics.recording.flush_result import FlushResult, SettledWatch

from .idempotency import REMEMBERED_MS, Claim, IdempotencyKeys, Reply, check_same, conflict

# Maximum number of requests to wait for. Beyond that, the oldest are given up: their key remains in
# Redis, so a repeat gets 409 until the key expires.
_MAX_UNSETTLED = 1_000
# Seconds per wait for Redis, and between waits.
_WAIT_SECONDS, _PAUSE_SECONDS = 60.0, 1.0


def result_of(recorded: Tally[str], watch: SettledWatch) -> FlushResult:
    """Return the outcome of the samples *recorded*, by name, once all of them are settled.

    If others recorded the same metric at the same time, the outcome is a proportional share.
    """
    total = recorded.total()
    settled_total = watch.stored.total() + watch.dropped.total()
    dropped: Tally[str] = Tally()
    for (name, reason), count in watch.dropped.items():
        own, settled = total, settled_total
        if name:
            of_name = sum(each for (other, _), each in watch.dropped.items() if other == name)
            own, settled = recorded[name], watch.stored[name] + of_name
        share = count if settled <= own else math.ceil(count * own / settled)
        dropped[reason] += min(share, total - dropped.total())
    left = total - dropped.total()
    stored = min(left, watch.stored.total())
    if left > stored:
        # A watch misses only what is recorded while the client is being closed.
        dropped["closed"] += left - stored
    return FlushResult(stored, dict(+dropped))


@dataclass(slots=True)
class RecordedRequest:
    """A request whose samples are in this process's buffer.

    *watch* counts the settled ones until *stack* is closed; there is none if the client did not
    wait. *reply* is the response, if it is known.
    """

    recorded: Tally[str]
    claim: Claim | None = None
    watch: SettledWatch | None = None
    reply: Reply | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    since: float = field(default_factory=monotonic)

    def settle(self) -> Reply:
        """Return the reply, now that all samples are settled."""
        if self.reply is None:
            assert self.watch is not None, "BUG: a request without a reply and without a watch"
            result = result_of(self.recorded, self.watch)
            self.reply = Reply(
                200,
                {
                    "recorded": self.recorded.total(),
                    "stored": result.stored,
                    "dropped": result.dropped,
                },
            )
        self.stack.close()
        return self.reply


class UnsettledRequests:
    """Requests that are finished in the background: waits for their results and stores them."""

    def __init__(self, metrics: AsyncMetrics, keys: IdempotencyKeys) -> None:
        self._metrics = metrics
        self._keys = keys
        self._lock = threading.Lock()
        self._requests: dict[str, RecordedRequest] = {}
        self._task: asyncio.Task[None] | None = None

    def find(self, claim: Claim) -> Reply | None:
        """Return the reply to the same request, if it is one of these. Raises like its keys."""
        with self._lock:
            found = self._requests.get(claim.request)
        if found is None or found.claim is None:
            return None
        check_same(claim, found.claim.fingerprint)
        if found.reply is None:
            raise conflict()
        return found.reply

    def add(self, request: RecordedRequest) -> None:
        """Finish a request in the background; one without a key is just abandoned."""
        if request.claim is None:
            request.stack.close()
            return
        with self._lock:
            self._requests[request.claim.request] = request
            oldest = None
            if len(self._requests) > _MAX_UNSETTLED:
                oldest = self._requests.pop(next(iter(self._requests)))
        if oldest is not None:
            oldest.stack.close()

    def start(self) -> None:
        """Continue in the background, in the event loop, if there are any."""
        if self._requests and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._finish_all())

    async def aclose(self) -> None:
        """Remember what has been settled so far, and give up the rest."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(StoreError):
            await self._finish(0.1)
        with self._lock:
            left, self._requests = self._requests, {}
        for each in left.values():
            each.stack.close()

    async def _finish_all(self) -> None:
        while self._requests:
            try:
                await self._finish(_WAIT_SECONDS)
            except StoreError:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _finish(self, timeout: float) -> None:
        with self._lock:
            requests = dict(self._requests)
        forgotten = monotonic() - REMEMBERED_MS / 1000
        for request, each in requests.items():
            if each.since < forgotten:
                self._remove(request)
                each.stack.close()
        await self._metrics.internals.asettle(timeout)
        for request, each in requests.items():
            assert each.claim is not None, "BUG: a request without a key"
            await asyncio.to_thread(self._keys.remember, each.claim, each.settle())
            self._remove(request)

    def _remove(self, request: str) -> None:
        with self._lock:
            self._requests.pop(request, None)
