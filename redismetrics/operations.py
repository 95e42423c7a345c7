"""What is asked of Redis, as generators: each yields the commands of one round trip, is sent their replies, returns the answer.

Nothing here loops over series in Lua, uses KEYS or SCAN, or writes while it reads.
"""

import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from . import keys, scripts
from .drive import Command, Operation
from .errors import FormatMismatch
from .model import OVERFLOW_TAGS, Definition, Family, Live, pack_tags, unpack_tags
from .settings import Settings

_OVERFLOW = pack_tags(OVERFLOW_TAGS)


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_STAMP = 9  # bytes behind a definition in the catalogue: when it came


def _definition(name: str, data: bytes) -> Definition:
    try:
        return Definition.unpack(data[:-_STAMP])
    except Exception as error:
        raise FormatMismatch(f"catalogue: the definition of {name!r} can't be read: {error}") from error


def _tags(data: bytes) -> dict[str, str]:
    try:
        return unpack_tags(data)
    except Exception as error:
        raise FormatMismatch(f"series: the tags {data[:60]!r} can't be read: {error}") from error


# -- the namespace ------------------------------------------------------------------------------------------------


def _check_config(namespace: str, found: dict[bytes, bytes]) -> int:
    written = int(found.get(b"format", keys.FORMAT))
    if written != keys.FORMAT:
        raise FormatMismatch(f"namespace {namespace!r}: wanted format {keys.FORMAT}, got {written}")
    return int(found.get(b"shards", 1))


def shards(namespace: str) -> Operation[int]:
    """How many shards the namespace has; a namespace that nobody wrote yet has one."""
    (found,) = yield [("HGETALL", keys.config(namespace))]
    return _check_config(namespace, _pairs(found))


class Place:
    """A namespace, whose number of shards is asked once."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._shards = 0

    def shards(self) -> Operation[int]:
        if not self._shards:
            self._shards = yield from shards(self.namespace)
        return self._shards


def open_namespace(namespace: str) -> Operation[int]:
    """Write the namespace's configuration if nobody did; return how many shards it has."""
    key = keys.config(namespace)
    (found,) = yield [("HGETALL", key)]
    if not found:
        *_, found = yield [("HSETNX", key, "format", keys.FORMAT), ("HSETNX", key, "shards", 1), ("HGETALL", key)]
    return _check_config(namespace, _pairs(found))


# -- recording ----------------------------------------------------------------------------------------------------


def definitions(namespace: str, shard: int, names: list[str]) -> Operation[dict[str, Definition | FormatMismatch]]:
    """The catalogue's definitions of these metrics of one shard, those that it has; the error of one that can't be read."""
    (found,) = yield [("HMGET", keys.shard(namespace, shard).catalogue, *names)]
    known: dict[str, Definition | FormatMismatch] = {}
    for name, data in zip(names, found, strict=True):
        if data is not None:
            try:
                known[name] = _definition(name, data)
            except FormatMismatch as error:
                known[name] = error
    return known


@dataclass(frozen=True, slots=True)
class Reply:
    """What record.lua answers to a batch: see there."""

    held: int
    clock: int
    unsealed_ms: int
    unpublished: int
    problems: list[tuple[int, str, bytes]]
    learned: list[tuple[int, list[bytes]]]


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
        settings.log_bytes, settings.max_series, _OVERFLOW,
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
    held, clock, unsealed, unpublished, problems, learned = msgpack.unpackb(reply, raw=True)
    reasons = [(index, reason.decode(), detail) for index, reason, detail in problems]
    return Reply(held, clock, unsealed, unpublished, reasons, [(index, ids) for index, ids in learned])


# -- asking -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A metric as one moment found it: its definition (None when unknown), series by id, blocks and the server's time."""

    definition: Definition | None
    series: dict[int, dict[str, str]]
    blocks: list[bytes]
    now_ms: int


def _now_ms(time: list[Any]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _series(flat: list[Any]) -> dict[int, dict[str, str]]:
    return {int(number): _tags(canonical) for canonical, number in _pairs(flat).items() if canonical}


def now() -> Operation[int]:
    """The server's time in ms."""
    (time,) = yield [("TIME",)]
    return _now_ms(time)


def snapshot(namespace: str, shard: int, name: str) -> Operation[Snapshot]:
    """Everything needed to answer a question about one metric: two round trips.

    The second begins and ends with the version that the first one read; if a commit came between, all is asked again.
    """
    of = keys.metric(namespace, shard, name)
    while True:
        (version, sealed), definition, time = yield [
            ("HMGET", of.state, "version", "sealed"),
            ("HGET", keys.shard(namespace, shard).catalogue, name),
            ("TIME",),
        ]
        if definition is None:
            return Snapshot(None, {}, [], _now_ms(time))
        after = f"({int(float(sealed or 0))}"
        began, blocks, series, ended = yield [
            ("HGET", of.state, "version"),
            ("ZRANGEBYSCORE", of.log, after, "+inf"),
            ("HGETALL", of.series),  # after the blocks: a block may name a series that has just come
            ("HGET", of.state, "version"),
        ]
        if began == version and ended == version:
            return Snapshot(_definition(name, definition), _series(series), blocks, _now_ms(time))


def describe(namespace: str, shard: int, name: str) -> Operation[tuple[Definition | None, dict[int, dict[str, str]]]]:
    """A metric's definition and the tags of its series by id."""
    definition, flat = yield [
        ("HGET", keys.shard(namespace, shard).catalogue, name),
        ("HGETALL", keys.metric(namespace, shard, name).series),
    ]
    return None if definition is None else _definition(name, definition), _series(flat)


def catalogue(namespace: str, shards: int) -> Operation[dict[str, Definition]]:
    """All metrics with their definitions, in the order they were first recorded."""
    replies = yield [("HGETALL", keys.shard(namespace, shard).catalogue) for shard in range(shards)]
    found = [(data[-_STAMP:], name.decode(), data) for flat in replies for name, data in _pairs(flat).items()]
    return {name: _definition(name, data) for _, name, data in sorted(found)}


def series(namespace: str, shard: int, name: str) -> Operation[list[dict[str, str]]]:
    """The tags of all series of a metric."""
    (flat,) = yield [("HGETALL", keys.metric(namespace, shard, name).series)]
    return list(_series(flat).values())


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
        tags, states = _series(replies[2 * at]), _pairs(replies[2 * at + 1])
        families.append(Family(name, definition, _live_rows(definition, tags, states)))
    return families


def _live_rows(definition: Definition, tags: dict[int, dict[str, str]], states: dict[bytes, bytes]) -> list[Live]:
    """The running state of all series, in order of their ids; see LIVE in keys.py."""
    width, rows = keys.live_shape(definition.type, len(definition.buckets))
    found = []
    for field, state in sorted((int(field), state) for field, state in states.items()):
        if len(state) != 8 * width * rows:
            raise FormatMismatch(f"live: wanted {8 * width * rows} bytes for a {definition.type}, got {len(state)}")
        for row, values in enumerate(struct.iter_unpack(f"<{width}d", state)):
            of_series = tags.get(field * rows + row)
            if values[0] and of_series is not None:
                found.append(_live(definition, of_series, values))
    return found


def _live(definition: Definition, tags: dict[str, str], values: tuple[float, ...]) -> Live:
    seen, *rest = values
    if definition.type == "counter":
        return Live(tags, int(seen), rest[0] + rest[1])
    if definition.type == "gauge":
        return Live(tags, int(seen), rest[0])
    return Live(tags, int(seen), rest[1] + rest[2], int(rest[0]), tuple(map(int, rest[3:])))


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store knows about one metric."""

    samples: int
    series: int
    log_bytes: int
    blocks: int
    never_sealed: int
    last_ms: int


def standings(namespace: str, shards: int, names: list[str]) -> Operation[dict[str, Standing]]:
    """The store's own figures of these metrics."""
    commands: list[Command] = []
    for name in names:
        shard = keys.shard_of(name, shards)
        of = keys.metric(namespace, shard, name)
        commands += [
            ("HMGET", of.state, "samples", "bytes", "never_sealed"),
            ("HLEN", of.series),
            ("HEXISTS", of.series, ""),
            ("ZCARD", of.log),
            ("ZSCORE", keys.shard(namespace, shard).dirty, name),
        ]
    replies = (yield commands) if commands else []
    found = {}
    for at, name in enumerate(names):
        (samples, size, never), many, padded, blocks, last = replies[5 * at : 5 * at + 5]
        found[name] = Standing(
            int(float(samples or 0)), many - padded, int(float(size or 0)), blocks, int(float(never or 0)),
            int(float(last or 0)) // 1000,
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class ServerState:
    """Memory and writers as the server sees them."""

    used_bytes: int
    writers: int


def server_state(namespace: str, shards: int) -> Operation[ServerState]:
    info, *counts = yield [
        ("INFO", "memory"),
        *(("HLEN", keys.shard(namespace, shard).writers) for shard in range(shards)),
    ]
    used = 0
    for line in info.split(b"\r\n"):
        if line.startswith(b"used_memory:"):
            used = int(line.partition(b":")[2])
    return ServerState(used, max(counts))


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
    for shard in range(shards):
        inside = [name for name in names if keys.shard_of(name, shards) == shard]
        if not inside:
            continue
        of_shard = keys.shard(namespace, shard)
        commands: list[Command] = [("MULTI",)]
        for name in inside:
            of = keys.metric(namespace, shard, name)
            commands += [
                ("DEL", of.series, of.live, of.log),
                ("HDEL", of.state, "samples", "bytes", "never_sealed", "waiting"),
                ("HSET", of.state, "version", secrets.token_hex(8)),
            ]
        commands += [("ZREM", of_shard.dirty, *inside), ("HDEL", of_shard.catalogue, *inside), ("EXEC",)]
        replies = yield commands
        deleted += replies[-1][-1]
    return deleted
