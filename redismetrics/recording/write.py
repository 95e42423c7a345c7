"""Send a batch to record.lua and read its reply."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from redismetrics.model.validation import OVERFLOW_TAGS, pack_tags
from redismetrics.settings import Settings
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation, Overlapped
from redismetrics.store.replies import reading

from .encode import EncodedBatch

_OVERFLOW = pack_tags(OVERFLOW_TAGS)


@dataclass(frozen=True, slots=True)
class WriteReply:
    """The reply of record.lua to a batch: see there."""

    held: int
    clock: int
    unsealed_ms: int
    unpublished: int
    problems: list[tuple[int, str, bytes]]
    learned: list[tuple[int, list[int], int]]

    @property
    def refused(self) -> dict[int, tuple[str, bytes]]:
        """Why metrics were refused, with its detail, by index."""
        return {
            index: (reason, detail)
            for index, reason, detail in self.problems
            if reason != "overflow"
        }


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One numbered batch, ready to send. It never changes: it may be sent again."""

    shard: int
    sequence: int
    command: Command


def write_request(
    namespace: str,
    shard: int,
    writer: str,
    sequence: int,
    confirmed: int,
    encoded: Iterable[EncodedBatch],
    settings: Settings,
    database: int = 0,
) -> WriteRequest:
    """Return the request for a batch of encoded metrics.

    *confirmed* is the last sequence number of this writer and shard that was confirmed. *database*
    is the number of the database it goes to.
    """
    limits = [
        int(settings.max_age * 1000),
        int(settings.max_future * 1000),
        int(settings.log_age * 1_000_000),
        settings.log_bytes,
        settings.max_series,
        settings.max_tag_values,
        _OVERFLOW,
    ]
    names: list[str] = list(keys.shard(namespace, shard))
    arguments: list[Any] = [writer, sequence, confirmed, msgpack.packb(limits, use_bin_type=False)]
    for metric in encoded:
        names += keys.metric(namespace, shard, metric.name)
        channel = keys.channel(namespace, metric.name, database)
        arguments += (metric.name, channel, *metric[1:])
    command = ("EVALSHA", scripts.script("record").sha, len(names), *names, *arguments)
    return WriteRequest(shard, sequence, command)


def record(
    sent: WriteRequest, meanwhile: Callable[[], None] | None = None
) -> Operation[WriteReply]:
    """Send a batch, call *meanwhile* while the server works, return the reply. Safe to repeat."""
    commands = [sent.command]
    (reply,) = yield commands if meanwhile is None else Overlapped(commands, meanwhile)
    with reading("record.lua's reply"):
        held, clock, unsealed, unpublished, problems, learned = msgpack.unpackb(reply, raw=True)
        reasons = [(index, reason.decode(), detail) for index, reason, detail in problems]
        return WriteReply(
            held,
            clock,
            unsealed,
            unpublished,
            reasons,
            [(index, list(map(int, ids)), int(epoch)) for index, ids, epoch in learned],
        )
