"""Read from the logs what a subscriber missed while it was disconnected.

These are the blocks after the last one it received. Also detect blocks already cut from the log.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any

import msgpack

from redismetrics.model.validation import check_name
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import STAMP_BYTES, read_now_ms, reading

# Approximate number of blocks in one slice, or one per metric if that is more: a slice takes
# several commands per metric, however few blocks it has.
SLICE_BLOCKS = 512

# Maximum number of reads of a slice from which blocks are removed in the meantime.
_CUT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard's server time, the clock of its newest batch, and a writer's newest batch in it."""

    now_ms: int
    clock: int
    sequence: int


def shard_state(namespace: str, shard: int, writer: str) -> Operation[ShardState]:
    """Return the state of a shard. Its *sequence* is 0 if Redis does not know *writer*."""
    of_shard = keys.shard(namespace, shard)
    time, clock, entry = yield [
        ("TIME",),
        ("GET", of_shard.clock),
        ("HGET", of_shard.writers, writer),
    ]
    with reading("clock and writers"):
        sequence = 0 if entry is None else int(msgpack.unpackb(entry, raw=True)[0])
        return ShardState(read_now_ms(time), int(float(clock or 0)), sequence)


def metric_names(namespace: str, shard: int) -> Operation[list[str]]:
    """Return the names of all metrics of a shard."""
    (found,) = yield [("HKEYS", keys.shard(namespace, shard).catalogue)]
    with reading("catalogue"):
        return [check_name(name.decode()) for name in found]


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Blocks of several logs up to clock *until*, ordered by clock.

    *cuts*: for each metric, the clock of the newest block that was cut from its log. *stamps*: for
    each metric, its stamp in the catalogue.
    """

    until: int
    blocks: list[tuple[str, bytes]]
    cuts: dict[str, int]
    stamps: dict[str, bytes]


def _count_blocks(metric_keys: list[keys.MetricKeys], since: int, until: int) -> list[Command]:
    return [("ZCOUNT", each.log, since, until) for each in metric_keys]


def read_slice(
    namespace: str, shard: int, names: list[str], since: int, until: int
) -> Operation[LogSlice]:
    """Read the blocks of these metrics from *since* to *until*, both inclusive.

    If there are many, the slice ends at an earlier clock.
    """
    if not names:
        return LogSlice(until, [], {}, {})
    metric_keys = [keys.metric(namespace, shard, name) for name in names]
    of_shard = keys.shard(namespace, shard)
    most = max(SLICE_BLOCKS, len(names))
    read_states: Command = ("HMGET", of_shard.recorded, *names)
    states, *counts = yield [read_states, *_count_blocks(metric_keys, since, until)]
    with reading("recorded"):
        oldest = [
            RecordState.unpack(each).oldest for each, n in zip(states, counts, strict=True) if n
        ]
    # A reader may have been away for much longer than the logs keep blocks.
    start = max(since, min(oldest, default=since))
    while (total := sum(counts)) > most and until > start:
        until = start + (until - start) * most // (total + 1)
        counts = yield _count_blocks(metric_keys, since, until)
    not_empty = [at for at, blocks in enumerate(counts) if blocks]
    read_marks: list[Command] = [
        read_states,
        ("HMGET", of_shard.catalogue, *names),
    ]
    for attempt in count(1):
        replies: list[Any] = yield [
            *read_marks,
            *(
                ("ZRANGEBYSCORE", metric_keys[at].log, since, until, "WITHSCORES")
                for at in not_empty
            ),
            *read_marks,
        ]
        with reading("recorded"):
            before, cuts = (
                [RecordState.unpack(each).cut for each in replies[at]] for at in (0, -2)
            )
        # If a stamp changed between the two reads, the blocks may belong to a deleted metric. If
        # blocks of the slice were removed, the gap may cover blocks that were read. Removed blocks
        # before the slice don't matter: a log that is written to keeps losing its oldest blocks.
        is_cut = any(new != old and new >= since for old, new in zip(before, cuts, strict=True))
        stamps_before, stamps = (
            [None if entry is None else entry[-STAMP_BYTES:] for entry in replies[at]]
            for at in (1, -1)
        )
        if stamps_before == stamps and (not is_cut or attempt >= _CUT_ATTEMPTS):
            break
    found = []
    for at, flat in zip(not_empty, replies[2:-2], strict=True):
        found += [
            (float(clock), names[at], data)
            for data, clock in zip(flat[::2], flat[1::2], strict=True)
        ]
    # The sort is stable: the blocks of one batch stay together.
    found.sort(key=lambda each: each[0])
    cut_at = {name: cut for name, cut in zip(names, cuts, strict=True) if cut}
    stamp_of = {name: stamp for name, stamp in zip(names, stamps, strict=True) if stamp}
    return LogSlice(until, [(name, data) for _, name, data in found], cut_at, stamp_of)
