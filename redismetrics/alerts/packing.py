"""The stored form of alerts and of the state of their groups: msgpack.

Stored data is validated like any input: a missing field, or one of another type, raises one of the
errors that `store.replies.reading` turns into `FormatMismatch`. Fields from newer versions are
ignored.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import msgpack

from .rules import Rule
from .states import FIRING, PENDING, RESOLVED, RESOLVED_RETENTION_MS, Alert

# The last ms of the year 9999, the latest time in ISO 8601.
_LAST_MS = 253_402_300_799_999
# Prometheus lets Alertmanager end an alert after four intervals without news.
_VALID_INTERVALS = 4


@dataclass(slots=True)
class RuleStatus:
    """The last evaluation of a rule. *took* is in seconds; *error* is empty if it succeeded."""

    rule: str
    error: str = ""
    took: float = 0.0
    evaluated_at: int = 0


@dataclass(slots=True)
class GroupStatus:
    """The last evaluation of a group, and its contents.

    Attributes:
        file: The rule file, on the host of the evaluating process.
        text: Digest of its rules, which differs between workers with different files.
        evaluated_at: Time of the last evaluation, Unix ms.
        took: Its duration in seconds.
        missed: Evaluations skipped since the first one, because an earlier one took too long or no
            process evaluated the group.
        holder: Id of the evaluating process.
        rules: The rules, in the order of the group.
        problems: Problems of the evaluating process, with files or receivers.
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

    def valid_ms(self) -> int:
        """Return how long after the last evaluation the states of its alerts count; ms."""
        return max(_VALID_INTERVALS * self.interval_ms, RESOLVED_RETENTION_MS)


class SavedAlert(NamedTuple):
    """A stored alert. *sent_at* is when it was last sent to Alertmanagers, in Unix ms."""

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
    if state not in (PENDING, FIRING, RESOLVED):
        raise ValueError(f"the state of an alert must be known, got {state!r}")
    times = [_time(each) for each in (since, fired, resolved, kept)]
    return SavedAlert(
        Alert(_texts(labels), _texts(annotations), float(value), state, *times), _time(sent)
    )


def pack_status(status: GroupStatus) -> bytes:
    """Return the status of a group as msgpack."""
    fields = asdict(status)
    fields["rules"] = [
        [each.rule, each.error, each.took, each.evaluated_at] for each in status.rules
    ]
    packed: bytes = msgpack.packb(fields)
    return packed


def unpack_status(data: bytes) -> GroupStatus:
    """Return what `pack_status` packed."""
    found = msgpack.unpackb(data)
    return GroupStatus(
        name=_text(found["name"]),
        file=_text(found["file"]),
        text=_text(found["text"]),
        interval_ms=_time(found["interval_ms"]),
        evaluated_at=_time(found["evaluated_at"]),
        took=float(found["took"]),
        missed=int(found["missed"]),
        holder=_text(found["holder"]),
        rules=[
            RuleStatus(_text(rule), _text(error), float(took), _time(at))
            for rule, error, took, at in found["rules"]
        ],
        problems=[_text(each) for each in found["problems"]],
    )


def rule_fields(rule: Rule) -> dict[str, Any]:
    """Return a rule in the form stored for `/api/v1/rules` and `alerts list`."""
    return {
        "name": rule.name,
        "query": rule.expr,
        "is_alert": rule.is_alert,
        "for_ms": rule.for_ms,
        "keep_firing_for_ms": rule.keep_firing_for_ms,
        "labels": rule.labels,
        "annotations": rule.annotations,
    }


def unpack_rules(data: bytes) -> list[dict[str, Any]]:
    """Return the fields of a group's rules, as returned by `rule_fields`."""
    return [
        {
            "name": _text(each["name"]),
            "query": _text(each["query"]),
            "is_alert": bool(each["is_alert"]),
            "for_ms": _time(each["for_ms"]),
            "keep_firing_for_ms": _time(each["keep_firing_for_ms"]),
            "labels": _texts(each["labels"]),
            "annotations": _texts(each["annotations"]),
        }
        for each in msgpack.unpackb(data)
    ]


def pack_change(change: StateChange, number: str) -> bytes:
    """Return a change as msgpack. *number* distinguishes equal changes at the same time."""
    packed: bytes = msgpack.packb([*change, number])
    return packed


def unpack_change(data: bytes) -> StateChange:
    """Return what `pack_change` packed."""
    at, group, rule, labels, before, after, value, _ = msgpack.unpackb(data)
    return StateChange(
        _time(at),
        _text(group),
        _text(rule),
        _texts(labels),
        _text(before),
        _text(after),
        float(value),
    )


def _time(value: Any) -> int:
    """Return a time or duration in ms."""
    number = int(value)
    if not 0 <= number <= _LAST_MS:
        raise ValueError(f"a time must be 0 to {_LAST_MS} ms, got {number}")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text must be a str, got {type(value).__name__}")
    return value


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"labels must be a mapping, got {type(value).__name__}")
    return {_text(name): _text(each) for name, each in value.items()}
