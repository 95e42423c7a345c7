"""Rules and alerts in Redis, in the form of Prometheus' HTTP API."""

from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.promql.number_format import format_value
from redismetrics.store.driver import Operation
from redismetrics.store.server import now

from .packing import SavedAlert
from .states import FIRING, RESOLVED, Alert, fingerprint
from .store import SavedGroup, load_groups, rule_id_of
from .times import time_text

# A group that missed this many of its intervals counts as no longer evaluated.
_SILENT_INTERVALS = 3


def list_alerts(namespace: str) -> Operation[list[dict[str, Any]]]:
    """Read all pending and firing alerts, in the form of `/api/v1/alerts`."""
    groups = yield from load_groups(namespace)
    at = yield from now()
    return [
        {**alert_row(saved.alert), "fingerprint": fingerprint(saved.alert.labels)}
        for group in groups.values()
        for saved in _active(group, at).values()
    ]


def list_rules(namespace: str) -> Operation[list[dict[str, Any]]]:
    """Read all groups with their rules and states, in the form of `/api/v1/rules`."""
    groups = yield from load_groups(namespace)
    at = yield from now()
    return [_group(groups[name], at) for name in sorted(groups)]


def _active(group: SavedGroup, at: int) -> dict[bytes, SavedAlert]:
    """Return the alerts that are pending or fire; none if nobody evaluates the group any more."""
    if at - group.status.evaluated_at > group.status.valid_ms():
        return {}
    return {name: saved for name, saved in group.alerts.items() if saved.alert.state != RESOLVED}


def alert_row(alert: Alert) -> dict[str, Any]:
    """Return an alert in the form of the API."""
    row: dict[str, Any] = {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": alert.state,
        "activeAt": time_text(alert.active_since),
        "value": format_value(alert.value),
    }
    if alert.kept_since:
        row["keepFiringSince"] = time_text(alert.kept_since)
    return row


def _group(group: SavedGroup, at: int) -> dict[str, Any]:
    status = group.status
    by_rule: dict[str, list[Alert]] = {}
    for name, saved in _active(group, at).items():
        by_rule.setdefault(rule_id_of(name), []).append(saved.alert)
    rules = [
        _rule(fields, each.error, each.took, each.evaluated_at, by_rule.get(each.rule, ()))
        for fields, each in zip(group.rules, status.rules, strict=False)
    ]
    return {
        "name": status.name,
        "file": status.file,
        "rules": rules,
        "interval": status.interval_ms / 1000,
        "limit": 0,
        "evaluationTime": status.took,
        "lastEvaluation": time_text(status.evaluated_at),
    }


def _rule(
    fields: Mapping[str, Any], error: str, took: float, at: int, alerts: Iterable[Alert]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": fields["name"],
        "query": fields["query"],
        "labels": fields["labels"],
        "health": "err" if error else "ok",
        "evaluationTime": took,
        "lastEvaluation": time_text(at),
    }
    if error:
        row["lastError"] = error
    if not fields["is_alert"]:
        return row | {"type": "recording"}
    rows = [alert_row(alert) for alert in alerts]
    states = {each["state"] for each in rows}
    return row | {
        "state": next((state for state in (FIRING, "pending") if state in states), RESOLVED),
        "duration": fields["for_ms"] / 1000,
        "keepFiringFor": fields["keep_firing_for_ms"] / 1000,
        "annotations": fields["annotations"],
        "alerts": rows,
        "type": "alerting",
    }


def findings(groups: Mapping[str, SavedGroup], at: int) -> list[str]:
    """Return the problems with the evaluation of rules, for the doctor. Times are Unix ms."""
    found = []
    for name, group in groups.items():
        status = group.status
        behind = at - status.evaluated_at
        if status.interval_ms and behind > _SILENT_INTERVALS * status.interval_ms + 60_000:
            found.append(
                f"group {name} was last evaluated {behind // 1000} s ago; if its rules were "
                "removed, it is forgotten after seven days"
            )
        if status.interval_ms and 1000 * status.took > status.interval_ms:
            found.append(
                f"group {name} takes {status.took:.1f} s, longer than its interval of "
                f"{status.interval_ms / 1000:g} s"
            )
        failing = [
            f"{fields['name']}: {each.error}"
            for fields, each in zip(group.rules, status.rules, strict=False)
            if each.error
        ]
        found += [f"rule of group {name} fails: {each}" for each in failing[:5]]
        found += [f"group {name}: {each}" for each in status.problems]
        if group.other_seen_at > at - 60_000:
            found.append(
                f"two processes have different rules for group {name}; deploy the same to both"
            )
    return found
