"""Statistics about metrics, writers and workers in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import YEAR_10000_MS

from . import keys
from .catalog import series_counts
from .driver import Command, Operation
from .namespace import Config
from .pausing_gc import pausing_gc
from .record_state import RecordState, next_id, sealed_clock
from .replies import DECODING_ERRORS, pairs, read_definition, read_now_ms, reading
from .unreadable import Skipped, read_readable, skip

# A worker without a heartbeat for this long gets no share of the work.
ALIVE_MS = 30_000
# Number of series from which the hash `series` of a metric is padded, see series_ids.lua.
PAD_AT = 64


class MetricStats(NamedTuple):
    """Statistics of one metric.

    *samples* is the number ever stored; *never_sealed* and *late* of them were lost. *pruned* is
    the number past the retention of exact samples, *kept* the number that is not; *inexact* of
    these are not kept one by one for lack of room. *level_bytes* excludes data past its retention.
    *last_ms* is when a sample was last stored, *waiting_ms* the age of the oldest block not yet
    processed by a worker (0: none).
    """

    samples: int
    series: int
    log_bytes: int
    blocks: int
    never_sealed: int
    late: int
    pruned: int
    kept: int
    inexact: int
    level_bytes: dict[str, int]
    last_ms: int
    waiting_ms: int


def readable_stats(
    namespace: str, config: Config, names: list[str], skipped: Skipped | None = None
) -> Operation[dict[str, MetricStats]]:
    """`metric_stats`, without metrics whose state cannot be read, which are added to *skipped*."""

    def read(some: list[str]) -> Operation[list[tuple[str, MetricStats]]]:
        return list((yield from metric_stats(namespace, config, some)).items())

    return dict((yield from read_readable(names, read, skipped)))


def metric_stats(
    namespace: str, config: Config, names: list[str]
) -> Operation[dict[str, MetricStats]]:
    """Return the statistics of these metrics."""
    with pausing_gc():
        commands: list[Command] = []
        for name in names:
            of = keys.counted(namespace, keys.shard_of(name, config.shards), name)
            commands += [
                ("HLEN", of.series),
                ("HMGET", of.state, "late", "pruned", "inexact"),
                ("ZCARD", of.log),
                ("HGETALL", of.held),
            ]
        commands.append(("TIME",))
    (*replies, time), states = yield from _read_with_states(
        namespace, config, names, commands, definitions=True
    )
    series = yield from _count_series(
        namespace, config, dict(zip(names, replies[::4], strict=True)), states
    )
    now_ms, found = read_now_ms(time), {}
    by_default = _levels(config.retention)
    with pausing_gc():
        for at, name in enumerate(names):
            with reading(f"the state of {name!r}"):
                state, of_worker = states[name], replies[4 * at + 1 : 4 * at + 4]
                retention = _retention(config.retention, name, state.definition, now_ms)
                levels = by_default if retention is config.retention else _levels(retention)
                found[name] = _metric_stats(levels, now_ms, series[name], state, of_worker)
    return found


def _levels(retention: RetentionPolicy) -> dict[str, Resolution]:
    """Return the resolutions by name; `samples` has the retention of exact samples."""
    return {**{each.name: each for each in retention.with_raw}, "samples": retention.raw}


def _retention(
    retention: RetentionPolicy, name: str, definition: bytes | None, now_ms: int
) -> RetentionPolicy:
    """Return the retention policy of a metric, or the namespace's if it cannot be read."""
    try:
        known = None if definition is None else read_definition(name, definition)
    except FormatMismatch:
        known = None
    # A fast path: most metrics have no options.
    if known is None or not known.rest:
        return retention
    return retention.readable(known.options, now_ms)


# The scores in `dirty` are multiples of this, set by record.lua.
_DIRTY_US = 1_000_000


class _ShardState(NamedTuple):
    """The entries of a metric in the keys of its shard.

    Attributes:
        packed: Its state.
        dirty: Its score in `dirty`.
        definition: Its entry in the catalogue, if requested.
    """

    packed: bytes | None
    dirty: bytes | None
    definition: bytes | None

    def unpack(self) -> tuple[RecordState, int]:
        """Return the state, and when a sample was last stored, in ms. Call it inside `reading`."""
        state = RecordState.unpack(self.packed)
        stored = int(float(self.dirty or 0))
        if not stored % _DIRTY_US:
            stored -= _DIRTY_US  # It is rounded up, but must not be in the future.
        return state, _check_time(max(stored, state.sealed) // 1000)


def _check_time(time_ms: int) -> int:
    """Return *time_ms* if a datetime can hold it."""
    if not time_ms < YEAR_10000_MS:
        raise ValueError(f"a time must be before the year 10000, got {time_ms} ms")
    return time_ms


def _read_with_states(
    namespace: str,
    config: Config,
    names: list[str],
    commands: list[Command],
    *,
    definitions: bool = False,
) -> Operation[tuple[list[Any], dict[str, _ShardState]]]:
    """Send *commands*, then read the entries of these metrics in the shards' keys."""
    by_shard: dict[int, list[str]] = {}
    for name in names:
        by_shard.setdefault(keys.shard_of(name, config.shards), []).append(name)
    of_shards: list[Command] = []
    for shard, some in by_shard.items():
        of_shard = keys.shard(namespace, shard)
        # The state comes last: what has left `dirty` is sealed in it.
        of_shards += [("ZMSCORE", of_shard.dirty, *some), ("HMGET", of_shard.recorded, *some)]
        if definitions:
            of_shards.append(("HMGET", of_shard.catalogue, *some))
    replies = iter((yield [*commands, *of_shards]))
    first = [next(replies) for _ in commands]
    states: dict[str, _ShardState] = {}
    for some in by_shard.values():
        dirty, packed = next(replies), next(replies)
        defined = next(replies) if definitions else [None] * len(some)
        states.update(zip(some, map(_ShardState, packed, dirty, defined), strict=True))
    return first, states


def _count_series(
    namespace: str, config: Config, fields: dict[str, int], states: dict[str, _ShardState]
) -> Operation[dict[str, int]]:
    """Return the number of series of each metric, from the lengths of the hashes `series`.

    The length is one too high if the hash is padded. Only metrics that had many series are checked
    for this; see series_ids.lua.
    """
    maybe_padded = []
    for name in fields:
        with reading(f"the state of {name!r}"):
            if next_id(states[name].packed) >= PAD_AT:
                maybe_padded.append(name)
    counts = dict(fields)
    if maybe_padded:
        counts.update((yield from series_counts(namespace, config.shards, maybe_padded)))
    return counts


class RecordedSeries(NamedTuple):
    """Number of series of a metric, and when a sample was last stored, in ms."""

    series: int
    last_ms: int


def activity(
    namespace: str, config: Config, names: list[str]
) -> Operation[dict[str, RecordedSeries]]:
    """Return the activity of these metrics."""
    lengths: list[Command] = []
    for name in names:
        shard = keys.shard_of(name, config.shards)
        lengths.append(("HLEN", keys.metric(namespace, shard, name).series))
    replies, states = yield from _read_with_states(namespace, config, names, lengths)
    fields = dict(zip(names, replies, strict=True))
    series = yield from _count_series(namespace, config, fields, states)
    found = {}
    for name in names:
        with reading(f"the state of {name!r}"):
            found[name] = RecordedSeries(series[name], states[name].unpack()[1])
    return found


class LogProgress(NamedTuple):
    """Upper bound of a metric's clock in µs, and the clock up to which its log is sealed."""

    newest: int
    sealed: int


def progress(namespace: str, config: Config, names: list[str]) -> Operation[dict[str, LogProgress]]:
    """Return the progress of these metrics, without metrics whose state cannot be read."""
    _, states = yield from _read_with_states(namespace, config, names, [])
    found = {}
    with pausing_gc():
        for name, (packed, dirty, _) in states.items():
            try:
                sealed = sealed_clock(packed)
                found[name] = LogProgress(max(int(float(dirty or 0)), sealed), sealed)
            except DECODING_ERRORS:
                continue
    return found


def readable_activity(
    namespace: str, config: Config, names: list[str]
) -> Operation[dict[str, RecordedSeries]]:
    """`activity`, without metrics whose state cannot be read."""

    def read(some: list[str]) -> Operation[list[tuple[str, RecordedSeries]]]:
        return list((yield from activity(namespace, config, some)).items())

    return dict((yield from read_readable(names, read)))


def _metric_stats(
    levels: Mapping[str, Resolution],
    now_ms: int,
    series: int,
    state: _ShardState,
    of_worker: list[Any],
) -> MetricStats:
    recorded, last_ms = state.unpack()
    counts, blocks, held = of_worker
    late, pruned, inexact = (int(each or 0) for each in counts)
    kept = 0
    level_bytes = dict.fromkeys(levels, 0)
    del level_bytes["samples"]
    for field, amount in pairs(held).items():
        what, partition_ms = keys.parse_data_name(field)
        is_gone = levels.get(what, levels["samples"]).is_expired(partition_ms, now_ms)
        if what == "samples":
            pruned += int(amount) if is_gone else 0
            kept += 0 if is_gone else int(amount)
        elif not is_gone:
            level_bytes[what] += int(amount)
    return MetricStats(
        samples=recorded.samples,
        series=series,
        log_bytes=recorded.log_bytes,
        blocks=blocks,
        never_sealed=recorded.never_sealed,
        late=late,
        pruned=pruned,
        kept=kept,
        inexact=inexact,
        level_bytes=level_bytes,
        last_ms=last_ms,
        waiting_ms=(
            max(now_ms - recorded.waiting // 1000, 0) if recorded.waiting > recorded.sealed else 0
        ),
    )


@dataclass(frozen=True, slots=True)
class ServerState:
    """Memory, writers and workers, as the server reports them.

    *used_bytes* is the total over all primaries of a cluster. Each writer has its id, its last
    sequence number and when that was written, in ms. *workers* are the live ones.
    """

    used_bytes: int
    now_ms: int
    writers: list[tuple[str, int, int]]
    workers: int


def server_state(namespace: str, shards: int) -> Operation[ServerState]:
    """Return the state of the server. Needs permission for INFO."""
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
                    _check_time(known[2])
            except FormatMismatch as error:
                skip(f"writer {shown(writer)}", error)
                continue
            latest[known[0]] = max(latest.get(known[0], known), known, key=lambda each: each[2])
    now_ms = read_now_ms(time)
    writers = sorted(latest.values(), key=lambda each: -each[2])
    return ServerState(used_bytes, now_ms, writers, count_alive(workers, now_ms))


@dataclass(frozen=True, slots=True)
class Presence:
    """Numbers of live workers, of workers without a recent heartbeat, and of known writers."""

    workers: int
    silent_workers: int
    writers: int


def presence(namespace: str, shards: int) -> Operation[Presence]:
    """Return the numbers of workers and writers. Needs only read permission."""
    time, workers, *writers = yield [
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HLEN", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    alive = count_alive(workers, read_now_ms(time))
    return Presence(alive, len(workers) // 2 - alive, sum(writers))


def count_alive(workers: list[Any], now_ms: int) -> int:
    """Return the number of live workers, from the flat list of ids and heartbeats."""
    return sum(float(heartbeat) > now_ms - ALIVE_MS for heartbeat in pairs(workers).values())
