"""Drain the buffers of recording calls into batches of one metric each."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.samples import CENTROID, CHANGE, OWN_TIME, Samples, concat
from redismetrics.model.definition import Definition
from redismetrics.model.sample import Distribution

from .batch import MetricBatch, saturated_sum
from .buffers import Buffer

# Drain at most this many samples at once, so that recording threads are not starved of the GIL.
SLICE = 50_000
# Samples with metadata that one metric keeps per flush. Of further ones the metadata is dropped.
MAX_METADATA = 1_000

# A sample with a time of its own or metadata, as in `Buffer.extra`.
Extra = tuple[int, bool, float, bytes | None]


@dataclass(slots=True)
class _Drained:
    """What was taken out of the buffers of one metric; series are positions in *canonicals*.

    For each entry of *series*, *values* holds one amount of a counter, which was recorded
    *weights* times, or *lengths* pairs of time and value of another metric.
    """

    canonicals: list[bytes] = field(default_factory=list)
    series: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
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
    """Empty *buffers* into a raw batch, None if there is nothing.

    Also return the number of samples that lost their metadata.
    """
    is_counter = definition.type == "counter"
    drained = _take(buffers, is_counter)
    if not drained.canonicals:
        return None, 0
    parts = []
    if drained.values:
        parts.append(_from_amounts(drained, due_ms) if is_counter else _from_pairs(drained))
    lost = 0
    if drained.extras:
        part, lost = _from_extras(drained.extras)
        parts.append(part)
    if drained.distributions:
        parts.append(_from_distributions(drained.distributions))
    samples = concat(parts)
    return MetricBatch(name, definition, explicit, drained.canonicals, samples, budget), lost


def _take(buffers: Iterable[Buffer], is_counter: bool) -> _Drained:
    """Empty *buffers*, while other threads append to them."""
    drained = _Drained()
    # Local names: this loop runs once for each series and flush.
    canonicals, series, values = drained.canonicals, drained.series, drained.values
    weights, lengths = drained.weights, drained.lengths
    for buffer in buffers:
        held, extra = buffer.values, buffer.extra
        if not held and not extra and not buffer.distributions:
            continue
        at, found = len(canonicals), len(held)
        canonicals.append(buffer.canonical)
        buffer.idle = 0
        if is_counter and found == 1:
            # A fast path: series that are recorded once per flush.
            series.append(at)
            values.append(held.pop())
            weights.append(1)
        elif is_counter:
            for taken in _slices(held, found):
                _count_equal(taken, at, series, values, weights)
        else:
            for taken in (_all(held, found),) if found <= SLICE else _slices(held, found):
                values += taken
                series.append(at)
                lengths.append(len(taken) // 2)
        if extra:
            rows = extra[:]
            del extra[: len(rows)]
            drained.extras.append((at, rows))
        if buffer.distributions:
            several = buffer.distributions[:]
            del buffer.distributions[: len(several)]
            drained.distributions += [(at, *distribution) for distribution in several]
    return drained


def _all(held: list[float], found: int) -> list[float]:
    """Take the first *found* items off a list that other threads append to."""
    taken = held[:found]
    del held[:found]
    return taken


def _slices(held: list[float], found: int) -> Iterator[list[float]]:
    """Take the first *found* items off a list, a slice at a time."""
    for begin in range(0, found, SLICE):
        yield _all(held, min(found - begin, SLICE))


def _count_equal(
    amounts: list[float], at: int, series: list[int], values: list[float], weights: list[int]
) -> None:
    """Append one entry for each distinct amount of a counter."""
    if len(amounts) == 1 or amounts.count(amounts[0]) == len(amounts):
        series.append(at)
        values.append(amounts[0])
        weights.append(len(amounts))
        return
    for amount, count in Tally(amounts).items():
        series.append(at)
        values.append(amount)
        weights.append(count)


def _from_amounts(drained: _Drained, due_ms: int) -> Samples:
    """Return columns of a counter's amounts, at the time of the flush."""
    n = len(drained.series)
    return Samples(
        np.array(drained.series, dtype=np.int64),
        np.full(n, due_ms),
        np.fromiter(drained.values, np.float64, n),
        np.array(drained.weights, np.int64),
        np.zeros(n, np.uint8),
    )


def _from_pairs(drained: _Drained) -> Samples:
    """Return columns of `time, value, time, value...`; a negative time marks a change."""
    flat = np.fromiter(drained.values, np.float64, len(drained.values))
    series = np.repeat(np.array(drained.series, dtype=np.int64), drained.lengths)
    time, value = flat[::2], flat[1::2].copy()
    if (time < 0).any():
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
    """Turn changes after a set in this flush into values.

    The changes before it become one row with the flag CHANGE, the net change.
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


def _from_extras(extras: list[tuple[int, list[Extra]]]) -> tuple[Samples, int]:
    """Return columns of samples with a time of their own or metadata.

    Also return the number of samples that lost their metadata.
    """
    rows = [(at, *row) for at, found in extras for row in found]
    metadata = {number: row[4] for number, row in enumerate(rows) if row[4] is not None}
    lost = max(len(metadata) - MAX_METADATA, 0)
    kept = dict(list(metadata.items())[:MAX_METADATA])
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
    """Return columns of distributions: their values as centroids beside an exact summary."""
    rows: list[tuple[int, int, float, int, int]] = []
    exact: list[tuple[int, int, float, float, float, float, float, int]] = []
    for at, time_ms, part in found:
        # Equal values need no summary beside them.
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
