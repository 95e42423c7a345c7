"""run and arun: the only code that sends.

An operation is a generator that yields lists of commands, one list for each round trip, is sent the list of replies, and
returns its result. It knows nothing of sockets, so the blocking and the asyncio driver share every line of logic: also what
becomes of redis-py's errors, which are thrown in where the replies would have come.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Union

import redis
from redis.exceptions import NoScriptError

from redismetrics.errors import ScriptFailed, StoreUnavailable

from . import scripts
from .cluster import AsyncClusterClient, ClusterClient
from .cluster_routing import Command

if TYPE_CHECKING:
    import redis.asyncio


T = TypeVar("T")
__all__ = ["AsyncClient", "Client", "Command", "Operation", "arun", "gather", "run", "translated"]

Client = redis.Redis | ClusterClient
AsyncClient = Union["redis.asyncio.Redis", AsyncClusterClient]
Operation = Generator[list[Command], list[Any], T]


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into ours. Its messages name hosts and commands, never passwords."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error
    except redis.RedisError as error:
        raise ScriptFailed(f"Redis refused: {error}") from error


_ERRORS = (redis.RedisError, OSError)


def run(client: Client, operation: Operation[T]) -> T:
    """Drive *operation* over *client*; raises branches of `StoreError`."""
    steps = _sendable(operation)
    try:
        commands = next(steps)
        while True:
            try:
                replies = _send(client, commands)
            except _ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def arun(client: AsyncClient, operation: Operation[T]) -> T:
    """`run` for asyncio. Cancelled while it waits, it leaves no connection with replies behind: redis-py closes that one."""
    steps = _sendable(operation)
    try:
        commands = next(steps)
        while True:
            try:
                replies = await _asend(client, commands)
            except _ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _sendable(operation: Operation[T]) -> Operation[T]:
    """*operation* as it is sent: with its scripts loaded where they lack, and redis-py's errors turned into ours."""
    try:
        commands = next(operation)
        while True:
            with translated():
                replies = yield from _loading(commands)
            commands = operation.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _loading(commands: list[Command]) -> Operation[list[Any]]:
    """Send *commands*; load the scripts where the server lacks them, also when it forgets them again meanwhile."""
    for _ in range(3):
        try:
            return (yield commands)
        except NoScriptError:
            yield [("SCRIPT LOAD", scripts.script(name).text) for name in scripts.NAMES]
    return (yield commands)


def gather(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Many operations as one, their commands of each round trip side by side; an error of one ends all."""
    results: dict[int, T] = {}
    waiting: dict[int, list[Command]] = {}

    def step(number: int, replies: list[Any] | None) -> None:
        try:
            running = operations[number]
            waiting[number] = next(running) if replies is None else running.send(replies)
        except StopIteration as done:
            waiting.pop(number, None)
            results[number] = done.value

    for number in range(len(operations)):
        step(number, None)
    while waiting:
        now = list(waiting.items())
        replies = yield [command for _, commands in now for command in commands]
        at = 0
        for number, commands in now:
            step(number, replies[at : at + len(commands)])
            at += len(commands)
    return [results[number] for number in range(len(operations))]


def _send(client: Client, commands: list[Command]) -> list[Any]:
    if isinstance(client, ClusterClient):
        return _checked(client.send(commands))
    if len(commands) == 1:  # the common case, without the cost of a pipeline
        return [client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute()


async def _asend(client: AsyncClient, commands: list[Command]) -> list[Any]:
    if isinstance(client, AsyncClusterClient):
        return _checked(await client.send(commands))
    if len(commands) == 1:
        return [await client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute()


def _checked(replies: list[Any]) -> list[Any]:
    """*replies*, or the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
