"""The workers' queue in Redis: heartbeats, metrics with unsealed blocks, due work."""

from collections.abc import Mapping

import msgpack

from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.retention import MARGIN, RetentionPolicy
from redismetrics.model.time import DAY
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.namespace import shards
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import pairs, read_now_ms, reading
from redismetrics.store.server import now
from redismetrics.store.stats import ALIVE_MS
from redismetrics.store.unreadable import skip

from .limits import WorkerLimits

# Number of writers examined in one round trip.
WRITERS_AT_ONCE = 500

# A metric with this many changes, or bytes of changes, is sealed before others: a quarter of the
# limits at which record.lua folds while a worker is running.
MANY_CHANGES, MANY_CHANGE_BYTES = 256, 1 << 20


def heartbeat(namespace: str, worker: str) -> Operation[tuple[int, list[str]]]:
    """Note that a worker is alive; return the server's time in ms and all live workers."""
    key = keys.workers(namespace)
    now_ms = yield from now()
    _, _, alive = yield [
        ("ZADD", key, now_ms, worker),
        ("ZREMRANGEBYSCORE", key, "-inf", now_ms - 10 * ALIVE_MS),
        ("ZRANGEBYSCORE", key, now_ms - ALIVE_MS, "+inf"),
    ]
    return now_ms, [each.decode(errors="replace") for each in alive]


def leave(namespace: str, worker: str) -> Operation[None]:
    """Remove the heartbeat of a stopping worker."""
    yield [("ZREM", keys.workers(namespace), worker)]


def dirty(namespace: str, shard: int) -> Operation[list[str]]:
    """Return the metrics of a shard with unsealed blocks, longest waiting first.

    An undecodable name belongs to no metric. It is replaced, so that the pass does not fail.
    """
    (found,) = yield [("ZRANGE", keys.shard(namespace, shard).dirty, 0, -1)]
    return [name.decode(errors="replace") for name in found]


def by_changes(
    namespace: str, shard: int, names: list[str]
) -> Operation[tuple[list[str], dict[str, RecordState]]]:
    """Return metrics with many changes to fold first, the others in the same order as before.

    This keeps lists of changes short enough that record.lua does not fold them. Also return the
    record-side state of each.
    """
    if not names:
        return [], {}
    (found,) = yield [("HMGET", keys.shard(namespace, shard).recorded, *names)]
    states, excess = {}, {}
    for name, data in zip(names, found, strict=True):
        try:
            with reading("recorded"):
                state = RecordState.unpack(data)
        # Sealing that metric reports the problem.
        except FormatMismatch:
            continue
        changes = state.next_change - state.first_change
        excess[name] = max(changes / MANY_CHANGES, state.change_bytes / MANY_CHANGE_BYTES)
        states[name] = state
    many = sorted(
        (name for name in names if excess.get(name, 0) >= 1), key=lambda name: -excess[name]
    )
    return [*many, *(name for name in names if excess.get(name, 0) < 1)], states


def urgent(
    namespace: str,
    shard: int,
    names: list[str],
    states: Mapping[str, RecordState],
    limits: WorkerLimits,
    oldest_ms: float,
) -> Operation[list[str]]:
    """Return the metrics to seal now, except those with few blocks, all after *oldest_ms*.

    Sealing makes the same decision, but only after reading blocks and changes.
    """

    def may_wait(name: str) -> bool:
        state = states.get(name)
        return (
            state is not None
            and state.waiting > 1000 * oldest_ms
            and state.change_bytes < limits.few_change_bytes
            # Most batches add a block and a change. Only the others are counted.
            and state.next_change - state.first_change < limits.few_blocks
        )

    waiting = list(filter(may_wait, names))
    if not waiting:
        return names
    counts = yield [
        ("ZCOUNT", keys.metric(namespace, shard, name).log, f"({states[name].sealed}", "+inf")
        for name in waiting
    ]
    patient = {
        name for name, count in zip(waiting, counts, strict=True) if count < limits.few_blocks
    }
    return [name for name in names if name not in patient]


def pending(
    namespace: str, shard: int, now_ms: int, begin: int, count: int
) -> Operation[tuple[list[tuple[DueSlot, str]], int]]:
    """Return the work due by *now_ms* with its metric, oldest first, and the number of members.

    Reads at most *count* members, after the first *begin*. An unreadable member is left out and
    kept, because a later version may know it.
    """
    (found,) = yield [
        ("ZRANGEBYSCORE", keys.pending(namespace, shard), "-inf", now_ms, "LIMIT", begin, count)
    ]
    work = []
    for member in found:
        try:
            with reading("a member of pending"):
                work.append(DueSlot.parse_pending(member))
        except FormatMismatch as error:
            skip(f"due work {shown(member)}", error)
    return work, len(found)


def waiting(namespace: str) -> Operation[int]:
    """Return the number of metrics with unsealed blocks, plus the pieces of work due by now."""
    count = yield from shards(namespace)
    now_ms = yield from now()
    commands: list[Command] = []
    for shard in range(count):
        commands.append(("ZCARD", keys.shard(namespace, shard).dirty))
        commands.append(("ZCOUNT", keys.pending(namespace, shard), "-inf", now_ms))
    return sum((yield commands))


def prune_writers(namespace: str, shard: int, retention: RetentionPolicy) -> Operation[int]:
    """Remove writers that have sent nothing for longer than a batch can live; return their number.

    A batch lives at most max_age, which is shorter than the retention of minutes, plus max_future,
    which is at most a day.
    """
    key = keys.shard(namespace, shard).writers
    removed, cursor = 0, b"0"
    while True:
        (cursor, flat), time = yield [("HSCAN", key, cursor, "COUNT", WRITERS_AT_ONCE), ("TIME",)]
        oldest_us = (read_now_ms(time) - retention.finest.retention - MARGIN - DAY) * 1000
        gone: list[bytes] = []
        for writer, entry in pairs(flat).items():
            try:
                with reading("an entry of writers"):
                    is_gone = msgpack.unpackb(entry, raw=True)[1] < oldest_us
            except FormatMismatch as error:
                skip(f"writer {shown(writer)}", error)
                continue
            if is_gone:
                gone += (writer, entry)
        if gone:
            (count,) = yield [("EVALSHA", scripts.script("forget").sha, 1, key, *gone)]
            removed += count
        if int(cursor) == 0:
            return removed
