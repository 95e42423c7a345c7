"""Copy one metric: read it in parts of bounded size, and write it in a safe order.

Write order: first the fields that `delete` relies on, then the data keys, and last the entries that
workers look for. So an interrupted copy can be deleted, and no worker touches a half-copied metric.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from redismetrics.model.time import SECOND
from redismetrics.store import deletion
from redismetrics.store.driver import Command, Operation
from redismetrics.store.due_slot import CLEANUPS
from redismetrics.store.keys import copying, parse_data_name, shard
from redismetrics.store.keys import pending as pending_key
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import pairs, read_now_ms, reading


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """How much to read and write at once.

    Up to *metrics* metrics are copied together if their data is at most *batch_bytes*. About
    *part_bytes* are read at once; *fields* is the corresponding limit for hashes and sorted sets of
    unknown size. A metric that changes while being read is read up to *attempts* times.
    """

    metrics: int = 32
    batch_bytes: int = 8 << 20
    part_bytes: int = 1 << 20
    fields: int = 500
    keys: int = 200
    attempts: int = 5

    def bytes_of(self, fields: int) -> int:
        """Return the assumed size of a key whose number of fields is known."""
        return self.part_bytes * fields // self.fields


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One key on both sides.

    *is_sorted* is true for a sorted set, false for a hash. *count* is its number of fields or
    members (0: unknown), *nbytes* about their size.
    """

    metric: str
    source: str
    target: str
    is_sorted: bool
    count: int
    nbytes: int


@dataclass(slots=True)
class Outline:
    """The first part read of a metric: its state, its entries in the shard's keys, and its keys."""

    state: dict[bytes, bytes]
    recorded: bytes | None
    definition: bytes | None
    dirty: bytes | None
    cleanup: list[tuple[str, bytes]]
    held: dict[bytes, Any]
    keys: list[KeyPair] = field(default_factory=list)

    @property
    def fingerprint(self) -> bytes:
        """Changes with the metric: batches change its recording state, commits its state."""
        digest = blake2b((self.definition or b"") + (self.recorded or b""), digest_size=16)
        for name, text in sorted(self.state.items()):
            digest.update(b"%d %b %d %b" % (len(name), name, len(text), text))
        return digest.digest()


def read_outline(
    source: MetricLocation, target: MetricLocation, limits: CopyLimits
) -> Operation[Outline]:
    """Read the outline of a metric at the source."""
    recorded, worked = source.recorded, source.worked
    of_shard = shard(source.namespace, source.shard)
    pending = pending_key(source.namespace, source.shard)
    cleanup = [each.pending_member(source.name) for each in CLEANUPS]
    hashes = (
        (recorded.series, target.recorded.series),
        (recorded.totals, target.recorded.totals),
        (recorded.values, target.recorded.values),
        (worked.due, target.worked.due),
        (source.exemplars, target.exemplars),
    )
    state, packed, definition, dirty, scores, held, blocks, touched, *counts = yield [
        ("HGETALL", worked.state),
        ("HGET", of_shard.recorded, source.name),
        ("HGET", of_shard.catalogue, source.name),
        ("ZSCORE", of_shard.dirty, source.name),
        ("ZMSCORE", pending, *cleanup),
        ("HGETALL", worked.held),
        ("ZCARD", recorded.log),
        ("ZCARD", worked.touched),
        *(("HLEN", key) for key, _ in hashes),
    ]
    outline = Outline(
        pairs(state),
        packed,
        definition,
        dirty,
        [
            (member, score)
            for member, score in zip(cleanup, scores, strict=True)
            if score is not None
        ],
        pairs(held),
    )
    with reading(f"recorded: the state of {source.name!r}"):
        log_bytes = max(RecordState.unpack(packed).log_bytes, 0)
    outline.keys = [
        KeyPair(source.name, key, to, False, count, limits.bytes_of(count))
        for (key, to), count in zip(hashes, counts, strict=True)
    ]
    outline.keys += [
        KeyPair(source.name, recorded.log, target.recorded.log, True, blocks, log_bytes),
        KeyPair(
            source.name,
            worked.touched,
            target.worked.touched,
            True,
            touched,
            limits.bytes_of(touched),
        ),
        *_data_keys(source, target, outline.held),
    ]
    return outline


def _data_keys(
    source: MetricLocation, target: MetricLocation, held: dict[bytes, Any]
) -> list[KeyPair]:
    """Return the keys with exact samples and rollups."""
    found = []
    with reading("held"):
        for name, size in held.items():
            level, start = parse_data_name(name)
            if level != "samples":
                key, to = source.data(level, start), target.data(level, start)
                found.append(KeyPair(source.name, key, to, False, 0, max(int(size), 0)))
    return found


@dataclass(slots=True)
class KeyPart:
    """A part read of a key: fields and values, or scores and members.

    *expires* is when the key expires, in Unix seconds (0: never).
    """

    key: KeyPair
    flat: list[Any]
    expires: int

    def writes(self, limits: CopyLimits) -> Iterator[Command]:
        """Yield the commands that write the part to the target."""
        command = "ZADD" if self.key.is_sorted else "HSET"
        for at in range(0, len(self.flat), 2 * limits.fields):
            yield (command, self.key.target, *self.flat[at : at + 2 * limits.fields])
        if self.flat and self.expires:
            yield ("EXPIREAT", self.key.target, self.expires)


def read_whole(keys: list[KeyPair]) -> Operation[list[KeyPart]]:
    """Read several keys, each in full."""
    commands: list[Command] = []
    for key in keys:
        read: Command = (
            ("ZRANGE", key.source, 0, -1, "WITHSCORES")
            if key.is_sorted
            else ("HGETALL", key.source)
        )
        commands += [read, ("PTTL", key.source), ("TIME",)]
    replies = yield commands
    parts = zip(keys, replies[::3], replies[1::3], replies[2::3], strict=True)
    return [
        KeyPart(key, _as_written(key, flat), _expires(ttl, now)) for key, flat, ttl, now in parts
    ]


def read_page(key: KeyPair, cursor: int, count: int) -> Operation[tuple[KeyPart, int]]:
    """Read about *count* fields of a large key at *cursor*; return them and the next cursor.

    The cursor is 0 at the end.
    """
    read: Command
    if key.is_sorted:
        read = ("ZRANGE", key.source, cursor, cursor + count - 1, "WITHSCORES")
    else:
        read = ("HSCAN", key.source, cursor, "COUNT", count)
    found, ttl, now = yield [read, ("PTTL", key.source), ("TIME",)]
    following = (cursor + count if found else 0) if key.is_sorted else int(found[0])
    flat = _as_written(key, found if key.is_sorted else found[1])
    return KeyPart(key, flat, _expires(ttl, now)), following


def _as_written(key: KeyPair, flat: list[Any]) -> list[Any]:
    """Return a flat reply in the order of the write command: scores before members."""
    if not key.is_sorted:
        return flat
    return [each for at in range(0, len(flat), 2) for each in (flat[at + 1], flat[at])]


def _expires(ttl_ms: int, now: list[Any]) -> int:
    """Return when a key expires. All expiries are set to whole seconds."""
    return round((read_now_ms(now) + ttl_ms) / SECOND) if ttl_ms > 0 else 0


def group_keys(keys: list[KeyPair], limits: CopyLimits) -> Iterator[list[KeyPair]]:
    """Yield groups of keys to read together; a key larger than a part is on its own."""
    group: list[KeyPair] = []
    size = 0
    for key in keys:
        if group and (size + key.nbytes > limits.part_bytes or len(group) == limits.keys):
            yield group
            group, size = [], 0
        group.append(key)
        size += key.nbytes
    if group:
        yield group


def begin_metrics(
    namespace: str,
    shards: int,
    metrics: list[tuple[MetricLocation, Outline]],
    limits: CopyLimits,
) -> Operation[None]:
    """Delete these metrics at the target, and write the fields that deleting them relies on."""
    catalogues = {metric.name: shard(namespace, metric.shard).catalogue for metric, _ in metrics}
    exists = yield [("HEXISTS", catalogue, name) for name, catalogue in catalogues.items()]
    yield from deletion.delete(
        namespace, shards, [name for name, known in zip(catalogues, exists, strict=True) if known]
    )
    writes: list[Command] = []
    for metric, outline in metrics:
        writes.append(("DEL", *metric.recorded, *metric.worked, metric.exemplars))
        writes.append(("HSET", catalogues[metric.name], metric.name, outline.definition))
        held = [each for pair in outline.held.items() for each in pair]
        writes += [
            ("HSET", metric.worked.held, *held[at : at + 2 * limits.fields])
            for at in range(0, len(held), 2 * limits.fields)
        ]
    yield writes


def end_metric(
    namespace: str, metric: MetricLocation, outline: Outline, limits: CopyLimits
) -> Operation[None]:
    """Write the entries that workers look for, and note that the metric is copied."""
    of_shard, pending = shard(namespace, metric.shard), pending_key(namespace, metric.shard)
    state = [each for pair in outline.state.items() for each in pair]
    (due,) = yield [("HGETALL", metric.worked.due)]
    writes: list[Command] = [("HSET", metric.worked.state, *state)] if state else []
    if outline.recorded is not None:
        writes.append(("HSET", of_shard.recorded, metric.name, outline.recorded))
    if outline.dirty is not None:
        writes.append(("ZADD", of_shard.dirty, outline.dirty, metric.name))
    members = [
        (score, member + b" " + metric.name.encode()) for member, score in pairs(due).items()
    ]
    members += [(score, member.encode()) for member, score in outline.cleanup]
    for at in range(0, len(members), limits.fields):
        part = members[at : at + limits.fields]
        writes.append(("ZADD", pending, *(each for pair in part for each in pair)))
    yield writes
    yield [("HSET", copying(namespace), metric.name, outline.fingerprint)]


def count_fields(metric: MetricLocation, limits: CopyLimits) -> Operation[int]:
    """Return the number of fields and members in a metric's keys, except those past retention."""
    recorded, worked = metric.recorded, metric.worked
    held, time, blocks, touched, *counts = yield [
        ("HKEYS", worked.held),
        ("TIME",),
        ("ZCARD", recorded.log),
        ("ZCARD", worked.touched),
        ("HLEN", recorded.series),
        ("HLEN", recorded.totals),
        ("HLEN", worked.state),
        ("HLEN", recorded.values),
        ("HLEN", worked.due),
        ("HLEN", worked.held),
        ("HLEN", metric.exemplars),
    ]
    now_ms = read_now_ms(time)
    levels = {level.name: level for level in metric.retention.with_raw}
    names = []
    with reading("held"):
        for name in held:
            level, start = parse_data_name(name)
            if level in levels and not levels[level].is_expired(start, now_ms):
                names.append(metric.data(level, start))
    total = int(blocks + touched + sum(counts))
    for at in range(0, len(names), limits.keys):
        total += sum((yield [("HLEN", name) for name in names[at : at + limits.keys]]))
    return total
