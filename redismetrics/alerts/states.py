"""States of alerts: pending, firing, resolved.

The transitions follow Prometheus' rules/alerting.go. No I/O; all times are arguments.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from .rules import Rule

PENDING, FIRING, RESOLVED = "pending", "firing", "inactive"

# A resolved alert is sent for this long, so that every receiver gets it.
RESOLVED_RETENTION_MS = 15 * 60 * 1000


class RuleFailed(Exception):
    """A rule could not be evaluated; its state is kept."""


class Labelled(NamedTuple):
    """A series in an expression's result, with the labels and annotations of the alert."""

    labels: dict[str, str]
    annotations: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: the state of one series of a rule. All times are Unix ms; 0 means never.

    Attributes:
        active_since: When its series appeared.
        fired_at: When it started firing.
        resolved_at: When its series disappeared after it had fired.
        kept_since: When its series disappeared, while `keep_firing_for` keeps it firing.
        value: The last value of its series.
    """

    labels: dict[str, str]
    annotations: dict[str, str]
    value: float
    state: str
    active_since: int
    fired_at: int = 0
    resolved_at: int = 0
    kept_since: int = 0


# Identifies an alert within its rule, derived from its labels.
Key = tuple[tuple[str, str], ...]


def key_of(labels: Mapping[str, str]) -> Key:
    """Return labels as a dict key."""
    return tuple(sorted(labels.items()))


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return a fingerprint of 16 digits."""
    text = "\xff".join(f"{name}\xff{value}" for name, value in sorted(labels.items()))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def label_alerts(
    rule: Rule,
    series: Iterable[tuple[Mapping[str, str], float]],
    expand: Callable[[Mapping[str, str], float], Callable[[str], str]],
) -> dict[Key, Labelled]:
    """Return the series of an alert's expression with the labels of their alerts.

    *expand* returns the template expander for the labels and value of a series.

    Raises:
        RuleFailed: If two series then have the same labels.
    """
    found: dict[Key, Labelled] = {}
    for own, value in series:
        text = expand(own, value)
        labels = {name: each for name, each in own.items() if name != "__name__"}
        for name, template in rule.labels.items():
            labels[name] = text(template)
        labels["alertname"] = rule.name
        labels = {as_utf8(name): as_utf8(each) for name, each in labels.items() if each}
        key = key_of(labels)
        if key in found:
            raise RuleFailed(
                "vector contains metrics with the same labelset after applying alert labels"
            )
        annotations = {name: as_utf8(text(template)) for name, template in rule.annotations.items()}
        found[key] = Labelled(labels, annotations, value)
    return found


def as_utf8(text: str) -> str:
    """Return *text* with ? for what UTF-8 cannot encode: expressions and templates may make it."""
    return text.encode(errors="replace").decode()


def label_records(
    rule: Rule, series: Iterable[tuple[Mapping[str, str], float]]
) -> dict[Key, Labelled]:
    """Return the series produced by a recording rule.

    Raises:
        RuleFailed: If two series have the same labels.
    """
    found: dict[Key, Labelled] = {}
    for own, value in series:
        labels = {**own, "__name__": rule.name, **rule.labels}
        labels = {name: each for name, each in labels.items() if each}
        key = key_of(labels)
        if key in found:
            raise RuleFailed(
                "vector contains metrics with the same labelset after applying rule labels"
            )
        found[key] = Labelled(labels, {}, value)
    return found


def next_states(
    rule: Rule, limit: int, now: int, found: Mapping[Key, Labelled], before: Mapping[Key, Alert]
) -> dict[Key, Alert]:
    """Return the alerts of a rule after an evaluation at *now*, including resolved ones.

    Raises:
        RuleFailed: If more than *limit* alerts are active. Their state is then lost, as in
            Prometheus.
    """
    after: dict[Key, Alert] = {}
    active = 0
    for key, alert in before.items():
        if key in found:
            continue
        kept = _without_series(rule, now, alert)
        if kept is not None:
            after[key] = kept
            active += kept.state != RESOLVED
    for key, each in found.items():
        old = before.get(key)
        if old is None or old.state == RESOLVED:
            alert = Alert(each.labels, each.annotations, each.value, PENDING, now)
        else:
            alert = replace(old, annotations=each.annotations, value=each.value, kept_since=0)
        if alert.state == PENDING and now - alert.active_since >= rule.for_ms:
            alert = replace(alert, state=FIRING, fired_at=now)
        after[key] = alert
        active += 1
    if limit and active > limit:
        raise RuleFailed(f"exceeded limit of {limit} with {active} alerts")
    return after


def _without_series(rule: Rule, now: int, alert: Alert) -> Alert | None:
    """Return the next state of an alert without a series; None if it is over."""
    if alert.state == FIRING and rule.keep_firing_for_ms:
        since = alert.kept_since or now
        if now - since < rule.keep_firing_for_ms:
            return replace(alert, kept_since=since)
    return over(now, alert)


def over(now: int, alert: Alert) -> Alert | None:
    """Return an alert that is over at *now*, as long as receivers are informed; otherwise None."""
    if alert.state == PENDING:
        return None
    if alert.state == FIRING:
        return replace(alert, state=RESOLVED, resolved_at=now)
    return alert if now - alert.resolved_at <= RESOLVED_RETENTION_MS else None
