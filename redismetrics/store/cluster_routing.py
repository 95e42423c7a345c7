"""Route the commands of one round trip to the nodes of a cluster, and resend them if slots move.

Reads bracket a batch with the metric's version, to detect changes in between. redis-py's cluster
pipeline would break this, because it resends redirected commands separately, after the others.
Here, all commands of one slot are sent in order over one connection, and after a redirection all of
them are resent in order.

The rules are a generator that yields what to send to which node, so that the blocking and the
asyncio client share them. A Redis user needs permission for CLUSTER SLOTS and ASKING in addition to
the commands for a single server.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from redismetrics.model.time import monotonic

Command = tuple[Any, ...]
Address = tuple[str, int]
Request = tuple[Address, list[Command]]
# The replies of one node, with errors of single commands; or why the node did not answer.
NodeReplies = list[Any] | Exception
# A routing rule: yields requests, or seconds to wait; is sent the replies to each request.
Routing = Generator[list[Request] | float, list[NodeReplies] | None, Any]

# Seconds before a slot that is moving, or has no node, is retried.
PAUSE = 0.05

_WITHOUT_KEY = frozenset(
    (
        "ACL",
        "CLIENT",
        "COMMAND",
        "CONFIG",
        "DBSIZE",
        "EXEC",
        "INFO",
        "MULTI",
        "PING",
        "ROLE",
        "SCRIPT",
        "TIME",
    )
)
_TO_ALL_PRIMARIES = frozenset(("SCRIPT LOAD", "INFO"))
_TEMPORARY = (TryAgainError, ClusterDownError)
# Errors that mean "send this again, perhaps to another node". MovedError is an AskError.
_REDIRECTIONS = (AskError, *_TEMPORARY)


class NodeMap:
    """The node of each slot, as far as known.

    All clients of a store share one map. It is reloaded once it has proved to be *stale*.
    """

    def __init__(self, seeds: list[Address]) -> None:
        self.seeds = seeds
        self.stale = True
        self._owners: dict[int, Address] = {}
        # Nodes named by a redirection that are not in the map.
        self._others: set[Address] = set()
        # Nodes that did not answer the last request.
        self.silent: set[Address] = set()

    def owner(self, slot: int | None) -> Address | None:
        """Return the primary of a slot, or None if it has none; for slot None, any primary."""
        if slot is not None:
            return self._owners.get(slot)
        return random.choice(self.answering)

    @property
    def answering(self) -> list[Address]:
        """The primaries that answered last time, or all of them if none did."""
        return [node for node in self.primaries if node not in self.silent] or self.primaries

    @property
    def primaries(self) -> list[Address]:
        """The known primaries, or the nodes in the URL if none are known yet."""
        return sorted({*self._owners.values(), *self._others}) or self.seeds

    def move(self, error: AskError, source: Address) -> Address:
        """Note a redirection from node *source*; return its target."""
        address = (error.host or source[0], error.port)
        self._others.add(address)
        if isinstance(error, MovedError):
            self._owners[error.slot_id] = address
        return address

    def note(self, address: Address, answer: NodeReplies) -> None:
        """Note whether a node has answered."""
        if isinstance(answer, Exception):
            self.silent.add(address)
        else:
            self.silent.discard(address)

    def learn(self) -> Routing:
        """Ask one node after another for the map, until one knows it."""
        known = list(dict.fromkeys((*self._owners.values(), *self.seeds)))
        random.shuffle(known)
        # Nodes that did not answer last time come last: a paused one would delay the others.
        known.sort(key=self.silent.__contains__)
        failure: Exception | None = None
        for address in known:
            (answer,) = (yield [(address, [("CLUSTER SLOTS",)])]) or []
            self.note(address, answer)
            reply = answer if isinstance(answer, Exception) else answer[0]
            if isinstance(reply, Exception):
                failure = reply
            elif reply:
                self._owners = _read_slots(reply, address)
                self._others = set()
                self.stale = False
                return
        raise failure or redis.ConnectionError("no node of the cluster knows the node of each slot")


def _read_slots(reply: list[Any], source: Address) -> dict[int, Address]:
    owners = {}
    for first, last, primary, *_ in reply:
        host = (primary[0] or b"").decode()
        address = (source[0] if host in ("", "?") else host, int(primary[1]))
        owners.update(dict.fromkeys(range(first, last + 1), address))
    return owners


def slot_of(command: Command) -> int | None:
    """Return the slot of a command's keys, which is the same for all; None without keys."""
    if command[0].partition(" ")[0] in _WITHOUT_KEY:
        return None
    key = command[3] if command[0] == "EVALSHA" else command[1]
    return key_slot(key if isinstance(key, bytes) else key.encode())


@dataclass(slots=True)
class _SlotCommands:
    """The commands of one slot, by position in the round trip."""

    slot: int | None
    positions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Attempt:
    """The remaining work after one attempt.

    *failure* is why a node did not answer, *redirection* the last error of a slot that is moving or
    has no node.
    """

    again: list[_SlotCommands] = field(default_factory=list)
    one_by_one: list[_SlotCommands] = field(default_factory=list)
    failure: Exception | None = None
    redirection: Exception | None = None


def route(nodes: NodeMap, commands: list[Command], seconds: float, retries: int) -> Routing:
    """Send each command to its node; return the replies in order, with errors of single commands.

    Slots that are moving or have no primary are retried for up to *seconds*; a node that does not
    answer is retried *retries* times.

    Raises:
        redis.ConnectionError, redis.TimeoutError, OSError: If a node does not answer, or a slot
            has no node for longer than that.
    """
    until = monotonic() + seconds
    replies: list[Any] = [None] * len(commands)
    if nodes.stale:
        yield from nodes.learn()
    yield from _send_to_all_primaries(nodes, commands, replies)
    waiting = _by_slot(commands)
    is_first = True
    while waiting:
        if not is_first and nodes.stale:
            yield from nodes.learn()
        attempt = yield from _attempt(nodes, commands, waiting, replies)
        if attempt.failure is not None:
            if retries <= 0:
                raise attempt.failure
            retries -= 1
        elif attempt.again and monotonic() > until:
            raise redis.ConnectionError(
                f"the slots of the cluster did not settle within {seconds:g} s: "
                f"{attempt.redirection}"
            )
        if attempt.again and (not is_first or isinstance(attempt.redirection, _TEMPORARY)):
            yield PAUSE
        waiting, is_first = attempt.again, False
    return replies


def _by_slot(commands: list[Command]) -> list[_SlotCommands]:
    """Return the commands by slot.

    A command without a key belongs to the slot of the previous command; leading ones belong to the
    slot of the first command with a key.
    """
    slots = [slot_of(command) for command in commands]
    last = next((slot for slot in slots if slot is not None), None)
    found: dict[int | None, _SlotCommands] = {}
    for position, slot in enumerate(slots):
        if commands[position][0] in _TO_ALL_PRIMARIES:
            continue
        last = last if slot is None else slot
        found.setdefault(last, _SlotCommands(last)).positions.append(position)
    return list(found.values())


def _send_to_all_primaries(nodes: NodeMap, commands: list[Command], replies: list[Any]) -> Routing:
    """Send the commands that concern all primaries.

    The INFO texts are joined. Scripts are loaded on the nodes that answer: others get them when
    they turn out to lack them. For scripts, the first reply is returned.
    """
    positions = [
        position for position, command in enumerate(commands) if command[0] in _TO_ALL_PRIMARIES
    ]
    if not positions:
        return
    needs_all = any(commands[position][0] == "INFO" for position in positions)
    answers = yield [
        (address, [commands[position] for position in positions])
        for address in (nodes.primaries if needs_all else nodes.answering)
    ]
    failures = [answer for answer in answers or [] if isinstance(answer, Exception)]
    if failures:
        nodes.stale = True
        if needs_all or len(failures) == len(answers or []):
            raise failures[0]
    for at, position in enumerate(positions):
        found = [answer[at] for answer in answers or [] if not isinstance(answer, Exception)]
        error = next((reply for reply in found if isinstance(reply, Exception)), None)
        replies[position] = error or (
            b"\r\n".join(found) if commands[position][0] == "INFO" else found[0]
        )


def _attempt(
    nodes: NodeMap, commands: list[Command], waiting: list[_SlotCommands], replies: list[Any]
) -> Generator[list[Request] | float, list[NodeReplies] | None, _Attempt]:
    """Send what is waiting, note the replies, and return what must be resent."""
    attempt = _Attempt()
    by_node: dict[Address, list[_SlotCommands]] = {}
    for group in waiting:
        owner = nodes.owner(group.slot)
        if owner is None:
            nodes.stale = True
            attempt.redirection = ClusterDownError(f"slot {group.slot} has no node")
            attempt.again.append(group)
        else:
            by_node.setdefault(owner, []).append(group)
    positions = {
        node: sorted(position for group in groups for position in group.positions)
        for node, groups in by_node.items()
    }
    answers: list[NodeReplies] | None = []
    if positions:
        answers = yield [
            (node, [commands[position] for position in of_node])
            for node, of_node in positions.items()
        ]
    for (node, groups), answer in zip(by_node.items(), answers or [], strict=True):
        nodes.note(node, answer)
        if isinstance(answer, Exception):
            nodes.stale, attempt.failure = True, answer
            attempt.again += groups
            continue
        for position, reply in zip(positions[node], answer, strict=True):
            replies[position] = reply
        for group in groups:
            _follow_redirections(nodes, commands, node, group, replies, attempt)
    for group in attempt.one_by_one:
        error = yield from _send_one_by_one(nodes, commands, group.positions, replies)
        attempt.redirection = error
        if isinstance(error, _REDIRECTIONS):
            group.positions = _to_resend(commands, group.positions, replies)
            attempt.again.append(group)
        elif error is not None:
            nodes.stale, attempt.failure = True, error
            attempt.again.append(group)
    return attempt


def _follow_redirections(
    nodes: NodeMap,
    commands: list[Command],
    node: Address,
    group: _SlotCommands,
    replies: list[Any],
    attempt: _Attempt,
) -> None:
    """Note the redirections in the replies of *node* to a group, and how to resend the group."""
    errors = [
        replies[position]
        for position in group.positions
        if isinstance(replies[position], _REDIRECTIONS)
    ]
    if not errors:
        return
    for error in errors:
        attempt.redirection = error
        if isinstance(error, AskError):
            nodes.move(error, node)
        nodes.stale |= isinstance(error, ClusterDownError)
    group.positions = _to_resend(commands, group.positions, replies)
    is_transaction = any(commands[position][0] == "MULTI" for position in group.positions)
    if not is_transaction and any(type(error) is AskError for error in errors):
        attempt.one_by_one.append(group)
    else:
        attempt.again.append(group)


def _to_resend(commands: list[Command], positions: list[int], replies: list[Any]) -> list[int]:
    """Return which commands of a slot to resend.

    These are all reads, so that they are executed in order, and the scripts that did not run.
    """
    return [
        position
        for position in positions
        if commands[position][0] != "EVALSHA" or isinstance(replies[position], _REDIRECTIONS)
    ]


def _send_one_by_one(
    nodes: NodeMap, commands: list[Command], positions: list[int], replies: list[Any]
) -> Generator[list[Request] | float, list[NodeReplies] | None, Exception | None]:
    """Send the commands of a moving slot, whose keys are on two nodes; return an error, if any."""
    for position in positions:
        owner = nodes.owner(slot_of(commands[position])) or nodes.seeds[0]
        (answer,) = (yield [(owner, [commands[position]])]) or []
        if not isinstance(answer, Exception) and type(answer[0]) is AskError:
            target = nodes.move(answer[0], owner)
            (answer,) = (yield [(target, [("ASKING",), commands[position]])]) or []
        if isinstance(answer, Exception):
            return answer
        replies[position] = answer[-1]
        if isinstance(answer[-1], AskError):
            nodes.move(answer[-1], owner)
        if isinstance(answer[-1], _REDIRECTIONS):
            return answer[-1]
    return None
