"""The log of sent notifications in Redis."""

from collections.abc import Mapping

import msgpack

from redismetrics.store import keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading

from .groups import Sent

LEASE = "notify"
TTL_MS = 5 * 86_400_000


def read_log(namespace: str) -> Operation[dict[str, Sent]]:
    """Read what was sent in the last five days, by the names of groups and ways."""
    (flat,) = yield [("HGETALL", keys.alerts(namespace).sent)]
    found = {}
    with reading("the log of notifications"):
        for name, data in pairs(flat).items():
            first, flushed, sent, firing, resolved = msgpack.unpackb(data)
            found[name.decode()] = Sent(
                int(first), int(flushed), int(sent), frozenset(firing), frozenset(resolved)
            )
    return found


def write_log(
    namespace: str, fence: int, entries: Mapping[str, Sent], forgotten: list[str]
) -> Operation[bool]:
    """Write entries, remove others; return False if another process notifies by now."""
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
