"""A metric's batch: the samples of one metric in one flush, on their way to record.lua."""

from dataclasses import dataclass, field, replace

import numpy as np

from redismetrics.columnar.arrays import LARGEST, Bools, bounds, is_zero
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
from redismetrics.model.exemplar import EXEMPLAR_TYPES
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.model.units import TIME_UNITS
from redismetrics.model.validation import MetricType

from . import bucket_counts, totals_changes
from .bucket_counts import BucketCounts
from .exemplars import RecordedExemplar
from .totals_changes import Changes


@dataclass(slots=True, eq=False)
class MetricBatch:
    """Samples of one metric.

    Attributes:
        canonicals: The canonical tags of the series; samples refer to positions in this list.
        budget: Maximum rows per series and minute when the batch is compressed, which happens once
            the definition is known, unless the metric keeps all samples. Until then the samples are
            raw. 0: already compressed.
        buckets: Bucket counts of histograms, taken before compression.
        squeezed: Compressed a second time, because the send queue was full.
        alone: Must be sent on its own, because Redis rejected a batch that it was part of.
        exemplars: The exemplars of its series, ordered by time.
        queued_at: When it was first put into the send queue, by the monotonic clock.
        is_repeated: Has no samples, and only repeats the values of this process.
        ends: Announces the end of this process.
        changes: How the samples change the totals, once that is known. A changed copy of the batch
            has None.
    """

    name: str
    definition: Definition
    explicit: bool
    canonicals: list[bytes]
    samples: Samples
    budget: int = 0
    buckets: BucketCounts | None = None
    squeezed: bool = False
    alone: bool = False
    queued_at: float = 0.0
    exemplars: tuple[RecordedExemplar, ...] = ()
    is_repeated: bool = False
    ends: bool = False
    changes: Changes | None = field(default=None, init=False)

    @property
    def kind(self) -> MetricType:
        return self.definition.type

    @property
    def nbytes(self) -> int:
        """The approximate memory that the batch uses."""
        return (
            2_000
            + 64 * len(self.canonicals)
            + self.samples.nbytes
            + (0 if self.buckets is None else self.buckets.nbytes)
        )


def finish(batch: MetricBatch) -> MetricBatch:
    """Count the buckets of a raw batch and compress it; return any other unchanged.

    Nothing is compressed if the metric keeps all its samples.
    """
    if not batch.budget:
        return batch
    buckets = _bucket_counts(batch) if batch.kind == "histogram" else None
    # Before compressing, which loses the order.
    samples = merge_gauge_changes(batch.samples) if batch.kind == "gauge" else batch.samples
    # Not `replace`, which takes longer than the rest for a small batch.
    return MetricBatch(
        batch.name,
        batch.definition,
        batch.explicit,
        batch.canonicals,
        samples if batch.definition.keeps_samples else compress(samples, batch.budget),
        0,
        buckets,
        batch.squeezed,
        batch.alone,
        batch.queued_at,
        batch.exemplars,
    )


def _bucket_counts(batch: MetricBatch) -> BucketCounts:
    return bucket_counts.count(batch.samples, batch.definition.buckets)


def changes_of(batch: MetricBatch, samples: Samples) -> Changes:
    """Return how *samples*, another form of a finished *batch*, change its totals."""
    series = len(batch.canonicals)
    if batch.kind == "counter":
        return totals_changes.of_counter(samples, series)
    if batch.kind in ("gauge", *LABEL_TYPES):
        return totals_changes.of_gauge(samples, series)
    if batch.kind == "summary":
        return totals_changes.of_summary(samples, series)
    assert batch.buckets is not None, "BUG: a histogram's batch without bucket counts"
    return totals_changes.of_histogram(samples, series, batch.buckets)


def merge(batches: list[MetricBatch]) -> MetricBatch:
    """Merge batches of the same metric and definition; the oldest comes first."""
    if len(batches) == 1:
        return batches[0]
    if not all(batch.budget for batch in batches):
        batches = [finish(batch) for batch in batches]
    first = batches[0]
    numbers: dict[bytes, int] = {}
    parts, counts = [], []
    exemplars: list[RecordedExemplar] = []
    for batch in batches:
        new = np.array(
            [numbers.setdefault(canonical, len(numbers)) for canonical in batch.canonicals],
            np.int64,
        )
        parts.append(batch.samples.of_series(new))
        exemplars += [each._replace(series=int(new[each.series])) for each in batch.exemplars]
        if batch.buckets is not None:
            counts.append((new, batch.buckets))
    bounds = len(first.definition.buckets)
    buckets = bucket_counts.merge(counts, bounds) if counts else None
    return replace(
        first,
        canonicals=list(numbers),
        samples=concat(parts),
        buckets=buckets,
        exemplars=tuple(exemplars),
    )


def split_rows(batch: MetricBatch, most: int) -> list[MetricBatch]:
    """Split a finished batch into parts of at most *most* rows, in order.

    A batch with summaries is not split, because they must stay with their centroids. Exemplars stay
    with the last part: none may be sent before its sample.
    """
    samples = batch.samples
    if len(samples) <= most or len(samples.summed):
        return [batch]
    parts = []
    row, no_summaries = np.arange(len(samples)), np.zeros(0, np.bool_)
    for first in range(0, len(samples), most):
        part = samples.take((row >= first) & (row < first + most), no_summaries)
        is_last = first + most >= len(samples)
        of_part = batch if is_last else replace(batch, exemplars=())
        parts.append(_without_unused_series(of_part, part))
    return parts


def squeeze(batch: MetricBatch, budget: int) -> MetricBatch:
    """Compress a batch to at most *budget* rows per series and minute."""
    finished = finish(batch)
    return replace(
        finished, samples=compress(merge_gauge_changes(finished.samples), budget), squeezed=True
    )


def split(batch: MetricBatch, first: int, then: int) -> list[MetricBatch]:
    """Split a batch into one with *first* series, and others with *then* series each."""
    n = len(batch.canonicals)
    if n <= first:
        return [batch]
    edges = [0, *range(first, n, then), n]
    # Compute these for all series at once, which takes about as long as for one part.
    changes = None if batch.budget else batch.changes or changes_of(batch, batch.samples)
    parts = []
    for at, samples in enumerate(batch.samples.split(edges)):
        canonicals = batch.canonicals[edges[at] : edges[at + 1]]
        inside = tuple(
            each._replace(series=each.series - edges[at])
            for each in batch.exemplars
            if edges[at] <= each.series < edges[at + 1]
        )
        parts.append(replace(batch, canonicals=canonicals, samples=samples, exemplars=inside))
    if changes is not None:
        divided: list[Changes] = [*changes.split(edges)]
        for part, of_part in zip(parts, divided, strict=True):
            part.changes = of_part
    if batch.buckets is not None:
        for part, buckets in zip(parts, batch.buckets.split(edges), strict=True):
            part.buckets = buckets
    return parts


def is_outside(batch: MetricBatch, oldest_ms: int, newest_ms: int) -> bool:
    """Return whether `drop_outside` would drop a sample."""
    if _is_all_inside(batch.samples, oldest_ms, newest_ms):
        return False
    old, ahead = _outside(batch.samples, oldest_ms, newest_ms)
    return bool((old | ahead).any())


def _is_all_inside(samples: Samples, oldest_ms: int, newest_ms: int) -> bool:
    """Return whether all times are between these two. A fast path."""
    if not len(samples):
        return True
    oldest, newest = bounds(samples.time)
    return oldest_ms <= oldest and newest <= newest_ms


def _outside(samples: Samples, oldest_ms: int, newest_ms: int) -> tuple[Bools, Bools]:
    """Return which samples are too old, and which are too far in the future."""
    old: Bools = samples.time < oldest_ms
    ahead: Bools = (samples.time > newest_ms) & ((samples.flags & OWN_TIME) != 0)
    return old, ahead


def drop_outside(
    batch: MetricBatch, oldest_ms: int, newest_ms: int
) -> tuple[MetricBatch | None, int, int]:
    """Drop samples older than *oldest_ms*, and those with an explicit time after *newest_ms*.

    Return the rest (None if nothing is left), the number that was too old, and the number that was
    too far in the future.
    """
    samples = batch.samples
    if _is_all_inside(samples, oldest_ms, newest_ms):
        return batch, 0, 0
    old, ahead = _outside(samples, oldest_ms, newest_ms)
    if not (old | ahead).any():
        return batch, 0, 0
    times = samples.summaries.last_ms
    keep_summaries = (times >= oldest_ms) & ~((times > newest_ms) & (samples.summed_flags != 0))
    kept = samples.take(~(old | ahead), keep_summaries)
    too_old, future = int(samples.weight[old].sum()), int(samples.weight[ahead].sum())
    if not len(kept):
        return None, too_old, future
    inside = tuple(each for each in batch.exemplars if oldest_ms <= each.time <= newest_ms)
    rest = _without_unused_series(replace(batch, exemplars=inside), kept)
    return rest, too_old, future


def _without_unused_series(batch: MetricBatch, samples: Samples) -> MetricBatch:
    """Return a batch with only these *samples* of a batch, and the series that they use."""
    present = np.zeros(len(batch.canonicals), np.bool_)
    present[samples.series] = True
    numbers = np.where(present, np.cumsum(present) - 1, -1)
    canonicals = [
        canonical for canonical, here in zip(batch.canonicals, present, strict=True) if here
    ]
    result = replace(
        batch,
        canonicals=canonicals,
        samples=samples.of_series(numbers),
        exemplars=tuple(
            each._replace(series=int(numbers[each.series]))
            for each in batch.exemplars
            if present[each.series]
        ),
    )
    if batch.buckets is not None:
        result.buckets = _bucket_counts(result)
    return result


def convert(batch: MetricBatch, definition: Definition) -> tuple[MetricBatch | None, int]:
    """Convert a batch to another definition, with another type or unit of time.

    Return it (None if nothing is left), and the number of samples that do not fit.
    """
    if batch.definition.agrees_with(definition):
        return replace(batch, definition=definition), 0
    if definition.type in LABEL_TYPES and batch.kind != definition.type:
        return None, batch.samples.count
    result = replace(batch, definition=definition, buckets=None)
    old, new = batch.definition.unit, definition.unit
    if old != new and old in TIME_UNITS and new in TIME_UNITS:
        factor = TIME_UNITS[old] / TIME_UNITS[new]
        result.samples = batch.samples.scaled(factor)
        result.exemplars = tuple(
            each._replace(value=each.value * factor) for each in batch.exemplars
        )
    dropped = 0
    if definition.type not in EXEMPLAR_TYPES:
        result.exemplars = ()
    elif definition.type == "counter":
        result.exemplars = tuple(each for each in result.exemplars if each.value >= 0)
    if definition.type == "counter" and (batch.samples.value < 0).any():
        bad, bad_summaries = below_zero(result.samples)
        dropped = int(result.samples.weight[bad].sum())
        result.samples = result.samples.take(~bad, ~bad_summaries)
        if not len(result.samples):
            return None, dropped
    if definition.type == "histogram" and not batch.budget:
        result.buckets = _bucket_counts(result)
    return result, dropped


def saturated_sum(a: float, b: float) -> float:
    """Return the sum of two floats, capped at the largest: no reader accepts an infinite gauge."""
    return max(-LARGEST, min(LARGEST, a + b))


def merge_gauge_changes(samples: Samples) -> Samples:
    """Merge changes of a gauge's shared value into one row per series, as record.lua expects.

    The changes before the first set of a series become one row with their total weight; a change
    after a set becomes a value. Otherwise a second change would apply to a value that is no longer
    the shared one.
    """
    changed = (samples.flags & CHANGE) != 0
    if is_zero(changed):
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
            value[row] = saturated_sum(float(value[row]), first_set[number])
            first_set[number] = float(value[row])
            flags[row] &= ~np.uint8(CHANGE)
        elif number in change_at:
            before = change_at[number]
            value[before] = saturated_sum(float(value[before]), float(value[row]))
            weight[change_at[number]] += weight[row]
            time[change_at[number]] = time[row]
            keep[row] = False
        else:
            change_at[number] = row
    settled = replace(samples, value=value, time=time, flags=flags, weight=weight)
    return settled if keep.all() else settled.take(keep, np.ones(len(samples.summed), np.bool_))
