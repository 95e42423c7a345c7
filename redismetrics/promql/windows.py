"""Samples of series cut into windows: one for each step."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged

from .budget import Budget
from .source import Labels, SampledSeries
from .vectors import METADATA, Grid, Vector, without_labels

if TYPE_CHECKING:
    from .extended import Extension

# Cells and samples processed at a time: they fit into the CPU cache, and the deadline is checked in
# between.
BLOCK_CELLS = 1 << 17
BLOCK_SAMPLES = 1 << 20
# Samples added up or compared in one numpy call: about 0.1 s.
CALL_SAMPLES = 1 << 26


def counts_until(offsets: Ints, times: Ints, grid: Grid) -> Ints:
    """Return the number of samples of each series up to each time, shape (series, count).

    Counts start at the first sample of the series. The cost is that of reading all samples and
    writing the result, without any search.
    """
    series = len(offsets) - 1
    begin, end = int(offsets[0]), int(offsets[-1])
    moved = times[begin:end] - grid.start
    if grid.count > 1:
        slots = np.clip(-(-moved // grid.step), 0, grid.count)
    else:
        slots = (moved > 0).astype(np.int64)
    row = np.repeat(np.arange(series) * (grid.count + 1), np.diff(offsets))
    found = np.bincount(row + slots, minlength=series * (grid.count + 1))
    return np.cumsum(found.reshape(series, grid.count + 1)[:, :-1], axis=1)


@dataclass(slots=True, eq=False)
class WindowBlock:
    """Windows of some series.

    Attributes:
        times: Unix ms of the samples, shape (samples,).
        values: Shape (samples,).
        starts: True for the first sample of a series, shape (samples,).
        first: Index of the first sample of each window, shape (series, windows).
        last: Index after the last sample, like *first*.
        ends: End of each window, Unix ms, shape (windows,).
        width: Width of the windows in ms. They are open on the left.
        budget: Budget to check between parts of long work.
    """

    times: Ints
    values: Floats
    starts: Bools
    first: Ints
    last: Ints
    ends: Ints
    width: int
    budget: Budget

    @property
    def sizes(self) -> Ints:
        """Return the number of samples in each window, shape (series, windows)."""
        return self.last - self.first

    def parts(self, cells: Bools, samples: int) -> Iterator[Ints]:
        """Yield the flat numbers of the windows where *cells* is true, in parts.

        The windows of a part have at most *samples* samples in total, unless it is a single one.
        """
        chosen = np.flatnonzero(cells)
        ends = np.cumsum(self.sizes.reshape(-1)[chosen])
        begin = 0
        while begin < len(chosen):
            self.budget.check()
            past = int(ends[begin - 1]) if begin else 0
            stop = max(int(np.searchsorted(ends, past + samples)), begin + 1)
            yield chosen[begin:stop]
            begin = stop

    def expanded(self, cells: Bools) -> Iterator["Expanded"]:
        """Yield the windows where *cells* is true with a copy of their samples, in parts."""
        first, sizes = self.first.reshape(-1), self.sizes.reshape(-1)
        for part in self.parts(cells, BLOCK_SAMPLES):
            size = sizes[part]
            at = ragged(first[part], size)
            yield Expanded(part, size, self.times[at], self.values[at])


@dataclass(slots=True, eq=False)
class Expanded:
    """Some non-empty windows, with their samples concatenated.

    Attributes:
        cells: Flat number of each window in its block, shape (windows,).
        sizes: Samples of each window, shape (windows,).
        times: Unix ms, shape (samples,).
        values: Shape (samples,).
    """

    cells: Ints
    sizes: Ints
    times: Ints
    values: Floats

    @property
    def starts(self) -> Ints:
        found: Ints = np.cumsum(self.sizes) - self.sizes
        return found

    def spread(self, of_windows: Floats) -> Floats:
        """Repeat a value per window for each of its samples."""
        return np.repeat(of_windows, self.sizes)

    def sums(self, values: Floats) -> Floats:
        found: Floats = np.add.reduceat(values, self.starts)
        return found


@dataclass(slots=True, eq=False)
class Windows:
    """A range vector at each step.

    Attributes:
        labels: Labels of each series.
        drop: As in `Vector`, shape (series,).
        offsets: As in `SampledSeries`.
        times: Unix ms of the samples.
        values: Shape (samples,).
        grid: Ends of the windows; a single one if they do not depend on the step.
        width: Width of the windows in ms.
        steps: Steps of the result.
        computed: Series for which the source computed the value of the function.
        extension: How the windows are extended; already included in *grid* and *width*.
    """

    labels: list[Labels]
    drop: Bools
    offsets: Ints
    times: Ints
    values: Floats
    grid: Grid
    width: int
    steps: int
    computed: list[Vector] = field(default_factory=list)
    extension: "Extension | None" = None

    def __len__(self) -> int:
        return len(self.labels)

    def without_names(self) -> "Windows":
        """Return these windows without the names marked to be dropped."""
        plain = without_labels(self.labels, METADATA)
        labels = [
            plain[row] if drop else self.labels[row] for row, drop in enumerate(self.drop.tolist())
        ]
        return replace(self, labels=labels)

    def bounds(self) -> tuple[Ints, Ints]:
        """Return the first sample of each series in the first window, and one past the last."""
        start, offsets = self.grid.start, self.offsets
        first = counts_until(offsets, self.times, Grid(start - self.width, 0, 1))
        last = counts_until(offsets, self.times, Grid(start, 0, 1))
        return first[:, 0] + offsets[:-1], last[:, 0] + offsets[:-1]

    def blocks(self, budget: Budget) -> Iterator[tuple[slice, WindowBlock]]:
        """Yield blocks of series, each with its rows."""
        series, row = len(self), 0
        while row < series:
            budget.check()
            most = row + max(1, BLOCK_CELLS // max(self.grid.count, 1))
            reach = int(self.offsets[row]) + BLOCK_SAMPLES
            full = int(np.searchsorted(self.offsets, reach, side="right")) - 1
            stop = min(max(min(most, full), row + 1), series)
            yield slice(row, stop), self._block(row, stop, budget)
            row = stop

    def _block(self, row: int, stop: int, budget: Budget) -> WindowBlock:
        offsets = self.offsets[row : stop + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        grid, width = self.grid, self.width
        base = (offsets[:-1] - begin)[:, None]
        extra = width // grid.step if grid.count > 1 else 0
        if extra and width == extra * grid.step and extra <= grid.count:
            # The windows begin at times of the same grid, so it is counted only once.
            longer = Grid(grid.start - width, grid.step, grid.count + extra)
            counts = counts_until(offsets, self.times, longer)
            first, last = counts[:, : grid.count], counts[:, extra:]
        else:
            first = counts_until(
                offsets, self.times, Grid(grid.start - width, grid.step, grid.count)
            )
            last = counts_until(offsets, self.times, grid)
        starts = np.zeros(end - begin, np.bool_)
        starts[(offsets[:-1] - begin)[np.diff(offsets) > 0]] = True
        return WindowBlock(
            self.times[begin:end],
            self.values[begin:end],
            starts,
            first + base,
            last + base,
            grid.times,
            width,
            budget,
        )


def without_stale(series: SampledSeries) -> tuple[Ints, Ints, Floats]:
    """Return offsets, times and values of the samples that are not staleness markers."""
    if series.stale is None or not series.stale.any():
        return series.offsets, series.times, series.values
    kept = ~series.stale
    before = np.concatenate([[0], np.cumsum(kept)])
    return before[series.offsets], series.times[kept], series.values[kept]


def of_vector(vector: Vector, inner: Grid) -> tuple[Ints, Ints, Floats]:
    """Return the present values of a vector as samples: offsets, times and values."""
    offsets = np.concatenate([[0], np.cumsum(vector.present.sum(axis=1))])
    step = np.nonzero(vector.present)[1]
    return offsets, inner.times[step], vector.values[vector.present]
