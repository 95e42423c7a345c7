"""Clients of a Redis or Valkey Cluster, blocking and asyncio; `cluster_routing` has the rules."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

from . import pipelines
from .cluster_routing import Address, Command, NodeMap, NodeReplies, Routing, route

if TYPE_CHECKING:
    import redis.asyncio

# Number of shards of a namespace that is created on a cluster.
SHARDS = 16

_ERROR_TYPES = {
    "MOVED": MovedError,
    "ASK": AskError,
    "TRYAGAIN": TryAgainError,
    "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": MasterDownError,
}
_CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)


def _with_error_types(replies: list[Any]) -> list[Any]:
    """Replace general errors in *replies* by cluster-specific ones.

    redis-py before 6 does this only on connections of its own cluster client.
    """
    for at, reply in enumerate(replies):
        if type(reply) is ResponseError:
            word, _, rest = str(reply).partition(" ")
            if word in _ERROR_TYPES:
                replies[at] = _ERROR_TYPES[word](rest)
    return replies


class ClusterClient:
    """Sends commands to the nodes of a cluster. Thread-safe.

    *make* returns a client for one node, which does not retry by itself.
    """

    def __init__(
        self, nodes: NodeMap, make: Callable[[Address], redis.Redis], seconds: float, retries: int
    ) -> None:
        self.nodes = nodes
        self._make, self._seconds, self._retries = make, seconds, retries
        self._clients: dict[Address, redis.Redis] = {}
        self._lock = threading.Lock()

    def send(self, commands: list[Command]) -> list[Any]:
        """Send *commands* in one round trip; return the replies, with errors of commands."""
        routing = route(self.nodes, commands, self._seconds, self._retries)
        return self._drive(routing)  # type: ignore[no-any-return]

    def _drive(self, routing: Routing) -> Any:
        try:
            step = next(routing)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = next(routing)
                else:
                    step = routing.send([self._send_to_node(*request) for request in step])
        except StopIteration as done:
            return done.value

    def primaries(self) -> dict[str, redis.Redis]:
        """Return a client for each current primary, by address.

        Raises:
            redis.ConnectionError, redis.TimeoutError, OSError: If no node knows the primaries.
        """
        self._drive(self.nodes.learn())
        return {f"{host}:{port}": self._node((host, port)) for host, port in self.nodes.primaries}

    def pubsub(self) -> Any:
        """Subscribe through any node: all nodes receive what is published on any of them."""
        node = self._node(random.choice(self.nodes.primaries))
        return node.pubsub()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _node(self, address: Address) -> redis.Redis:
        with self._lock:
            if address not in self._clients:
                self._clients[address] = self._make(address)
            return self._clients[address]

    def _send_to_node(self, address: Address, commands: list[Command]) -> NodeReplies:
        try:
            replies = pipelines.send(self._node(address), commands, strict=False)
            return _with_error_types(replies)
        except _CONNECTION_ERRORS as error:
            return error


class AsyncClusterClient:
    """`ClusterClient` for one event loop; it sends to all nodes of a round trip concurrently."""

    def __init__(
        self,
        nodes: NodeMap,
        make: "Callable[[Address], redis.asyncio.Redis]",
        seconds: float,
        retries: int,
    ) -> None:
        self.nodes = nodes
        self._make, self._seconds, self._retries = make, seconds, retries
        self._clients: dict[Address, redis.asyncio.Redis] = {}

    async def send(self, commands: list[Command]) -> list[Any]:
        """Send *commands* in one round trip; return the replies, with errors of commands."""
        routing = route(self.nodes, commands, self._seconds, self._retries)
        try:
            step = next(routing)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = next(routing)
                else:
                    answers = [self._send_to_node(*request) for request in step]
                    step = routing.send(
                        [await answers[0]] if len(answers) == 1 else await asyncio.gather(*answers)
                    )
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def pubsub(self) -> Any:
        """Subscribe through any node: all nodes receive what is published on any of them."""
        return self._node(random.choice(self.nodes.primaries)).pubsub()

    async def aclose(self, close_connection_pool: bool = True) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose(close_connection_pool=close_connection_pool)

    def _node(self, address: Address) -> "redis.asyncio.Redis":
        if address not in self._clients:
            self._clients[address] = self._make(address)
        return self._clients[address]

    async def _send_to_node(self, address: Address, commands: list[Command]) -> NodeReplies:
        try:
            replies = await pipelines.asend(self._node(address), commands, strict=False)
            return _with_error_types(replies)
        except _CONNECTION_ERRORS as error:
            return error
