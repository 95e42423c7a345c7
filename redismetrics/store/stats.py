"""Statistics that Redis holds about metrics, writers and workers."""

from dataclasses import dataclass
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.retention import RetentionPolicy

from . import keys
from .driver import Command, Operation
from .namespace import Config
from .record_state import RecordState
from .replies import pairs, read_now_ms, reading
from .unreadable import Skipped, read_readable, skip

# A worker without a heartbeat for this long gets no share of the work.
ALIVE_MS = 30_000


@dataclass(frozen=True, slots=True)
class MetricStats:
    """Statistics of one metric.

    *samples* were ever stored, *never_sealed* and *late* of them were lost. *pruned* is how many
    are past the retention of exact samples; *level_bytes* leaves out what is past its retention.
    *last_ms* is when a sample was last stored, *waiting_ms* the age of the oldest block that no
    worker has processed (0: none waits).
    """

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


def readable_stats(
    namespace: str, config: Config, names: list[str], skipped: Skipped | None = None
) -> Operation[dict[str, MetricStats]]:
    """`metric_stats`, without the metrics whose state cannot be read: add those to *skipped*."""

    def read(some: list[str]) -> Operation[list[tuple[str, MetricStats]]]:
        return list((yield from metric_stats(namespace, config, some)).items())

    return dict((yield from read_readable(names, read, skipped)))


def metric_stats(
    namespace: str, config: Config, names: list[str]
) -> Operation[dict[str, MetricStats]]:
    """Return the statistics of these metrics."""
    commands: list[Command] = [("TIME",)]
    for name in names:
        shard = keys.shard_of(name, config.shards)
        recorded, worked = keys.metric(namespace, shard, name), keys.rollup(namespace, shard, name)
        of_shard = keys.shard(namespace, shard)
        commands += [
            ("HGET", of_shard.recorded, name),
            ("HMGET", worked.state, "late", "pruned"),
            ("HLEN", recorded.series),
            ("HEXISTS", recorded.series, ""),
            ("ZCARD", recorded.log),
            ("HGETALL", worked.held),
            ("ZSCORE", of_shard.dirty, name),
        ]
    time, *replies = yield commands
    now_ms, found = read_now_ms(time), {}
    for at, name in enumerate(names):
        with reading(f"the state of {name!r}"):
            found[name] = _metric_stats(config.retention, now_ms, replies[7 * at : 7 * at + 7])
    return found


def _metric_stats(retention: RetentionPolicy, now_ms: int, replies: list[Any]) -> MetricStats:
    packed, counts, fields, has_padding, blocks, held, last = replies
    recorded = RecordState.unpack(packed)
    late, pruned = (int(each or 0) for each in counts)
    by_name = {each.name: each for each in retention.with_raw}
    level_bytes = dict.fromkeys(by_name, 0)
    for field, amount in pairs(held).items():
        what, partition_ms = keys.parse_data_name(field)
        is_gone = by_name.get(what, retention.raw).is_expired(partition_ms, now_ms)
        if what == "samples":
            pruned += int(amount) if is_gone else 0
        elif not is_gone:
            level_bytes[what] += int(amount)
    return MetricStats(
        samples=recorded.samples,
        series=fields - has_padding,
        log_bytes=recorded.log_bytes,
        blocks=blocks,
        never_sealed=recorded.never_sealed,
        late=late,
        pruned=pruned,
        level_bytes=level_bytes,
        last_ms=max(int(float(last or 0)), recorded.sealed) // 1000,
        waiting_ms=(
            max(now_ms - recorded.waiting // 1000, 0) if recorded.waiting > recorded.sealed else 0
        ),
    )


@dataclass(frozen=True, slots=True)
class ServerState:
    """Memory, writers and workers, as the server reports them.

    *used_bytes* is that of all primaries of a cluster. Each writer has its id, its last sequence
    number and when it was written, in ms. *workers* are those alive.
    """

    used_bytes: int
    now_ms: int
    writers: list[tuple[str, int, int]]
    workers: int


def server_state(namespace: str, shards: int) -> Operation[ServerState]:
    """Return the state of the server. Needs the right to INFO."""
    info, time, workers, *writers_of_shards = yield [
        ("INFO", "memory"),
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HGETALL", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    used_bytes = 0
    for line in info.split(b"\r\n"):
        if line.startswith(b"used_memory:"):
            used_bytes += int(line.partition(b":")[2])
    latest: dict[str, tuple[str, int, int]] = {}
    for flat in writers_of_shards:
        for writer, entry in pairs(flat).items():
            try:
                with reading("an entry of writers"):
                    sequence, clock, _ = msgpack.unpackb(entry, raw=True)
                    known = (writer.decode(), int(sequence), int(clock) // 1000)
            except FormatMismatch as error:
                skip(f"writer {shown(writer)}", error)
                continue
            latest[known[0]] = max(latest.get(known[0], known), known, key=lambda each: each[2])
    now_ms = read_now_ms(time)
    writers = sorted(latest.values(), key=lambda each: -each[2])
    return ServerState(used_bytes, now_ms, writers, count_alive(workers, now_ms))


@dataclass(frozen=True, slots=True)
class Presence:
    """Numbers of workers alive, of workers without a recent heartbeat, and of known writers."""

    workers: int
    silent_workers: int
    writers: int


def presence(namespace: str, shards: int) -> Operation[Presence]:
    """Return how many workers and writers there are. Needs only the right to read."""
    time, workers, *writers = yield [
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HLEN", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    alive = count_alive(workers, read_now_ms(time))
    return Presence(alive, len(workers) // 2 - alive, sum(writers))


def count_alive(workers: list[Any], now_ms: int) -> int:
    """Return how many workers are alive, from the flat list of ids and heartbeats."""
    return sum(float(heartbeat) > now_ms - ALIVE_MS for heartbeat in pairs(workers).values())
