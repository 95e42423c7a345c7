"""Recorded requests, so that every server process recognises a repeat.

A request is claimed for a short time before it is recorded, and remembered for longer afterwards.
So a process that dies in between blocks a repeat only for that short time.

The hashes of the last hours are listed in one key, because we never search for keys by pattern. A
request that is no longer listed, because of a wrong clock, expires by itself.
"""

from redismetrics.model.time import HOUR

from . import keys
from .driver import Command, Operation

# How long a request is listed. It may be remembered an hour after it was claimed, for an hour.
LISTED_MS = 3 * HOUR
# Requests deleted in one round trip.
_DELETED_AT_ONCE = 1_000


def find(namespace: str, request: str) -> Operation[bytes | None]:
    """Return the remembered value of a request, or None."""
    (found,) = yield [("GET", keys.request(namespace, request))]
    return found  # type: ignore[no-any-return]


def claim(
    namespace: str, request: str, value: bytes, lease_ms: int, now_ms: int
) -> Operation[bytes | None]:
    """Claim a request with a unique *value*; return None on success.

    If it is already claimed or remembered, return that value.
    """
    key, listed = keys.request(namespace, request), keys.requests(namespace)
    commands: list[Command] = [
        ("ZADD", listed, now_ms, request),
        ("ZREMRANGEBYSCORE", listed, "-inf", now_ms - LISTED_MS),
        ("PEXPIRE", listed, LISTED_MS),
        ("SET", key, value, "NX", "PX", lease_ms),
        ("GET", key),
    ]
    found = None
    # The earlier claim may expire between SET and GET.
    while found is None:
        *_, claimed, found = yield commands
        # redis-py sends a command again if the connection was lost, and then finds its own claim.
        if claimed or found == value:
            return None
    return found  # type: ignore[no-any-return]


def remember(namespace: str, request: str, value: bytes, ttl_ms: int) -> Operation[None]:
    """Remember *value* of a request for *ttl_ms*."""
    yield [("SET", keys.request(namespace, request), value, "PX", ttl_ms)]


def clear(namespace: str) -> Operation[None]:
    """Forget all listed requests."""
    listed = keys.requests(namespace)
    while True:
        (found,) = yield [("ZRANGE", listed, 0, _DELETED_AT_ONCE - 1)]
        if not found:
            return
        yield [("DEL", keys.request(namespace, each.decode())) for each in found]
        # After them, so that an interrupted call can be repeated.
        yield [("ZREM", listed, *found)]
