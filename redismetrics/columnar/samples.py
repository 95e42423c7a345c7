"""Weighted samples as columns: join, split, summarise, compress."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from redismetrics.model.time import MINUTE

from . import arrays, metadata_columns
from .arrays import Floats, Ints, saturated
from .digest import cluster
from .summaries import Summaries, empty, merge, of_points
from .summaries import concat as concat_summaries

Flags = NDArray[np.uint8]

# The caller gave the time. Otherwise, it is from the recorder's clock, and is limited to the
# batch's clock.
OWN_TIME = 1
# A change of a gauge's shared value. The block's head holds the base value, and the earliest time
# of the result.
CHANGE = 2
# Represents `weight` values around it, whose exact summary is stored as well.
CENTROID = 4


@dataclass(slots=True, eq=False)
class Samples:
    """Weighted samples of one metric.

    Attributes:
        series: Series number, shape (n,).
        time: Time in ms, shape (n,).
        value: Value, shape (n,).
        weight: Number of equal values, shape (n,).
        flags: OWN_TIME, CHANGE and CENTROID, as uint8, shape (n,).
        metadata: JSON text by row.
        summed: Series of each summary, shape (m,).
        summed_flags: 0 or OWN_TIME for each summary, as uint8, shape (m,).
        summaries: Exact summaries, one per compressed series and minute, whose rows are CENTROIDs;
            shape (m,).
    """

    series: Ints
    time: Ints
    value: Floats
    weight: Ints
    flags: Flags
    metadata: Mapping[int, bytes] = field(default_factory=dict)
    summed: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    summed_flags: Flags = field(default_factory=lambda: np.zeros(0, np.uint8))
    summaries: Summaries = field(default_factory=empty)

    @classmethod
    def none(cls) -> "Samples":
        """Return no samples."""
        whole = np.zeros(0, np.int64)
        return cls(whole, whole, np.zeros(0), whole, np.zeros(0, np.uint8))

    def __len__(self) -> int:
        return len(self.series)

    @property
    def count(self) -> int:
        """Number of samples recorded."""
        if len(self.weight) <= arrays.FEW:
            return sum(self.weight.tolist())
        return int(self.weight.sum())

    @property
    def nbytes(self) -> int:
        """Approximate memory, in bytes."""
        return 33 * len(self) + 64 * len(self.summed) + metadata_columns.nbytes(self.metadata)

    def take(self, keep: NDArray[np.bool_], keep_summaries: NDArray[np.bool_]) -> "Samples":
        """Return the rows and the summaries where the masks are True.

        A summary and its centroids must be kept together.
        """
        metadata: Mapping[int, bytes] = {}
        if self.metadata:
            at = np.where(keep, np.cumsum(keep) - 1, -1)
            metadata = metadata_columns.moved(self.metadata, at)
        return Samples(
            self.series[keep],
            self.time[keep],
            self.value[keep],
            self.weight[keep],
            self.flags[keep],
            metadata,
            self.summed[keep_summaries],
            self.summed_flags[keep_summaries],
            self.summaries.take(keep_summaries),
        )

    def scaled(self, factor: float) -> "Samples":
        """Return the same samples with all values multiplied, for example to change the unit.

        Values that overflow become the largest float.
        """
        old = self.summaries
        with np.errstate(over="ignore"):
            scaled = Summaries(
                old.count,
                old.total * factor,
                old.m2 * factor * factor,
                saturated(old.low * factor),
                saturated(old.high * factor),
                saturated(old.last * factor),
                old.last_ms,
            )
            return replace(self, value=saturated(self.value * factor), summaries=scaled)

    def of_series(self, numbers: Ints) -> "Samples":
        """Return the samples with other series numbers.

        *numbers* has shape (old series,): the new number of each series, or -1 to leave it out.
        """
        if (numbers >= 0).all():
            kept = replace(self)
        else:
            kept = self.take(numbers[self.series] >= 0, numbers[self.summed] >= 0)
        kept.series, kept.summed = numbers[kept.series], numbers[kept.summed]
        return kept

    def split(self, edges: list[int]) -> list["Samples"]:
        """Return the samples of the series in each [edge, next edge), numbered from 0 in each."""
        if not (self.metadata or len(self.summed)) and (self.series[1:] >= self.series[:-1]).all():
            return self._sliced(edges)
        order = np.argsort(self.series, kind="stable")
        summed_order = np.argsort(self.summed, kind="stable")
        ends = np.searchsorted(self.series[order], edges)
        summed_ends = np.searchsorted(self.summed[summed_order], edges)
        return [
            self._renumbered(
                order[ends[at] : ends[at + 1]],
                summed_order[summed_ends[at] : summed_ends[at + 1]],
                edge,
            )
            for at, edge in enumerate(edges[:-1])
        ]

    def _sliced(self, edges: list[int]) -> list["Samples"]:
        """`split` for samples ordered by series, without metadata or summaries: returns views."""
        ends = np.searchsorted(self.series, edges).tolist()
        return [
            Samples(
                self.series[begin:end] - first,
                self.time[begin:end],
                self.value[begin:end],
                self.weight[begin:end],
                self.flags[begin:end],
                {},
                self.summed,
                self.summed_flags,
                self.summaries,
            )
            for first, begin, end in zip(edges[:-1], ends[:-1], ends[1:], strict=True)
        ]

    def _renumbered(
        self, rows: NDArray[np.intp], summed: NDArray[np.intp], first: int
    ) -> "Samples":
        """Return these rows and summaries, with series numbers less *first*."""
        metadata: Mapping[int, bytes] = {}
        if self.metadata:
            at = np.full(len(self), -1)
            at[rows] = np.arange(len(rows))
            metadata = metadata_columns.moved(self.metadata, at)
        return Samples(
            self.series[rows] - first,
            self.time[rows],
            self.value[rows],
            self.weight[rows],
            self.flags[rows],
            metadata,
            self.summed[summed] - first,
            self.summed_flags[summed],
            self.summaries.take(summed),
        )


def concat(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    metadata = metadata_columns.joined(
        [(start, part.metadata) for start, part in zip(starts, parts, strict=False)]
    )
    return Samples(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.flags for part in parts]),
        metadata,
        np.concatenate([part.summed for part in parts]),
        np.concatenate([part.summed_flags for part in parts]),
        concat_summaries([part.summaries for part in parts]),
    )


def summarise(samples: Samples) -> tuple[Ints, Summaries]:
    """Return series and summaries that cover every value once, in order of arrival.

    Each exact row becomes a summary; centroids are covered by their own summary. Both have shape
    (n,).
    """
    if not len(samples.summed):
        return samples.series, of_points(samples.value, samples.weight, samples.time)
    exact = (samples.flags & CENTROID) == 0
    points = of_points(samples.value[exact], samples.weight[exact], samples.time[exact])
    return np.concatenate([samples.series[exact], samples.summed]), concat_summaries(
        [points, samples.summaries]
    )


def compress(samples: Samples, budget: int) -> Samples:
    """Replace each series-minute with more than *budget* rows by centroids and an exact summary.

    Rows with metadata, and changes of a gauge's shared value, are unchanged. Centroids are those of
    a t-digest (see digest.py), and carry the time of the newest value.
    """
    if len(samples) <= budget:
        return samples
    crowded = _crowded(samples, budget)
    if crowded is None:
        return samples
    whole, replaced = _crowded_summaries(samples, crowded)
    centroids = _centroids(samples, crowded, whole, budget)
    keep = np.ones(len(samples), np.bool_)
    keep[crowded.rows] = False
    return concat([samples.take(keep, ~replaced), centroids]) if keep.any() else centroids


@dataclass(slots=True, eq=False)
class _Crowded:
    """Series-minutes with too many rows.

    Attributes:
        keys: Number of each series-minute, ascending, shape (groups,).
        sizes: Rows of each, shape (groups,).
        rows: The rows of the samples, one group after another, shape (sum of sizes,).
    """

    keys: Ints
    sizes: Ints
    rows: NDArray[np.intp]

    @property
    def group(self) -> Ints:
        return np.repeat(np.arange(len(self.keys)), self.sizes)


def _crowded(samples: Samples, budget: int) -> _Crowded | None:
    """Return the series-minutes with more than *budget* rows that can be compressed, if any."""
    if (
        int(samples.series.max()) < 4 * len(samples)
        and int(np.bincount(samples.series).max()) <= budget
    ):
        # A fast path: few rows of each series.
        return None
    key = _series_minutes(samples.series, samples.time, samples.flags)
    order = np.argsort(key, kind="stable")
    plain = (samples.flags & CHANGE) == 0
    if samples.metadata:
        plain[list(samples.metadata)] = False
    if not plain.all():
        order = order[plain[order]]
    ordered = key[order]
    first = arrays.starts(ordered)
    size = np.diff(first, append=len(ordered))
    crowded = size > budget
    if not crowded.any():
        return None
    return _Crowded(ordered[first[crowded]], size[crowded], order[np.repeat(crowded, size)])


def _crowded_summaries(samples: Samples, crowded: _Crowded) -> tuple[Summaries, NDArray[np.bool_]]:
    """Return the exact summary of each group, and a mask of the old summaries that are replaced."""
    rows, group = crowded.rows, crowded.group
    time, value, weight = samples.time[rows], samples.value[rows], samples.weight[rows]
    groups = len(crowded.keys)
    if not len(samples.summed):
        return merge(group, groups, of_points(value, weight, time)), np.zeros(0, np.bool_)
    exact = (samples.flags[rows] & CENTROID) == 0
    old_key = _series_minutes(samples.summed, samples.summaries.last_ms, samples.summed_flags)
    old_group = np.minimum(np.searchsorted(crowded.keys, old_key), groups - 1)
    replaced = crowded.keys[old_group] == old_key
    points = of_points(value[exact], weight[exact], time[exact])
    parts = concat_summaries([points, samples.summaries.take(replaced)])
    return merge(np.concatenate([group[exact], old_group[replaced]]), groups, parts), replaced


def _centroids(samples: Samples, crowded: _Crowded, whole: Summaries, budget: int) -> Samples:
    """Return the centroids of each group, with its summary *whole*; equal values become one row."""
    rows, sizes = crowded.rows, crowded.sizes
    value, weight = samples.value[rows], samples.weight[rows]
    ones = int(weight.max()) == 1
    means, weights, counts = [], [], []
    end = 0
    for number, rows_in in enumerate(sizes.tolist()):
        begin, end = end, end + rows_in
        if whole.low[number] == whole.high[number]:
            mean, mass = whole.last[number : number + 1], whole.count[number : number + 1]
        else:
            mean, mass = cluster(value[begin:end], None if ones else weight[begin:end], budget)
        means.append(mean)
        weights.append(mass)
        counts.append(len(mean))
    leader = rows[np.cumsum(sizes) - sizes]
    series, own = samples.series[leader], samples.flags[leader] & np.uint8(OWN_TIME)
    several = whole.low != whole.high
    return Samples(
        np.repeat(series, counts),
        np.repeat(whole.last_ms, counts),
        np.concatenate(means),
        np.concatenate(weights),
        np.repeat(own | np.where(several, np.uint8(CENTROID), np.uint8(0)), counts),
        {},
        series[several],
        own[several],
        whole.take(several),
    )


def _series_minutes(series: Ints, time: Ints, flags: Flags) -> Ints:
    """Return a number made of series, minute, and whether the caller gave the time; shape (n,)."""
    # Minutes take 32 bits, to the year 9999.
    numbers: Ints = (series << 34) + (time // MINUTE << 1) + (flags & np.uint8(OWN_TIME))
    return numbers


def below_zero(samples: Samples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the rows and summaries with a value below 0.

    All centroids of such a summary count, because the signs of their values are unknown.
    """
    summaries = samples.summaries.low < 0
    negative = _series_minutes(
        samples.summed[summaries],
        samples.summaries.last_ms[summaries],
        samples.summed_flags[summaries],
    )
    centroid = (samples.flags & CENTROID) != 0
    numbers = _series_minutes(samples.series, samples.time, samples.flags)
    rows = np.isin(numbers, negative) & centroid
    return rows | (~centroid & (samples.value < 0)), summaries


def no_samples() -> Samples:
    whole = np.zeros(0, np.int64)
    return Samples(whole, whole, np.zeros(0), whole, np.zeros(0, np.uint8))
