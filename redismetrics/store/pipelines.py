"""Send many commands at once: a pipeline of redis-py without most of its work for each command.

A page of 5,000 metrics takes 30,000 commands, in which redis-py spent half of its time. What it
does when a connection breaks is left to it.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import redis
from hiredis import pack_command

from .cluster_routing import Command
from .pausing_gc import pausing_gc

if TYPE_CHECKING:
    import redis.asyncio

# Types of replies of RESP2 without those of errors.
_REPLIES = frozenset((bytes, int, list, type(None)))
_NO_OPTIONS: dict[str, Any] = {}


def send(client: redis.Redis, commands: Sequence[Command], *, strict: bool) -> list[Any]:
    """Return the replies to *commands*; raise the first error among them if *strict*."""
    with client.pipeline(transaction=False) as pipeline:

        def execute(connection: Any, stack: Any, raise_on_error: bool) -> list[Any]:
            connection.send_packed_command([_packed(commands)])
            replies: list[Any] = []
            while len(replies) < len(commands):
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
                _take_received(connection, replies, len(commands))
            if raise_on_error:
                pipeline.raise_first_error(stack, replies)  # type: ignore[no-untyped-call]
            return replies

        _replace(pipeline, commands, execute)
        return pipeline.execute(raise_on_error=strict)


async def asend(
    client: "redis.asyncio.Redis", commands: Sequence[Command], *, strict: bool
) -> list[Any]:
    """`send` with asyncio."""
    async with client.pipeline(transaction=False) as pipeline:

        async def execute(connection: Any, stack: Any, raise_on_error: bool) -> list[Any]:
            await connection.send_packed_command([_packed(commands)])
            replies: list[Any] = []
            while len(replies) < len(commands):
                try:
                    replies.append(await connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
                _take_received(connection, replies, len(commands))
            if raise_on_error:
                pipeline.raise_first_error(stack, replies)
            return replies

        _replace(pipeline, commands, execute)
        return await pipeline.execute(raise_on_error=strict)


def _replace(pipeline: Any, commands: Sequence[Command], execute: Any) -> None:
    """Replace what a pipeline does with its connection.

    A version of redis-py that names its method otherwise sends the commands in its own way.
    """
    pipeline.command_stack = list(zip(commands, repeat(_NO_OPTIONS)))
    pipeline._execute_pipeline = execute


def _packed(commands: Sequence[Command]) -> bytes:
    """Return commands as they are sent. A name of two words is sent as two arguments."""
    return b"".join(
        [
            pack_command(command if " " not in command[0] else (*command[0].split(), *command[1:]))
            for command in commands
        ]
    )


def _take_received(connection: Any, replies: list[Any], count: int) -> None:
    """Append the replies that hiredis has received already, until there are *count*.

    A version of redis-py that names its reader otherwise reads them one by one.
    """
    gets = getattr(getattr(connection._parser, "_reader", None), "gets", None)
    if gets is None:
        return
    with pausing_gc():
        while len(replies) < count:
            reply = gets()
            if type(reply) not in _REPLIES:
                if isinstance(reply, redis.ConnectionError):
                    # For example "LOADING": redis-py tries again on another connection.
                    raise reply
                if not isinstance(reply, Exception):
                    # No whole reply is there.
                    return
            replies.append(reply)
