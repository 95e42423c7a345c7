"""The log of sent notifications in Redis."""

from collections.abc import Mapping

import msgpack

from redismetrics.errors import FormatMismatch
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading
from redismetrics.store.unreadable import skip

from .groups import Sent

LEASE = "notify"
TTL_MS = 5 * 86_400_000


def read_log(namespace: str) -> Operation[dict[str, Sent]]:
    """Read what was sent in the last five days, by the names of groups and channels."""
    (flat,) = yield [("HGETALL", keys.alerts(namespace).sent)]
    found = {}
    for name, data in pairs(flat).items():
        try:
            with reading("an entry of the log of notifications"):
                found[name.decode()] = _unpack(data)
        except FormatMismatch as error:
            # Its group is treated as new.
            skip(f"what was sent to {name.decode(errors='replace')!r}", error)
    return found


def _unpack(data: bytes) -> Sent:
    first, flushed, sent, firing, resolved = msgpack.unpackb(data)
    prints = (frozenset(map(_text, firing)), frozenset(map(_text, resolved)))
    return Sent(int(first), int(flushed), int(sent), *prints)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a fingerprint must be a str, got {type(value).__name__}")
    return value


def write_log(
    namespace: str, fence: int, entries: Mapping[str, Sent], forgotten: list[str]
) -> Operation[bool]:
    """Write entries and remove others; return False if another process now sends notifications."""
    flat: list[object] = []
    for name, each in entries.items():
        packed = msgpack.packb(
            [
                each.first_at,
                each.flushed_at,
                each.sent_at,
                sorted(each.firing),
                sorted(each.resolved),
            ]
        )
        flat += (name, packed)
    of = keys.alerts(namespace)
    (reply,) = yield [
        (
            "EVALSHA",
            scripts.script("sent").sha,
            2,
            of.sent,
            of.leases,
            LEASE,
            fence,
            TTL_MS,
            msgpack.packb(forgotten),
            *flat,
        )
    ]
    return bool(reply)
