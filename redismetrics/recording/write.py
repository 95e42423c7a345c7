"""Send a batch to record.lua and read its reply."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from redismetrics.model.validation import OVERFLOW_TAGS, pack_tags
from redismetrics.settings import Settings
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation, Overlapped
from redismetrics.store.replies import reading

from .encode import EncodedBatch

_OVERFLOW = pack_tags(OVERFLOW_TAGS)
# Oldest and newest time in ms.
_BOUNDS = struct.Struct("<dd")


class Learned(NamedTuple):
    """Ids of all series of the metric at position *place* of the batch, its epoch and its stamp."""

    place: int
    ids: list[int]
    epoch: int
    stamp: bytes


@dataclass(frozen=True, slots=True)
class WriteReply:
    """The reply of record.lua to a batch, described there."""

    held: int
    clock: int
    unsealed_ms: int
    unpublished: int
    problems: list[tuple[int, str, bytes]]
    learned: list[Learned]

    @property
    def refused(self) -> dict[int, tuple[str, bytes]]:
        """Why metrics were refused, with details, by index."""
        return {
            index: (reason, detail)
            for index, reason, detail in self.problems
            if reason != "overflow"
        }

    @property
    def overflows(self) -> list[tuple[int, str, int]]:
        """The number of series merged per metric (by index) and tag."""
        return [
            (index, *msgpack.unpackb(detail))
            for index, reason, detail in self.problems
            if reason == "overflow"
        ]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One numbered batch, ready to send. Immutable, because it may be sent again."""

    shard: int
    sequence: int
    command: Command


def write_request(
    namespace: str,
    shard: int,
    writer: str,
    sequence: int,
    confirmed: int,
    encoded: Sequence[EncodedBatch],
    settings: Settings,
    database: int = 0,
) -> WriteRequest:
    """Return the request for a batch of encoded metrics.

    *confirmed* is the last confirmed sequence number of this writer and shard. *database* is the
    number of the target database.
    """
    limits = [
        int(settings.max_age * 1000),
        int(settings.max_future * 1000),
        int(settings.log_age * 1_000_000),
        settings.log_bytes,
        settings.max_series,
        settings.max_tag_values,
        _OVERFLOW,
        [
            (
                number,
                metric.options.max_series or settings.max_series,
                metric.options.max_tag_values or settings.max_tag_values,
            )
            for number, metric in enumerate(encoded, 1)
            if metric.options.max_series or metric.options.max_tag_values
        ],
    ]
    names: list[str] = list(keys.shard(namespace, shard))
    arguments: list[Any] = []
    for metric in encoded:
        of = keys.metric(namespace, shard, metric.name)
        names += (of.totals, of.log)
        arguments += (metric.name, metric.change, metric.block)
        if metric.introduction:
            names += (of.series, of.values)
            arguments += metric.introduction
        if metric.exemplars:
            names.append(keys.exemplars(namespace, shard, metric.name))
            arguments.append(metric.exemplars)
    command = (
        "EVALSHA",
        scripts.script("record").sha,
        len(names),
        *names,
        writer,
        sequence,
        confirmed,
        msgpack.packb(limits, use_bin_type=False),
        keys.channel(namespace, "", database),
        _heads(encoded),
        *arguments,
    )
    return WriteRequest(shard, sequence, command)


def _heads(encoded: Sequence[EncodedBatch]) -> bytes:
    oldest = min(metric.oldest_ms for metric in encoded)
    newest = max(metric.newest_ms for metric in encoded)
    return b"".join((_BOUNDS.pack(oldest, newest), *(metric.head for metric in encoded)))


def record(
    sent: WriteRequest, meanwhile: Callable[[], None] | None = None
) -> Operation[WriteReply]:
    """Send a batch, call *meanwhile* while the server works, and return the reply. Idempotent."""
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
            [
                Learned(at, [*map(int, ids)], int(epoch), stamp[0])
                for at, ids, epoch, *stamp in learned
                # A reply stored by a version without stamps has nothing to learn from.
                if stamp
            ],
        )
