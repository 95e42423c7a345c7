"""A Redis or Valkey Cluster: which node holds what, and commands sent to where they belong, again where slots move.

A trip that begins and ends with a metric's version tells by it that nothing changed in between. redis-py's cluster pipeline
would tear it: commands that were redirected are sent again by themselves, after the others. Here all commands of one slot go
in order over one connection, and, when one of them was redirected, in order again.

The rules are a generator that yields what to send to which node, so that the blocking and the asyncio client share them. Needs of
a user beside those of a single server: CLUSTER SLOTS and ASKING.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

if TYPE_CHECKING:
    import redis.asyncio


Command = tuple[Any, ...]
Address = tuple[str, int]
Request = tuple[Address, list[Command]]
Answer = list[Any] | Exception  # replies, errors of single commands among them; or why none came
Trip = Generator[list[Request] | float, list[Answer] | None, Any]

SHARDS = 16  # of a namespace that is begun on a cluster
PAUSE = 0.05  # seconds before a slot that moves, or has no node, is asked for again
_KEYLESS = frozenset(
    (
        "TIME",
        "PING",
        "INFO",
        "SCRIPT",
        "MULTI",
        "EXEC",
        "CONFIG",
        "ACL",
        "CLIENT",
        "DBSIZE",
        "ROLE",
        "COMMAND",
    )
)
_EVERYWHERE = frozenset(("SCRIPT LOAD", "INFO"))
_PASSING = (TryAgainError, ClusterDownError)
_ELSEWHERE = (AskError, *_PASSING)  # MovedError is an AskError
_KINDS = {
    "MOVED": MovedError, "ASK": AskError, "TRYAGAIN": TryAgainError, "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": MasterDownError,
}  # fmt: skip
_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)


class NodeMap:
    """Which node has which slot, as far as known. All clients of a store share one; learned again after it proved wrong."""

    def __init__(self, seeds: list[Address]) -> None:
        self.seeds = seeds
        self.stale = True
        self._owners: dict[int, Address] = {}
        self._others: set[Address] = set()  # nodes that a redirection named and the map does not

    def owner(self, slot: int | None) -> Address | None:
        """The primary of a slot, None where there is none; of no slot in particular, any primary."""
        return random.choice(self.primaries) if slot is None else self._owners.get(slot)

    @property
    def primaries(self) -> list[Address]:
        return sorted({*self._owners.values(), *self._others}) or self.seeds

    def move(self, error: AskError, asked: Address) -> Address:
        """Take note of a redirection, by the node *asked*; return where it leads."""
        address = (error.host or asked[0], error.port)
        self._others.add(address)
        if isinstance(error, MovedError):
            self._owners[error.slot_id] = address
        return address

    def learn(self) -> Trip:
        """Ask one node after the other for the map, until one knows it."""
        known = list(dict.fromkeys((*self._owners.values(), *self.seeds)))
        random.shuffle(known)
        trouble: Exception | None = None
        for address in known:
            (answer,) = (yield [(address, [("CLUSTER SLOTS",)])]) or []
            reply = answer if isinstance(answer, Exception) else answer[0]
            if isinstance(reply, Exception):
                trouble = reply
            elif reply:
                self._owners = _read_slots(reply, address)
                self._others = set()
                self.stale = False
                return
        raise trouble or redis.ConnectionError("no node of the cluster knows which has which slot")


def _read_slots(reply: list[Any], asked: Address) -> dict[int, Address]:
    owners = {}
    for first, last, primary, *_ in reply:
        host = (primary[0] or b"").decode()
        address = (asked[0] if host in ("", "?") else host, int(primary[1]))
        owners.update(dict.fromkeys(range(first, last + 1), address))
    return owners


def slot_of(command: Command) -> int | None:
    """The slot of a command's keys, all of which are in one; None where it has none."""
    if command[0].partition(" ")[0] in _KEYLESS:
        return None
    key = command[3] if command[0] == "EVALSHA" else command[1]
    return key_slot(key if isinstance(key, bytes) else key.encode())


@dataclass(slots=True)
class _Group:
    """The commands of one slot, by their places in the trip."""

    slot: int | None
    places: list[int] = field(default_factory=list)


def _groups(commands: list[Command]) -> list[_Group]:
    """The commands by slot. One without a key belongs to the one before, the first ones to the first that has a key."""
    slots = [slot_of(command) for command in commands]
    last = next((slot for slot in slots if slot is not None), None)
    found: dict[int | None, _Group] = {}
    for place, slot in enumerate(slots):
        if commands[place][0] in _EVERYWHERE:
            continue
        last = last if slot is None else slot
        found.setdefault(last, _Group(last)).places.append(place)
    return list(found.values())


def routed(nodes: NodeMap, commands: list[Command], seconds: float, retries: int) -> Trip:
    """One trip: send each command to where it belongs; return the replies in their order, errors among them.

    Slots that move or have no primary are waited for, up to *seconds*; a node that doesn't answer is asked again *retries* times.

    Raises:
        redis.ConnectionError, redis.TimeoutError, OSError: a node did not answer, or slots have no node for longer than that.
    """
    until = time.monotonic() + seconds
    replies: list[Any] = [None] * len(commands)
    if nodes.stale:
        yield from nodes.learn()
    yield from _everywhere(nodes, commands, replies)
    waiting = _groups(commands)
    turn = 0
    while waiting:
        if turn and nodes.stale:
            yield from nodes.learn()
        again, failed, trouble = yield from _turn(nodes, commands, waiting, replies)
        if failed is not None:
            if retries <= 0:
                raise failed
            retries -= 1
        elif again and time.monotonic() > until:
            raise redis.ConnectionError(
                f"the cluster's slots did not settle within {seconds:g} s: {trouble}"
            )
        if again and (turn or isinstance(trouble, _PASSING)):
            yield PAUSE
        waiting, turn = again, turn + 1
    return replies


def _everywhere(nodes: NodeMap, commands: list[Command], replies: list[Any]) -> Trip:
    """Send what concerns every primary. Texts are put together; of others the first reply stands for all."""
    places = [place for place, command in enumerate(commands) if command[0] in _EVERYWHERE]
    if not places:
        return
    answers = yield [
        (address, [commands[place] for place in places]) for address in nodes.primaries
    ]
    for answer in answers or []:
        if isinstance(answer, Exception):
            nodes.stale = True
            raise answer
    for at, place in enumerate(places):
        found = [answer[at] for answer in answers or [] if not isinstance(answer, Exception)]
        wrong = next((reply for reply in found if isinstance(reply, Exception)), None)
        replies[place] = wrong or (
            b"\r\n".join(found) if commands[place][0] == "INFO" else found[0]
        )


def _turn(
    nodes: NodeMap, commands: list[Command], waiting: list[_Group], replies: list[Any]
) -> Generator[
    list[Request] | float, list[Answer] | None, tuple[list[_Group], Exception | None, Any]
]:
    """Send what waits; return what must be sent again, why a node did not answer, and what a slot's trouble was."""
    again: list[_Group] = []
    failed: Exception | None = None
    trouble: Any = None
    by_node: dict[Address, list[_Group]] = {}
    for group in waiting:
        owner = nodes.owner(group.slot)
        if owner is None:
            nodes.stale, trouble = True, ClusterDownError(f"slot {group.slot} has no node")
            again.append(group)
        else:
            by_node.setdefault(owner, []).append(group)
    places = {
        node: sorted(place for group in groups for place in group.places)
        for node, groups in by_node.items()
    }
    answers = (
        (yield [(node, [commands[place] for place in inside]) for node, inside in places.items()])
        if places
        else []
    )
    asked: list[_Group] = []
    for (node, groups), answer in zip(by_node.items(), answers or [], strict=True):
        if isinstance(answer, Exception):
            nodes.stale, failed = True, answer
            again += groups
            continue
        for place, reply in zip(places[node], answer, strict=True):
            replies[place] = reply
        for group in groups:
            wrong = [
                replies[place] for place in group.places if isinstance(replies[place], _ELSEWHERE)
            ]
            for error in wrong:
                trouble = error
                if isinstance(error, AskError):
                    nodes.move(error, node)
                nodes.stale |= isinstance(error, ClusterDownError)
            if not wrong:
                continue
            group.places = _unanswered(commands, group.places, replies)
            whole = not any(commands[place][0] == "MULTI" for place in group.places)
            if whole and any(type(error) is AskError for error in wrong):
                asked.append(group)
            else:
                again.append(group)
    for group in asked:
        trouble = yield from _one_by_one(nodes, commands, group.places, replies)
        if isinstance(trouble, _ELSEWHERE):
            group.places = _unanswered(commands, group.places, replies)
            again.append(group)
        elif trouble is not None:
            nodes.stale, failed = True, trouble
            again.append(group)
    return again, failed, trouble


def _unanswered(commands: list[Command], places: list[int], replies: list[Any]) -> list[int]:
    """What must be sent again of a slot: all that reads, so that it is read in order; a script that ran has run."""
    return [
        place
        for place in places
        if commands[place][0] != "EVALSHA" or isinstance(replies[place], _ELSEWHERE)
    ]


def _one_by_one(
    nodes: NodeMap, commands: list[Command], places: list[int], replies: list[Any]
) -> Generator[list[Request] | float, list[Answer] | None, Exception | None]:
    """Send the commands of a slot that is moving, whose keys are on two nodes; return what went wrong, if anything."""
    for place in places:
        owner = nodes.owner(slot_of(commands[place])) or nodes.seeds[0]
        (answer,) = (yield [(owner, [commands[place]])]) or []
        if not isinstance(answer, Exception) and type(answer[0]) is AskError:
            there = nodes.move(answer[0], owner)
            (answer,) = (yield [(there, [("ASKING",), commands[place]])]) or []
        if isinstance(answer, Exception):
            return answer
        replies[place] = answer[-1]
        if isinstance(answer[-1], AskError):
            nodes.move(answer[-1], owner)
        if isinstance(answer[-1], _ELSEWHERE):
            return answer[-1]
    return None


def _typed(replies: list[Any]) -> list[Any]:
    """Name the errors that redis-py before 6 knows on connections of its own cluster client only."""
    for at, reply in enumerate(replies):
        if type(reply) is ResponseError:
            word, _, rest = str(reply).partition(" ")
            if word in _KINDS:
                replies[at] = _KINDS[word](rest)
    return replies


class ClusterClient:
    """Sends commands to the nodes of a cluster. Thread-safe; *make* makes the client of one node, without retries of its own."""

    def __init__(
        self, nodes: NodeMap, make: Callable[[Address], redis.Redis], seconds: float, retries: int
    ) -> None:
        self.nodes = nodes
        self._make, self._seconds, self._retries = make, seconds, retries
        self._clients: dict[Address, redis.Redis] = {}
        self._lock = threading.Lock()

    def send(self, commands: list[Command]) -> list[Any]:
        """One trip; errors of single commands are among the replies."""
        return self._driven(routed(self.nodes, commands, self._seconds, self._retries))  # type: ignore[no-any-return]

    def _driven(self, trip: Trip) -> Any:
        try:
            wanted = next(trip)
            while True:
                if isinstance(wanted, float):
                    time.sleep(wanted)
                    wanted = next(trip)
                else:
                    wanted = trip.send([self._sent(*request) for request in wanted])
        except StopIteration as done:
            return done.value

    def primaries(self) -> dict[str, redis.Redis]:
        """A client of each primary that there is now, by its address.

        Raises:
            redis.ConnectionError, redis.TimeoutError, OSError: no node knows them.
        """
        self._driven(self.nodes.learn())
        return {f"{host}:{port}": self._node((host, port)) for host, port in self.nodes.primaries}

    def pubsub(self) -> Any:
        """A subscription over any node: what is published on one is heard on all."""
        return self._node(random.choice(self.nodes.primaries)).pubsub()  # type: ignore[no-untyped-call]

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

    def _sent(self, address: Address, commands: list[Command]) -> Answer:
        try:
            with self._node(address).pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                return _typed(pipeline.execute(raise_on_error=False))
        except _ERRORS as error:
            return error


class AsyncClusterClient:
    """`ClusterClient` for one event loop; the nodes of one trip are asked side by side."""

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
        """One trip; errors of single commands are among the replies."""
        trip = routed(self.nodes, commands, self._seconds, self._retries)
        try:
            wanted = next(trip)
            while True:
                if isinstance(wanted, float):
                    await asyncio.sleep(wanted)
                    wanted = next(trip)
                else:
                    answers = [self._sent(*request) for request in wanted]
                    wanted = trip.send(
                        [await answers[0]] if len(answers) == 1 else await asyncio.gather(*answers)
                    )
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def pubsub(self) -> Any:
        """A subscription over any node: what is published on one is heard on all."""
        return self._node(random.choice(self.nodes.primaries)).pubsub()

    async def aclose(self, close_connection_pool: bool = True) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose(close_connection_pool=close_connection_pool)

    def _node(self, address: Address) -> "redis.asyncio.Redis":
        if address not in self._clients:
            self._clients[address] = self._make(address)
        return self._clients[address]

    async def _sent(self, address: Address, commands: list[Command]) -> Answer:
        try:
            async with self._node(address).pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return _typed(await pipeline.execute(raise_on_error=False))
        except _ERRORS as error:
            return error
