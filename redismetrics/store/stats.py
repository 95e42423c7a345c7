"""Figures that Redis holds about metrics, writers and workers."""

from dataclasses import dataclass
from typing import Any

import msgpack

from redismetrics.model.retention import RetentionPolicy

from . import keys
from .driver import Command, Operation
from .namespace import Config
from .replies import pairs, read_now_ms, reading

ALIVE_MS = 30_000  # a worker without a heartbeat for so long gets no share


@dataclass(frozen=True, slots=True)
class MetricStats:
    """What the store knows about one metric; *pruned* and *level_bytes* leave out what is past its retention."""

    samples: int
    series: int
    log_bytes: int
    blocks: int
    never_sealed: int
    late: int
    pruned: int
    level_bytes: dict[str, int]
    last_ms: int
    waiting_ms: int


def metric_stats(
    namespace: str, config: Config, names: list[str]
) -> Operation[dict[str, MetricStats]]:
    """The store's own figures of these metrics."""
    commands: list[Command] = [("TIME",)]
    for name in names:
        shard = keys.shard_of(name, config.shards)
        of = keys.metric(namespace, shard, name)
        commands += [
            (
                "HMGET",
                of.state,
                "samples",
                "bytes",
                "never_sealed",
                "late",
                "pruned",
                "sealed",
                "waiting",
            ),
            ("HLEN", of.series),
            ("HEXISTS", of.series, ""),
            ("ZCARD", of.log),
            ("HGETALL", keys.rollup(namespace, shard, name).held),
            ("ZSCORE", keys.shard(namespace, shard).dirty, name),
        ]
    time, *replies = yield commands
    now_ms = read_now_ms(time)
    with reading("state"):
        return {
            name: _metric_stats(config.retention, now_ms, replies[6 * at : 6 * at + 6])
            for at, name in enumerate(names)
        }


def _metric_stats(retention: RetentionPolicy, now_ms: int, replies: list[Any]) -> MetricStats:
    state, many, padded, blocks, held, last = replies
    samples, size, never_sealed, late, pruned, sealed, waiting = (
        int(float(each or 0)) for each in state
    )
    by_name = {level.name: level for level in (retention.raw, *retention.levels)}
    level_bytes = dict.fromkeys(by_name, 0)
    for field, amount in pairs(held).items():
        what, _, span = field.decode().partition(" ")
        level = by_name.get(what, retention.raw)
        gone = level.gone(int(span) * 1000, now_ms)
        if what == "samples":
            pruned += int(amount) if gone else 0
        elif not gone:
            level_bytes[what] += int(amount)
    return MetricStats(
        samples, many - padded, size, blocks, never_sealed, late, pruned, level_bytes,
        max(int(float(last or 0)), sealed) // 1000, max(now_ms - waiting // 1000, 0) if waiting > sealed else 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerState:
    """Memory (of a cluster's primaries together), writers and workers as the server sees them.

    Of each writer its id, last sequence and when it came, in ms.
    """

    used_bytes: int
    now_ms: int
    writers: list[tuple[str, int, int]]
    workers: int


def server_state(namespace: str, shards: int) -> Operation[ServerState]:
    info, time, workers, *found = yield [
        ("INFO", "memory"),
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HGETALL", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    used = 0
    for line in info.split(b"\r\n"):
        if line.startswith(b"used_memory:"):
            used += int(line.partition(b":")[2])
    latest: dict[str, tuple[str, int, int]] = {}
    for flat in found:
        with reading("writers"):
            for writer, entry in pairs(flat).items():
                sequence, clock, _ = msgpack.unpackb(entry, raw=True)
                known = (writer.decode(), int(sequence), int(clock) // 1000)
                latest[known[0]] = max(latest.get(known[0], known), known, key=lambda each: each[2])
    now_ms = read_now_ms(time)
    alive = sum(float(score) > now_ms - ALIVE_MS for score in workers[1::2])
    return ServerState(used, now_ms, sorted(latest.values(), key=lambda each: -each[2]), alive)


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is there: workers heard of lately, workers that may have left without saying so, and writers that are known."""

    workers: int
    silent_workers: int
    writers: int


def presence(namespace: str, shards: int) -> Operation[Presence]:
    """Needs no more than the right to read."""
    time, workers, *writers = yield [
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HLEN", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    now_ms = read_now_ms(time)
    alive = sum(float(score) > now_ms - ALIVE_MS for score in workers[1::2])
    return Presence(alive, len(workers) // 2 - alive, sum(writers))
