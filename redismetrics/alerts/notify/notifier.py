"""The notifier: sends what routes and the log of sent notifications make due.

One process of a namespace notifies, by a lease; another one goes on from the log in Redis. A
notification is logged after it was taken, so it is sent at least once: a process that is killed in
between lets the next one send it again.
"""

import logging
import threading
from collections.abc import Iterable

from redismetrics.alerts.silences import list_silences, silenced_by
from redismetrics.alerts.states import PENDING, Alert
from redismetrics.alerts.store import load_groups
from redismetrics.errors import StoreError
from redismetrics.store import keys
from redismetrics.store.driver import Client, Operation, run
from redismetrics.store.lease import release, take

from .config import NotifyConfig
from .groups import Notification, Sent, due_notifications, group_alerts
from .log_store import LEASE, read_log, write_log
from .outbox import Outbox
from .send import Send

log = logging.getLogger("redismetrics")

# Entries of groups without alerts are kept for this long, so that an alert that comes back soon
# waits for its interval.
_FORGOTTEN_AFTER_MS = 5 * 86_400_000


class Notifier:
    """Sends the notifications of a namespace while it has the lease.

    Args:
        send: Sends one notification, or raises `SendingFailed`.
        holder: Id of this process.
    """

    def __init__(
        self, namespace: str, config: NotifyConfig, send: Send, holder: str, lease_ms: int
    ) -> None:
        self._namespace, self._config, self._holder = namespace, config, holder
        self._lease_ms = lease_ms
        self._fence = 0
        self._log: dict[str, Sent] = {}
        self._lock = threading.Lock()
        self._taken: list[Notification] = []
        self.outboxes = {
            (receiver.name, way): Outbox(f"{receiver.name}/{way}", send, self._note)
            for receiver in config.receivers.values()
            for way, _ in receiver.ways
        }

    def step(self, client: Client, now: int) -> int:
        """Do what is due at *now*, Unix ms; return how many notifications were handed on.

        Raises:
            StoreError: If Redis is unreachable.
        """
        if not self._have_lease(client):
            return 0
        self._write_taken(client)
        groups = run(client, load_groups(self._namespace))
        alerts = (saved.alert for group in groups.values() for saved in group.alerts.values())
        audible = run(client, self._audible(alerts, now))
        due, looked_at = due_notifications(
            group_alerts(self._config.route, audible), self._config.receivers, self._log, now
        )
        handed_on = 0
        for each in due:
            outbox = self.outboxes[each.receiver.name, each.way]
            # In this order: what the outbox no longer holds is noted as taken.
            if not outbox.holds(each.field) and not self._was_taken(each.field):
                outbox.put(each.field, each)
                handed_on += 1
        self._write(client, looked_at, now)
        return handed_on

    def _have_lease(self, client: Client) -> bool:
        key = keys.alerts(self._namespace).leases
        lease = run(client, take(key, LEASE, self._holder, self._lease_ms))
        if lease.holder != self._holder:
            self._lose()
            return False
        if lease.fence != self._fence:
            self._lose()
            self._fence = lease.fence
            self._log = run(client, read_log(self._namespace))
        return True

    def _lose(self) -> None:
        self._fence = 0
        for outbox in self.outboxes.values():
            outbox.clear()

    def _audible(self, alerts: Iterable[Alert], now: int) -> Operation[list[Alert]]:
        silences = yield from list_silences(self._namespace, now)
        active = [each for each in silences if each.state(now) == "active"]
        return [
            alert
            for alert in alerts
            if alert.state != PENDING and not silenced_by(active, alert.labels, now)
        ]

    def _note(self, notification: Notification) -> None:
        with self._lock:
            self._taken.append(notification)

    def _was_taken(self, name: str) -> bool:
        with self._lock:
            return any(each.field == name for each in self._taken)

    def _write_taken(self, client: Client) -> None:
        with self._lock:
            taken, self._taken = self._taken, []
        entries = {each.field: each.sent for each in taken}
        if entries:
            self._log |= entries
            try:
                is_written = run(client, write_log(self._namespace, self._fence, entries, []))
            except StoreError:
                with self._lock:
                    self._taken = taken + self._taken
                raise
            if not is_written:
                self._lose()

    def _write(self, client: Client, looked_at: dict[str, Sent], now: int) -> None:
        old = [
            name
            for name, each in self._log.items()
            if max(each.flushed_at, each.first_at) < now - _FORGOTTEN_AFTER_MS
        ]
        if not looked_at and not old:
            return
        self._log |= looked_at
        for name in old:
            del self._log[name]
        if not run(client, write_log(self._namespace, self._fence, looked_at, old)):
            self._lose()

    def stop(self, client: Client, timeout: float) -> None:
        """Send what waits once more, log it, and give back the lease."""
        for outbox in self.outboxes.values():
            outbox.stop(timeout)
        if self._fence:
            self._write_taken(client)
            key = keys.alerts(self._namespace).leases
            run(client, release(key, LEASE, self._holder))
