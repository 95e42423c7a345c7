"""Read the totals at each interval, for the targets whose lease this process has."""

import logging
import secrets
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from redismetrics.errors import StoreError, one_line
from redismetrics.model.time import monotonic, system_clock
from redismetrics.queries.context import QueryContext
from redismetrics.recording.backoff import Backoff
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run
from redismetrics.store.lease import release, take

from .queue import PushQueue
from .sender import PushSender
from .snapshot import read_snapshot

log = logging.getLogger("redismetrics")

# After Redis was unreachable.
_PAUSE = 1.0
# Between attempts to send a request.
_BACKOFF = Backoff(first=1.0, longest=60.0)
# Seconds to send waiting requests when the service stops.
STOP_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Options of the service.

    Attributes:
        interval: Seconds between snapshots.
        lease: Seconds until another process takes over from a dead one.
        max_bytes: Maximum bytes of waiting requests per target.
        backoff: Pauses between attempts to send a request.
    """

    interval: float = 15.0
    lease: float = 15.0
    max_bytes: int = 64_000_000
    backoff: Backoff = _BACKOFF


class PushTarget:
    """A target in the service: its sender, its queue, and whether this process has the lease."""

    def __init__(self, sender: PushSender, options: PushOptions) -> None:
        self.sender = sender
        self.name = sender.target.name
        self.queue = PushQueue(
            self.name, sender.send, max_bytes=options.max_bytes, backoff=options.backoff
        )
        self.has_lease = False


class PushService:
    """Pushes the totals of a namespace until it is stopped.

    Each target has its own lease, so that only one of any number of processes pushes to it. A
    process that loses a lease drops waiting requests, because the next one pushes newer totals.

    Args:
        idle_ms: Series not recorded for this long are left out, as on the page.
    """

    def __init__(
        self,
        context: QueryContext,
        store: Store,
        senders: Sequence[PushSender],
        options: PushOptions,
        idle_ms: int,
    ) -> None:
        self.options = options
        self.targets = [PushTarget(sender, options) for sender in senders]
        self.stop = threading.Event()
        # The error while totals cannot be read, usually because Redis is unreachable.
        self.unreachable: str | None = None
        self.passed_at = monotonic()
        self._context, self._store, self._idle_ms = context, store, idle_ms
        self._holder = secrets.token_hex(8)
        self._due = 0.0

    def run(self) -> None:
        """Push until `stop` is set; then send what is waiting, and release the leases."""
        with closing(self._store.connect(retries=0)) as client:
            while not self.stop.is_set():
                try:
                    wait = self._step(client)
                # If the thread ended, all pushes would stop silently.
                except Exception as error:  # noqa: BLE001
                    self._failed(error)
                    wait = _PAUSE
                self.stop.wait(wait)
            self._end(client)

    def run_once(self) -> list[str]:
        """Push one snapshot; return problems, one text per target that lacks samples.

        Raises:
            StoreError: If Redis does not answer.
        """
        with closing(self._store.connect(retries=0)) as client:
            try:
                self._take_leases(client)
                self._push(client)
            finally:
                self._end(client)
        problems = []
        for target in self.targets:
            counts = target.queue.counts
            if not target.has_lease:
                problems.append(f"{target.name}: another process pushes to it")
            elif counts.refused or counts.dropped:
                problems.append(
                    f"{target.name}: {counts.refused} samples were rejected, {counts.dropped} were "
                    f"not sent: {target.queue.last_error}"
                )
        return problems

    def _failed(self, error: Exception) -> None:
        """Log the first error of an outage."""
        if self.unreachable is None:
            if isinstance(error, StoreError):
                log.warning("pushing is waiting for Redis: %s", error)
            else:
                log.error("BUG: the totals cannot be pushed; retrying", exc_info=error)
        self.unreachable = one_line(error)

    def _step(self, client: Client) -> float:
        """Renew the leases, and push if it is time; return the seconds to wait."""
        self._take_leases(client)
        now = monotonic()
        if now >= self._due:
            self._push(client)
            # At a fixed pace; missed pushes are not made up for.
            late = (now - self._due) % self.options.interval if self._due else 0.0
            self._due = now + self.options.interval - late
        if self.unreachable is not None:
            log.warning("pushing continues")
            self.unreachable = None
        self.passed_at = monotonic()
        return max(min(self._due - self.passed_at, self.options.lease / 3), 0.01)

    def _take_leases(self, client: Client) -> None:
        key = keys.push_leases(self._context.namespace.name)
        ttl_ms = round(1000 * self.options.lease)
        for target in self.targets:
            lease = run(client, take(key, target.sender.target.lease_name, self._holder, ttl_ms))
            has_lease = lease.holder == self._holder
            if target.has_lease and not has_lease:
                log.warning("another process now pushes to %s", target.name)
                target.queue.clear()
            elif has_lease and not target.has_lease:
                log.info("pushing to %s", target.name)
                # A process that takes over pushes at once.
                self._due = 0.0
            target.has_lease = has_lease

    def _push(self, client: Client) -> None:
        targets = [target for target in self.targets if target.has_lease]
        if not targets:
            return
        snapshot = run(client, read_snapshot(self._context, self._idle_ms))
        for target in targets:
            for request in target.sender.requests(snapshot):
                target.queue.put(request)

    def _end(self, client: Client) -> None:
        """Send what is waiting, then let another process take over."""
        until = monotonic() + STOP_TIMEOUT
        for target in self.targets:
            target.queue.stop(max(until - monotonic(), 0))
        key = keys.push_leases(self._context.namespace.name)
        for target in self.targets:
            with suppress(StoreError):
                run(client, release(key, target.sender.target.lease_name, self._holder))

    def behind(self, target: PushTarget) -> float:
        """Return the age in seconds of the oldest samples waiting for *target*."""
        oldest_ms = target.queue.oldest_ms
        return 0.0 if oldest_ms is None else max(system_clock() - oldest_ms / 1000, 0.0)
