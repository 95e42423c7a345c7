"""The steps that a feed yields: everything it needs done over a connection, one step at a time.

A feed is a generator, as operations are (see `redismetrics.store.driver`). It yields a step, and
is sent the step's result, or thrown the error. `transport` holds the two drivers: one for a
thread, one for an event loop.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from redismetrics.store.driver import Operation

T = TypeVar("T")

# A pub/sub message as redis-py returns it.
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the connection that will be subscribed; return the number of its database.

    *timeout* is in seconds.
    """

    timeout: float


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send SUBSCRIBE. The confirmations arrive as messages."""

    channels: list[str]


@dataclass(frozen=True, slots=True)
class SubscribePatterns:
    """Send PSUBSCRIBE. The confirmations arrive as messages."""

    patterns: list[str]


@dataclass(frozen=True, slots=True)
class Read:
    """Return the next message, or None if none arrives within *timeout* seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Ping:
    """Send PING. The reply arrives as a message."""


@dataclass(frozen=True, slots=True)
class Run:
    """Return the result of *operation*, which runs over another connection."""

    operation: Operation[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for *seconds*, or until the subscription is closed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, if there is one. Never raises."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Prepare to reconnect after a failure: an embedded server may have to be started again."""


PubSubStep = Subscribe | SubscribePatterns | Read | Ping
Step = PubSubStep | Connect | Run | Pause | Disconnect | Renew
Steps = Generator[Step, Any, T]
