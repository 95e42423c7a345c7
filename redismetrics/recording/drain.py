"""Drain the buffers of recording calls into batches of one metric each."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.samples import CENTROID, CHANGE, OWN_TIME, Samples, concat
from redismetrics.model.definition import Definition
from redismetrics.model.sample import Distribution

from .batch import MetricBatch
from .buffers import Buffer

SLICE = 50_000  # so many samples of a series are taken at once, so that the recording threads get their turn


MAX_METADATA = (
    1_000  # of one metric in one flush; beyond it the metadata is dropped, not the sample
)


def drain(
    name: str,
    definition: Definition,
    explicit: bool,
    buffers: Iterable[Buffer],
    due_ms: int,
    budget: int,
) -> tuple[MetricBatch | None, int]:
    """Empty *buffers* into a raw batch; None when there is nothing. Also returns how many lost their metadata."""
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
                _count_equal(taken, at, series, values, weights)
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
        number, value = (
            np.array(series, dtype=np.int64),
            np.fromiter(values, np.float64, len(values)),
        )
        if counter:
            n = len(number)
            parts.append(
                Samples(
                    number,
                    np.full(n, due_ms),
                    value,
                    np.array(weights, np.int64),
                    np.zeros(n, np.uint8),
                )
            )
        else:
            parts.append(_from_pairs(value, np.repeat(number, lengths)))
    lost = 0
    if extras:
        part, lost = _from_extras(extras)
        parts.append(part)
    if wholes:
        parts.append(_from_wholes(wholes))
    samples = concat(parts)
    return MetricBatch(name, definition, explicit, canonicals, samples, due_ms, budget), lost


def _all(held: list[float], found: int) -> list[float]:
    """Take the first *found* off a list that other threads append to."""
    taken = held[:found]
    del held[:found]
    return taken


def _slices(held: list[float], found: int) -> Iterator[list[float]]:
    """Take the first *found* off a list, a slice at a time."""
    for begin in range(0, found, SLICE):
        yield _all(held, min(found - begin, SLICE))


def _count_equal(
    amounts: list[float], at: int, series: list[int], values: list[float], weights: list[int]
) -> None:
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
    return Samples(
        series, (time * 1000).astype(np.int64), value, np.ones(len(value), np.int64), flags
    )


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


def _from_extras(
    extras: list[tuple[int, list[tuple[int, bool, float, bytes | None]]]],
) -> tuple[Samples, int]:
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
        count, plain = (
            whole.count,
            whole.low == whole.high and whole.low * whole.count == whole.total,
        )
        flags = OWN_TIME if plain else OWN_TIME | CENTROID
        rows += [
            (at, time_ms, value, weight, flags)
            for value, weight in zip(whole.values, whole.weights, strict=True)
        ]
        if not plain:
            mean = min(max(whole.total / count, whole.low), whole.high)
            m2 = sum(
                w * (value - mean) * (value - mean)
                for value, w in zip(whole.values, whole.weights, strict=True)
            )
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
        parts: list[Any] = [
            np.array(column, kind) for column, kind in zip(columns[1:], kinds, strict=True)
        ]
        samples.summaries = summaries.Summaries(*parts)
    return samples
