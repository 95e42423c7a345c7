"""The worker's queue in Redis: heartbeats, metrics with unsealed blocks, slots that are due."""

import msgpack

from redismetrics.model.retention import MARGIN, RetentionPolicy
from redismetrics.model.time import DAY
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation
from redismetrics.store.namespace import shards
from redismetrics.store.replies import pairs, read_now_ms, reading
from redismetrics.store.server import now
from redismetrics.store.stats import ALIVE_MS


def heartbeat(namespace: str, worker: str) -> Operation[tuple[int, list[str]]]:
    """Say that a worker is alive; return the server's time in ms and all that are."""
    key = keys.workers(namespace)
    now_ms = yield from now()
    _, _, live = yield [
        ("ZADD", key, now_ms, worker),
        ("ZREMRANGEBYSCORE", key, "-inf", now_ms - 10 * ALIVE_MS),
        ("ZRANGEBYSCORE", key, now_ms - ALIVE_MS, "+inf"),
    ]
    return now_ms, [each.decode(errors="replace") for each in live]


def leave(namespace: str, worker: str) -> Operation[None]:
    yield [("ZREM", keys.workers(namespace), worker)]


def dirty(namespace: str, shard: int) -> Operation[list[str]]:
    """The metrics of a shard with blocks that are not sealed, those that wait longest first."""
    (found,) = yield [("ZRANGE", keys.shard(namespace, shard).dirty, 0, -1)]
    return [
        name.decode(errors="replace") for name in found
    ]  # a name that is none is no metric's, and holds up no other


def pending(
    namespace: str, shard: int, now_ms: int, skip: int, most: int
) -> Operation[list[tuple[str, str]]]:
    """What is due by now: (what, metric), the oldest first, at *most* so many beyond the first *skip*."""
    (found,) = yield [
        ("ZRANGEBYSCORE", keys.pending(namespace, shard), "-inf", now_ms, "LIMIT", skip, most)
    ]
    work = []
    with reading("pending"):
        for member in found:
            level, slot, chunk, name = member.decode().split(" ", 3)
            work.append((f"{level} {slot} {chunk}", name))
    return work


def waiting(namespace: str) -> Operation[int]:
    """How many pieces of work wait for a worker: metrics with blocks that are not sealed, and what is due by now."""
    many = yield from shards(namespace)
    now_ms = yield from now()
    commands: list[Command] = []
    for shard in range(many):
        commands.append(("ZCARD", keys.shard(namespace, shard).dirty))
        commands.append(("ZCOUNT", keys.pending(namespace, shard), "-inf", now_ms))
    return sum((yield commands))


WRITERS_AT_ONCE = 500


def prune_writers(namespace: str, shard: int, retention: RetentionPolicy) -> Operation[int]:
    """Take off the writers that sent nothing for longer than any of their batches can live; return how many."""
    key = keys.shard(namespace, shard).writers
    removed, cursor = 0, b"0"
    while True:
        (cursor, flat), time = yield [("HSCAN", key, cursor, "COUNT", WRITERS_AT_ONCE), ("TIME",)]
        # A batch lives no longer than max_age, which is shorter than the retention of minutes, and max_future, at most a day.
        oldest = (read_now_ms(time) - retention.levels[0].retention - MARGIN - DAY) * 1000
        gone: list[bytes] = []
        with reading("writers"):
            for writer, entry in pairs(flat).items():
                if msgpack.unpackb(entry, raw=True)[1] < oldest:
                    gone += (writer, entry)
        if gone:
            (many,) = yield [("EVALSHA", scripts.script("forget").sha, 1, key, *gone)]
            removed += many
        if int(cursor) == 0:
            return removed
