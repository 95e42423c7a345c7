"""Groups of alerts, and which of them must be notified when: Alertmanager's dispatcher.

Pure computation on state kept in Redis, so that any worker can continue where another one stopped.
https://github.com/prometheus/alertmanager describes the same steps: dispatch, then deduplication
against the log of sent notifications.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from redismetrics.alerts.states import FIRING, RESOLVED, Alert, fingerprint

from .config import NotifyReceiver, Route


@dataclass(frozen=True, slots=True)
class Sent:
    """The last notification of a group through one channel of a receiver. Times are Unix ms; 0:
    never.

    Attributes:
        first_at: When the group started.
        flushed_at: When the group was last flushed.
        sent_at: When a notification was last sent.
        firing, resolved: Fingerprints of the alerts in that notification.
    """

    first_at: int
    flushed_at: int = 0
    sent_at: int = 0
    firing: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()


@dataclass(slots=True)
class AlertGroup:
    """Alerts that are notified together. *key* is the group key in Alertmanager's payload."""

    route: Route
    labels: dict[str, str]
    alerts: list[Alert] = field(default_factory=list)

    @property
    def key(self) -> str:
        labels = ", ".join(f'{name}="{value}"' for name, value in sorted(self.labels.items()))
        return f"{self.route.path}:{{{labels}}}"


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification for one channel of a receiver, and its log entry once it is sent.

    Attributes:
        field: The field of the log entry.
        alerts: The firing alerts, then the resolved ones if the channel sends them.
    """

    field: str
    receiver: NotifyReceiver
    way: str
    group: AlertGroup
    alerts: tuple[Alert, ...]
    sent: Sent

    @property
    def is_firing(self) -> bool:
        return any(alert.state == FIRING for alert in self.alerts)


def group_alerts(route: Route, alerts: Iterable[Alert]) -> list[AlertGroup]:
    """Return alerts by group, for each of their routes."""
    found: dict[tuple[str, str], AlertGroup] = {}
    for alert in alerts:
        for taken in route.find(alert.labels):
            group = AlertGroup(taken, taken.group_labels(alert.labels))
            found.setdefault((taken.receiver, group.key), group).alerts.append(alert)
    return list(found.values())


def due_notifications(
    groups: Iterable[AlertGroup],
    receivers: Mapping[str, NotifyReceiver],
    log: Mapping[str, Sent],
    now: int,
) -> tuple[list[Notification], dict[str, Sent]]:
    """Return the notifications due now, and the log entries of groups that need none."""
    due = []
    looked_at: dict[str, Sent] = {}
    for group in groups:
        receiver = receivers[group.route.receiver]
        for way, options in receiver.ways:
            name = f"{receiver.name}/{way} {fingerprint({'': group.key})}"
            entry = log.get(name) or Sent(first_at=now)
            if now < _due_at(group.route, entry):
                if name not in log:
                    looked_at[name] = entry
                continue
            firing, resolved = _by_fingerprint(group, FIRING), _by_fingerprint(group, RESOLVED)
            sends_resolved = options.send_resolved
            if not _needs_update(entry, set(firing), set(resolved), sends_resolved, group, now):
                looked_at[name] = replace(entry, flushed_at=now)
                continue
            sent = Sent(entry.first_at, now, now, frozenset(firing), frozenset(resolved))
            alerts = (*firing.values(), *(resolved.values() if sends_resolved else ()))
            if alerts:
                due.append(Notification(name, receiver, way, group, alerts, sent))
            else:
                looked_at[name] = sent
    return due, looked_at


def _due_at(route: Route, entry: Sent) -> int:
    if entry.flushed_at:
        return entry.flushed_at + route.group_interval
    return entry.first_at + route.group_wait


def _by_fingerprint(group: AlertGroup, state: str) -> dict[str, Alert]:
    return {fingerprint(each.labels): each for each in group.alerts if each.state == state}


def _needs_update(
    entry: Sent,
    firing: set[str],
    resolved: set[str],
    sends_resolved: bool,
    group: AlertGroup,
    now: int,
) -> bool:
    if not entry.sent_at:
        return bool(firing)
    if firing - entry.firing:
        return True
    if not firing:
        # Everything is resolved: send this once, if anything was ever sent as firing.
        return bool(entry.firing)
    if sends_resolved and resolved - entry.resolved:
        return True
    return now - entry.sent_at >= group.route.repeat_interval
