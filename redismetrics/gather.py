"""What the store holds for a question: two round trips, then columns.

The first finds the metric as one moment has it: its version, what is sealed, which slots are due, its series. The second reads
the slots of the plan and the log after what is sealed, between two looks at the version; unless both are that of the first,
all is asked again. What was decoded before and has not changed since comes out of the cache.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import blocks, keys, operations, plan, rollups, sealed, sealing, tables
from .blocks import CENTROID, Samples
from .cache import PageKey, Part
from .commits import FOLD, SPAN, read_samples
from .digest import Bools, Run
from .drive import Command, Operation
from .model import Definition
from .operations import Place
from .plan import OPEN_SINCE, Plan
from .rollups import Floats, Ints, Summaries
from .slots import HOUR, MINUTE, SECOND, Calendar, Window, slot_of, window_ms
from .tables import CLUSTERED, UNIFORM, Table

_NEVER = b"0"  # sealed up to then: nothing


@dataclass(slots=True, eq=False)
class Points:
    """Weighted points of many series, columns of shape (n,): for percentiles and for lists of samples.

    *exact* are samples as recorded, with their times; the others stand for several, or for what is known of a whole slot.
    """

    series: Ints
    time: Ints
    value: Floats
    weight: Ints
    centroid: Bools
    exact: Bools
    metadata: dict[int, bytes]


@dataclass(slots=True, eq=False)
class Rows:
    """Summaries of some series: *time* is the ms by which each falls into an interval. Columns of shape (n,), n > 0."""

    series: Ints
    time: Ints
    summaries: Summaries


@dataclass(slots=True, eq=False)
class Found:
    """What answers a question; a series is a position in *tags*.

    *parts* count every sample once, exactly, those of one series in order of arrival.
    """

    definition: Definition
    tags: list[dict[str, str]]
    since_ms: int
    until_ms: int
    now_ms: int
    parts: list[Rows]
    _rolled: list[Table]
    _samples: Samples

    def __len__(self) -> int:
        return sum(len(rows.series) for rows in self.parts)

    @property
    def seconds(self) -> float:
        """How long the window is; one that is open begins at the first sample, or ends now."""
        since, until = self.since_ms, min(self.until_ms, self.now_ms + 1)
        if since == OPEN_SINCE and len(self):
            since = min(int(rows.time.min()) for rows in self.parts)
        return max(until - since, 1) / 1000

    def points(self) -> Points:
        """Every sample, those of rollups by the points of their digests; in order of arrival."""
        rolled, samples = tables.concat(self._rolled), self._samples
        rows, values, weights = rolled.spread()
        centroid = (rolled.kind[rows] == CLUSTERED) & (weights > 1)
        compacted = _compacted(samples)
        return Points(
            np.concatenate([rolled.series[rows], samples.series]),
            np.concatenate([rolled.slot[rows], samples.time]),
            np.concatenate([values, samples.value]),
            np.concatenate([weights, samples.weight]),
            np.concatenate([centroid, compacted]),
            np.concatenate([np.zeros(len(rows), np.bool_), ~compacted]),
            {row + len(rows): text for row, text in samples.metadata.items()},
        )

    def runs(self, groups: Sequence[Ints], group_of: Callable[[Ints, Ints], Ints]) -> list[Run]:
        """All points, for percentiles.

        *groups* are those of the summaries of each part, *group_of* tells them from columns of series and time.
        """
        samples = self._samples
        found = [Run(group_of(samples.series, samples.time), None, samples.value, samples.weight, _compacted(samples))]
        for group, rows in zip(groups, self._rolled, strict=False):  # the parts of the log come after those
            found.append(Run(group, rows.size, rows.points.values, rows.points.weights, rows.kind == CLUSTERED))
            alone = np.flatnonzero(rows.kind == UNIFORM)
            if len(alone):
                summaries = rows.summaries
                equal = np.zeros(len(alone), np.bool_)
                found.append(Run(group[alone], None, summaries.low[alone], summaries.count[alone], equal))
        return found


def _compacted(samples: Samples) -> Bools:
    compacted: Bools = ((samples.flags & CENTROID) != 0) & (samples.weight > 1)
    return compacted


@dataclass(slots=True)
class _Moment:
    """What the first trip finds."""

    version: bytes | None
    sealed: bytes
    clock: bytes
    definition: Definition
    sealed_ms: tuple[int, int] | None
    due: dict[int, frozenset[tuple[str, int]]]
    series: dict[int, dict[str, str]]


@dataclass(slots=True)
class _Read:
    """One page to read: the fields wanted, of them those that must come from the store, and the slots that count."""

    key: PageKey
    width: int
    is_cut: bool  # its slots are minutes that an edge of the window cuts
    slots: list[int]
    fields: list[str]  # the segment's, then those of the slots, where there can be any
    parts: dict[str, Part]
    missing: list[str]
    whole: Table | None = None  # the rows of these slots as another question put them together


def gather(
    place: Place,
    name: str,
    window: Window,
    wanted: Mapping[str, str | None],
    interval_ms: int | None = None,
    *,
    one_by_one: bool = False,
) -> Operation[tuple[Found | None, tuple[int, int, int]]]:
    """Everything that answers for *window*, of the series with the tags *wanted* (None: without that tag).

    Returns what was found, None for an unknown metric, and (since, until, now) in ms as the server's clock has them.
    With *interval_ms* nothing is coarser than such intervals; *one_by_one* prefers exact samples wherever they are kept.

    Raises:
        OutsideRetention: the interval is finer than what the window still holds.
    """
    config = yield from place.config()
    shard = keys.shard_of(name, config.shards)
    while True:
        known, now_ms = yield from _moment(place, shard, name)
        since, until = window_ms(window, now_ms)
        begin = since if interval_ms is None else plan.check_interval(interval_ms, since, config.calendar, now_ms)
        edges = (since, until, now_ms)
        if known is None:
            return None, edges
        tags, positions = _chosen(known.series, wanted)
        chunk_series = keys.CHUNK[known.definition.type]
        chunks = sorted({number // chunk_series for number in np.flatnonzero(positions >= 0).tolist()})
        inside = begin, begin  # of what is sealed: nothing yet
        if known.sealed != _NEVER:
            inside = plan.bounds(begin, until, config.calendar, now_ms, known.sealed_ms)
        exact_from = config.calendar.raw.kept_from(now_ms) if one_by_one else None
        plans = _plans(chunks, known.due, inside, config.calendar, now_ms, interval_ms, exact_from)
        reads, raws = _reads(place, name, known, plans, config.calendar, now_ms)
        commands = [_command(place, shard, name, read) for read in (*reads, *raws) if read.missing]
        of = keys.metric(place.namespace, shard, name)
        began, log, *replies, ended = yield [
            ("HGET", of.state, "version"),
            ("ZRANGEBYSCORE", of.log, b"(" + known.sealed, known.clock),
            *commands,
            ("HGET", of.state, "version"),
        ]
        if not began == known.version == ended:
            continue
        _fill(place, name, known, [*reads, *raws], replies)
        _put_together(place, name, known, reads)
        return _found(known, tags, positions, edges, inside, reads, raws, log), edges


def _moment(place: Place, shard: int, name: str) -> Operation[tuple[_Moment | None, int]]:
    of, worked, of_shard = (
        keys.metric(place.namespace, shard, name), keys.sealed(place.namespace, shard, name),
        keys.shard(place.namespace, shard),
    )  # fmt: skip
    while True:
        asked = place.cache.version(name)
        number = asked.partition(b".")[0] if asked and b"." in asked else b"+inf"
        (version, sealed, *hours), clock, definition, due, flat, remembered, touched, time, ended = yield [
            ("HMGET", of.state, "version", "sealed", "oldest", "newest"),
            ("GET", of_shard.clock),
            ("HGET", of_shard.catalogue, name),
            ("HGETALL", worked.due),
            ("HGETALL", of.series),  # after the clock: every series that a block up to then names is there
            ("ZSCORE", worked.touched, b"=" + (asked or b"")),
            ("ZRANGEBYSCORE", worked.touched, b"(" + number, "+inf"),
            ("TIME",),
            ("HGET", of.state, "version"),
        ]
        if (
            version == ended
        ):  # else a failover could lead back to the version that only the first of these replies is of
            break
    now_ms = operations.read_now_ms(time)
    if definition is None:
        return None, now_ms
    if version is not None:
        with operations.reading("touched"):
            written = None if remembered is None else [_touched(each) for each in touched if each[:1] != b"="]
        place.cache.advance(name, asked, version, written)
    by_chunk: dict[int, set[tuple[str, int]]] = {}
    with operations.reading(f"state of {name!r}"):
        for each in due[::2]:
            level, slot, chunk = each.decode().split(" ")
            if level.startswith(FOLD):
                continue
            by_chunk.setdefault(int(chunk), set()).add((level, int(slot) * SECOND))
        # Not to be told from the time when the metric came: the server's clock may have been ahead then.
        sealed_ms = None if None in hours else (int(hours[0]) * SECOND, int(hours[1]) * SECOND)
    return _Moment(
        version, sealed or _NEVER, clock or b"0", operations.read_definition(name, definition), sealed_ms,
        {chunk: frozenset(slots) for chunk, slots in by_chunk.items()}, operations.read_series(flat),
    ), now_ms  # fmt: skip


def _touched(member: bytes) -> tuple[PageKey, str | None]:
    """The page and the part of it that a commit wrote; a segment takes the place of all the parts that stood beside it."""
    level, span, part = member.decode().split(" ")
    what, _, chunk = part.rpartition("/")
    return (level, int(span) * SECOND, int(chunk)), None if what == "segment" else part


def _chosen(
    series: Mapping[int, dict[str, str]], wanted: Mapping[str, str | None]
) -> tuple[list[dict[str, str]], Ints]:
    """The tags of the series that fit, and the position among them of each id; -1 for the others."""
    tags: list[dict[str, str]] = []
    positions = np.full(max(series, default=-1) + 2, -1)
    for number, of_series in series.items():
        if not wanted or all(of_series.get(key) == value for key, value in wanted.items()):
            positions[number] = len(tags)
            tags.append(of_series)
    return tags, positions


def _plans(
    chunks: Iterable[int], due: Mapping[int, plan.Due], inside: tuple[int, int], calendar: Calendar, now_ms: int,
    interval_ms: int | None,
    exact_from_ms: int | None,
) -> dict[int, Plan]:  # fmt: skip
    """The plan of each chunk; those with the same slots due share one."""
    made: dict[plan.Due, Plan] = {}
    plans = {}
    for chunk in chunks:
        slots = due.get(chunk, frozenset())
        if slots not in made:
            made[slots] = plan.plan(*inside, calendar, slots, now_ms, interval_ms, exact_from_ms)
        plans[chunk] = made[slots]
    return plans


def _reads(
    place: Place, name: str, known: _Moment, plans: Mapping[int, Plan], calendar: Calendar, now_ms: int
) -> tuple[list[_Read], list[_Read]]:
    """The pages of rollups, and those of exact samples."""
    widths = {level.name: level.width for level in (calendar.raw, *calendar.levels)}
    above = [*(level.name for level in calendar.levels[1:]), SPAN]
    coarser = {"raw": above[0]} | {level.name: name for level, name in zip(calendar.levels, above, strict=True)}

    def read(level: str, span: int, chunk: int, slots: list[int], *, is_cut: bool = False) -> _Read:
        key = (level, span, chunk)
        whole = place.cache.whole(name, known.version, key, slots)
        if whole is not None:
            return _Read(key, widths[level], is_cut, slots, [], {}, [], whole)
        parts = place.cache.parts(name, known.version, key)
        fields = [keys.segment_field(chunk)]
        if (coarser[level], span) in known.due.get(chunk, ()):  # else all is folded: the commit that made it did so
            fields += [keys.cell_field(slot, chunk) for slot in slots]
        return _Read(key, widths[level], is_cut, slots, fields, parts, [each for each in fields if each not in parts])

    reads, raws = [], []
    for chunk, made in plans.items():
        reads += [read(level.name, span, chunk, sorted(of_span)) for (level, span), of_span in made.slots.items()]
        cut: dict[int, list[int]] = {}
        for minute in sorted(made.cut):
            cut.setdefault(slot_of(minute, HOUR), []).append(minute)
        for hour, minutes in cut.items():
            reads.append(read("minute", hour, chunk, minutes, is_cut=True))
            if not calendar.raw.gone(hour, now_ms):
                raws.append(read("raw", hour, chunk, minutes))
    return reads, raws


def _command(place: Place, shard: int, name: str, read: _Read) -> Command:
    level, span, _ = read.key
    return ("HMGET", keys.data(place.namespace, shard, name, level, span), *read.missing)


def _fill(place: Place, name: str, known: _Moment, reads: list[_Read], replies: list[Any]) -> None:
    """Take what came, and keep it for the next question."""
    came = iter(replies)
    for read in reads:
        if not read.missing:
            continue
        new: dict[str, Any] = dict(zip(read.missing, next(came), strict=True))
        if read.key[0] == "raw":
            new = {part: data and read_samples(data) for part, data in new.items()}
        read.parts |= new
        place.cache.put(name, known.version, read.key, new)


def _found(
    known: _Moment, tags: list[dict[str, str]], positions: Ints, edges: tuple[int, int, int], inside: tuple[int, int],
    reads: list[_Read], raws: list[_Read], log: list[bytes],
) -> Found:  # fmt: skip
    since, until, now_ms = edges
    rolled = [_of_series(rows, positions, len(tags)) for rows in _wholes(reads, is_cut=False)]
    rolled = [rows for rows in rolled if len(rows)]
    parts: list[Samples] = []
    cut = [_of_series(rows, positions, len(tags)) for rows in _wholes(reads, is_cut=True)]
    if any(map(len, cut)):
        # As far as the last chunk goes: samples of series that were deleted may have greater numbers than any that is left.
        beyond = -len(positions) % keys.CHUNK[known.definition.type]
        padded = np.pad(positions, (0, beyond), constant_values=-1)
        exact = [samples.of_series(padded) for read in raws if len(samples := _samples(read))]
        rows, part = _cut(tables.concat(cut), exact, inside)
        rolled += [rows] if len(rows) else []
        parts += [part] if len(part) else []
    log_parts = [part for data in log if len(part := _unsealed(data, positions, since, until))]
    summed = [blocks.summarise(part) for part in _joined([*parts, *log_parts])]
    listed = blocks.concat(parts + log_parts) if parts or log_parts else sealing.no_samples()
    counted = [Rows(rows.series, rows.slot, rows.summaries) for rows in rolled]
    counted += [Rows(series, rows.last_ms, rows) for series, rows in summed if len(series)]
    return Found(known.definition, tags, since, until, now_ms, counted, rolled, listed)


def _joined(parts: list[Samples]) -> list[Samples]:
    """One list where none of them is compacted; else each by itself, so that their summaries keep their place."""
    return parts if any(len(part.summed) for part in parts) or len(parts) < 2 else [blocks.concat(parts)]


def _put_together(place: Place, name: str, known: _Moment, reads: list[_Read]) -> None:
    """Make one table of each page's parts, and keep it."""
    for read in reads:
        if read.whole is None:
            read.whole = _rows(read)
            place.cache.put_whole(name, known.version, read.key, read.slots, read.whole)


def _wholes(reads: list[_Read], *, is_cut: bool) -> list[Table]:
    return [read.whole for read in reads if read.is_cut == is_cut and read.whole is not None and len(read.whole)]


def _rows(read: _Read) -> Table:
    """The rows of a page's wanted slots; of a slot that has a field of its own, those."""
    segment, *loose = (part for part in _in_order(read) if not isinstance(part, Samples))
    own = [part for part in loose if part]
    found = [sealed.unpack_tables(own)] if own else []
    left = [slot for slot, part in zip(read.slots, loose, strict=True) if part is None]
    if segment and left:
        rows = sealed.unpack_table(segment)
        found.insert(0, rows if _are_all(left, read.width, rows) else rows.take(np.isin(rows.slot, np.array(left))))
    return tables.concat(found)


def _are_all(slots: list[int], width: int, rows: Table) -> bool:
    """Are the *rows* of no other slots? Only told of slots that are neighbours."""
    solid = slots[-1] - slots[0] == width * (len(slots) - 1)
    return solid and slots[0] <= int(rows.slot.min()) and int(rows.slot.max()) <= slots[-1]


def _samples(read: _Read) -> Samples:
    """The exact samples of a page's wanted minutes."""
    segment, *loose = _in_order(read)
    found = [part for part in loose if isinstance(part, Samples) and len(part)]
    if isinstance(segment, Samples) and len(segment):
        left = [slot for slot, part in zip(read.slots, loose, strict=True) if part is None]
        found.insert(0, segment.take(np.isin(segment.time // MINUTE * MINUTE, left), np.zeros(0, np.bool_)))
    return blocks.concat(found) if found else sealing.no_samples()


def _in_order(read: _Read) -> list[Part]:
    """The segment, then what stands beside it for each slot wanted."""
    segment, *loose = (read.parts[each] for each in read.fields)
    return [segment, *(loose or [None] * len(read.slots))]


def _of_series(rows: Table, positions: Ints, chosen: int) -> Table:
    """The rows of the series chosen, which are then positions among them."""
    if chosen == len(positions) - 1 and (positions[:-1] == np.arange(chosen)).all() and (rows.series < chosen).all():
        return rows  # fast path: all of them, none was ever deleted
    series = positions[np.minimum(rows.series, len(positions) - 1)]
    fit = series >= 0
    if not fit.all():
        rows, series = rows.take(fit), series[fit]
    return Table(rows.slot, series, rows.summaries, rows.kind, rows.size, lambda: rows.points)


def _cut(rows: Table, parts: list[Samples], inside: tuple[int, int]) -> tuple[Table, Samples]:
    """Exchange the rows of minutes that an edge of the window cuts for exact samples, where all of a series-minute are there."""
    since, until = inside
    samples = blocks.concat(parts) if parts else sealing.no_samples()
    width = int(max(rows.series.max(initial=0), samples.series.max(initial=0))) + 1
    row_key = rows.slot // MINUTE * width + rows.series
    order = np.argsort(row_key)
    sample_key = samples.time // MINUTE * width + samples.series
    at = np.minimum(np.searchsorted(row_key[order], sample_key), len(order) - 1)
    known = row_key[order][at] == sample_key
    row = order[at[known]]
    weight = rollups.sum_whole(row, len(rows), samples.weight[known])
    whole = weight == rows.summaries.count
    counted = np.zeros(len(samples), np.bool_)
    counted[known] = whole[row]
    counted &= (samples.time >= since) & (samples.time < until)
    rest = rows.take(~whole & (rows.slot >= since) & (rows.slot < until))
    return rest, samples.take(counted, np.zeros(0, np.bool_))


def _unsealed(data: bytes, positions: Ints, since: int, until: int) -> Samples:
    """The samples of a block of the log that are asked for."""
    block = blocks.unpack(data)
    part = block.samples.of_series(positions[np.minimum(block.ids, len(positions) - 1)])
    keep = (part.time >= since) & (part.time < until)
    if not keep.all():
        times = part.summaries.last_ms
        part = part.take(keep, (times >= since) & (times < until))
    return part
