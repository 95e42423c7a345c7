"""A private cluster: real nodes on loopback ports, joined, whose slots are moved and whose primaries are killed by a test."""

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.crc import key_slot

from tests.servers import Server, _free_port, wait_until

SLOTS = 16_384


class Cluster:
    """Nodes made by *start* (the fixture `fresh_server`): the first are the primaries, each of the others follows one of them."""

    def __init__(self, start: Callable[..., Server], primaries: int = 3, replicas: int = 0, **options: Any) -> None:
        self._start, self._options = start, options
        self._buses: list[int] = []
        self.nodes = [self._node() for _ in range(primaries + replicas)]
        self.ids = [self.ask(number, "CLUSTER", "MYID").decode() for number in range(len(self.nodes))]
        for number, epoch in zip(range(len(self.nodes)), itertools.count(1)):
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number in range(1, len(self.nodes)):
            self.ask(number, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._buses[0])
        edges = [SLOTS * at // primaries for at in range(primaries + 1)]
        for number, (first, last) in enumerate(itertools.pairwise(edges)):
            self.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        self._wait_known()
        for number in range(primaries, len(self.nodes)):
            self.ask(number, "CLUSTER", "REPLICATE", self.ids[number % primaries])
        for number in range(len(self.nodes)):
            wait_until(
                lambda number=number: b"cluster_state:ok" in self.ask(number, "CLUSTER", "INFO"), "a whole cluster"
            )
        for number in range(primaries, len(self.nodes)):
            wait_until(
                lambda number=number: b"master_link_status:up" in self._raw_info(number), "a replica that follows"
            )

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def ask(self, number: int, *command: Any) -> Any:
        """One command to one node; its raw reply."""
        with self.nodes[number].client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def add(self) -> int:
        """Another primary, without slots; return its number."""
        self.nodes.append(self._node())
        number = len(self.nodes) - 1
        self.ids.append(self.ask(number, "CLUSTER", "MYID").decode())
        self.ask(number, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._buses[0])
        self._wait_known()
        return number

    def owner(self, slot: int) -> int:
        """The number of the primary that has a slot, as the nodes that run see it."""
        asked = next(number for number, node in enumerate(self.nodes) if node.running)
        for first, last, primary, *_ in self.ask(asked, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(number for number, node in enumerate(self.nodes) if node.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def follows(self, number: int) -> bool:
        """Is this node a replica that has its primary's data?"""
        return b"master_link_status:up" in self._raw_info(number)

    def begin_move(self, slot: int, to: int) -> int:
        """Open a slot for moving; return who has it now."""
        source = self.owner(slot)
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[to])
        return source

    def move_keys(self, slot: int, source: int, to: int, most: int = 1_000_000, pause: float = 0.0) -> int:
        """Move at *most* so many keys one by one, with pauses; return how many."""
        moved = 0
        while moved < most and (found := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1)):
            self.ask(source, "MIGRATE", "127.0.0.1", self.nodes[to].port, found[0], 0, 5_000)
            moved += 1
            time.sleep(pause)
        return moved

    def end_move(self, slot: int, source: int, to: int) -> None:
        for number in (to, source, *(n for n, node in enumerate(self.nodes) if n not in (to, source) and node.running)):
            with suppress(redis.ResponseError):  # a replica
                self.ask(number, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[to])

    def move(self, slot: int, to: int, pause: float = 0.0) -> int:
        """Move a slot as redis-cli does it; return how many keys it had."""
        source = self.begin_move(slot, to)
        moved = self.move_keys(slot, source, to, pause=pause)
        self.end_move(slot, source, to)
        return moved

    def _node(self) -> Server:
        self._buses.append(_free_port())
        return self._start(
            port=True,
            args=(
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0"),
                *("--cluster-replica-validity-factor", "0", "--cluster-port", str(self._buses[-1])),
            ),
            **self._options,
        )

    def _wait_known(self) -> None:
        many = str(len(self.nodes)).encode()
        for number in range(len(self.nodes)):
            wait_until(
                lambda number=number: b"cluster_known_nodes:" + many in self.ask(number, "CLUSTER", "INFO"),
                "all nodes met",
            )

    def _raw_info(self, number: int) -> bytes:
        return bytes(self.ask(number, "INFO", "replication"))


def slot_of_shard(namespace: str, shard: int) -> int:
    return key_slot(f"{namespace}:{shard}".encode())
