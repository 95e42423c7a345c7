"""The first round trip of a query: version, position, clock and series of a metric."""

from dataclasses import dataclass

from redismetrics.model.definition import Definition
from redismetrics.model.time import SECOND
from redismetrics.store import keys, replies
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import DueSlot

from .cache import PageKey
from .context import QueryContext

NEVER = b"0"  # sealed up to then: nothing


@dataclass(slots=True)
class Snapshot:
    """What the first trip finds."""

    version: bytes | None
    sealed: bytes
    clock: bytes
    definition: Definition
    sealed_ms: tuple[int, int] | None
    due: dict[int, frozenset[tuple[str, int]]]
    series: dict[int, dict[str, str]]


def read_snapshot(
    context: QueryContext, shard: int, name: str
) -> Operation[tuple[Snapshot | None, int]]:
    of, worked, of_shard = (
        keys.metric(context.namespace.name, shard, name), keys.rollup(context.namespace.name, shard, name),
        keys.shard(context.namespace.name, shard),
    )  # fmt: skip
    while True:
        asked = context.cache.version(name)
        number = asked.partition(b".")[0] if asked and b"." in asked else b"+inf"
        (
            (version, sealed, *hours),
            clock,
            definition,
            due,
            flat,
            remembered,
            touched,
            time,
            ended,
        ) = yield [
            ("HMGET", of.state, "version", "sealed", "oldest", "newest"),
            ("GET", of_shard.clock),
            ("HGET", of_shard.catalogue, name),
            ("HGETALL", worked.due),
            (
                "HGETALL",
                of.series,
            ),  # after the clock: every series that a block up to then names is there
            ("ZSCORE", worked.touched, b"=" + (asked or b"")),
            ("ZRANGEBYSCORE", worked.touched, b"(" + number, "+inf"),
            ("TIME",),
            ("HGET", of.state, "version"),
        ]
        if (
            version == ended
        ):  # else a failover could lead back to the version that only the first of these replies is of
            break
    now_ms = replies.read_now_ms(time)
    if definition is None:
        return None, now_ms
    if version is not None:
        with replies.reading("touched"):
            written = (
                None
                if remembered is None
                else [_touched(each) for each in touched if each[:1] != b"="]
            )
        context.cache.advance(name, asked, version, written)
    by_chunk: dict[int, set[tuple[str, int]]] = {}
    with replies.reading(f"state of {name!r}"):
        for each in due[::2]:
            slot = DueSlot.parse(each)
            if slot.merged is None:
                by_chunk.setdefault(slot.chunk, set()).add((slot.resolution, slot.slot_ms))
        # Not to be told from the time when the metric came: the server's clock may have been ahead then.
        sealed_ms = None if None in hours else (int(hours[0]) * SECOND, int(hours[1]) * SECOND)
    return Snapshot(
        version, sealed or NEVER, clock or b"0", replies.read_definition(name, definition), sealed_ms,
        {chunk: frozenset(slots) for chunk, slots in by_chunk.items()}, replies.read_series(flat),
    ), now_ms  # fmt: skip


def _touched(member: bytes) -> tuple[PageKey, str | None]:
    """The page and the part of it that a commit wrote; a segment takes the place of all the parts that stood beside it."""
    level, span, part = member.decode().split(" ")
    what, _, chunk = part.rpartition("/")
    return (level, int(span) * SECOND, int(chunk)), None if what == "segment" else part
