"""A batch: what one flush gathered of one metric, on its way from the buffers to the bytes that record.lua gets."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.samples import (
    CENTROID,
    CHANGE,
    OWN_TIME,
    Samples,
    below_zero,
    compress,
    concat,
)
from redismetrics.model.definition import Definition
from redismetrics.model.units import TIME_UNITS
from redismetrics.model.validation import MetricType


@dataclass(slots=True, eq=False)
class MetricBatch:
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


def finish(batch: MetricBatch) -> MetricBatch:
    """A raw batch with its bucket counts taken, and then compacted; any other as it is."""
    if not batch.budget:
        return batch
    buckets = _bucket_counts(batch) if batch.kind == "histogram" else None
    samples = (
        fold_gauge_changes(batch.samples) if batch.kind == "gauge" else batch.samples
    )  # before compacting, which loses the order
    return replace(batch, buckets=buckets, samples=compress(samples, batch.budget), budget=0)


def _bucket_counts(batch: MetricBatch) -> Ints:
    """How many values of each series lie in each bucket (value <= bound); a centroid counts whole where its mean lies."""
    bounds, samples = batch.definition.buckets, batch.samples
    at = np.searchsorted(np.array(bounds), samples.value, side="left")
    cells = samples.series * (len(bounds) + 1) + at
    size = len(batch.canonicals) * (len(bounds) + 1)
    counts = np.bincount(cells, weights=samples.weight, minlength=size).astype(np.int64)
    return counts.reshape(-1, len(bounds) + 1)[:, :-1]


def merge(batches: list[MetricBatch]) -> MetricBatch:
    """One batch of several of the same metric and definition, in order of their age."""
    if len(batches) == 1:
        return batches[0]
    if not all(batch.budget for batch in batches):
        batches = [finish(batch) for batch in batches]
    first = batches[0]
    numbers: dict[bytes, int] = {}
    parts, counts = [], []
    for batch in batches:
        new = np.array(
            [numbers.setdefault(canonical, len(numbers)) for canonical in batch.canonicals],
            np.int64,
        )
        parts.append(batch.samples.of_series(new))
        counts.append((new, batch.buckets))
    buckets = None
    if first.buckets is not None:
        buckets = np.zeros((len(numbers), first.buckets.shape[1]), np.int64)
        for new, part in counts:
            if part is not None:
                np.add.at(buckets, new, part)
    return replace(first, canonicals=list(numbers), samples=concat(parts), buckets=buckets)


def squeeze(batch: MetricBatch, budget: int) -> MetricBatch:
    """The same in less room: at most *budget* rows of a series and minute. Changes of one shared value are added up."""
    finished = finish(batch)
    return replace(
        finished, samples=compress(fold_gauge_changes(finished.samples), budget), squeezed=True
    )


def split(batch: MetricBatch, first: int, then: int) -> list[MetricBatch]:
    """The *first* so many series of a batch, and the rest of it in batches of *then* each."""
    n = len(batch.canonicals)
    if n <= first:
        return [batch]
    edges = [0, *range(first, n, then), n]
    return [
        replace(
            batch,
            canonicals=batch.canonicals[begin:end],
            samples=samples,
            buckets=None if batch.buckets is None else batch.buckets[begin:end],
        )
        for (begin, end), samples in zip(pairwise(edges), batch.samples.split(edges), strict=True)
    ]


def drop_outside(
    batch: MetricBatch, oldest_ms: int, newest_ms: int
) -> tuple[MetricBatch | None, int, int]:
    """The samples not older than *oldest_ms* and, where their time is their own, not newer than *newest_ms*.

    Also returns how many were too old, and how many in the future. A series is left with what remains of it.
    """
    samples = batch.samples
    old = samples.time < oldest_ms
    ahead = (samples.time > newest_ms) & ((samples.flags & OWN_TIME) != 0)
    if not (old | ahead).any():
        return batch, 0, 0
    times = samples.summaries.last_ms
    keep_summaries = (times >= oldest_ms) & ~((times > newest_ms) & (samples.summed_flags != 0))
    kept = samples.take(~(old | ahead), keep_summaries)
    too_old, future = int(samples.weight[old].sum()), int(samples.weight[ahead].sum())
    if not len(kept):
        return None, too_old, future
    present = np.zeros(len(batch.canonicals), np.bool_)
    present[kept.series] = True
    numbers = np.where(present, np.cumsum(present) - 1, -1)
    canonicals = [
        canonical for canonical, here in zip(batch.canonicals, present, strict=True) if here
    ]
    result = replace(batch, canonicals=canonicals, samples=kept.of_series(numbers))
    if batch.buckets is not None:
        result.buckets = _bucket_counts(result)
    return result, too_old, future


def convert(batch: MetricBatch, definition: Definition) -> tuple[MetricBatch | None, int]:
    """The batch as another definition has it: a guess that the catalogue corrects, or another unit of time.

    Also returns how many can't be kept.
    """
    result = replace(batch, definition=definition, buckets=None)
    old, new = batch.definition.unit, definition.unit
    if old != new and old in TIME_UNITS and new in TIME_UNITS:
        result.samples = batch.samples.scaled(TIME_UNITS[old] / TIME_UNITS[new])
    dropped = 0
    if definition.type == "counter" and (batch.samples.value < 0).any():
        bad, bad_summaries = below_zero(result.samples)
        dropped = int(result.samples.weight[bad].sum())
        result.samples = result.samples.take(~bad, ~bad_summaries)
        if not len(result.samples):
            return None, dropped
    if definition.type == "histogram" and not batch.budget:
        result.buckets = _bucket_counts(result)
    return result, dropped


def fold_gauge_changes(samples: Samples) -> Samples:
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
    value, time, flags, weight = (
        samples.value.copy(),
        samples.time.copy(),
        samples.flags.copy(),
        samples.weight.copy(),
    )
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
