"""What a subscriber that was cut off reads from the logs: the blocks after the last it saw, and whether any are gone already."""

from dataclasses import dataclass
from typing import Any

import msgpack

from redismetrics.model.validation import check_name
from redismetrics.store import keys
from redismetrics.store.cluster import Command
from redismetrics.store.driver import Operation
from redismetrics.store.replies import read_now_ms, reading

BLOCKS = 512  # in one slice, about


@dataclass(frozen=True, slots=True)
class ShardPosition:
    """One shard as it stands: the server's time, the clock of its newest batch, and which batch of a writer it knows."""

    now_ms: int
    clock: int
    held: int


def shard_position(namespace: str, shard: int, writer: str) -> Operation[ShardPosition]:
    of = keys.shard(namespace, shard)
    time, clock, entry = yield [("TIME",), ("GET", of.clock), ("HGET", of.writers, writer)]
    with reading("clock and writers"):
        held = 0 if entry is None else int(msgpack.unpackb(entry, raw=True)[0])
        return ShardPosition(read_now_ms(time), int(float(clock or 0)), held)


def names(namespace: str, shard: int) -> Operation[list[str]]:
    """All metrics of a shard."""
    (found,) = yield [("HKEYS", keys.shard(namespace, shard).catalogue)]
    with reading("catalogue"):
        return [check_name(name.decode()) for name in found]


@dataclass(frozen=True, slots=True)
class Slice:
    """The blocks from one clock to another, both included, by clock; of each metric the newest block taken off its log."""

    until: int
    blocks: list[tuple[str, bytes]]
    cuts: dict[str, int]


def read(
    namespace: str, shard: int, metrics: list[str], since: int, until: int
) -> Operation[Slice]:
    """The blocks of these metrics from *since* to *until*, or to an earlier clock where they are many."""
    if not metrics:
        return Slice(until, [], {})
    of = [keys.metric(namespace, shard, name) for name in metrics]
    while True:
        counts = yield [("ZCOUNT", each.log, since, until) for each in of]
        total = sum(counts)
        if total <= BLOCKS or until <= since:
            break
        until = since + (until - since) * BLOCKS // (total + 1)
    some = [at for at, count in enumerate(counts) if count]
    looks: list[Command] = [("HGET", each.state, "cut") for each in of]
    while True:
        replies: list[Any] = yield [
            *looks,
            *(("ZRANGEBYSCORE", of[at].log, since, until, "WITHSCORES") for at in some),
            *looks,
        ]
        if replies[: len(of)] == replies[-len(of) :]:  # else a cut came in between
            break
    found = []
    for at, flat in zip(some, replies[len(of) : -len(of)], strict=True):
        found += [
            (float(clock), metrics[at], data)
            for data, clock in zip(flat[::2], flat[1::2], strict=True)
        ]
    found.sort(key=lambda each: each[0])  # stable: those of one batch stay together
    with reading("state"):
        cuts = {
            name: int(float(cut))
            for name, cut in zip(metrics, replies, strict=False)
            if cut is not None
        }
    return Slice(until, [(name, data) for _, name, data in found], cuts)
