"""A parcel: what one flush gathered of one metric, on its way from the buffers to the bytes that record.lua gets."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import msgpack
import numpy as np

from . import blocks, keys, rollups
from .blocks import CENTROID, CHANGE, OWN_TIME, Samples
from .model import Definition, Distribution, MetricType
from .rollups import Floats, Ints

SLICE = 50_000  # so many samples of a series are taken at once, so that the recording threads get their turn
TIME_UNITS = {"s": 1.0, "seconds": 1.0, "ms": 0.001, "milliseconds": 0.001}

ROWS_WHEN_MERGED = 100  # of a series and minute, in a parcel merged of very many flushes
_LARGEST = np.finfo(np.float64).max

MAX_METADATA = 1_000  # of one metric in one flush; beyond it the metadata is dropped, not the sample


class Buffer(Protocol):
    canonical: bytes
    values: list[float]
    extra: list[tuple[int, bool, float, bytes | None]]
    wholes: list[tuple[int, Distribution]]
    idle: int


@dataclass(slots=True, eq=False)
class Parcel:
    """Samples of one metric whose series are positions in *canonicals*.

    *budget*: raw, and to be compacted to so many rows of a series and minute, once its definition is known; 0: that is done.
    *buckets*, of histograms, are counts taken before anything was compacted, shape (series, bounds), not cumulative.
    *due_ms* is when they were drained; *squeezed*: compacted once more for want of room; *alone*: must be the only one of a
    batch, since the server refused one that it was in.
    """

    name: str
    definition: Definition
    explicit: bool
    canonicals: list[bytes]
    samples: Samples
    due_ms: int
    budget: int = 0
    buckets: Ints | None = None
    squeezed: bool = False
    alone: bool = False

    @property
    def kind(self) -> MetricType:
        return self.definition.type

    @property
    def nbytes(self) -> int:
        """About how much memory this takes."""
        return (
            2_000
            + 64 * len(self.canonicals)
            + self.samples.nbytes
            + (0 if self.buckets is None else self.buckets.nbytes)
        )


# -- from buffers -------------------------------------------------------------------------------------------------


def drain(
    name: str, definition: Definition, explicit: bool, buffers: Iterable[Buffer], due_ms: int, budget: int
) -> tuple[Parcel | None, int]:
    """Empty *buffers* into a raw parcel; None when there is nothing. Also returns how many lost their metadata."""
    canonicals: list[bytes] = []
    extras: list[tuple[int, list[tuple[int, bool, float, bytes | None]]]] = []
    wholes: list[tuple[int, int, Distribution]] = []
    counter = definition.type == "counter"
    # Of a counter one entry for each distinct amount, else one for each slice taken, with its length.
    series: list[int] = []
    values: list[float] = []
    weights: list[int] = []
    lengths: list[int] = []
    for buffer in buffers:
        held, extra = buffer.values, buffer.extra
        if not held and not extra and not buffer.wholes:
            continue
        at, found = len(canonicals), len(held)
        canonicals.append(buffer.canonical)
        buffer.idle = 0
        if counter and found == 1:  # a fast path: series that are recorded once a flush
            series.append(at)
            values.append(held.pop())
            weights.append(1)
        elif counter:
            for taken in _slices(held, found):
                _fold(taken, at, series, values, weights)
        else:
            for taken in (_all(held, found),) if found <= SLICE else _slices(held, found):
                values += taken
                series.append(at)
                lengths.append(len(taken) // 2)
        if extra:
            rows = extra[:]
            del extra[: len(rows)]
            extras.append((at, rows))
        if buffer.wholes:
            several = buffer.wholes[:]
            del buffer.wholes[: len(several)]
            wholes += [(at, *whole) for whole in several]
    if not canonicals:
        return None, 0

    parts = []
    if values:
        number, value = np.array(series, dtype=np.int64), np.fromiter(values, np.float64, len(values))
        if counter:
            n = len(number)
            parts.append(Samples(number, np.full(n, due_ms), value, np.array(weights, np.int64), np.zeros(n, np.uint8)))
        else:
            parts.append(_from_pairs(value, np.repeat(number, lengths)))
    lost = 0
    if extras:
        part, lost = _from_extras(extras)
        parts.append(part)
    if wholes:
        parts.append(_from_wholes(wholes))
    samples = blocks.concat(parts)
    return Parcel(name, definition, explicit, canonicals, samples, due_ms, budget), lost


def finish(parcel: Parcel) -> Parcel:
    """A raw parcel with its bucket counts taken, and then compacted; any other as it is."""
    if not parcel.budget:
        return parcel
    buckets = _bucket_counts(parcel) if parcel.kind == "histogram" else None
    samples = (
        _settle(parcel.samples) if parcel.kind == "gauge" else parcel.samples
    )  # before compacting, which loses the order
    return replace(parcel, buckets=buckets, samples=blocks.compact(samples, parcel.budget), budget=0)


def _all(held: list[float], found: int) -> list[float]:
    """Take the first *found* off a list that other threads append to."""
    taken = held[:found]
    del held[:found]
    return taken


def _slices(held: list[float], found: int) -> Iterator[list[float]]:
    """Take the first *found* off a list, a slice at a time."""
    for begin in range(0, found, SLICE):
        yield _all(held, min(found - begin, SLICE))


def _fold(amounts: list[float], at: int, series: list[int], values: list[float], weights: list[int]) -> None:
    """Count equal amounts of one counter together."""
    if len(amounts) == 1 or amounts.count(amounts[0]) == len(amounts):
        series.append(at)
        values.append(amounts[0])
        weights.append(len(amounts))
        return
    for amount, count in Tally(amounts).items():
        series.append(at)
        values.append(amount)
        weights.append(count)


def _from_pairs(flat: Floats, series: Ints) -> Samples:
    """Columns from `time, value, time, value...`; a negative time marks a change of the shared value."""
    time, value = flat[::2], flat[1::2].copy()
    flags = np.zeros(len(value), np.uint8)
    if (time < 0).any():
        return _resolve_changes(time, value, series)
    return Samples(series, (time * 1000).astype(np.int64), value, np.ones(len(value), np.int64), flags)


def _resolve_changes(time: Floats, value: Floats, series: Ints) -> Samples:
    """Turn changes into values where a set came before in this flush; the net change before it stays one CHANGE row."""
    rows: list[tuple[int, int, float, int]] = []
    change_at: dict[int, int] = {}
    current: dict[int, float] = {}
    for number, when, amount in zip(series.tolist(), time.tolist(), value.tolist(), strict=True):
        ms = int(abs(when) * 1000)
        if when >= 0:
            current[number] = amount
            rows.append((number, ms, amount, 0))
        elif number in current:
            current[number] += amount
            rows.append((number, ms, current[number], 0))
        elif number in change_at:
            _, _, before, _ = rows[change_at[number]]
            rows[change_at[number]] = (number, ms, before + amount, CHANGE)
        else:
            change_at[number] = len(rows)
            rows.append((number, ms, amount, CHANGE))
    columns = list(zip(*rows, strict=True))
    return Samples(
        np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], np.float64),
        np.ones(len(rows), np.int64), np.array(columns[3], np.uint8),
    )  # fmt: skip


def _from_extras(extras: list[tuple[int, list[tuple[int, bool, float, bytes | None]]]]) -> tuple[Samples, int]:
    rows = [(at, *row) for at, found in extras for row in found]
    metadata = {number: row[4] for number, row in enumerate(rows) if row[4] is not None}
    lost = max(len(metadata) - MAX_METADATA, 0)
    kept = dict(list(metadata.items())[:MAX_METADATA])
    return Samples(
        np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float64), np.ones(len(rows), np.int64),
        np.array([OWN_TIME if row[2] else 0 for row in rows], np.uint8), kept,
    ), lost  # fmt: skip


def _from_wholes(wholes: list[tuple[int, int, Distribution]]) -> Samples:
    """Columns from distributions: their points as centroids beside an exact summary, as if compacted here."""
    rows: list[tuple[int, int, float, int, int]] = []
    sums: list[tuple[int, int, float, float, float, float, float, int]] = []
    for at, time_ms, whole in wholes:
        count, plain = whole.count, whole.low == whole.high and whole.low * whole.count == whole.total
        flags = OWN_TIME if plain else OWN_TIME | CENTROID
        rows += [(at, time_ms, value, weight, flags) for value, weight in zip(whole.values, whole.weights, strict=True)]
        if not plain:
            mean = min(max(whole.total / count, whole.low), whole.high)
            m2 = sum(w * (value - mean) * (value - mean) for value, w in zip(whole.values, whole.weights, strict=True))
            sums.append((at, count, whole.total, m2, whole.low, whole.high, mean, time_ms))
    series, time, value, weight, flag = zip(*rows, strict=True)
    samples = Samples(
        np.array(series, np.int64), np.array(time, np.int64), np.array(value, np.float64), np.array(weight, np.int64),
        np.array(flag, np.uint8),
    )  # fmt: skip
    if sums:
        columns = list(zip(*sums, strict=True))
        samples.summed = np.array(columns[0], np.int64)
        samples.summed_flags = np.full(len(sums), OWN_TIME, np.uint8)
        kinds = (np.int64, *[np.float64] * 5, np.int64)
        parts: list[Any] = [np.array(column, kind) for column, kind in zip(columns[1:], kinds, strict=True)]
        samples.summaries = rollups.Summaries(*parts)
    return samples


def _bucket_counts(parcel: Parcel) -> Ints:
    """How many values of each series lie in each bucket (value <= bound); a centroid counts whole where its mean lies."""
    bounds, samples = parcel.definition.buckets, parcel.samples
    at = np.searchsorted(np.array(bounds), samples.value, side="left")
    cells = samples.series * (len(bounds) + 1) + at
    size = len(parcel.canonicals) * (len(bounds) + 1)
    counts = np.bincount(cells, weights=samples.weight, minlength=size).astype(np.int64)
    return counts.reshape(-1, len(bounds) + 1)[:, :-1]


# -- from parcels to parcels --------------------------------------------------------------------------------------


def merge(parcels: list[Parcel]) -> Parcel:
    """One parcel of several of the same metric and definition, in order of their age."""
    if len(parcels) == 1:
        return parcels[0]
    if not all(parcel.budget for parcel in parcels):
        parcels = [finish(parcel) for parcel in parcels]
    first = parcels[0]
    numbers: dict[bytes, int] = {}
    parts, counts = [], []
    for parcel in parcels:
        new = np.array([numbers.setdefault(canonical, len(numbers)) for canonical in parcel.canonicals], np.int64)
        parts.append(parcel.samples.of_series(new))
        counts.append((new, parcel.buckets))
    buckets = None
    if first.buckets is not None:
        buckets = np.zeros((len(numbers), first.buckets.shape[1]), np.int64)
        for new, part in counts:
            if part is not None:
                np.add.at(buckets, new, part)
    return replace(first, canonicals=list(numbers), samples=blocks.concat(parts), buckets=buckets)


def squeeze(parcel: Parcel, budget: int) -> Parcel:
    """The same in less room: at most *budget* rows of a series and minute. Changes of one shared value are added up."""
    finished = finish(parcel)
    return replace(finished, samples=blocks.compact(_settle(finished.samples), budget), squeezed=True)


def split(parcel: Parcel, first: int, then: int) -> list[Parcel]:
    """The *first* so many series of a parcel, and the rest of it in parcels of *then* each."""
    n = len(parcel.canonicals)
    if n <= first:
        return [parcel]
    edges = [0, *range(first, n, then), n]
    return [
        replace(
            parcel,
            canonicals=parcel.canonicals[begin:end],
            samples=samples,
            buckets=None if parcel.buckets is None else parcel.buckets[begin:end],
        )
        for (begin, end), samples in zip(pairwise(edges), parcel.samples.split(edges), strict=True)
    ]


def within(parcel: Parcel, oldest_ms: int, newest_ms: int) -> tuple[Parcel | None, int, int]:
    """The samples not older than *oldest_ms* and, where their time is their own, not newer than *newest_ms*.

    Also returns how many were too old, and how many in the future. A series is left with what remains of it.
    """
    samples = parcel.samples
    old = samples.time < oldest_ms
    ahead = (samples.time > newest_ms) & ((samples.flags & OWN_TIME) != 0)
    if not (old | ahead).any():
        return parcel, 0, 0
    times = samples.summaries.last_ms
    keep_summaries = (times >= oldest_ms) & ~((times > newest_ms) & (samples.summed_flags != 0))
    kept = samples.take(~(old | ahead), keep_summaries)
    too_old, future = int(samples.weight[old].sum()), int(samples.weight[ahead].sum())
    if not len(kept):
        return None, too_old, future
    present = np.zeros(len(parcel.canonicals), np.bool_)
    present[kept.series] = True
    numbers = np.where(present, np.cumsum(present) - 1, -1)
    canonicals = [canonical for canonical, here in zip(parcel.canonicals, present, strict=True) if here]
    result = replace(parcel, canonicals=canonicals, samples=kept.of_series(numbers))
    if parcel.buckets is not None:
        result.buckets = _bucket_counts(result)
    return result, too_old, future


def convert(parcel: Parcel, definition: Definition) -> tuple[Parcel | None, int]:
    """The parcel as another definition has it: a guess that the catalogue corrects, or another unit of time.

    Also returns how many can't be kept.
    """
    result = replace(parcel, definition=definition, buckets=None)
    old, new = parcel.definition.unit, definition.unit
    if old != new and old in TIME_UNITS and new in TIME_UNITS:
        result.samples = parcel.samples.scaled(TIME_UNITS[old] / TIME_UNITS[new])
    dropped = 0
    if definition.type == "counter" and (parcel.samples.value < 0).any():
        bad, bad_summaries = blocks.below_zero(result.samples)
        dropped = int(result.samples.weight[bad].sum())
        result.samples = result.samples.take(~bad, ~bad_summaries)
        if not len(result.samples):
            return None, dropped
    if definition.type == "histogram" and not parcel.budget:
        result.buckets = _bucket_counts(result)
    return result, dropped


def _settle(samples: Samples) -> Samples:
    """Several changes of one gauge's shared value, from several flushes, as the script must have them.

    The changes before the first set of a series become one row, of as many samples; what is changed after a set becomes a value.
    Without that, the second change would be added to a value that is no longer the shared one.
    """
    changed = (samples.flags & CHANGE) != 0
    if not changed.any():
        return samples
    first_set: dict[int, float] = {}
    change_at: dict[int, int] = {}
    keep = np.ones(len(samples), np.bool_)
    value, time, flags, weight = samples.value.copy(), samples.time.copy(), samples.flags.copy(), samples.weight.copy()
    newest = dict(zip(samples.summed.tolist(), samples.summaries.last.tolist(), strict=True))
    for row in range(len(samples)):
        number = int(samples.series[row])
        if not changed[row]:
            if not flags[row] & OWN_TIME:
                first_set[number] = newest[number] if flags[row] & CENTROID else float(value[row])
        elif number in first_set:
            value[row] += first_set[number]
            first_set[number] = float(value[row])
            flags[row] &= ~np.uint8(CHANGE)
        elif number in change_at:
            value[change_at[number]] += value[row]
            weight[change_at[number]] += weight[row]
            time[change_at[number]] = time[row]
            keep[row] = False
        else:
            change_at[number] = row
    settled = replace(samples, value=value, time=time, flags=flags, weight=weight)
    return settled if keep.all() else settled.take(keep, np.ones(len(samples.summed), np.bool_))


# -- to bytes -----------------------------------------------------------------------------------------------------


def wire(parcel: Parcel, ids: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The head and the body of a parcel, as record.lua takes them; *ids* are those of series that the store knows."""
    samples = _settle(parcel.samples) if parcel.kind == "gauge" else parcel.samples
    if len(samples) > blocks.MAX_ROWS:  # merged from many flushes: a reader would not take so many that are alike
        samples = blocks.compact(samples, ROWS_WHEN_MERGED)
    samples = replace(samples, value=np.clip(samples.value, -_LARGEST, _LARGEST))  # a sum of changes, or another unit
    own = (samples.flags & OWN_TIME) != 0
    head: list[Any] = [
        parcel.kind,
        parcel.definition.pack(),
        samples.count,
        int(samples.time.min()),
        int(samples.time[own].max()) if own.any() else 0,
        [ids.get(canonical, canonical) for canonical in parcel.canonicals],
        _live_changes(parcel, samples),
        *keys.live_shape(parcel.kind, len(parcel.definition.buckets)),
    ]
    return msgpack.packb(head, use_bin_type=False), blocks.pack(samples)


def _live_changes(parcel: Parcel, samples: Samples) -> list[float]:
    """What these samples do to the running state of each series, flat; see record.lua."""
    n = len(parcel.canonicals)
    if parcel.kind == "gauge":
        return _gauge_changes(samples, n)
    series, rows = blocks.summarise(samples)
    whole = rollups.merge(series, n, rows, frozenset({"count", "total"}))
    if parcel.kind == "counter":
        return list(whole.total.tolist())
    assert parcel.buckets is not None, "BUG: a histogram's parcel without bucket counts"
    row, column = np.nonzero(parcel.buckets)
    cells = np.bincount(row, minlength=n)
    sizes = 3 + 2 * cells
    begin = np.cumsum(sizes) - sizes
    flat = np.empty(int(sizes.sum()))
    flat[begin], flat[begin + 1], flat[begin + 2] = whole.count, whole.total, cells
    pair = begin[row] + 3 + 2 * (np.arange(len(row)) - (np.cumsum(cells) - cells)[row])
    flat[pair], flat[pair + 1] = column + 1, parcel.buckets[row, column]
    return list(flat.tolist())


def _gauge_changes(samples: Samples, n: int) -> list[float]:
    changed = (samples.flags & CHANGE) != 0
    change, change_ms = np.zeros(n), np.zeros(n, np.int64)
    change[samples.series[changed]], change_ms[samples.series[changed]] = samples.value[changed], samples.time[changed]
    needs_base = np.zeros(n, np.int64)
    needs_base[samples.series[changed]] = 1

    sets = samples.take(~changed, np.ones(len(samples.summed), np.bool_)) if changed.any() else samples
    series, rows = blocks.summarise(sets)
    whole = rollups.merge(series, n, rows, frozenset({"count", "last"}))
    has_set = whole.count > 0
    newest_own, newest = np.full(n, -1), np.full(n, -1)
    own = (sets.flags & OWN_TIME) != 0
    np.maximum.at(newest_own, sets.series[own], sets.time[own])
    np.maximum.at(newest, sets.series[~own], sets.time[~own])
    code = needs_base + 2 * has_set + 4 * (newest_own > newest)
    value = np.where(has_set, whole.last, 0.0)
    return list(np.stack([code, whole.last_ms, value, change_ms, change], axis=1).ravel().tolist())
