"""Commit the result of a worker's step, if nothing it was made of has changed."""

import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgpack

from redismetrics.model.definition import Definition
from redismetrics.model.retention import MARGIN, REPLAY_US, Resolution
from redismetrics.model.time import SECOND
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Command, Operation
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.replies import read_definition, read_now_ms

GONE_PER_COMMIT = 1_000  # notes of what is past its retention are taken off; the rest by later ones


class Outcome(Enum):
    """How a piece of work ended."""

    DONE = "done"  # committed
    NOTHING = "nothing"  # there was nothing to do
    AGAIN = "again"  # somebody else changed what was read: nothing was changed, read anew
    MORE = "more"  # committed, and there is more of the same


@dataclass(slots=True)
class Result:
    """One piece of work: how it ended, and what was in it."""

    outcome: Outcome
    blocks: int = 0
    samples: int = 0
    late: int = 0
    bytes: int = 0
    forgotten: int = 0
    waited_ms: int = 0  # how long the oldest block had waited


@dataclass(slots=True)
class MetricVersion:
    """What the first trip finds."""

    version: bytes | None
    sealed: bytes
    due: dict[bytes, int]
    definition: Definition | None
    now_ms: int


@dataclass(slots=True)
class KeyWrites:
    """What a commit puts into one data key, and until when."""

    level: Resolution
    span: int
    fields: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    persist: bool = False
    refuse: bool = True  # where the key is past its retention


@dataclass(slots=True)
class CommitPlan:
    """All that a commit does."""

    writes: list[KeyWrites] = field(default_factory=list)
    blocks: list[bytes] = field(default_factory=list)
    sealed: bytes | None = None
    marks: dict[str, int] = field(default_factory=dict)
    unmarks: list[str] = field(default_factory=list)
    late: int = 0
    samples: dict[int, int] = field(default_factory=dict)
    gone: list[bytes] = field(default_factory=list)
    tidying: list[tuple[str, int]] = field(default_factory=list)
    unless: list[tuple[str, int]] = field(default_factory=list)  # it is pending already
    idle: list[bytes] = field(default_factory=list)
    rows: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    none_left: bool = False


def read_version(metric: MetricLocation) -> Operation[MetricVersion]:
    while True:
        (version, sealed_to), due, definition, time, ended = yield [
            ("HMGET", metric.recorded.state, "version", "sealed"),
            ("HGETALL", metric.worked.due),
            ("HGET", keys.shard(metric.namespace, metric.shard).catalogue, metric.name),
            ("TIME",),
            ("HGET", metric.recorded.state, "version"),
        ]
        if (
            version == ended
        ):  # else a failover could lead back to the version that only the first of these replies is of
            break
    when = {name: int(float(score)) for name, score in zip(due[::2], due[1::2], strict=True)}
    known = None if definition is None else read_definition(metric.name, definition)
    return MetricVersion(version, sealed_to or b"0", when, known, read_now_ms(time))


def read_consistent(
    metric: MetricLocation, standing: MetricVersion, commands: list[Command]
) -> Operation[list[Any] | None]:
    """The replies, if the metric is still as *standing* found it; else None."""
    version = ("HGET", metric.recorded.state, "version")
    began, *replies, ended = yield [version, *commands, version]
    return replies if began == standing.version == ended else None


def commit(
    metric: MetricLocation, standing: MetricVersion, orders: CommitPlan
) -> Operation[Outcome]:
    of, of_shard = metric.recorded, keys.shard(metric.namespace, metric.shard)
    names = [
        of.state, of.log, of.series, of.live, *metric.worked, of_shard.clock, of_shard.catalogue, of_shard.dirty,
        keys.pending(metric.namespace, metric.shard), of.values,
    ]  # fmt: skip
    arguments: list[Any] = []
    for write in orders.writes:
        level, span = write.level, write.span
        names.append(metric.data(level.name, span))
        gone_from = span + level.span + level.retention
        expires = 0 if write.persist else (gone_from + MARGIN) // SECOND
        refused_from = gone_from if write.refuse else 1 << 52
        arguments += [
            keys.data_name(level.name, span),
            refused_from,
            expires,
            len(write.fields),
            len(write.removed),
        ]
        for name, data in write.fields.items():
            arguments += (name, data)
        arguments += write.removed
    packed = msgpack.packb(
        [
            standing.sealed, orders.sealed or standing.sealed, [_beginning(block) for block in orders.blocks], REPLAY_US,
            list(orders.marks.items()), orders.unmarks, orders.late, [(span // SECOND, n) for span, n in orders.samples.items()],
            orders.gone[:GONE_PER_COMMIT], orders.tidying, orders.unless, orders.idle, orders.rows, int(orders.none_left),
        ],
        use_bin_type=False,
    )  # fmt: skip
    (reply,) = yield [
        (
            "EVALSHA", scripts.script("commit").sha, len(names), *names,
            metric.name, standing.version or b"", secrets.token_hex(4), packed, *arguments,
        )
    ]  # fmt: skip
    return Outcome.DONE if reply == b"ok" else Outcome.AGAIN


def _beginning(block: bytes) -> bytes:
    """A block as far as its clock, writer and sequence, which are together unlike those of any other."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(block[:1024])
    unpacker.read_array_header()
    for _ in range(3):
        unpacker.skip()
    return block[: unpacker.tell()]
