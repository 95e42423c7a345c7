"""Routing rules: which command goes to which node, and what is sent again."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from redismetrics.store.cluster_routing import Address, NodeMap, route, slot_of

A, B, C = ("a", 1), ("b", 2), ("c", 3)
HALF = 8_192

Send = Callable[[Address, tuple[Any, ...]], Any]


def node_map() -> NodeMap:
    """A has the lower half of the slots, B the upper."""
    nodes = NodeMap([A])
    routing = nodes.learn()
    assert next(routing) == [(A, [("CLUSTER SLOTS",)])]
    with pytest.raises(StopIteration):
        routing.send([[[[0, HALF - 1, [b"", 1]], [HALF, 16_383, [b"b", 2], [b"c", 3]]]]])
    return nodes


def key_in(low: bool, number: int = 0) -> str:
    found = (f"k{at}" for at in range(10_000) if (key_slot(f"k{at}".encode()) < HALF) == low)
    return f"x{{{[next(found) for _ in range(number + 1)][-1]}}}"


LOW, HIGH = key_in(low=True), key_in(low=False)


def carry(
    nodes: NodeMap, commands: list[Any], answer: Send, *, seconds: float = 5.0, retries: int = 0
) -> Any:
    """Carry out a routing; return its replies and all that was sent, request by request."""
    sent = []
    routing = route(nodes, commands, seconds, retries)
    step = next(routing)
    while True:
        try:
            if isinstance(step, float):
                step = next(routing)
                continue
            answers = []
            for node, of_node in step:
                sent.append((node, of_node))
                replies = [answer(node, each) for each in of_node]
                lost = [
                    each for each in replies if isinstance(each, OSError | redis.ConnectionError)
                ]
                answers.append(lost[0] if lost else replies)
            step = routing.send(answers)
        except StopIteration as done:
            return done.value, sent


def says(node: Address, command: tuple[Any, ...]) -> Any:
    return f"{node[0]}:{command[0]}"


def test_commands_go_to_the_owner_of_their_slot_and_those_without_a_key_with_neighbours() -> None:
    commands = [
        ("TIME",),
        ("GET", HIGH),
        ("TIME",),
        ("GET", LOW),
        ("EVALSHA", "sha", 1, LOW, "x"),
        ("TIME",),
    ]
    replies, sent = carry(node_map(), commands, says)
    assert replies == ["b:TIME", "b:GET", "b:TIME", "a:GET", "a:EVALSHA", "a:TIME"]
    assert sorted(sent) == [(A, commands[3:]), (B, commands[:3])]


def test_script_load_and_info_go_to_every_primary() -> None:
    replies, sent = carry(node_map(), [("SCRIPT LOAD", "1"), ("SCRIPT LOAD", "2")], says)
    assert replies == ["a:SCRIPT LOAD"] * 2
    assert [node for node, _ in sent] == [A, B]
    replies, _ = carry(
        node_map(), [("INFO", "memory"), ("GET", LOW)], lambda node, _: node[0].encode()
    )
    assert replies == [b"a\r\nb", b"a"]


def test_after_a_redirection_all_commands_of_the_slot_are_sent_again_in_order() -> None:
    """If only the middle were sent again, it would be newer than the versions around it."""
    commands = [
        ("HGET", LOW, "version"),
        ("HMGET", LOW, "data"),
        ("GET", HIGH),
        ("HGET", LOW, "version"),
    ]

    def answer(node: Address, command: tuple[Any, ...]) -> Any:
        if node == A and command[0] == "HMGET":
            return MovedError(f"{key_slot(LOW.encode())} c:3")
        return says(node, command)

    nodes = node_map()
    replies, sent = carry(nodes, commands, answer)
    assert replies == ["c:HGET", "c:HMGET", "b:GET", "c:HGET"]
    assert sent[2:] == [(C, [commands[0], commands[1], commands[3]])]
    assert nodes.owner(key_slot(LOW.encode())) == C
    assert nodes.primaries == [A, B, C]


def test_commands_of_a_slot_on_two_nodes_are_sent_one_by_one() -> None:
    commands = [("HGET", LOW, "version"), ("HMGET", LOW, "data"), ("HGET", LOW, "version")]
    asking = []

    def answer(node: Address, command: tuple[Any, ...]) -> Any:
        if node == A and command[0] == "HMGET":
            return AskError(f"{key_slot(LOW.encode())} c:3")
        asking.append((node, command[0]))
        return says(node, command)

    replies, sent = carry(node_map(), commands, answer)
    assert replies == ["a:HGET", "c:HMGET", "a:HGET"]
    assert sent[1:] == [
        (A, [commands[0]]),
        (A, [commands[1]]),
        (C, [("ASKING",), commands[1]]),
        (A, [commands[2]]),
    ]


def test_a_script_that_ran_is_not_run_again_after_a_redirection() -> None:
    first, second = (("EVALSHA", "sha", 1, LOW, text) for text in ("1", "2"))

    def answer(node: Address, command: tuple[Any, ...]) -> Any:
        return (
            MovedError(f"{key_slot(LOW.encode())} c:3")
            if node == A and command[-1] == "2"
            else says(node, command)
        )

    replies, sent = carry(node_map(), [first, second], answer)
    assert replies == ["a:EVALSHA", "c:EVALSHA"]
    assert sent == [(A, [first, second]), (C, [second])]


@pytest.mark.parametrize("error", [TryAgainError("TRYAGAIN"), ClusterDownError("CLUSTERDOWN")])
def test_temporary_errors_are_retried_until_the_timeout(error: Exception) -> None:
    left = [error, error]

    def answer(node: Address, command: tuple[Any, ...]) -> Any:
        if command[0] == "CLUSTER SLOTS":
            return [[0, 16_383, [b"a", 1]]]
        return left.pop() if left else says(node, command)

    assert carry(node_map(), [("GET", LOW)], answer)[0] == ["a:GET"]

    def never(node: Address, command: tuple[Any, ...]) -> Any:
        return [[0, 16_383, [b"a", 1]]] if command[0] == "CLUSTER SLOTS" else error

    with pytest.raises(redis.ConnectionError, match="did not settle within 0 s"):
        carry(node_map(), [("GET", LOW)], never, seconds=0)


def test_an_unreachable_node_is_looked_up_in_a_new_map() -> None:
    def answer(node: Address, command: tuple[Any, ...]) -> Any:
        if node == A:
            return redis.ConnectionError("refused")
        return [[0, 16_383, [b"b", 2]]] if command[0] == "CLUSTER SLOTS" else says(node, command)

    commands = [("GET", LOW), ("GET", HIGH)]
    with pytest.raises(redis.ConnectionError, match="refused"):
        carry(node_map(), commands, answer)
    nodes = node_map()
    replies, sent = carry(nodes, commands, answer, retries=1)
    assert replies == ["b:GET", "b:GET"]
    assert sent[-1] == (B, [("GET", LOW)])
    with pytest.raises(redis.ConnectionError, match="refused"):
        carry(NodeMap([A]), commands, answer, retries=1)


def test_a_server_that_is_not_a_cluster_is_reported() -> None:
    error = redis.ResponseError("This instance has cluster support disabled")
    with pytest.raises(redis.ResponseError, match="cluster support disabled"):
        carry(NodeMap([A]), [("GET", LOW)], lambda *_: error)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "rm:{ns:3}:clock"), b"ns:3"),
        (("GET", b"rm:{ns:3}:clock"), b"ns:3"),
        (("EVALSHA", "sha", 2, "rm:{ns:3}:clock", "rm:{ns:3}:writers", "x"), b"ns:3"),
        (("HGETALL", "rm:ns:config"), b"rm:ns:config"),
    ],
)
def test_the_slot_of_a_command_is_that_of_its_key(command: tuple[Any, ...], key: bytes) -> None:
    assert slot_of(command) == key_slot(key)
    assert slot_of(("TIME",)) is None
    assert slot_of(("SCRIPT LOAD", "return 1")) is None
