"""Send a batch to record.lua and read its reply."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from redismetrics.model.validation import OVERFLOW_TAGS, pack_tags
from redismetrics.settings import Settings
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation
from redismetrics.store.replies import reading

_OVERFLOW = pack_tags(OVERFLOW_TAGS)


@dataclass(frozen=True, slots=True)
class WriteReply:
    """What record.lua answers to a batch: see there."""

    held: int
    clock: int
    unsealed_ms: int
    unpublished: int
    problems: list[tuple[int, str, bytes]]
    learned: list[tuple[int, list[int]]]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One numbered batch, ready to send; never changed once it was sent."""

    shard: int
    sequence: int
    command: Command
    nbytes: int


def write_request(
    namespace: str,
    shard: int,
    writer: str,
    sequence: int,
    confirmed: int,
    wires: Iterable[tuple[str, bytes, bytes]],
    settings: Settings,
) -> WriteRequest:
    """A batch of (metric, head, body); *confirmed* is the last sequence of this writer and shard that was confirmed."""
    limits = [
        int(settings.max_age * 1000), int(settings.max_future * 1000), int(settings.log_age * 1_000_000),
        settings.log_bytes, settings.max_series, settings.max_tag_values, _OVERFLOW,
    ]  # fmt: skip
    names: list[str] = list(keys.shard(namespace, shard))
    arguments: list[Any] = [writer, sequence, confirmed, msgpack.packb(limits, use_bin_type=False)]
    size = 0
    for name, head, body in wires:
        names += keys.metric(namespace, shard, name)
        arguments += (name, keys.channel(namespace, name), head, body)
        size += len(head) + len(body)
    command = ("EVALSHA", scripts.script("record").sha, len(names), *names, *arguments)
    return WriteRequest(shard, sequence, command, size)


def record(sent: WriteRequest) -> Operation[WriteReply]:
    """Send a batch. Safe to repeat."""
    (reply,) = yield [sent.command]
    with reading("record.lua's reply"):
        held, clock, unsealed, unpublished, problems, learned = msgpack.unpackb(reply, raw=True)
        reasons = [(index, reason.decode(), detail) for index, reason, detail in problems]
        return WriteReply(
            held,
            clock,
            unsealed,
            unpublished,
            reasons,
            [(index, list(map(int, ids))) for index, ids in learned],
        )
