"""Calls of commit.lua: one for a commit, or one for the commits to several metrics of a shard."""

from collections.abc import Sequence
from typing import Any

from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation, T
from redismetrics.store.metric_keys import MetricLocation

# Maximum work of one call besides its first commit, so that it blocks the server for about 2 ms at
# most. A commit costs as much as FIELDS_OF_COMMIT fields, and a field as much as BYTES_OF_FIELD.
MAX_FIELDS = 640
FIELDS_OF_COMMIT = 32
BYTES_OF_FIELD = 1_024


class CommitCommand(tuple[Any, ...]):
    """The command that commits to one metric.

    Attributes:
        shared: Keys of the shard.
        own: Keys of the metric.
        arguments: Arguments for the metric.
        size: Its share of MAX_FIELDS.
    """

    shared: tuple[str, ...]
    own: list[str]
    arguments: list[Any]
    size: int


def commit_command(
    metric: MetricLocation, data_keys: list[str], fields: int, arguments: list[Any]
) -> CommitCommand:
    """Return the command that writes *fields* fields to a metric and its *data_keys*."""
    of_shard = keys.shard(metric.namespace, metric.shard)
    shared = (
        of_shard.clock,
        of_shard.catalogue,
        of_shard.dirty,
        keys.pending(metric.namespace, metric.shard),
        of_shard.recorded,
    )
    of, worked = metric.recorded, metric.worked
    own = [
        worked.state,
        of.log,
        of.series,
        of.totals,
        worked.due,
        worked.held,
        worked.touched,
        of.values,
        *data_keys,
    ]
    command = CommitCommand(_call(shared, [own], [arguments]))
    command.shared, command.own, command.arguments = shared, own, arguments
    size = sum(len(each) for each in arguments if isinstance(each, bytes))
    command.size = FIELDS_OF_COMMIT + fields + size // BYTES_OF_FIELD
    return command


def _call(
    shared: tuple[str, ...], own: Sequence[list[str]], arguments: Sequence[list[Any]]
) -> Command:
    names = [*shared, *(each for part in own for each in part)]
    flat = [each for part in arguments for each in part]
    return ("EVALSHA", scripts.script("commit").sha, len(names), *names, *flat)


def joined(operation: Operation[T]) -> Operation[T]:
    """Run an operation, and send the commits of a round trip in few calls.

    A commit gets the same reply as from a separate call, except that its error is text.
    """
    try:
        commands = next(operation)
        while True:
            # A fast path: most round trips only read.
            if not any(type(each) is CommitCommand for each in commands):
                commands = operation.send((yield commands))
                continue
            groups = _groups(commands)
            calls = [_joined_call([commands[at] for at in group]) for group in groups]
            replies: list[Any] = [None] * len(commands)
            for group, reply in zip(groups, (yield calls), strict=True):
                if len(group) == 1:
                    replies[group[0]] = reply
                    continue
                for at, result in zip(group, reply, strict=True):
                    replies[at] = [result]
            commands = operation.send(replies)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _groups(commands: list[Command]) -> list[list[int]]:
    """Return the positions of commands, grouped by call."""
    groups: list[list[int]] = []
    # By keys of the shard: the last call to it, and its work so far.
    last: dict[tuple[str, ...], tuple[list[int], int]] = {}
    for at, command in enumerate(commands):
        if not isinstance(command, CommitCommand):
            groups.append([at])
            continue
        group, size = last.get(command.shared, ([], 0))
        if not group or size + command.size > MAX_FIELDS:
            group, size = [], 0
            groups.append(group)
        group.append(at)
        last[command.shared] = group, size + command.size
    return groups


def _joined_call(commands: list[Command]) -> Command:
    commits = [each for each in commands if isinstance(each, CommitCommand)]
    if len(commits) < 2:
        return commands[0]
    return _call(
        commits[0].shared, [each.own for each in commits], [each.arguments for each in commits]
    )
