"""The steps yielded by feeds and relays for everything they need done, one at a time.

Both are generators, like operations (see `redismetrics.store.driver`). They yield a step, and its
result is sent, or its error thrown, into the generator. There are two drivers for each, one for a
thread and one for an event loop: in `transport` for feeds, in `wire` for the relay.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from redismetrics.store.catalog import MetricDescription
from redismetrics.store.driver import Operation

from .inbox import Interest

T = TypeVar("T")

# A pub/sub message as redis-py returns it.
WireMessage = dict[str, Any]


# -- of a relay -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the connection that will be subscribed. *timeout* is in seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to channels, or to patterns. The confirmations arrive as messages."""

    names: list[bytes]
    are_patterns: bool


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Unsubscribe from channels, or from patterns. The confirmations arrive as messages."""

    names: list[bytes]
    are_patterns: bool


@dataclass(frozen=True, slots=True)
class Read:
    """Return the next message.

    Return None if none arrives within *timeout* seconds, or if the relay is woken.
    """

    timeout: float


@dataclass(frozen=True, slots=True)
class Ping:
    """Send PING. The reply arrives as a message."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, if there is one. Never raises."""


# -- of a feed ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Database:
    """Return the number of the client's database."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Begin to receive what is of interest, over the connection that all feeds of a client share.

    A feed that listens already gets an empty inbox. *ping_after* is the number of seconds of
    silence after which the connection is tested.
    """

    interest: Interest
    ping_after: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Return whether Redis has confirmed the subscription; wait for it at most *timeout* s."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Next:
    """Return the messages that wait, at most a batch; none if none arrives within *timeout* s."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop receiving. Never raises."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run *operation* over another connection and return its result."""

    operation: Operation[Any]


@dataclass(frozen=True, slots=True)
class WantedMetric:
    """A metric whose description is needed, with the series *ids*.

    *stamp* is the one that it must have in the catalogue, or b"" if any will do.
    """

    shard: int
    name: str
    ids: list[int]
    stamp: bytes

    def is_met_by(self, known: MetricDescription) -> bool:
        return self.stamp in (b"", known.stamp) and all(map(known.series.__contains__, self.ids))


@dataclass(frozen=True, slots=True)
class Describe:
    """Return a description for each of *metrics*, or the `FormatMismatch` that reading it raised.

    Those that are not known well enough to a feed of this client are read together.
    """

    namespace: str
    metrics: list[WantedMetric]


@dataclass(frozen=True, slots=True)
class Compute:
    """Return the result of *function*. With *is_large*, it must not block an event loop."""

    function: Callable[[], Any]
    is_large: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for *seconds*, or until the subscription is closed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Prepare to reconnect after a failure: an embedded server may have to be restarted."""


WireStep = Connect | Subscribe | Unsubscribe | Read | Ping | Disconnect
FeedStep = Database | Listen | Confirmed | Next | Leave | Run | Describe | Compute | Pause | Renew
Steps = Generator[FeedStep, Any, T]
WireSteps = Generator[WireStep, Any, T]
