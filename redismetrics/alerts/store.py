"""What Redis holds of alerts: states, history, silences, and what was sent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from hashlib import blake2b
from typing import Any, NamedTuple

import msgpack

from redismetrics.store import keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading

from .rules import Group, Rule
from .states import Alert

DAY_MS = 86_400_000
# How long a group is kept after its last evaluation: longer than any sensible `for`.
GROUP_TTL_MS = 7 * DAY_MS
HISTORY_TTL_MS = 30 * DAY_MS
HISTORY_SIZE = 100_000

_TTLS = msgpack.packb([GROUP_TTL_MS, HISTORY_TTL_MS, HISTORY_SIZE])
# Fields of a group's hash that are not alerts: `GroupStatus`, its rules as they are written, and
# the different rules of a process that does not evaluate the group.
_STATUS, _RULES, _OTHER = b"", b"rules", b"other"


@dataclass(slots=True)
class RuleStatus:
    """How the last evaluation of a rule went. *took* is in seconds; *error* is empty if it did."""

    rule: str
    error: str = ""
    took: float = 0.0
    evaluated_at: int = 0


@dataclass(slots=True)
class GroupStatus:
    """How the last evaluation of a group went, and what it consists of.

    Attributes:
        file: Of its rules, as on the evaluating process' host.
        text: Digest of its rules: two workers with different files have different ones.
        evaluated_at: Time of the last evaluation, Unix ms.
        took: Its duration in seconds.
        missed: Evaluations that were skipped, because an earlier one took too long or nothing
            evaluated the group, since the group was first evaluated.
        holder: Id of the process that evaluates it.
        rules: In the order of the group.
        problems: What is wrong with the process that evaluates it: files, receivers.
    """

    name: str = ""
    file: str = ""
    text: str = ""
    interval_ms: int = 0
    evaluated_at: int = 0
    took: float = 0.0
    missed: int = 0
    holder: str = ""
    rules: list[RuleStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class SavedAlert(NamedTuple):
    """An alert as Redis holds it. *sent_at* is when it was last sent to Alertmanagers, Unix ms."""

    alert: Alert
    sent_at: int = 0


class StateChange(NamedTuple):
    """A change of an alert's state, for the history. *at* is in Unix ms."""

    at: int
    group: str
    rule: str
    labels: dict[str, str]
    before: str
    after: str
    value: float


def pack_alert(saved: SavedAlert) -> bytes:
    """Return an alert as msgpack."""
    alert = saved.alert
    packed: bytes = msgpack.packb(
        [
            alert.labels,
            alert.annotations,
            alert.value,
            alert.state,
            alert.active_since,
            alert.fired_at,
            alert.resolved_at,
            alert.kept_since,
            saved.sent_at,
        ]
    )
    return packed


def unpack_alert(data: bytes) -> SavedAlert:
    """Return what `pack_alert` packed."""
    labels, annotations, value, state, since, fired, resolved, kept, sent = msgpack.unpackb(data)
    return SavedAlert(
        Alert(
            dict(labels),
            dict(annotations),
            float(value),
            str(state),
            int(since),
            int(fired),
            int(resolved),
            int(kept),
        ),
        int(sent),
    )


def alert_field(rule: str, alert: Alert) -> bytes:
    """Return the field of an alert: its rule, and a digest of its labels."""
    labels = msgpack.packb(sorted(alert.labels.items()))
    return f"{rule} {blake2b(labels, digest_size=12).hexdigest()}".encode()


def rule_id_of(name: bytes) -> str:
    """Return the rule of a field of an alert."""
    return name.decode(errors="replace").partition(" ")[0]


def rule_fields(rule: Rule) -> dict[str, Any]:
    """Return a rule as it is kept for `/api/v1/rules` and `alerts list`."""
    return {
        "name": rule.name,
        "query": rule.expr,
        "is_alert": rule.is_alert,
        "for_ms": rule.for_ms,
        "keep_firing_for_ms": rule.keep_firing_for_ms,
        "labels": rule.labels,
        "annotations": rule.annotations,
    }


def text_digest(group: Group) -> str:
    """Return a digest of a group's rules: two processes with other rules have another one."""
    text = msgpack.packb(
        [group.interval_ms, group.limit, group.query_offset_ms, [*map(rule_fields, group.rules)]]
    )
    return blake2b(text, digest_size=8).hexdigest()


@dataclass(slots=True)
class SavedGroup:
    """A group as Redis holds it.

    Attributes:
        alerts: By the name of their field, see `alert_field`.
        rules: The fields of each rule as its file has them, see `rule_fields`.
        other_seen_at: When a process last had other rules under this name; Unix ms, 0: never.
    """

    status: GroupStatus = field(default_factory=GroupStatus)
    alerts: dict[bytes, SavedAlert] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    other_seen_at: int = 0


def load_group(namespace: str, group: str) -> Operation[SavedGroup]:
    """Read the state of a group; an empty one if there is none."""
    (flat,) = yield [("HGETALL", keys.alert_group(namespace, group))]
    return _unpack_group(flat)


def load_groups(namespace: str) -> Operation[dict[str, SavedGroup]]:
    """Read all groups that were evaluated in the last days, by their names."""
    (names,) = yield [("ZRANGE", keys.alerts(namespace).groups, 0, -1)]
    if not names:
        return {}
    groups = [name.decode(errors="replace") for name in names]
    replies = yield [("HGETALL", keys.alert_group(namespace, group)) for group in groups]
    return {group: _unpack_group(flat) for group, flat in zip(groups, replies, strict=True) if flat}


def _unpack_group(flat: list[bytes]) -> SavedGroup:
    fields = pairs(flat)
    with reading("alerts"):
        status = GroupStatus()
        if _STATUS in fields:
            found = msgpack.unpackb(fields.pop(_STATUS))
            rules = [RuleStatus(*each) for each in found.pop("rules")]
            status = GroupStatus(**found, rules=rules)
        written = msgpack.unpackb(fields.pop(_RULES)) if _RULES in fields else []
        other_seen_at = int(fields.pop(_OTHER, 0))
        alerts = {name: unpack_alert(data) for name, data in fields.items()}
        return SavedGroup(status, alerts, written, other_seen_at)


def note_other_text(namespace: str, group: str, text: str, now_ms: int) -> Operation[bool]:
    """Note that this process has other rules under that name, if it has; return whether it has."""
    key = keys.alert_group(namespace, group)
    (data,) = yield [("HGET", key, _STATUS)]
    if data is None:
        return False
    with reading("alerts"):
        differs = bool(msgpack.unpackb(data)["text"] != text)
    if differs:
        # The hash may have expired meanwhile.
        yield [("HSET", key, _OTHER, now_ms), ("PEXPIRE", key, GROUP_TTL_MS)]
    return differs


def save_group(
    namespace: str,
    group: str,
    fence: int,
    status: GroupStatus,
    written: Mapping[bytes, SavedAlert],
    removed: Iterable[bytes],
    changes: Iterable[StateChange],
    rules: list[dict[str, Any]] | None = None,
) -> Operation[bool]:
    """Write what an evaluation changed; return False if another process has the group by now.

    *rules* are those of the group, if they changed.
    """
    fields = {each.name: getattr(status, each.name) for each in dataclass_fields(status)}
    fields["rules"] = [[r.rule, r.error, r.took, r.evaluated_at] for r in status.rules]
    flat: list[Any] = [_STATUS, msgpack.packb(fields)]
    if rules is not None:
        flat += (_RULES, msgpack.packb(rules))
    for name, saved in written.items():
        flat += (name, pack_alert(saved))
    of = keys.alerts(namespace)
    (reply,) = yield [
        (
            "EVALSHA",
            scripts.script("alerts").sha,
            4,
            keys.alert_group(namespace, group),
            of.leases,
            of.groups,
            of.history,
            group,
            fence,
            status.evaluated_at,
            _TTLS,
            _pack_list(removed),
            # Two equal changes at one time are two members, but not those of an evaluation that is
            # saved again because the reply was lost.
            _pack_list(
                msgpack.packb([*change, f"{group} {number}"])
                for number, change in enumerate(changes)
            ),
            *flat,
        )
    ]
    return bool(reply)


def _pack_list(items: Iterable[bytes]) -> bytes:
    """Return bytes for a script: Redis' msgpack does not know the type `bin`."""
    packed: bytes = msgpack.packb(list(items), use_bin_type=False)
    return packed


def history(namespace: str, since_ms: int, limit: int) -> Operation[list[StateChange]]:
    """Read changes of states from *since_ms* on, the newest first, at most *limit*."""
    key = keys.alerts(namespace).history
    (found,) = yield [("ZREVRANGEBYSCORE", key, "+inf", since_ms, "LIMIT", 0, limit)]
    with reading("history"):
        return [StateChange(*msgpack.unpackb(each)[:-1]) for each in found]
