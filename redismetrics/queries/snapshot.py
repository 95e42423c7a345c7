"""The first round trip of a query: version, positions, due slots and series of a metric."""

from collections.abc import Iterable
from dataclasses import dataclass

from redismetrics.model.definition import Definition
from redismetrics.model.time import SECOND
from redismetrics.store import keys, replies
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import DueSlot

from .cache import PageKey
from .context import QueryContext

# The sealed position of a log of which nothing has been sealed.
NEVER = b"0"


@dataclass(slots=True)
class Snapshot:
    """The state of a metric at one moment.

    Attributes:
        version: Version of the metric's data; None if nothing was ever sealed.
        sealed: Position up to which the log is sealed.
        clock: Position of the newest block in the log.
        definition: The metric's definition.
        sealed_ms: The oldest and newest hour ever sealed into; None if unknown.
        due: For each chunk, resolution and start (ms) of the slots that are out of date.
        series: The tags of each series, by id.
    """

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
    """Return the snapshot of a metric, None if it is unknown, and the server's time in ms.

    Drops from the cache everything that commits have touched since the cached version.
    """
    namespace = context.namespace.name
    metric_keys = keys.metric(namespace, shard, name)
    rollup_keys = keys.rollup(namespace, shard, name)
    shard_keys = keys.shard(namespace, shard)
    while True:
        cached = context.cache.version(name)
        number = cached.partition(b".")[0] if cached and b"." in cached else b"+inf"
        (
            (version, sealed, *hours),
            clock,
            definition,
            due,
            series,
            is_remembered,
            touched,
            time,
            version_after,
        ) = yield [
            ("HMGET", rollup_keys.state, "version", "sealed", "oldest", "newest"),
            ("GET", shard_keys.clock),
            ("HGET", shard_keys.catalogue, name),
            ("HGETALL", rollup_keys.due),
            # Read after the clock, so that it includes every series of the blocks up to that
            # position.
            ("HGETALL", metric_keys.series),
            ("ZSCORE", rollup_keys.touched, b"=" + (cached or b"")),
            ("ZRANGEBYSCORE", rollup_keys.touched, b"(" + number, "+inf"),
            ("TIME",),
            ("HGET", rollup_keys.state, "version"),
        ]
        # If the version changed, a failover may have mixed replies of two versions: read again.
        if version == version_after:
            break
    now_ms = replies.read_now_ms(time)
    if definition is None:
        return None, now_ms
    if version is not None:
        pages = None if is_remembered is None else _read_touched(touched)
        context.cache.advance(name, cached, version, pages)
    with replies.reading(f"state of {name!r}"):
        due_by_chunk = _read_due(due[::2])
        # Not derived from when the metric was first recorded: the server's clock may have been
        # ahead then.
        sealed_ms = None if None in hours else (int(hours[0]) * SECOND, int(hours[1]) * SECOND)
    snapshot = Snapshot(
        version,
        sealed or NEVER,
        clock or b"0",
        replies.read_definition(name, definition),
        sealed_ms,
        due_by_chunk,
        replies.read_series(series),
    )
    return snapshot, now_ms


def _read_due(fields: Iterable[bytes]) -> dict[int, frozenset[tuple[str, int]]]:
    """Return the due slots of each chunk. Merges are left out, because they change no data."""
    by_chunk: dict[int, set[tuple[str, int]]] = {}
    for field in fields:
        slot = DueSlot.parse(field)
        if slot.merged is None:
            by_chunk.setdefault(slot.chunk, set()).add((slot.resolution, slot.slot_ms))
    return {chunk: frozenset(slots) for chunk, slots in by_chunk.items()}


def _read_touched(members: Iterable[bytes]) -> list[tuple[PageKey, str | None]]:
    """Return the page and field of each member of `touched`; the field is None for a segment.

    A new segment replaces the fields of the slots, so the whole page is outdated.
    """
    touched: list[tuple[PageKey, str | None]] = []
    with replies.reading("touched"):
        for member in members:
            # A version, not a field.
            if member[:1] == b"=":
                continue
            resolution, partition, field = member.decode().split(" ")
            kind, _, chunk = field.rpartition("/")
            page_key = (resolution, int(partition) * SECOND, int(chunk))
            touched.append((page_key, None if kind == "segment" else field))
    return touched
