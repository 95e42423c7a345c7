"""Requests that were recorded, so that a repeat of one is recognised by every server process.

A request is claimed for a short time before it is recorded, and remembered for longer afterwards.
So a process that dies in between blocks a repeat for that short time only.
"""

from . import keys
from .driver import Operation


def find(namespace: str, request: str) -> Operation[bytes | None]:
    """Return what is remembered of a request; None if nothing is."""
    (found,) = yield [("GET", keys.request(namespace, request))]
    return found  # type: ignore[no-any-return]


def claim(namespace: str, request: str, value: bytes, lease_ms: int) -> Operation[bytes | None]:
    """Claim a request with *value*, which no other claim has; return None if that succeeded.

    If it is claimed or remembered already, return the value of that.
    """
    key = keys.request(namespace, request)
    found = None
    # The earlier claim may expire between the two commands.
    while found is None:
        claimed, found = yield [("SET", key, value, "NX", "PX", lease_ms), ("GET", key)]
        # redis-py sends a command again if the connection was lost, and then finds its own claim.
        if claimed or found == value:
            return None
    return found  # type: ignore[no-any-return]


def remember(namespace: str, request: str, value: bytes, ttl_ms: int) -> Operation[None]:
    """Remember *value* of a request for *ttl_ms*."""
    yield [("SET", keys.request(namespace, request), value, "PX", ttl_ms)]
