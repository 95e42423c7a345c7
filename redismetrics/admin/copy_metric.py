"""One metric on its way to another store: what of it is read, in pieces of bounded size, and in which order it is written.

First what deleting it goes by, then its keys, last what workers go by. So whatever interrupts it, what is there can be deleted by
the same lists as any metric, and nobody works on it before it is whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from redismetrics.model.time import SECOND
from redismetrics.store import deletion
from redismetrics.store.driver import Command, Operation
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.keys import copying, parse_data_name, shard
from redismetrics.store.keys import pending as keys_pending
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.replies import read_now_ms, reading

PIECE = 1 << 20  # bytes, about, that are read at once
FIELDS = 500  # of a hash, and members of a sorted set, whose size isn't known
KEYS = 200  # are read at once


@dataclass(frozen=True, slots=True)
class Key:
    """One key on both sides; *nbytes* is about what it holds, *count* how many fields or members."""

    metric: str
    source: str
    target: str
    sorted: bool
    count: int
    nbytes: int


@dataclass(slots=True)
class Outline:
    """What of a metric is read first: its state and what stands of it in the keys of its shard, and its keys."""

    state: dict[bytes, bytes]
    definition: bytes | None
    dirty: bytes | None
    tidying: list[tuple[str, bytes]]
    held: list[Any]
    keys: list[Key] = field(default_factory=list)

    @property
    def mark(self) -> bytes:
        """Tells whether the metric changed: every batch and every commit writes its state."""
        seen = blake2b(self.definition or b"", digest_size=16)
        for pair in sorted(self.state.items()):
            seen.update(b"%d %b %d %b" % (len(pair[0]), pair[0], len(pair[1]), pair[1]))
        return seen.digest()


def read_outline(source: MetricLocation, target: MetricLocation) -> Operation[Outline]:
    of, worked, of_shard = source.recorded, source.worked, shard(source.namespace, source.shard)
    pending = keys_pending(source.namespace, source.shard)
    tidying = [cleanup.pending_member(source.name) for cleanup in (TRIM, SWEEP)]
    hashes = {"series": of.series, "live": of.totals, "values": of.values, "due": worked.due}
    flat, definition, dirty, trim, sweep, held, log, touched, *counts = yield [
        ("HGETALL", of.state),
        ("HGET", of_shard.catalogue, source.name),
        ("ZSCORE", of_shard.dirty, source.name),
        *(("ZSCORE", pending, member) for member in tidying),
        ("HGETALL", worked.held),
        ("ZCARD", of.log),
        ("ZCARD", worked.touched),
        *(("HLEN", key) for key in hashes.values()),
    ]
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    found = Outline(
        state, definition, dirty,
        [(member, score) for member, score in zip(tidying, (trim, sweep), strict=True) if score is not None], held,
    )  # fmt: skip
    there = {
        "series": target.recorded.series,
        "live": target.recorded.totals,
        "values": target.recorded.values,
    }
    there["due"] = target.worked.due
    with reading("state"):
        log_bytes = max(int(float(state.get(b"bytes", b"0"))), 0)
    found.keys = [
        Key(source.name, key, there[what], False, many, PIECE * many // FIELDS)
        for (what, key), many in zip(hashes.items(), counts, strict=True)
    ]
    found.keys.append(Key(source.name, of.log, target.recorded.log, True, log, log_bytes))
    found.keys.append(
        Key(
            source.name,
            worked.touched,
            target.worked.touched,
            True,
            touched,
            PIECE * touched // FIELDS,
        )
    )
    with reading("held"):
        for name, size in zip(held[::2], held[1::2], strict=True):
            level, at = parse_data_name(name)
            if level != "samples":
                nbytes = max(int(size), 0)
                found.keys.append(
                    Key(
                        source.name,
                        source.data(level, at),
                        target.data(level, at),
                        False,
                        0,
                        nbytes,
                    )
                )
    return found


@dataclass(slots=True)
class Piece:
    """What was read of a key: fields and values, or scores and members; when the key expires (s, 0: never)."""

    key: Key
    flat: list[Any]
    expires: int

    def writes(self) -> Iterator[Command]:
        command = "ZADD" if self.key.sorted else "HSET"
        for at in range(0, len(self.flat), 2 * FIELDS):
            yield (command, self.key.target, *self.flat[at : at + 2 * FIELDS])
        if self.flat and self.expires:
            yield ("EXPIREAT", self.key.target, self.expires)


def read_whole(several: list[Key]) -> Operation[list[Piece]]:
    """Several keys, each as it is."""
    commands: list[Command] = []
    for key in several:
        read: Command = (
            ("ZRANGE", key.source, 0, -1, "WITHSCORES") if key.sorted else ("HGETALL", key.source)
        )
        commands += [read, ("PTTL", key.source), ("TIME",)]
    replies = yield commands
    parts = zip(several, replies[::3], replies[1::3], replies[2::3], strict=True)
    return [Piece(key, _pairs(key, flat), _expires(ttl, now)) for key, flat, ttl, now in parts]


def read_page(key: Key, cursor: int, many: int) -> Operation[tuple[Piece, int]]:
    """The part of a large key at *cursor*, and the next one; 0 at its end."""
    read: Command
    if key.sorted:
        read = ("ZRANGE", key.source, cursor, cursor + many - 1, "WITHSCORES")
    else:
        read = ("HSCAN", key.source, cursor, "COUNT", many)
    found, ttl, now = yield [read, ("PTTL", key.source), ("TIME",)]
    after = (cursor + many if found else 0) if key.sorted else int(found[0])
    return Piece(key, _pairs(key, found if key.sorted else found[1]), _expires(ttl, now)), after


def _pairs(key: Key, flat: list[Any]) -> list[Any]:
    """As they are written: the score of a member stands before it."""
    return (
        [each for at in range(0, len(flat), 2) for each in (flat[at + 1], flat[at])]
        if key.sorted
        else flat
    )


def _expires(ttl_ms: int, time_: list[Any]) -> int:
    """Keys of ours expire at whole seconds."""
    return round((read_now_ms(time_) + ttl_ms) / SECOND) if ttl_ms > 0 else 0


def bundles(found: list[Key]) -> Iterator[list[Key]]:
    """The keys that are read together; one of more than a piece is alone."""
    inside: list[Key] = []
    size = 0
    for key in found:
        if inside and (size + key.nbytes > PIECE or len(inside) == KEYS):
            yield inside
            inside, size = [], 0
        inside.append(key)
        size += key.nbytes
    if inside:
        yield inside


def begin(
    namespace: str, shards: int, several: list[tuple[MetricLocation, Outline]]
) -> Operation[None]:
    """Make room for metrics, and write first what deleting them goes by."""
    catalogues = {metric.name: shard(namespace, metric.shard).catalogue for metric, _ in several}
    found = yield [("HEXISTS", catalogue, name) for name, catalogue in catalogues.items()]
    yield from deletion.delete(
        namespace, shards, [name for name, left in zip(catalogues, found, strict=True) if left]
    )
    writes: list[Command] = []
    for metric, outline in several:
        writes.append(("DEL", *metric.recorded, *metric.worked))
        writes.append(("HSET", catalogues[metric.name], metric.name, outline.definition))
        for at in range(0, len(outline.held), 2 * FIELDS):
            writes += [("HSET", metric.worked.held, *outline.held[at : at + 2 * FIELDS])]
    yield writes


def end(namespace: str, metric: MetricLocation, outline: Outline) -> Operation[None]:
    """Write what workers go by, and note that the metric is copied."""
    of_shard, pending = shard(namespace, metric.shard), keys_pending(namespace, metric.shard)
    flat = [each for pair in outline.state.items() for each in pair]
    (due,) = yield [("HGETALL", metric.worked.due)]
    writes: list[Command] = [("HSET", metric.recorded.state, *flat)] if flat else []
    if outline.dirty is not None:
        writes.append(("ZADD", of_shard.dirty, outline.dirty, metric.name))
    members = [
        (score, member + b" " + metric.name.encode())
        for member, score in zip(due[::2], due[1::2], strict=True)
    ]
    members += [(score, member.encode()) for member, score in outline.tidying]
    for at in range(0, len(members), FIELDS):
        writes += [
            ("ZADD", pending, *(each for pair in members[at : at + FIELDS] for each in pair))
        ]
    yield writes
    yield [("HSET", copying(namespace), metric.name, outline.mark)]


def count_fields(metric: MetricLocation) -> Operation[int]:
    """How many fields and members all keys of a metric have, but those past their retention."""
    of, worked = metric.recorded, metric.worked
    held, time_, log, touched, *counts = yield [
        ("HKEYS", worked.held),
        ("TIME",),
        ("ZCARD", of.log),
        ("ZCARD", worked.touched),
        *(
            ("HLEN", key)
            for key in (of.series, of.totals, of.state, of.values, worked.due, worked.held)
        ),
    ]
    now_ms = read_now_ms(time_)
    levels = {level.name: level for level in metric.retention.with_raw}
    names = []
    with reading("held"):
        for name in held:
            level, at = parse_data_name(name)
            if level in levels and not levels[level].is_expired(at, now_ms):
                names.append(metric.data(level, at))
    total = int(log + touched + sum(counts))
    for at in range(0, len(names), KEYS):
        total += sum((yield [("HLEN", name) for name in names[at : at + KEYS]]))
    return total
