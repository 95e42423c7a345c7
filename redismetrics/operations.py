"""What is asked of Redis, as generators: each yields the commands of one round trip, is sent their replies, returns the answer.

Nothing here loops over series in Lua, uses KEYS or SCAN, or writes while it reads.
"""

import secrets
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import msgpack

from . import keys, scripts
from .cache import Cache
from .drive import Command, Operation
from .errors import FormatMismatch, StoreError, StoreUnavailable
from .model import OVERFLOW_TAGS, Definition, Family, MetricType, check_name, pack_tags, unpack_tags
from .running import Running
from .settings import DEFAULT_CALENDAR, Settings
from .slots import DAY, MARGIN, Calendar

_OVERFLOW = pack_tags(OVERFLOW_TAGS)


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


MAX_SHARDS = 16_384  # as many as a cluster has slots
MAX_SERIES_ID = 1 << 26  # a question has a column of so many places

_NOT_OURS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, msgpack.UnpackException)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what goes wrong while bytes of the store are read as *what* into `FormatMismatch`."""
    try:
        yield
    except StoreError:
        raise
    except _NOT_OURS as error:
        raise FormatMismatch(f"{what}: can't be read: {error!r:.200}") from error


_STAMP = 9  # bytes behind a definition in the catalogue: when it came


def read_definition(name: str, data: bytes) -> Definition:
    with reading(f"catalogue: the definition of {name!r}"):
        return Definition.unpack(data[:-_STAMP])


# -- the namespace ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Config:
    """What all processes of a namespace share: how many shards it has, what is kept for how long; whether anybody wrote it."""

    shards: int
    calendar: Calendar
    written: bool = True


COPYING = b"copying"  # in the place of the format, while the namespace is being copied to here


def read_config(namespace: str, flat: list[Any]) -> Config:
    """A configuration as it was written, or the defaults where there is none."""
    with reading(f"namespace {namespace!r}: its configuration"):
        found = _pairs(flat)
        if found.get(b"format") == COPYING:
            raise StoreUnavailable(
                f"namespace {namespace!r} is being copied to here: what is recorded waits until `redismetrics copy` is done"
            )
        written = int(found.get(b"format", keys.FORMAT))
        if written != keys.FORMAT:
            raise FormatMismatch(f"namespace {namespace!r}: wanted format {keys.FORMAT}, got {written}")
        kept = found.get(b"retentions")
        calendar = DEFAULT_CALENDAR if kept is None else Calendar.parse(kept.decode())
        count = int(found.get(b"shards", 1))
        if not 1 <= count <= MAX_SHARDS:
            raise ValueError(f"wanted 1 to {MAX_SHARDS} shards, got {count}")
        return Config(count, calendar, bool(found))


class Place:
    """A namespace, whose configuration is asked once, and what was read of it. *rows* bounds an answer, None does not."""

    def __init__(self, namespace: str, cache_bytes: int, config: Config | None = None) -> None:
        self.namespace = namespace
        self.cache = Cache(cache_bytes)
        self.rows: int | None = None
        self._config = config

    def bounded(self, rows: int) -> "Place":
        """The same place for questions whose answers have at most so many rows."""
        found = copy(self)
        found.rows = rows
        return found

    def config(self) -> Operation[Config]:
        """As it was written, or the defaults where nobody wrote any yet."""
        if self._config is not None:
            return self._config
        (found,) = yield [("HGETALL", keys.config(self.namespace))]
        config = read_config(self.namespace, found)
        if found:
            self._config = config
        return config

    def shards(self) -> Operation[int]:
        return (yield from self.config()).shards


def shards(namespace: str) -> Operation[int]:
    """How many shards the namespace has; a namespace that nobody wrote yet has one."""
    return (yield from Place(namespace, 0).shards())


def open_namespace(namespace: str, wanted: Calendar = DEFAULT_CALENDAR, shards: int = 1) -> Operation[Config]:
    """Write the namespace's configuration, with so many *shards*, if nobody did; return the one that holds."""
    key = keys.config(namespace)
    (found,) = yield [("HGETALL", key)]
    read_config(namespace, found)  # one of another format is left as it is
    if b"retentions" not in found[::2]:
        *_, found = yield [
            ("HSETNX", key, "format", keys.FORMAT),
            ("HSETNX", key, "shards", shards),
            ("HSETNX", key, "retentions", wanted.describe()),
            ("HGETALL", key),
        ]
    return read_config(namespace, found)


# -- recording ----------------------------------------------------------------------------------------------------


def definitions(namespace: str, shard: int, names: list[str]) -> Operation[dict[str, Definition | FormatMismatch]]:
    """The catalogue's definitions of these metrics of one shard, those that it has; the error of one that can't be read."""
    (found,) = yield [("HMGET", keys.shard(namespace, shard).catalogue, *names)]
    known: dict[str, Definition | FormatMismatch] = {}
    for name, data in zip(names, found, strict=True):
        if data is not None:
            try:
                known[name] = read_definition(name, data)
            except FormatMismatch as error:
                known[name] = error
    return known


def types(namespace: str, names: list[str]) -> Operation[dict[str, MetricType]]:
    """The types of these metrics, those that the store has and that can be read."""
    count, found = (yield from shards(namespace)), {}
    for shard in range(count):
        inside = [name for name in names if keys.shard_of(name, count) == shard]
        known = (yield from definitions(namespace, shard, inside)) if inside else {}
        found.update({name: each.type for name, each in known.items() if isinstance(each, Definition)})
    return found


@dataclass(frozen=True, slots=True)
class Reply:
    """What record.lua answers to a batch: see there."""

    held: int
    clock: int
    unsealed_ms: int
    unpublished: int
    problems: list[tuple[int, str, bytes]]
    learned: list[tuple[int, list[int]]]


@dataclass(frozen=True, slots=True)
class Batch:
    """One numbered batch, ready to send; never changed once it was sent."""

    shard: int
    sequence: int
    command: Command
    nbytes: int


def batch(
    namespace: str,
    shard: int,
    writer: str,
    sequence: int,
    confirmed: int,
    wires: Iterable[tuple[str, bytes, bytes]],
    settings: Settings,
) -> Batch:
    """A batch of (metric, head, body); *confirmed* is the last sequence of this writer and shard that was confirmed."""
    limits = [
        int(settings.max_age * 1000), int(settings.max_future * 1000), int(settings.log_age * 1_000_000),
        settings.log_bytes, settings.max_series, settings.max_tag_values, _OVERFLOW,
    ]  # fmt: skip
    names: list[str] = list(keys.shard(namespace, shard))
    arguments: list[Any] = [writer, sequence, confirmed, msgpack.packb(limits, use_bin_type=False)]
    size = 0
    for name, head, body in wires:
        names += keys.metric(namespace, shard, name)
        arguments += (name, keys.channel(namespace, name), head, body)
        size += len(head) + len(body)
    command = ("EVALSHA", scripts.script("record").sha, len(names), *names, *arguments)
    return Batch(shard, sequence, command, size)


def record(sent: Batch) -> Operation[Reply]:
    """Send a batch. Safe to repeat."""
    (reply,) = yield [sent.command]
    with reading("record.lua's reply"):
        held, clock, unsealed, unpublished, problems, learned = msgpack.unpackb(reply, raw=True)
        reasons = [(index, reason.decode(), detail) for index, reason, detail in problems]
        return Reply(
            held, clock, unsealed, unpublished, reasons, [(index, list(map(int, ids))) for index, ids in learned]
        )


# -- what workers look at -------------------------------------------------------------------------------------------


ALIVE_MS = 30_000  # a worker without a heartbeat for so long gets no share


def heartbeat(namespace: str, worker: str) -> Operation[tuple[int, list[str]]]:
    """Say that a worker is alive; return the server's time in ms and all that are."""
    key = keys.workers(namespace)
    now_ms = yield from now()
    _, _, live = yield [
        ("ZADD", key, now_ms, worker),
        ("ZREMRANGEBYSCORE", key, "-inf", now_ms - 10 * ALIVE_MS),
        ("ZRANGEBYSCORE", key, now_ms - ALIVE_MS, "+inf"),
    ]
    return now_ms, [each.decode() for each in live]


def leave(namespace: str, worker: str) -> Operation[None]:
    yield [("ZREM", keys.workers(namespace), worker)]


def dirty(namespace: str, shard: int) -> Operation[list[str]]:
    """The metrics of a shard with blocks that are not sealed, those that wait longest first."""
    (found,) = yield [("ZRANGE", keys.shard(namespace, shard).dirty, 0, -1)]
    return [
        name.decode(errors="replace") for name in found
    ]  # a name that is none is no metric's, and holds up no other


def pending(namespace: str, shard: int, now_ms: int, skip: int, most: int) -> Operation[list[tuple[str, str]]]:
    """What is due by now: (what, metric), the oldest first, at *most* so many beyond the first *skip*."""
    (found,) = yield [("ZRANGEBYSCORE", keys.pending(namespace, shard), "-inf", now_ms, "LIMIT", skip, most)]
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


def prune_writers(namespace: str, shard: int, calendar: Calendar) -> Operation[int]:
    """Take off the writers that sent nothing for longer than any of their batches can live; return how many."""
    key = keys.shard(namespace, shard).writers
    removed, cursor = 0, b"0"
    while True:
        (cursor, flat), time = yield [("HSCAN", key, cursor, "COUNT", WRITERS_AT_ONCE), ("TIME",)]
        # A batch lives no longer than max_age, which is shorter than the retention of minutes, and max_future, at most a day.
        oldest = (read_now_ms(time) - calendar.levels[0].retention - MARGIN - DAY) * 1000
        gone: list[bytes] = []
        with reading("writers"):
            for writer, entry in _pairs(flat).items():
                if msgpack.unpackb(entry, raw=True)[1] < oldest:
                    gone += (writer, entry)
        if gone:
            (many,) = yield [("EVALSHA", scripts.script("forget").sha, 1, key, *gone)]
            removed += many
        if int(cursor) == 0:
            return removed


# -- asking -------------------------------------------------------------------------------------------------------


def read_now_ms(time: list[Any]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _by_id(flat: list[Any]) -> dict[int, bytes]:
    """The canonical tags of series by id."""
    found = {int(number): canonical for canonical, number in zip(flat[::2], flat[1::2], strict=True) if canonical}
    if found and not 0 <= min(found) <= max(found) < MAX_SERIES_ID:
        raise ValueError(f"wanted ids from 0 to {MAX_SERIES_ID - 1}, got {min(found)} to {max(found)}")
    return found


def read_series(flat: list[Any]) -> dict[int, dict[str, str]]:
    with reading("series"):
        return {number: unpack_tags(canonical) for number, canonical in _by_id(flat).items()}


def now() -> Operation[int]:
    """The server's time in ms."""
    (time,) = yield [("TIME",)]
    return read_now_ms(time)


def describe(namespace: str, shard: int, name: str) -> Operation[tuple[Definition | None, dict[int, dict[str, str]]]]:
    """A metric's definition and the tags of its series by id."""
    definition, flat = yield [
        ("HGET", keys.shard(namespace, shard).catalogue, name),
        ("HGETALL", keys.metric(namespace, shard, name).series),
    ]
    return None if definition is None else read_definition(name, definition), read_series(flat)


def catalogue(namespace: str, shards: int) -> Operation[dict[str, Definition]]:
    """All metrics with their definitions, in the order they were first recorded."""
    replies = yield [("HGETALL", keys.shard(namespace, shard).catalogue) for shard in range(shards)]
    with reading("catalogue"):
        found = [
            (data[-_STAMP:], check_name(name.decode()), data) for flat in replies for name, data in _pairs(flat).items()
        ]
    return {name: read_definition(name, data) for _, name, data in sorted(found)}


def series(namespace: str, shard: int, name: str) -> Operation[list[dict[str, str]]]:
    """The tags of all series of a metric."""
    (flat,) = yield [("HGETALL", keys.metric(namespace, shard, name).series)]
    return list(read_series(flat).values())


def series_counts(namespace: str, shards: int, names: list[str]) -> Operation[dict[str, int]]:
    """How many series each of these metrics has."""
    commands: list[Command] = []
    for name in names:
        key = keys.metric(namespace, keys.shard_of(name, shards), name).series
        commands += [("HLEN", key), ("HEXISTS", key, "")]
    replies = (yield commands) if commands else []
    return {name: replies[2 * at] - replies[2 * at + 1] for at, name in enumerate(names)}


def live(namespace: str, shards: int, definitions: dict[str, Definition]) -> Operation[list[Family]]:
    """These metrics with the running state of all their series."""
    if not definitions:
        return []
    commands: list[Command] = []
    for name in definitions:
        of = keys.metric(namespace, keys.shard_of(name, shards), name)
        commands += [("HGETALL", of.series), ("HGETALL", of.live)]
    replies = yield commands
    families = []
    for at, (name, definition) in enumerate(definitions.items()):
        series, states = replies[2 * at : 2 * at + 2]
        replies[2 * at : 2 * at + 2] = (
            None,
            None,
        )  # what was read of one metric goes before the next is: there may be much
        with reading(f"live: the running state of {name!r}"):
            families.append(Family(name, definition, Running.unpack(definition, _by_id(series), _pairs(states))))
    return families


@dataclass(frozen=True, slots=True)
class Standing:
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


def standings(namespace: str, config: Config, names: list[str]) -> Operation[dict[str, Standing]]:
    """The store's own figures of these metrics."""
    commands: list[Command] = [("TIME",)]
    for name in names:
        shard = keys.shard_of(name, config.shards)
        of = keys.metric(namespace, shard, name)
        commands += [
            ("HMGET", of.state, "samples", "bytes", "never_sealed", "late", "pruned", "sealed", "waiting"),
            ("HLEN", of.series),
            ("HEXISTS", of.series, ""),
            ("ZCARD", of.log),
            ("HGETALL", keys.sealed(namespace, shard, name).held),
            ("ZSCORE", keys.shard(namespace, shard).dirty, name),
        ]
    time, *replies = yield commands
    now_ms = read_now_ms(time)
    with reading("state"):
        return {name: _standing(config.calendar, now_ms, replies[6 * at : 6 * at + 6]) for at, name in enumerate(names)}


def _standing(calendar: Calendar, now_ms: int, replies: list[Any]) -> Standing:
    state, many, padded, blocks, held, last = replies
    samples, size, never_sealed, late, pruned, sealed, waiting = (int(float(each or 0)) for each in state)
    by_name = {level.name: level for level in (calendar.raw, *calendar.levels)}
    level_bytes = dict.fromkeys(by_name, 0)
    for field, amount in _pairs(held).items():
        what, _, span = field.decode().partition(" ")
        level = by_name.get(what, calendar.raw)
        gone = level.gone(int(span) * 1000, now_ms)
        if what == "samples":
            pruned += int(amount) if gone else 0
        elif not gone:
            level_bytes[what] += int(amount)
    return Standing(
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
            for writer, entry in _pairs(flat).items():
                sequence, clock, _ = msgpack.unpackb(entry, raw=True)
                known = (writer.decode(), int(sequence), int(clock) // 1000)
                latest[known[0]] = max(latest.get(known[0], known), known, key=lambda each: each[2])
    now_ms = read_now_ms(time)
    alive = sum(float(score) > now_ms - ALIVE_MS for score in workers[1::2])
    return ServerState(used, now_ms, sorted(latest.values(), key=lambda each: -each[2]), alive)


@dataclass(frozen=True, slots=True)
class Attendance:
    """Who is there: workers heard of lately, workers that may have left without saying so, and writers that are known."""

    workers: int
    silent_workers: int
    writers: int


def attendance(namespace: str, shards: int) -> Operation[Attendance]:
    """Needs no more than the right to read."""
    time, workers, *writers = yield [
        ("TIME",),
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        *(("HLEN", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    now_ms = read_now_ms(time)
    alive = sum(float(score) > now_ms - ALIVE_MS for score in workers[1::2])
    return Attendance(alive, len(workers) // 2 - alive, sum(writers))


# -- the server ---------------------------------------------------------------------------------------------------


def read_info(text: bytes) -> dict[str, str]:
    """The figures of an answer to INFO."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def info(*sections: str) -> Operation[dict[str, str]]:
    """What the server says of itself in these sections of INFO, which a user must be let ask."""
    found: dict[str, str] = {}
    for text in (yield [("INFO", section) for section in sections]):
        found |= read_info(text)
    return found


def who_am_i() -> Operation[str]:
    (name,) = yield [("ACL", "WHOAMI")]
    return str(name.decode())


def configured(name: str) -> Operation[str]:
    """One setting of the server."""
    (found,) = yield [("CONFIG", "GET", name)]
    return found[1].decode() if found else ""


def try_scripts(namespace: str, shard: int) -> Operation[int]:
    """Load the scripts and run those that can be run to no effect; return how many ran.

    `forget` is told to forget nothing. `record` gets a batch that was applied before, where somebody recorded, and answers
    with the reply that it kept.
    """
    yield [("SCRIPT LOAD", scripts.script(name).text) for name in scripts.NAMES]
    of = keys.shard(namespace, shard)
    forgot, (_, entries) = yield [
        ("EVALSHA", scripts.script("forget").sha, 1, of.writers),
        ("HSCAN", of.writers, 0, "COUNT", 1),
    ]
    if forgot != 0:
        raise FormatMismatch(f"forget.lua: wanted 0 writers forgotten, got {forgot!r:.60}")
    if not entries:
        return 1
    limits = msgpack.packb([0, 0, 0, 0, 0, 0, ""])
    (reply,) = yield [("EVALSHA", scripts.script("record").sha, 4, *of, entries[0], 0, 0, limits)]
    try:
        msgpack.unpackb(reply, raw=True)
    except Exception as error:
        raise FormatMismatch(f"record.lua: its kept reply can't be read: {error}") from error
    return 2


# -- deleting -----------------------------------------------------------------------------------------------------


def delete(namespace: str, shards: int, names: list[str]) -> Operation[int]:
    """Delete metrics with all they hold; return how many there were.

    What must outlive a metric stays in its `state`: the next series id, since ids are never used again, and what is sealed;
    with a new version, so that whoever is reading or sealing it starts anew.
    """
    if not names:
        return 0
    yield [("MULTI",), ("EXEC",)]  # may we? After a refused MULTI the commands would run one by one
    deleted = 0
    for name in names:
        shard = keys.shard_of(name, shards)
        of, worked = keys.metric(namespace, shard, name), keys.sealed(namespace, shard, name)
        of_shard = keys.shard(namespace, shard)
        pending_key = keys.pending(namespace, shard)
        held, due = yield [("HKEYS", worked.held), ("HKEYS", worked.due)]
        # Whatever workers commit in between is told by the same lists once more, from inside the transaction.
        inside = yield [
            ("MULTI",),
            ("HKEYS", worked.held),
            ("HKEYS", worked.due),
            ("DEL", of.series, of.live, of.log, of.values, *worked, *_data_keys(namespace, shard, name, held)),
            ("HDEL", of.state, "samples", "bytes", "never_sealed", "waiting", "late", "pruned"),
            ("HSET", of.state, "version", f"0.{secrets.token_hex(8)}"),
            ("ZREM", pending_key, *(member + b" " + name.encode() for member in (*due, b"trim 0 0", b"sweep 0 0"))),
            ("ZREM", of_shard.dirty, name),
            ("HDEL", of_shard.catalogue, name),
            ("EXEC",),
        ]
        held_then, due_then, *_, found = inside[-1]
        deleted += found
        new = [
            *(("DEL", key) for key in _data_keys(namespace, shard, name, set(held_then) - set(held))),
            *(("ZREM", pending_key, member + b" " + name.encode()) for member in set(due_then) - set(due)),
        ]
        if new:
            yield new
    return deleted


def _data_keys(namespace: str, shard: int, name: str, held: Iterable[bytes]) -> list[str]:
    """The keys that `held` speaks of."""
    with reading("held"):
        pairs = [field.decode().split(" ") for field in held]
        return [
            keys.data(namespace, shard, name, level, int(span) * 1000) for level, span in pairs if level != "samples"
        ]
