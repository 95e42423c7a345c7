"""The notifier: sends the notifications that are due according to the routes and the log.

One process per namespace notifies, holding a lease; its successor continues from the log in Redis.
A notification is logged after it was accepted, so it is sent at least once: if a process is killed
in between, the next one sends it again.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace

from redismetrics.alerts.silences import list_silences, silenced_by
from redismetrics.alerts.states import FIRING, PENDING, RESOLVED, Alert, fingerprint
from redismetrics.alerts.store import SavedGroup, load_groups
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
        send: Function that sends one notification, or raises `SendingFailed`.
        holder: Id of this process.
    """

    def __init__(
        self, namespace: str, config: NotifyConfig, send: Send, holder: str, lease_ms: int
    ) -> None:
        self._namespace, self._config, self._holder = namespace, config, holder
        self._lease_ms = lease_ms
        self._fence = 0
        # When this process started notifying; Unix ms.
        self._since = 0
        self._log: dict[str, Sent] = {}
        # Notifications that outboxes may still hold, by field.
        self._handed_on: dict[str, Notification] = {}
        # Resolved alerts by fingerprint, until all receivers that know they fired have been
        # notified. Redis forgets them earlier.
        self._over: dict[str, Alert] = {}
        self._lock = threading.Lock()
        self._taken: list[Notification] = []
        # When a queued notification may be queued again, by field: the log does not record what a
        # receiver rejects.
        self._next_at: dict[str, int] = {}
        self.outboxes = {
            (receiver.name, way): Outbox(f"{receiver.name}/{way}", send, self._note)
            for receiver in config.receivers.values()
            for way, _ in receiver.ways
        }

    def step(self, client: Client, now: int) -> int:
        """Process everything due at *now* (Unix ms); return the number of queued notifications.

        Raises:
            StoreError: If Redis is unreachable.
        """
        if not self._have_lease(client, now):
            return 0
        self._write_taken(client)
        groups = run(client, load_groups(self._namespace))
        alerts = [each for group in groups.values() for each in self._alerts_of(group, now)]
        audible = run(client, self._unsilenced(self._with_those_over(alerts), now))
        due, looked_at = due_notifications(
            group_alerts(self._config.route, audible), self._config.receivers, self._log, now
        )
        self._next_at = {name: at for name, at in self._next_at.items() if now < at}
        handed_on = 0
        for each in due:
            outbox = self.outboxes[each.receiver.name, each.way]
            if each.field in self._next_at:
                continue
            # In this order: what the outbox no longer holds counts as accepted.
            if not outbox.holds(each.field) and not self._was_taken(each.field):
                outbox.put(each.field, each)
                self._handed_on[each.field] = each
                self._next_at[each.field] = now + each.group.route.group_interval
                handed_on += 1
        self._write(client, looked_at, now)
        return handed_on

    def _alerts_of(self, group: SavedGroup, now: int) -> list[Alert]:
        """Return the alerts of a group. If nobody evaluates it any more, those that fired are over.

        That may be since its rules were removed. A process that has just begun to notify waits as
        long: perhaps no process ran.
        """
        alerts = [saved.alert for saved in group.alerts.values()]
        if now - max(group.status.evaluated_at, self._since) <= group.status.valid_ms():
            return alerts
        over_at = group.status.evaluated_at + group.status.valid_ms()
        return [
            replace(each, state=RESOLVED, resolved_at=over_at) if each.state == FIRING else each
            for each in alerts
            if each.state != PENDING
        ]

    def _with_those_over(self, alerts: list[Alert]) -> list[Alert]:
        """Add alerts that are over and gone from Redis, while a receiver thinks that they fire."""
        over = {fingerprint(each.labels): each for each in alerts if each.state == RESOLVED}
        if not over and not self._over:
            return alerts
        self._handed_on = {
            name: each
            for name, each in self._handed_on.items()
            if self.outboxes[each.receiver.name, each.way].holds(name) or self._was_taken(name)
        }
        sent = (*self._log.values(), *(each.sent for each in self._handed_on.values()))
        known = {each for one in sent for each in one.firing}
        here = {fingerprint(each.labels) for each in alerts}
        self._over = {
            name: each
            for name, each in (self._over | over).items()
            if name in known and (name in over or name not in here)
        }
        return [*alerts, *(each for name, each in self._over.items() if name not in here)]

    def _have_lease(self, client: Client, now: int) -> bool:
        key = keys.alerts(self._namespace).leases
        lease = run(client, take(key, LEASE, self._holder, self._lease_ms))
        if lease.holder != self._holder:
            self._forget_lease()
            return False
        if lease.fence != self._fence:
            self._forget_lease()
            # First the log: without it, all firing alerts would be sent again.
            self._log = run(client, read_log(self._namespace))
            self._fence, self._since = lease.fence, now
        return True

    def _forget_lease(self) -> None:
        self._fence = 0
        self._handed_on, self._over, self._next_at = {}, {}, {}
        for outbox in self.outboxes.values():
            outbox.clear()

    def _unsilenced(self, alerts: Iterable[Alert], now: int) -> Operation[list[Alert]]:
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
                self._forget_lease()

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
            self._forget_lease()

    def stop(self, client: Client, timeout: float) -> None:
        """Try once more to send what is waiting, log it, and release the lease."""
        for outbox in self.outboxes.values():
            outbox.stop(timeout)
        if self._fence:
            self._write_taken(client)
            key = keys.alerts(self._namespace).leases
            run(client, release(key, LEASE, self._holder))
