"""Drain the buffers of recording calls into batches of one metric each."""

from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import delitem
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Floats, Ints, is_zero
from redismetrics.columnar.samples import CENTROID, CHANGE, OWN_TIME, Samples, concat
from redismetrics.model.definition import Definition
from redismetrics.model.sample import Distribution

from .batch import MetricBatch, saturated_sum
from .buffers import Buffer

# Drain at most this many samples at once, so that recording threads are not starved of the GIL.
SLICE = 50_000
# Count the equal amounts of a counter's series one series at a time if it has more than this many.
# For fewer, one pass over all series is faster.
COUNTED_FROM = 16
# Maximum number of samples with metadata per metric and flush. The metadata of others is dropped,
# unless the metric keeps its samples, which are bounded by `buffer_bytes`.
MAX_METADATA = 1_000
# Copy the values of a series before they become a column if each series has this many. For fewer,
# it is faster to iterate over all series.
COPIED_FROM = 100

# A sample with an explicit time or metadata, as in `Buffer.extra`.
Extra = tuple[int, bool, float, bytes | None]


@dataclass(slots=True)
class _Drained:
    """The contents of the buffers of one metric; series are positions in *canonicals*.

    Attributes:
        values: The values of all series, concatenated, except for those that were counted instead.
        sizes: The number of *values* of each series.
        counted: A counter's amounts that were counted while draining: series, amount, and how often
            it was recorded.
    """

    canonicals: list[bytes]
    values: Floats
    sizes: Ints
    counted: list[tuple[int, float, int]] = field(default_factory=list)
    extras: list[tuple[int, list[Extra]]] = field(default_factory=list)
    distributions: list[tuple[int, int, Distribution]] = field(default_factory=list)


def drain(
    name: str,
    definition: Definition,
    explicit: bool,
    buffers: Iterable[Buffer],
    due_ms: int,
    budget: int,
) -> tuple[MetricBatch | None, int]:
    """Empty *buffers* into a raw batch (None if there is nothing).

    Also return the number of samples that lost their metadata.
    """
    is_counter = definition.type == "counter"
    drained = _take(list(buffers), is_counter)
    if drained is None:
        return None, 0
    parts = []
    if len(drained.values) or drained.counted:
        parts.append(_from_amounts(drained, due_ms) if is_counter else _from_pairs(drained))
    lost = 0
    if drained.extras:
        part, lost = _from_extras(drained.extras, is_bounded=not definition.keeps_samples)
        parts.append(part)
    if drained.distributions:
        parts.append(_from_distributions(drained.distributions))
    if not parts:
        return None, lost
    samples = concat(parts)
    return MetricBatch(name, definition, explicit, drained.canonicals, samples, budget), lost


def _take(buffers: list[Buffer], is_counter: bool) -> _Drained | None:
    """Empty *buffers* while other threads append to them; return None if they are empty.

    There may be many buffers with one sample each, so the work per buffer is done by C functions
    such as `map`.
    """
    held = [buffer.values for buffer in buffers]
    sizes = list(map(len, held))
    if not all(sizes):
        filled = [
            at
            for at, (size, buffer) in enumerate(zip(sizes, buffers, strict=True))
            if size or buffer.extra or buffer.distributions
        ]
        if not filled:
            return None
        buffers, held = [buffers[at] for at in filled], [held[at] for at in filled]
        sizes = [sizes[at] for at in filled]
    elif not buffers:
        return None
    for buffer in buffers:
        buffer.idle = 0
    counted = []
    if is_counter and max(sizes) > COUNTED_FROM:
        for at, size in enumerate(sizes):
            if size > COUNTED_FROM:
                sizes[at] = 0
                for amounts in _slices(held[at], size):
                    counted += [(at, *each) for each in _count_equal(amounts)]
    values, taken = _take_values(held, sizes)
    drained = _Drained([buffer.canonical for buffer in buffers], values, taken, counted)
    extras = [buffer.extra for buffer in buffers]
    if any(extras):
        for at, extra in enumerate(extras):
            if extra:
                rows = extra[:]
                del extra[: len(rows)]
                drained.extras.append((at, rows))
    distributions = [buffer.distributions for buffer in buffers]
    if any(distributions):
        for at, counted_elsewhere in enumerate(distributions):
            several = counted_elsewhere[:]
            del counted_elsewhere[: len(several)]
            drained.distributions += [(at, *distribution) for distribution in several]
    return drained


def _take_values(held: list[list[float]], sizes: list[int]) -> tuple[Floats, Ints]:
    """Take the first *sizes* items off each list.

    Return them concatenated, and the number from each list.
    """
    if sum(sizes) <= SLICE:
        return _take_at_once(held, sizes)
    parts: list[tuple[Floats, Ints]] = []
    begin, total = 0, 0
    for at, size in enumerate(sizes):
        if total + size > SLICE:
            if begin < at:
                parts.append(_take_at_once(held[begin:at], sizes[begin:at]))
            begin, total = at, 0
        if size > SLICE:
            slices = [np.array(each, np.float64) for each in _slices(held[at], size)]
            parts.append((np.concatenate(slices), np.array([sum(map(len, slices))])))
            begin = at + 1
        else:
            total += size
    if begin < len(sizes):
        parts.append(_take_at_once(held[begin:], sizes[begin:]))
    values, taken = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(taken)


def _take_at_once(held: list[list[float]], sizes: list[int]) -> tuple[Floats, Ints]:
    """`_take_values`, in one pass."""
    # Other threads only append, so what is at the beginning stays there until it is deleted.
    values = None
    if sum(sizes) < COPIED_FROM * len(sizes):
        items = chain.from_iterable(held)
        # A list is shorter if `take_waiting` cleared it, longer if another thread appended to it.
        try:
            values = np.fromiter(items, np.float64, sum(sizes))
            if next(items, None) is not None:
                values = None
        except ValueError:
            pass
    if values is None:
        copies = [recorded[:size] for recorded, size in zip(held, sizes, strict=True)]
        sizes = list(map(len, copies))
        joined = list(chain.from_iterable(copies))
        values = np.fromiter(joined, np.float64, len(joined))
    if sizes.count(sizes[0]) < len(sizes):
        deque(map(delitem, held, map(slice, sizes)), 0)
        return values, np.array(sizes, np.int64)
    # A fast path: all series have the same number of values.
    deque(map(delitem, held, repeat(slice(sizes[0]))), 0)
    taken = np.empty(len(sizes), np.int64)
    taken.fill(sizes[0])
    return values, taken


def _slices(held: list[float], found: int) -> Iterator[list[float]]:
    """Take the first *found* items off a list, in slices, while other threads append to it."""
    for begin in range(0, found, SLICE):
        taken = held[: min(found - begin, SLICE)]
        del held[: len(taken)]
        yield taken


def _count_equal(amounts: list[float]) -> Iterable[tuple[float, int]]:
    """Return each distinct amount of a counter, and how often it was recorded."""
    if amounts and amounts.count(amounts[0]) == len(amounts):
        return ((amounts[0], len(amounts)),)
    return Tally(amounts).items()


def _from_amounts(drained: _Drained, due_ms: int) -> Samples:
    """Return columns of a counter's amounts, at the time of the flush."""
    series, value, weight = _distinct(drained.values, drained.sizes)
    if drained.counted:
        where, amounts, counts = zip(*drained.counted, strict=True)
        series = np.concatenate([series, np.array(where, np.int64)])
        order = np.argsort(series, kind="stable")
        series = series[order]
        value = np.concatenate([value, np.fromiter(amounts, np.float64, len(amounts))])[order]
        weight = np.concatenate([weight, np.array(counts, np.int64)])[order]
    n = len(series)
    return Samples(series, np.full(n, due_ms), value, weight, np.zeros(n, np.uint8))


def _distinct(values: Floats, sizes: Ints) -> tuple[Ints, Floats, Ints]:
    """Return series, value and number of the distinct values of each series, in order of arrival.

    *sizes* are the numbers of *values* of each series.
    """
    if len(values) == len(sizes) and np.count_nonzero(sizes) == len(sizes):
        # A fast path: series that are recorded once per flush.
        return np.arange(len(sizes)), values, sizes
    present = np.flatnonzero(sizes)
    sizes = sizes[present]
    first = values[np.cumsum(sizes) - sizes]
    if np.count_nonzero(values == np.repeat(first, sizes)) == len(values):
        return present, first, sizes
    series = np.repeat(present, sizes)
    order = np.lexsort((values, series))
    new = np.empty(len(values), np.bool_)
    new[:1] = True
    np.not_equal(values[order[1:]], values[order[:-1]], out=new[1:])
    new[1:] |= series[order[1:]] != series[order[:-1]]
    begin = np.flatnonzero(new)
    counts = np.diff(begin, append=len(values))
    # The sort is stable: this is where each value came first.
    row = order[begin]
    by_row = np.argsort(row)
    row = row[by_row]
    return series[row], values[row], counts[by_row]


def _from_pairs(drained: _Drained) -> Samples:
    """Return columns of `time, value, time, value...`; a negative time marks a change."""
    flat, sizes = drained.values, drained.sizes
    series = np.arange(len(sizes))
    if len(flat) != 2 * len(sizes) or np.count_nonzero(sizes) < len(sizes):
        series = np.repeat(series, sizes // 2)
    time, value = flat[::2], flat[1::2].copy()
    if not is_zero(time < 0):
        return _resolve_changes(time, value, series)
    n = len(value)
    return Samples(
        series,
        (time * 1000).astype(np.int64),
        value,
        np.ones(n, np.int64),
        np.zeros(n, np.uint8),
    )


def _resolve_changes(time: Floats, value: Floats, series: Ints) -> Samples:
    """Turn changes after a set in the same flush into values.

    The changes before it become one row with the flag CHANGE: the net change.
    """
    rows: list[tuple[int, int, float, int]] = []
    change_at: dict[int, int] = {}
    current: dict[int, float] = {}
    for number, when, amount in zip(series.tolist(), time.tolist(), value.tolist(), strict=True):
        ms = int(abs(when) * 1000)
        if when >= 0:
            current[number] = amount
            rows.append((number, ms, amount, 0))
        elif number in current:
            current[number] = saturated_sum(current[number], amount)
            rows.append((number, ms, current[number], 0))
        elif number in change_at:
            _, _, before, _ = rows[change_at[number]]
            rows[change_at[number]] = (number, ms, saturated_sum(before, amount), CHANGE)
        else:
            change_at[number] = len(rows)
            rows.append((number, ms, amount, CHANGE))
    columns = list(zip(*rows, strict=True))
    return Samples(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.ones(len(rows), np.int64),
        np.array(columns[3], np.uint8),
    )


def _from_extras(extras: list[tuple[int, list[Extra]]], *, is_bounded: bool) -> tuple[Samples, int]:
    """Return columns of samples with an explicit time or metadata.

    Also return the number of samples that lost their metadata, which happens only if it
    *is_bounded*.
    """
    rows = [(at, *row) for at, found in extras for row in found]
    metadata = {number: row[4] for number, row in enumerate(rows) if row[4] is not None}
    lost = max(len(metadata) - MAX_METADATA, 0) if is_bounded else 0
    kept = dict(list(metadata.items())[:MAX_METADATA]) if lost else metadata
    samples = Samples(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float64),
        np.ones(len(rows), np.int64),
        np.array([OWN_TIME if row[2] else 0 for row in rows], np.uint8),
        kept,
    )
    return samples, lost


def _from_distributions(found: list[tuple[int, int, Distribution]]) -> Samples:
    """Return columns of distributions: their values as centroids, with an exact summary."""
    rows: list[tuple[int, int, float, int, int]] = []
    exact: list[tuple[int, int, float, float, float, float, float, int]] = []
    for at, time_ms, part in found:
        # Equal values need no additional summary.
        plain = part.low == part.high and part.low * part.count == part.total
        flags = OWN_TIME if plain else OWN_TIME | CENTROID
        rows += [
            (at, time_ms, value, weight, flags)
            for value, weight in zip(part.values, part.weights, strict=True)
        ]
        if not plain:
            mean = min(max(part.total / part.count, part.low), part.high)
            m2 = sum(
                weight * (value - mean) * (value - mean)
                for value, weight in zip(part.values, part.weights, strict=True)
            )
            exact.append((at, part.count, part.total, m2, part.low, part.high, mean, time_ms))
    series, time, value, weight, flag = zip(*rows, strict=True)
    samples = Samples(
        np.array(series, np.int64),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(weight, np.int64),
        np.array(flag, np.uint8),
    )
    if exact:
        columns = list(zip(*exact, strict=True))
        samples.summed = np.array(columns[0], np.int64)
        samples.summed_flags = np.full(len(exact), OWN_TIME, np.uint8)
        kinds = (np.int64, *[np.float64] * 5, np.int64)
        parts: list[Any] = [
            np.array(column, kind) for column, kind in zip(columns[1:], kinds, strict=True)
        ]
        samples.summaries = summaries.Summaries(*parts)
    return samples
