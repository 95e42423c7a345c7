"""Weighted samples as columns, and their bytes: the block.

A block in a log, in a message of the stream and in Redis is

    head  msgpack [clock_us, writer, sequence, samples, oldest_ms, newest_ms, [series id...], [row's series...], bases]
    body  version, rows, summaries, time base, then the columns of rows, then those of summaries, then the metadata

The head is written by lua/record.lua, the body by `pack` here; the script never looks into it. In the body a series is its
position in the head's list of ids. For columns see columns.py.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from redismetrics.model.time import MINUTE

from . import arrays
from .arrays import Floats, Ints
from .digest import cluster
from .summaries import Summaries, empty, merge, of_points
from .summaries import concat as summaries_concat

Flags = NDArray[np.uint8]

OWN_TIME = 1  # the caller gave the time; else it is the recorder's clock, and counts at most as new as the batch
CHANGE = 2  # a change of a gauge's shared value; the head holds the value it is added to, and the time of the two together
CENTROID = 4  # stands for `weight` values around it, whose exact summary is beside


@dataclass(slots=True, eq=False)
class Samples:
    """Weighted samples of one metric, columns of shape (n,): series number, time in ms, value, how many equal ones, flags.

    *metadata* maps a row to its JSON. *summaries* are exact, one for each compacted series and minute, and *summed* their
    series, with *summed_flags* 0 or OWN_TIME; the rows that they stand for are CENTROIDs.
    """

    series: Ints
    time: Ints
    value: Floats
    weight: Ints
    flags: Flags
    metadata: dict[int, bytes] = field(default_factory=dict)
    summed: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    summed_flags: Flags = field(default_factory=lambda: np.zeros(0, np.uint8))
    summaries: Summaries = field(default_factory=empty)

    def __len__(self) -> int:
        return len(self.series)

    @property
    def count(self) -> int:
        """How many samples were recorded."""
        return int(self.weight.sum())

    @property
    def nbytes(self) -> int:
        """About how much memory this takes."""
        return (
            33 * len(self)
            + 64 * len(self.summed)
            + sum(map(len, self.metadata.values()))
            + 100 * len(self.metadata)
        )

    def take(self, keep: NDArray[np.bool_], keep_summaries: NDArray[np.bool_]) -> "Samples":
        """The rows and the summaries for which a mask is true; compacted rows go with their summary."""
        at = np.cumsum(keep) - 1
        metadata = {int(at[row]): text for row, text in self.metadata.items() if keep[row]}
        return Samples(
            self.series[keep], self.time[keep], self.value[keep], self.weight[keep], self.flags[keep], metadata,
            self.summed[keep_summaries], self.summed_flags[keep_summaries], self.summaries.take(keep_summaries),
        )  # fmt: skip

    def scaled(self, factor: float) -> "Samples":
        """The same with all values multiplied, as for another unit."""
        old = self.summaries
        scaled = Summaries(
            old.count, old.total * factor, old.m2 * factor * factor, old.low * factor, old.high * factor,
            old.last * factor, old.last_ms,
        )  # fmt: skip
        return replace(self, value=self.value * factor, summaries=scaled)

    def of_series(self, numbers: Ints) -> "Samples":
        """The samples of the series in *numbers*; a series is then its position there, series with -1 are left out.

        *numbers* has shape (old series,): the new number of each old one.
        """
        if (numbers >= 0).all():
            kept = replace(self)
        else:
            kept = self.take(numbers[self.series] >= 0, numbers[self.summed] >= 0)
        kept.series, kept.summed = numbers[kept.series], numbers[kept.summed]
        return kept

    def split(self, edges: list[int]) -> list["Samples"]:
        """The samples of the series in each [edge, next edge); a series is then its position there."""
        rows, summed = (
            np.argsort(self.series, kind="stable"),
            np.argsort(self.summed, kind="stable"),
        )
        ends, summed_ends = (
            np.searchsorted(self.series[rows], edges),
            np.searchsorted(self.summed[summed], edges),
        )
        parts = []
        for at, edge in enumerate(edges[:-1]):
            row, sum_row = (
                rows[ends[at] : ends[at + 1]],
                summed[summed_ends[at] : summed_ends[at + 1]],
            )
            metadata = {
                new: self.metadata[old] for new, old in enumerate(row.tolist()) if old in self.metadata
            } if self.metadata else {}  # fmt: skip
            parts.append(Samples(
                self.series[row] - edge, self.time[row], self.value[row], self.weight[row], self.flags[row], metadata,
                self.summed[sum_row] - edge, self.summed_flags[sum_row], self.summaries.take(sum_row),
            ))  # fmt: skip
        return parts


def concat(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    metadata: dict[int, bytes] = {}
    start = 0
    for part in parts:
        metadata.update({start + row: text for row, text in part.metadata.items()})
        start += len(part)
    return Samples(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.flags for part in parts]),
        metadata,
        np.concatenate([part.summed for part in parts]),
        np.concatenate([part.summed_flags for part in parts]),
        summaries_concat([part.summaries for part in parts]),
    )


def summarise(samples: Samples) -> tuple[Ints, Summaries]:
    """Every value once, as summaries in order of arrival: the exact rows as they are, the compacted ones by theirs.

    Returns the series of each summary, and the summaries.
    """
    if not len(samples.summed):
        return samples.series, of_points(samples.value, samples.weight, samples.time)
    exact = (samples.flags & CENTROID) == 0
    points = of_points(samples.value[exact], samples.weight[exact], samples.time[exact])
    return np.concatenate([samples.series[exact], samples.summed]), summaries_concat(
        [points, samples.summaries]
    )


def compress(samples: Samples, budget: int) -> Samples:
    """Make at most *budget* rows of each series and minute that has more, beside their exact summary.

    Rows with metadata, and changes of a shared value, stay as they are. The centroids carry the time of the newest value.
    """
    if len(samples) <= budget:
        return samples
    cell = _cells(samples.series, samples.time, samples.flags)
    order = np.argsort(cell, kind="stable")
    plain = (samples.flags & CHANGE) == 0
    if samples.metadata:
        plain[list(samples.metadata)] = False
    if not plain.all():
        order = order[plain[order]]
    ordered = cell[order]
    first = arrays.starts(ordered)
    size = np.diff(first, append=len(ordered))
    crowded = size > budget
    if not crowded.any():
        return samples

    # The exact summary of each crowded series and minute, from its rows and from the summaries that it has already.
    cells, sizes, rows = ordered[first[crowded]], size[crowded], order[np.repeat(crowded, size)]
    group = np.repeat(np.arange(len(cells)), sizes)
    time, value, weight = samples.time[rows], samples.value[rows], samples.weight[rows]
    if len(samples.summed):
        exact = (samples.flags[rows] & CENTROID) == 0
        old_cell = _cells(samples.summed, samples.summaries.last_ms, samples.summed_flags)
        old_group = np.minimum(np.searchsorted(cells, old_cell), len(cells) - 1)
        old = cells[old_group] == old_cell
        points = of_points(value[exact], weight[exact], time[exact])
        parts = summaries_concat([points, samples.summaries.take(old)])
        whole = merge(np.concatenate([group[exact], old_group[old]]), len(cells), parts)
    else:
        old = np.zeros(0, np.bool_)
        whole = merge(group, len(cells), of_points(value, weight, time))

    ones = int(weight.max()) == 1
    means, weights, counts = [], [], []
    end = 0
    for number, rows_in in enumerate(sizes.tolist()):
        begin, end = end, end + rows_in
        if (
            whole.low[number] == whole.high[number]
        ):  # one value, however often: no need of centroids
            mean, mass = whole.last[number : number + 1], whole.count[number : number + 1]
        else:
            mean, mass = cluster(value[begin:end], None if ones else weight[begin:end], budget)
        means.append(mean)
        weights.append(mass)
        counts.append(len(mean))

    keep = np.ones(len(samples), np.bool_)
    keep[rows] = False
    leader = np.cumsum(sizes) - sizes  # the first row of each
    series, own = samples.series[rows[leader]], samples.flags[rows[leader]] & np.uint8(OWN_TIME)
    several = whole.low != whole.high
    centroids = Samples(
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
    return concat([samples.take(keep, ~old), centroids]) if keep.any() else centroids


def _cells(series: Ints, time: Ints, flags: Flags) -> Ints:
    """One number for each series, minute, and whether the time is its own."""
    cells: Ints = (
        (series << 34) + (time // MINUTE << 1) + (flags & np.uint8(OWN_TIME))
    )  # minutes take 32 bits, to the year 9999
    return cells


def below_zero(samples: Samples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows, and which summaries, hold a value below 0; of a compacted list all rows, whose values are not told apart."""
    summaries = samples.summaries.low < 0
    cells = _cells(
        samples.summed[summaries],
        samples.summaries.last_ms[summaries],
        samples.summed_flags[summaries],
    )
    centroid = (samples.flags & CENTROID) != 0
    rows = np.isin(_cells(samples.series, samples.time, samples.flags), cells) & centroid
    return rows | (~centroid & (samples.value < 0)), summaries


def no_samples() -> Samples:
    whole = np.zeros(0, np.int64)
    return Samples(whole, whole, np.zeros(0), whole, np.zeros(0, np.uint8))
