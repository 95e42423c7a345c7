"""Copy alerts (states, history, silences and sent notifications), and marks. Leases are not
copied: nothing is evaluated at the target yet.

Existing data at the target is replaced.
"""

from typing import Any

from redismetrics.store import keys

from .copy_sides import CopySides, send

# Members of the history to read, and fields and members to write, at once.
_AT_ONCE = 1000


def copy_marks(sides: CopySides) -> None:
    """Copy the marks of the namespace."""
    _copy_sorted_set(sides, keys.marks(sides.namespace))


def copy_alerts(sides: CopySides) -> None:
    """Copy the alerts of the namespace."""
    namespace = sides.namespace
    of = keys.alerts(namespace)
    (groups,) = sides.read(send([("ZRANGE", of.groups, 0, -1)]))
    names = [name.decode(errors="replace") for name in groups]
    hashes = [of.silences, of.sent, *(keys.alert_group(namespace, name) for name in names)]
    for key in hashes:
        flat, ttl = sides.read(send([("HGETALL", key), ("PTTL", key)]))
        _write(sides, "HSET", key, flat, ttl)
    for key in (of.groups, of.history):
        _copy_sorted_set(sides, key)


def _copy_sorted_set(sides: CopySides, key: str) -> None:
    count, ttl = sides.read(send([("ZCARD", key), ("PTTL", key)]))
    for first in range(0, count, _AT_ONCE):
        last = first + _AT_ONCE - 1
        (found,) = sides.read(send([("ZRANGE", key, first, last, "WITHSCORES")]))
        flat = [each for pair in zip(found[1::2], found[::2], strict=True) for each in pair]
        _write(sides, "ZADD", key, flat, ttl)


def _write(sides: CopySides, command: str, key: str, flat: list[Any], ttl: int) -> None:
    """Write pairs, with the same expiry as at the source."""
    if not flat:
        return
    for first in range(0, len(flat), 2 * _AT_ONCE):
        sides.write(send([(command, key, *flat[first : first + 2 * _AT_ONCE])]))
    if ttl > 0:
        sides.write(send([("PEXPIRE", key, ttl)]))
