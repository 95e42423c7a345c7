"""Alerts in Redis: states, history, silences and sent notifications."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b, sha1
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading
from redismetrics.store.unreadable import skip

from .packing import (
    GroupStatus,
    SavedAlert,
    StateChange,
    pack_alert,
    pack_change,
    pack_status,
    rule_fields,
    unpack_alert,
    unpack_change,
    unpack_rules,
    unpack_status,
)
from .rules import Group
from .states import Alert

log = logging.getLogger("redismetrics")

DAY_MS = 86_400_000
# How long a group is kept after its last evaluation: longer than any sensible `for`.
GROUP_TTL_MS = 7 * DAY_MS
HISTORY_TTL_MS = 30 * DAY_MS
HISTORY_SIZE = 100_000

_TTLS = msgpack.packb([GROUP_TTL_MS, HISTORY_TTL_MS, HISTORY_SIZE])
# Fields of a group's hash that are not alerts: `GroupStatus`, its rules as they are written, and
# the different rules of a process that does not evaluate the group.
_STATUS, _RULES, _OTHER = b"", b"rules", b"other"


# Replies of alerts.lua.
_IS_SAVED, _IS_DIFFERENT = 1, -1


def _digest(status: bytes) -> str:
    """Return what alerts.lua compares: SHA1, the only digest that Redis offers to scripts."""
    return sha1(status, usedforsecurity=False).hexdigest()


def alert_field(rule: str, alert: Alert) -> bytes:
    """Return the hash field of an alert: its rule and a digest of its labels."""
    labels = msgpack.packb(sorted(alert.labels.items()))
    return f"{rule} {blake2b(labels, digest_size=12).hexdigest()}".encode()


def rule_id_of(name: bytes) -> str:
    """Return the rule of an alert's hash field."""
    return name.decode(errors="replace").partition(" ")[0]


def text_digest(group: Group) -> str:
    """Return a digest of a group's rules, which differs between processes with different rules."""
    text = msgpack.packb(
        [group.interval_ms, group.limit, group.query_offset_ms, [*map(rule_fields, group.rules)]]
    )
    return blake2b(text, digest_size=8).hexdigest()


@dataclass(slots=True)
class SavedGroup:
    """A stored group.

    Attributes:
        alerts: The alerts by hash field; see `alert_field`.
        rules: The fields of each rule in its file; see `rule_fields`.
        other_seen_at: When a process last had different rules under this name; Unix ms, 0: never.
        unreadable: Names of unreadable fields, which the next evaluation removes.
        digest: Of its status as Redis holds it.
    """

    status: GroupStatus = field(default_factory=GroupStatus)
    alerts: dict[bytes, SavedAlert] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    other_seen_at: int = 0
    unreadable: list[bytes] = field(default_factory=list)
    digest: str = _digest(b"")


def load_group(namespace: str, group: str) -> Operation[SavedGroup]:
    """Read the state of a group; return an empty one if there is none."""
    (flat,) = yield [("HGETALL", keys.alert_group(namespace, group))]
    return _unpack_group(group, flat)


def load_groups(namespace: str) -> Operation[dict[str, SavedGroup]]:
    """Read all recently evaluated groups, by name."""
    (names,) = yield [("ZRANGE", keys.alerts(namespace).groups, 0, -1)]
    if not names:
        return {}
    groups = [name.decode(errors="replace") for name in names]
    replies = yield [("HGETALL", keys.alert_group(namespace, group)) for group in groups]
    return {
        group: _unpack_group(group, flat)
        for group, flat in zip(groups, replies, strict=True)
        if flat
    }


def _unpack_group(group: str, flat: list[bytes]) -> SavedGroup:
    """Return the fields of a group's hash; an unreadable one counts as missing."""
    fields = pairs(flat)
    saved = SavedGroup(digest=_digest(fields.get(_STATUS, b"")))
    for name, data in fields.items():
        try:
            with reading(f"group {group} of alert rules"):
                if name == _STATUS:
                    saved.status = unpack_status(data)
                elif name == _RULES:
                    saved.rules = unpack_rules(data)
                elif name == _OTHER:
                    saved.other_seen_at = int(data)
                else:
                    saved.alerts[name] = unpack_alert(data)
        except FormatMismatch as error:
            skip(f"field {name.decode(errors='replace')!r}", error)
            saved.unreadable.append(name)
    return saved


def note_other_text(namespace: str, group: str, text: str, now_ms: int) -> Operation[bool]:
    """Note it if this process has different rules under this name; return whether it does."""
    key = keys.alert_group(namespace, group)
    (data,) = yield [("HGET", key, _STATUS)]
    if data is None:
        return False
    try:
        with reading(f"group {group} of alert rules"):
            differs = bool(unpack_status(data).text != text)
    except FormatMismatch:
        # The process that evaluates the group will rewrite it.
        return False
    if differs:
        # The hash may have expired in the meantime.
        yield [("HSET", key, _OTHER, now_ms), ("PEXPIRE", key, GROUP_TTL_MS)]
    return differs


def save_group(
    namespace: str,
    group: str,
    fence: int,
    before: SavedGroup,
    after: SavedGroup,
    changes: Iterable[StateChange],
) -> Operation[bool]:
    """Write the changes of an evaluation; return False if another process now owns the group.

    *before* is the group as last read or saved by this process. If Redis holds a different one,
    because a failover or a crash lost the last write, the whole group is written.
    """
    status = pack_status(after.status)
    after.digest = _digest(status)
    # Two equal changes at the same time are two members, unless an evaluation is saved again
    # because the reply was lost.
    history = [pack_change(change, f"{group} {number}") for number, change in enumerate(changes)]

    def save(known: SavedGroup, digest: str) -> Operation[int]:
        removed = [name for name in (*known.alerts, *known.unreadable) if name not in after.alerts]
        flat: list[Any] = [_STATUS, status]
        if after.rules != known.rules:
            flat += (_RULES, msgpack.packb(after.rules))
        for name, saved in after.alerts.items():
            if known.alerts.get(name) != saved:
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
                after.status.evaluated_at,
                _TTLS,
                digest,
                _pack_list(removed),
                _pack_list(history),
                *flat,
            )
        ]
        return int(reply)

    result = yield from save(before, before.digest)
    if result == _IS_DIFFERENT:
        log.warning("group %s: Redis lacks what was saved last; all of it is written again", group)
        result = yield from save(SavedGroup(), "")
    return result == _IS_SAVED


def _pack_list(items: Iterable[bytes]) -> bytes:
    """Pack a list for a script: Redis' msgpack does not support the type `bin`."""
    packed: bytes = msgpack.packb(list(items), use_bin_type=False)
    return packed


def history(namespace: str, since_ms: int, limit: int) -> Operation[list[StateChange]]:
    """Read at most *limit* state changes from *since_ms* on, newest first."""
    key = keys.alerts(namespace).history
    (found,) = yield [("ZREVRANGEBYSCORE", key, "+inf", since_ms, "LIMIT", 0, limit)]
    changes = []
    for each in found:
        try:
            with reading("a change of an alert's state"):
                changes.append(unpack_change(each))
        except FormatMismatch as error:
            skip("an entry of the history of alerts", error)
    return changes
