"""Drive operations: `run` and `arun` are the only code that sends commands.

An operation is a generator that yields a list of commands for each round trip, receives the list of
replies, and returns its result. It does no I/O, so the blocking and the asyncio driver share all
logic. That includes error handling: redis-py's errors are thrown into the generator instead of the
replies, as subclasses of `StoreError`.
"""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union

import redis
from redis.exceptions import AuthenticationError, NoScriptError

from redismetrics.errors import ScriptFailed, StoreError, StoreUnavailable

from . import pipelines, scripts
from .cluster import AsyncClusterClient, ClusterClient
from .cluster_routing import Command

if TYPE_CHECKING:
    import redis.asyncio


T = TypeVar("T")
__all__ = [
    "AsyncClient",
    "BlockingCall",
    "Client",
    "Command",
    "Operation",
    "Overlapped",
    "arun",
    "gather",
    "run",
    "sendable",
    "translated",
]

Client = redis.Redis | ClusterClient
AsyncClient = Union["redis.asyncio.Redis", AsyncClusterClient]
Operation = Generator[list[Command], list[Any], T]


class Overlapped(list[Command]):
    """The commands of one round trip, and work to do while the server executes them.

    *meanwhile* is called each time that they are sent, or not at all.
    """

    def __init__(self, commands: list[Command], meanwhile: Callable[[], None]) -> None:
        super().__init__(commands)
        self.meanwhile = meanwhile


class BlockingCall(NamedTuple):
    """A step outside of Redis, instead of a command: its reply is the result of *function*.

    It may block: `arun` calls it in a thread. Its errors end the operation.
    """

    function: Callable[[], Any]


# The position in a script where a command failed, which does not help the reader.
_PLACE = re.compile(r"\.?( script: \w+, on @user_script:\d+\.?)?$")
# Advice by a part of Redis' message.
_ADVICE = {
    "used memory > 'maxmemory'": "give the server more memory, or delete metrics",
    "read only replica": "use the URL of its primary",
}


def _rejection(error: redis.RedisError) -> str:
    """Return what Redis says, and what to do where that is known."""
    text = str(error)
    for part, advice in _ADVICE.items():
        if part in text:
            return f"Redis rejected a command: {_PLACE.sub('', text)}; {advice}"
    return f"Redis rejected a command: {text}"


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into ours. Messages contain hosts and commands, never passwords."""
    try:
        yield
    except AuthenticationError as error:
        # May be retried, because the password may just be being rotated.
        raise StoreUnavailable(
            f"Redis refused the login: {str(error).rstrip('.')}; "
            "check the user and the password in the URL, such as redis://user:password@host"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error
    except redis.RedisError as error:
        raise ScriptFailed(_rejection(error)) from error


_ERRORS = (redis.RedisError, OSError)


def run(client: Client, operation: Operation[T]) -> T:
    """Run *operation* on *client* and return its result; raise subclasses of `StoreError`."""
    steps = sendable(operation)
    try:
        commands = next(steps)
        while True:
            try:
                replies = _reply(client, commands)
            except _ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def arun(client: AsyncClient, operation: Operation[T]) -> T:
    """Run *operation* with asyncio.

    If it is cancelled while waiting, redis-py closes the connection, so that no other command
    receives its replies.
    """
    steps = sendable(operation)
    try:
        commands = next(steps)
        while True:
            try:
                replies = await _areply(client, commands)
            except _ERRORS as error:
                commands = steps.throw(error)
            else:
                commands = steps.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def sendable(operation: Operation[T]) -> Operation[T]:
    """Wrap *operation*: load missing scripts, and turn redis-py's errors into ours."""
    try:
        commands = next(operation)
        while True:
            try:
                with translated():
                    replies = yield from _loading(commands)
            except StoreError as error:
                commands = operation.throw(error)
            else:
                commands = operation.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _loading(commands: list[Command]) -> Operation[list[Any]]:
    """Send *commands*; load the scripts if the server lacks them, even if it loses them again."""
    for _ in range(3):
        try:
            return (yield commands)
        except NoScriptError:
            yield [("SCRIPT LOAD", scripts.script(name).text) for name in scripts.NAMES]
    return (yield commands)


def gather(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Run many operations as one, in shared round trips; an error in one ends all of them."""
    results: dict[int, T] = {}
    waiting: dict[int, list[Command]] = {}

    def step(number: int, replies: list[Any] | None) -> None:
        try:
            operation = operations[number]
            waiting[number] = next(operation) if replies is None else operation.send(replies)
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


def _reply(client: Client, commands: list[Command]) -> list[Any]:
    if BlockingCall not in map(type, commands):
        return _send(client, commands)
    to_send = [each for each in commands if not isinstance(each, BlockingCall)]
    replies = iter(_send(client, to_send) if to_send else ())
    return [
        each.function() if isinstance(each, BlockingCall) else next(replies) for each in commands
    ]


async def _areply(client: AsyncClient, commands: list[Command]) -> list[Any]:
    if BlockingCall not in map(type, commands):
        return await _asend(client, commands)
    import asyncio

    to_send = [each for each in commands if not isinstance(each, BlockingCall)]
    replies = iter(await _asend(client, to_send) if to_send else ())
    return [
        await asyncio.to_thread(each.function) if isinstance(each, BlockingCall) else next(replies)
        for each in commands
    ]


def _send(client: Client, commands: list[Command]) -> list[Any]:
    if isinstance(client, ClusterClient):
        return _checked(client.send(commands))
    # Fast path: the common case, without the cost of a pipeline.
    if len(commands) == 1:
        if isinstance(commands, Overlapped):
            return [_execute_overlapped(client, commands[0], commands.meanwhile)]
        return [client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    return pipelines.send(client, commands, strict=True)


# redis-py before 5.3 chooses a connection by the command.
_BY_COMMAND = tuple(map(int, redis.__version__.split(".")[:2])) < (5, 3)


def _execute_overlapped(
    client: redis.Redis, command: Command, meanwhile: Callable[[], None]
) -> Any:
    """Send *command*, call *meanwhile*, and return the reply. Nothing is resent."""
    pool: Any = client.connection_pool
    connection = pool.get_connection(*(command[:1] if _BY_COMMAND else ()))
    is_read = False
    try:
        connection.send_command(*command)
        meanwhile()
        reply = client.parse_response(connection, command[0])  # type: ignore[no-untyped-call]
        is_read = True
    except redis.ResponseError:
        is_read = True
        raise
    finally:
        if not is_read:
            # So that no other command receives the reply.
            connection.disconnect()
        pool.release(connection)
    return reply


async def _asend(client: AsyncClient, commands: list[Command]) -> list[Any]:
    if isinstance(client, AsyncClusterClient):
        return _checked(await client.send(commands))
    if len(commands) == 1:
        return [await client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    return await pipelines.asend(client, commands, strict=True)


def _checked(replies: list[Any]) -> list[Any]:
    """Return *replies*, or raise the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
