"""What a worker asks of Redis, as generators: read, work out, commit, or find that somebody else was first.

Every reading begins and ends with the version it was made for, and the commit names it: so whatever two workers do at once,
what one of them read is either what the other left, or its commit changes nothing. See docs/design.md for the rules.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from . import blocks, keys, scripts, sealed, sealing
from .blocks import Block, Samples
from .drive import Command, Operation
from .errors import FormatMismatch, StoreError
from .keys import MetricKeys, SealedKeys
from .model import Definition, unpack_tags
from .operations import Place as Namespace
from .operations import read_definition, read_now_ms
from .rollups import Floats, Ints
from .sealing import Cell, Place
from .slots import HOUR, MARGIN, MINUTE, SECOND, Calendar, Level, slot_of
from .tables import Table

BLOCKS_PER_SLICE = 512  # of a log are read at once
FEW_BLOCKS = 32  # a commit costs some ms however few they are; decoding them for a question, as much
BYTES_PER_SLICE = 8 << 20  # and so many bytes of them sealed
CELLS_PER_COMMIT = 256  # at most so many slots and chunks are rewritten by one commit, unless one block touches more
GONE_PER_COMMIT = 1_000  # notes of what is past its retention are taken off; the rest by later ones
REPLAY_US = 60_000_000  # so long what is sealed stays in the log, for subscribers that were cut off
GRACE = 60 * SECOND  # a slot is made so long after its end, and made anew so long after something came too late for it
SPAN = "span"  # the level above the coarsest: it has no rows, its making only folds those of a span into a segment
FOLD = (
    "fold-"  # and a level's name: folds what of a part of a span has passed into the segment, long before the span ends
)
FOLDS = 4  # parts of a span
SERIES_PER_COMMIT = 1_000  # are deleted at once
DELETION_TRIES = 100  # to find a moment at which a metric's log is sealed to its end
TRIM, SWEEP = "trim 0 0", "sweep 0 0"  # what of tidying is pending


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


@dataclass(frozen=True, slots=True)
class Metric:
    """Where a metric stands, and by which calendar."""

    namespace: str
    shard: int
    name: str
    calendar: Calendar

    @property
    def recorded(self) -> MetricKeys:
        return keys.metric(self.namespace, self.shard, self.name)

    @property
    def worked(self) -> SealedKeys:
        return keys.sealed(self.namespace, self.shard, self.name)

    def data(self, level: str, span: int) -> str:
        return keys.data(self.namespace, self.shard, self.name, level, span)

    def coarser(self, level: Level) -> list[tuple[str, int]]:
        """The (name, width) of each level above, the span of the coarsest at the end."""
        levels = self.calendar.levels
        above = [(each.name, each.width) for each in levels if each.width > level.width]
        return [*above, (SPAN, levels[-1].span)]


@dataclass(slots=True)
class _Standing:
    """What the first trip finds."""

    version: bytes | None
    sealed: bytes
    due: dict[bytes, int]
    definition: Definition | None
    now_ms: int


@dataclass(slots=True)
class _Writes:
    """What a commit puts into one data key, and until when."""

    level: Level
    span: int
    fields: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    persist: bool = False
    refuse: bool = True  # where the key is past its retention


@dataclass(slots=True)
class _Orders:
    """All that a commit does."""

    writes: list[_Writes] = field(default_factory=list)
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


def _standing(metric: Metric) -> Operation[_Standing]:
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
    return _Standing(version, sealed_to or b"0", when, known, read_now_ms(time))


def _bracketed(metric: Metric, standing: _Standing, commands: list[Command]) -> Operation[list[Any] | None]:
    """The replies, if the metric is still as *standing* found it; else None."""
    version = ("HGET", metric.recorded.state, "version")
    began, *replies, ended = yield [version, *commands, version]
    return replies if began == standing.version == ended else None


def _commit(metric: Metric, standing: _Standing, orders: _Orders) -> Operation[Outcome]:
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
        arguments += [keys.data_name(level.name, span), refused_from, expires, len(write.fields), len(write.removed)]
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


# -- sealing ------------------------------------------------------------------------------------------------------


def seal(metric: Metric, patience_ms: float = 0) -> Operation[Result]:
    """Merge the next slice of a metric's log into its minutes, unless it is a few blocks younger than *patience_ms*."""
    standing = yield from _standing(metric)
    after = b"(" + standing.sealed
    replies = yield from _bracketed(
        metric,
        standing,
        [("ZRANGEBYSCORE", metric.recorded.log, after, "+inf", "WITHSCORES", "LIMIT", 0, BLOCKS_PER_SLICE)],
    )
    if replies is None:
        return Result(Outcome.AGAIN)
    found = list(zip(replies[0][::2], replies[0][1::2], strict=True))
    if not found or standing.definition is None:
        return Result(Outcome.NOTHING)
    waited_ms = max(standing.now_ms - int(found[0][1]) // 1000, 0)
    if len(found) < FEW_BLOCKS and waited_ms < patience_ms:
        return Result(Outcome.NOTHING)
    minute = metric.calendar.levels[0]
    chunk_series = keys.CHUNK[standing.definition.type]
    slice_ = _read(found, chunk_series)
    parts, late = _within([samples for _, _, samples in slice_], minute.kept_from(standing.now_ms))
    orders = _Orders(blocks=[data for data, _, _ in slice_], sealed=b"%.0f" % slice_[-1][1], late=late)
    read_at = standing.now_ms
    if parts:
        touched = sealing.places(parts, chunk_series)
        held = yield from _held(metric, standing, touched)
        if held is None:
            return Result(Outcome.AGAIN)
        became = sealing.seal(parts, held, chunk_series, minute, metric.calendar.raw.kept_from(read_at))
        orders.samples = _by_hour(parts)
        orders.marks = _marks(metric, minute, became, standing)
        orders.writes = [*_minutes(metric, became, held, read_at), *_kept(metric, orders.marks)]
    orders.tidying = [(TRIM, read_at + (REPLAY_US // 1000) + SECOND)]
    orders.unless = [(SWEEP, read_at + _sweep_every(metric.calendar))]
    outcome = yield from _commit(metric, standing, orders)
    if outcome is Outcome.DONE and (len(slice_) < len(found) or len(found) == BLOCKS_PER_SLICE):
        outcome = Outcome.MORE
    count = sum(samples.count for _, _, samples in slice_)
    return Result(outcome, len(slice_), count, late, sum(map(len, orders.blocks)), waited_ms=waited_ms)


def _read(found: list[tuple[bytes, bytes]], chunk_series: int) -> list[tuple[bytes, float, Samples]]:
    """Decode blocks, series by id, as far as one commit may reach: up to the first that can't be read.

    Raises:
        FormatMismatch: that is the first of all.
    """
    slice_: list[tuple[bytes, float, Samples]] = []
    size, cells = 0, set[Place]()
    for data, score in found:
        size += len(data)
        if slice_ and size > BYTES_PER_SLICE:
            break
        try:
            block = blocks.unpack(data)
        except FormatMismatch:
            # Left in the log, where a worker that knows its version may read it, until age or size cut it, which is counted.
            if not slice_:
                raise
            break
        samples = _by_id(block)
        cells.update(sealing.places([samples], chunk_series))
        if slice_ and len(cells) > CELLS_PER_COMMIT:
            break
        slice_.append((data, float(score), samples))
    return slice_


def _by_id(block: Block) -> Samples:
    return block.samples.of_series(block.ids)


def _within(parts: list[Samples], from_ms: int) -> tuple[list[Samples], int]:
    """The samples whose minutes are kept, and how many were not: their retention passed on the way."""
    kept, late = [], 0
    for part in parts:
        keep = part.time >= from_ms
        late += int(part.weight[~keep].sum())
        rest = part if keep.all() else part.take(keep, part.summaries.last_ms >= from_ms)
        kept += [rest] if len(rest) else []
    return kept, late


def _by_hour(parts: list[Samples]) -> dict[int, int]:
    """How many samples were recorded in each hour."""
    found: dict[int, int] = {}
    for part in parts:
        hours = part.time // HOUR * HOUR
        for hour in np.unique(hours).tolist():
            found[hour] = found.get(hour, 0) + int(part.weight[hours == hour].sum())
    return found


def _held(metric: Metric, standing: _Standing, places: list[Place]) -> Operation[dict[Place, Cell] | None]:
    """What the minutes hold already; None if somebody else changed them."""
    by_hour: dict[int, list[Place]] = {}
    for place in places:
        by_hour.setdefault(slot_of(place[0], HOUR), []).append(place)
    commands: list[Command] = []
    for hour, inside in by_hour.items():
        fields = [keys.cell_field(*place) for place in inside]
        segments = [keys.segment_field(chunk) for chunk in sorted({chunk for _, chunk in inside})]
        commands += [("HMGET", metric.data(level, hour), *fields, *segments) for level in ("minute", "raw")]
    replies = yield from _bracketed(metric, standing, commands)
    if replies is None:
        return None
    held = {}
    for (_, inside), tables_found, raw_found in zip(by_hour.items(), replies[::2], replies[1::2], strict=True):
        chunks = sorted({chunk for _, chunk in inside})
        table_segments = dict(zip(chunks, tables_found[len(inside) :], strict=True))
        raw_segments = dict(zip(chunks, raw_found[len(inside) :], strict=True))
        unpacked: dict[int, tuple[Table, Samples]] = {}
        for place, data, raw in zip(inside, tables_found, raw_found, strict=False):
            slot, chunk = place
            from_segment = (data is None and table_segments[chunk]) or (raw is None and raw_segments[chunk])
            if from_segment and chunk not in unpacked:
                unpacked[chunk] = read_table(table_segments[chunk]), read_samples(raw_segments[chunk])
            table, samples = unpacked.get(chunk, _NOTHING)
            if data is not None:
                table = read_table(data)
            else:
                table = table.take(table.slot == slot) if len(table) else table
            if raw is not None:
                samples = read_samples(raw)
            else:
                samples = _of_minute(samples, slot)
            if len(table):
                held[place] = Cell(table, samples)
    return held


def read_table(data: bytes | None) -> Table:
    """A table, empty where there is none."""
    return sealed.unpack_table(data) if data else _NOTHING[0]


def read_samples(data: bytes | None) -> Samples:
    """Exact samples, none where there are none."""
    return sealed.unpack_samples(data) if data else _NOTHING[1]


_NOTHING = (sealing.empty_cell().table, sealing.no_samples())


def _of_minute(samples: Samples, slot: int) -> Samples:
    if not len(samples):
        return samples
    inside = (samples.time >= slot) & (samples.time < slot + MINUTE)
    return samples.take(inside, np.zeros(0, np.bool_))


def _minutes(metric: Metric, became: dict[Place, Cell], held: dict[Place, Cell], now_ms: int) -> list[_Writes]:
    """The writes of minutes and of their exact samples; a minute's key stays while an hour over it is due, and one will be."""
    calendar = metric.calendar
    minutes: dict[int, _Writes] = {}
    raws: dict[int, _Writes] = {}
    for (slot, chunk), cell in became.items():
        hour = slot_of(slot, HOUR)
        field_ = keys.cell_field(slot, chunk)
        minute = minutes.setdefault(hour, _Writes(calendar.levels[0], hour, persist=True))
        minute.fields[field_] = sealed.pack_table(cell.table, dense=False)  # until it is folded
        before = held.get((slot, chunk))
        if not calendar.raw.gone(hour, now_ms) and (len(cell.samples) or (before is not None and len(before.samples))):
            raws.setdefault(hour, _Writes(calendar.raw, hour)).fields[field_] = sealed.pack_samples(
                cell.samples, dense=False
            )
    return [*minutes.values(), *raws.values()]


def _marks(metric: Metric, level: Level, places: Iterable[Place], standing: _Standing) -> dict[str, int]:
    """The coarse slots over these that are not due yet, and when they will be."""
    marks = {}
    for slot, chunk in places:
        for name, width in metric.coarser(level):
            start = slot_of(slot, width)
            field_ = keys.due_field(name, start, chunk)
            if field_.encode() not in standing.due:
                marks[field_] = max(start + width, standing.now_ms) + GRACE
    return marks | _to_fold(level, places, standing)


def _to_fold(level: Level, places: Iterable[Place], standing: _Standing) -> dict[str, int]:
    """The parts of spans over these slots that are to be folded, and when: where that is before the whole span is."""
    marks = {}
    for slot, chunk in places:
        start = slot_of(slot, level.span // FOLDS)
        when = max(start + level.span // FOLDS, standing.now_ms) + GRACE
        field_ = keys.due_field(FOLD + level.name, start, chunk)
        if when < slot_of(slot, level.span) + level.span and field_.encode() not in standing.due:
            marks[field_] = when
    return marks


def _kept(metric: Metric, marks: Iterable[str]) -> list[_Writes]:
    """What the slots that are marked will be made of, beside minutes, which are just written: it stays until they are made."""
    minute = metric.calendar.levels[0]
    return [
        _Writes(level, span, persist=True, refuse=False)
        for level, span in _made_of(metric, marks)
        if level is not minute
    ]


def _made_of(metric: Metric, due: Iterable[str]) -> set[tuple[Level, int]]:
    """The keys, by level and span, that hold what these coarse slots are made of."""
    levels = metric.calendar.levels
    finer = {name: level for (name, _), level in zip(metric.coarser(levels[0]), levels, strict=True)}
    found = set()
    for each in due:
        name, start_s, _ = each.split(" ")
        if not name.startswith(FOLD):
            found.add((finer[name], int(start_s) * SECOND))
    return found


# -- making coarse slots ------------------------------------------------------------------------------------------


def make(metric: Metric, due: str) -> Operation[Result]:
    """Do what a field of `due` asks for: make a coarse slot of one chunk anew from the finer slots inside, and fold those into a
    segment; or fold only. A slot is made only when no finer one inside is due.
    """
    name, start_s, chunk_text = due.split(" ")
    start, chunk = int(start_s) * SECOND, int(chunk_text)
    standing = yield from _standing(metric)
    if due.encode() not in standing.due:
        outcome = yield from _commit(metric, standing, _Orders(unmarks=[due]))
        return Result(outcome)
    levels = metric.calendar.levels
    if name.startswith(FOLD):
        level = next(level for level in levels if FOLD + level.name == name)
        span = slot_of(start, level.span)
        found = yield from _unfolded(
            metric, standing, level, span, chunk, range(start, start + level.span // FOLDS, level.width)
        )
        if found is None:
            return Result(Outcome.AGAIN)
        # What is coarser is due too: when that is made, what is left of this goes with it.
        writes = _folded(metric, standing, level, span, chunk, found, persist=True)
        return Result((yield from _commit(metric, standing, _Orders(unmarks=[due], writes=writes))))

    at = next((number for number, level in enumerate(levels) if level.name == name), len(levels))
    finer, target = levels[at - 1], levels[at] if at < len(levels) else None
    inside = [other for other in map(bytes.decode, standing.due) if _is_inside(other, chunk, start, start + finer.span)]
    if any(other.startswith(finer.name + " ") for other in inside if other != due):
        return Result(Outcome.NOTHING)
    found = yield from _unfolded(metric, standing, finer, start, chunk, range(start, start + finer.span, finer.width))
    if found is None:
        return Result(Outcome.AGAIN)
    orders = _Orders(
        unmarks=[due, *(other for other in inside if other.startswith(FOLD + finer.name + " "))],
        gone=_past(metric, found.held, standing, due),
        # Its key may be past its retention: it was kept for this, and goes now.
        writes=_folded(metric, standing, finer, start, chunk, found, persist=_others(standing, due, name, start)),
    )
    if target is not None and not levels[-1].gone(slot_of(start, levels[-1].span), standing.now_ms):
        # A coarser slot over it is due as well, since the same commit marked both: so this key stays, also past its retention.
        write = _Writes(target, slot_of(start, target.span), persist=True, refuse=False)
        rows = sealing.coarser(found.rows, start, target.points)
        write.fields[keys.cell_field(start, chunk)] = sealed.pack_table(rows)
        orders.writes.append(write)
        orders.marks = _to_fold(target, [(start, chunk)], standing)
    return Result((yield from _commit(metric, standing, orders)))


@dataclass(slots=True)
class _Unfolded:
    """What one chunk holds in a span: its rows, and which slots stand beside the segment; of minutes the exact samples too."""

    rows: Table
    loose: list[int]
    samples: Samples
    loose_samples: list[int]
    held: list[bytes]


def _unfolded(
    metric: Metric, standing: _Standing, level: Level, span: int, chunk: int, slots: range
) -> Operation[_Unfolded | None]:
    """The segment of a span, and these of its slots where they stand beside it; None if somebody else changed them."""
    fields = [keys.segment_field(chunk), *(keys.cell_field(slot, chunk) for slot in slots)]
    commands: list[Command] = [("HMGET", metric.data(level.name, span), *fields), ("HGETALL", metric.worked.held)]
    if level is metric.calendar.levels[0]:
        commands.append(("HMGET", metric.data("raw", span), *fields))
    replies = yield from _bracketed(metric, standing, commands)
    if replies is None:
        return None
    (segment, *cells), held, *raw = replies
    loose = {slot: read_table(data) for slot, data in zip(slots, cells, strict=True) if data is not None}
    found = _Unfolded(sealing.assemble(read_table(segment), loose), list(loose), _NOTHING[1], [], held[::2])
    if raw:
        segment, *cells = raw[0]
        loose_samples = {slot: read_samples(data) for slot, data in zip(slots, cells, strict=True) if data is not None}
        found.loose_samples = list(loose_samples)
        if loose_samples:
            found.samples = sealing.assemble_samples(read_samples(segment), loose_samples)
    return found


def _folded(
    metric: Metric, standing: _Standing, level: Level, span: int, chunk: int, found: _Unfolded, *, persist: bool
) -> list[_Writes]:
    """The segment with all that was found, in place of what stood beside it; of minutes their exact samples' as well."""
    segment = keys.segment_field(chunk)
    fold = _Writes(level, span, persist=persist, refuse=False)
    if found.loose:
        fold.fields[segment] = sealed.pack_table(sealing.fold(found.rows, level.points))
        fold.removed = [keys.cell_field(slot, chunk) for slot in found.loose]
    raw = metric.calendar.raw
    if not found.loose_samples or raw.gone(span, standing.now_ms):
        return [fold]
    of_samples = _Writes(raw, span, removed=[keys.cell_field(slot, chunk) for slot in found.loose_samples])
    of_samples.fields[segment] = sealed.pack_samples(sealing.fold_samples(found.samples))
    return [fold, of_samples]


def _is_inside(due: str, chunk: int, start: int, end: int) -> bool:
    """Is this a field of the same chunk whose slot begins in [start, end)?"""
    _, start_s, of_chunk = due.split(" ")
    return int(of_chunk) == chunk and start <= int(start_s) * SECOND < end


def _others(standing: _Standing, due: str, name: str, start: int) -> bool:
    """Is the same slot due for another chunk? Then the key of what is finer must stay."""
    head = f"{name} {start // SECOND} ".encode()
    return any(field_.startswith(head) and field_ != due.encode() for field_ in standing.due)


def _past(metric: Metric, held: list[bytes], standing: _Standing, made: str) -> list[bytes]:
    """The fields of `held` that speak of what is past its retention and its margin, and waits for no slot but the one *made*."""
    calendar, now_ms = metric.calendar, standing.now_ms
    due = [field_.decode() for field_ in standing.due if field_ != made.encode()]
    waiting = {keys.data_name(level.name, span).encode() for level, span in _made_of(metric, due)}
    by_name = {level.name: level for level in (calendar.raw, *calendar.levels)} | {"samples": calendar.raw}
    gone = []
    for each in held:
        name, _, span = each.decode().partition(" ")
        level = by_name.get(name)
        if level is not None and level.gone(int(span) * SECOND, now_ms - MARGIN) and each not in waiting:
            gone.append(each)
    return gone


# -- tidying ------------------------------------------------------------------------------------------------------


def trim(metric: Metric) -> Operation[Result]:
    """Take sealed blocks out of the log of a metric that is not recorded any more."""
    standing = yield from _standing(metric)
    replies = yield from _bracketed(metric, standing, [("ZCARD", metric.recorded.log)])
    if replies is None:
        return Result(Outcome.AGAIN)
    orders = _Orders(unmarks=[TRIM])
    if replies[0]:  # not all of it is old enough, or sealed: look again
        orders = _Orders(tidying=[(TRIM, standing.now_ms + REPLAY_US // 1000 + SECOND)])
    return Result((yield from _commit(metric, standing, orders)))


def _sweep_every(calendar: Calendar) -> int:
    return max(calendar.levels[-1].retention // 8, HOUR)


@dataclass(frozen=True, slots=True)
class _State:
    """One field of `live`, as it was read."""

    field: bytes
    data: bytes
    values: Floats


def _series(
    metric: Metric, standing: _Standing
) -> Operation[tuple[dict[int, bytes], list[tuple[Ints, _State]]] | None]:
    """The canonical tags of all series by number, and of each field of running states the numbers; None: look anew."""
    assert standing.definition is not None, "BUG: the series of a metric that is none"
    replies = yield from _bracketed(
        metric, standing, [("HGETALL", metric.recorded.series), ("HGETALL", metric.recorded.live)]
    )
    if replies is None:
        return None
    width, rows = keys.live_shape(standing.definition.type, len(standing.definition.buckets))
    tags = {
        int(number): canonical for canonical, number in zip(replies[0][::2], replies[0][1::2], strict=True) if canonical
    }
    states = []
    for name, data in zip(replies[1][::2], replies[1][1::2], strict=True):
        values = np.frombuffer(data, "<f8").reshape(rows, width)
        states.append((np.arange(rows) + int(name) * rows, _State(name, data, values)))
    return tags, states


def _forget(orders: _Orders, tags: dict[int, bytes], state: _State, numbers: Ints, gone: NDArray[np.bool_]) -> None:
    """Order that the series of these rows are forgotten, and take them off *tags*."""
    if gone.any():
        orders.idle += [tags.pop(number) for number in numbers[gone].tolist() if number in tags]
        cleared = np.where(gone[:, None], 0.0, state.values).astype("<f8").tobytes()
        orders.rows.append((state.field, state.data, cleared))


def sweep(metric: Metric) -> Operation[Result]:
    """Forget the series that were last recorded before everything that is kept; with the last of them the metric."""
    standing = yield from _standing(metric)
    if standing.definition is None:
        return Result((yield from _commit(metric, standing, _Orders(unmarks=[SWEEP]))))
    found = yield from _series(metric, standing)
    if found is None:
        return Result(Outcome.AGAIN)
    tags, states = found
    coarsest = metric.calendar.levels[-1]
    oldest = standing.now_ms - coarsest.retention - coarsest.span - MARGIN
    orders = _Orders(tidying=[(SWEEP, standing.now_ms + _sweep_every(metric.calendar))])
    for numbers, state in states:
        _forget(orders, tags, state, numbers, (state.values[:, 0] > 0) & (state.values[:, 0] < oldest))
    if not orders.idle:
        return Result((yield from _commit(metric, standing, orders)))
    if not tags and not standing.due:
        orders.none_left, orders.unmarks, orders.tidying = True, [SWEEP, TRIM], []
    return Result((yield from _commit(metric, standing, orders)), forgotten=len(orders.idle))


def delete_series(place: Namespace, name: str, wanted: Mapping[str, str | None]) -> Operation[int]:
    """Forget the series that have these tags (None: that lack it), with what is recorded of them; return how many there were.

    As with those that are idle, only while the log is sealed to its end: so it is sealed first, as by a worker. Rows of numbers
    that no series has are passed over by whoever reads.
    """
    config = yield from place.config()
    metric = Metric(place.namespace, keys.shard_of(name, config.shards), name, config.calendar)
    deleted = tries = 0
    while tries < DELETION_TRIES:
        sealed_ = yield from seal(metric)
        if sealed_.outcome is Outcome.MORE:
            continue
        standing = yield from _standing(metric)
        if standing.definition is None:
            return deleted
        found = yield from _series(metric, standing)
        if found is not None:
            tags, states = found
            chosen = [number for number, canonical in tags.items() if _has(canonical, wanted)]
            if not chosen:
                return deleted
            orders = _Orders()
            for numbers, state in states:
                some = np.isin(numbers, chosen[:SERIES_PER_COMMIT]) & (state.values[:, 0] > 0)
                _forget(orders, tags, state, numbers, some)
            outcome = yield from _commit(metric, standing, orders)
            if outcome is Outcome.DONE:
                deleted, tries = deleted + len(orders.idle), 0
                continue
        tries += 1
    raise StoreError(
        f"{name!r} is recorded too fast: {deleted} series are deleted, and no moment was found for the rest"
    )


def _has(canonical: bytes, wanted: Mapping[str, str | None]) -> bool:
    tags = unpack_tags(canonical)
    return all(tags.get(key) == value for key, value in wanted.items())
