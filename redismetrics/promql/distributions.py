"""Series whose values are distributions: merging, scaling and quantiles."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged
from redismetrics.columnar.percentiles import SortedPoints, percentiles
from redismetrics.errors import EvaluationFailed

from .source import DistributionSeries, Labels

# Weights of parts with different scales are converted to whole numbers with this precision.
_WEIGHT_UNIT = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Points of digests, and the value of one unit of their weight."""

    points: SortedPoints
    scale: float


@dataclass(slots=True, eq=False)
class Distributions:
    """Distributions of series at steps; columns as in `DistributionSeries`.

    *drop* is that of `Vector`.
    """

    labels: list[Labels]
    drop: Bools
    present: Bools
    count: Floats
    total: Floats
    m2: Floats
    low: Floats
    high: Floats
    parts: list[Part]

    @classmethod
    def of(cls, series: DistributionSeries, *, drop: bool) -> "Distributions":
        labels = list(series.labels)
        return cls(
            labels,
            np.full(len(labels), drop),
            series.present,
            series.count,
            series.total,
            series.m2,
            series.low,
            series.high,
            [Part(points, series.scale) for points in series.points],
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def steps(self) -> int:
        return int(self.present.shape[1])

    def where(self, present: Bools) -> "Distributions":
        """Return these distributions where *present* is also true."""
        return replace(self, present=self.present & present)

    def take(self, rows: Ints) -> "Distributions":
        """Return the series at *rows*, which must be distinct, in that order."""
        new = np.full(len(self), -1, np.int64)
        new[rows] = np.arange(len(rows))
        return self._regrouped([self.labels[row] for row in rows.tolist()], self.drop[rows], new)

    def relabelled(self, labels: list[Labels], drop: Bools) -> "Distributions":
        return replace(self, labels=labels, drop=drop)

    def scaled(self, factor: Floats) -> "Distributions":
        """Return these distributions times *factor*, shape (steps,)."""
        parts = self.parts
        if len(factor) and (factor == factor[0]).all():
            parts = [Part(part.points, part.scale * float(factor[0])) for part in parts]
        # A factor that changes from step to step is the same for all parts of a cell, so their
        # relative weights are unchanged.
        return replace(
            self,
            count=self.count * factor,
            total=self.total * factor,
            m2=self.m2 * factor,
            parts=parts,
        )

    def averaged(self, counts: Floats) -> "Distributions":
        """Return these distributions divided by *counts*, shape (series, steps)."""
        # All points of a cell are divided by the same number, which changes no quantile.
        return replace(
            self, count=self.count / counts, total=self.total / counts, m2=self.m2 / counts
        )

    def stretched(self, steps: int) -> "Distributions":
        """Return distributions at a single time repeated at each of *steps*."""
        shape = (len(self), steps)

        def wide(column: Floats) -> Floats:
            return np.broadcast_to(column, shape)

        parts = []
        for part in self.parts:
            points, size = part.points, part.points.sizes
            rows = np.arange(len(points.group))
            begin = np.cumsum(size) - size
            repeated = np.repeat(rows, steps)
            cells = points.group[repeated] * steps + np.tile(np.arange(steps), len(rows))
            inner = ragged(begin[repeated], size[repeated])
            moved = SortedPoints(
                cells,
                size[repeated],
                points.values[inner],
                points.weights[inner],
                points.centroid[repeated],
            )
            parts.append(Part(moved, part.scale))
        return replace(
            self,
            present=np.broadcast_to(self.present, shape),
            count=wide(self.count),
            total=wide(self.total),
            m2=wide(self.m2),
            low=wide(self.low),
            high=wide(self.high),
            parts=parts,
        )

    def summed(self, group: Ints, labels: list[Labels], drop: Bools) -> "Distributions":
        """Return the sums of groups of series; *group* is the number of each series' group."""
        return self._regrouped(labels, drop, group)

    def _regrouped(self, labels: list[Labels], drop: Bools, group: Ints) -> "Distributions":
        """Return one series per group; a series with group -1 is left out."""
        shape = (len(labels), self.steps)
        rows = np.flatnonzero(group >= 0)
        target = group[rows]
        held = self.present[rows]

        def gather(column: Floats, operation: np.ufunc, start: float) -> Floats:
            result = np.full(shape, start)
            operation.at(result, target, np.where(held, column[rows], start))
            return result

        present = np.zeros(shape, np.bool_)
        np.logical_or.at(present, target, held)
        count = gather(self.count, np.add, 0.0)
        total = gather(self.total, np.add, 0.0)
        means = np.where(self.count != 0, self.total / self.count, 0.0)
        mean = np.where(count != 0, total / count, 0.0)
        # Parallel variance (Chan, Golub and LeVeque 1979).
        shift = np.zeros((len(self), self.steps))
        shift[rows] = self.count[rows] * (means[rows] - mean[target]) ** 2
        return Distributions(
            labels,
            drop,
            present,
            count,
            total,
            gather(self.m2 + shift, np.add, 0.0),
            gather(self.low, np.minimum, np.inf),
            gather(self.high, np.maximum, -np.inf),
            [self._moved(part, group) for part in self.parts],
        )

    def _moved(self, part: Part, group: Ints) -> Part:
        points = part.points
        series, step = np.divmod(points.group, self.steps)
        cells = np.where(group[series] >= 0, group[series] * self.steps + step, -1)
        cells = np.where(self.present[series, step], cells, -1)
        kept = cells >= 0
        if kept.all():
            return Part(replace(points, group=cells), part.scale)
        at = np.repeat(kept, points.sizes)
        moved = SortedPoints(
            cells[kept],
            None if points.size is None else points.size[kept],
            points.values[at],
            points.weights[at],
            points.centroid[kept],
        )
        return Part(moved, part.scale)

    def merge_same_labels(self) -> "Distributions":
        """Merge series with equal labels.

        Raises:
            EvaluationFailed: If two of them are present at the same step.
        """
        numbers: dict[object, int] = {}
        found = [
            numbers.setdefault(tuple(sorted(labels.items())), len(numbers))
            for labels in self.labels
        ]
        if len(numbers) == len(self):
            return self
        group = np.array(found)
        first = np.unique(group, return_index=True)[1]
        counts = np.zeros((len(numbers), self.steps), np.int64)
        np.add.at(counts, group, self.present)
        if counts.max(initial=0) > 1:
            raise EvaluationFailed("vector cannot contain metrics with the same labelset")
        return self._regrouped([self.labels[row] for row in first], self.drop[first], group)

    def drop_names(self, names: Collection[str]) -> "Distributions":
        labels = [
            {name: value for name, value in of_series.items() if name not in names}
            if drop
            else of_series
            for of_series, drop in zip(self.labels, self.drop.tolist(), strict=True)
        ]
        return replace(self, labels=labels)

    @classmethod
    def concatenate(cls, blocks: Sequence["Distributions"]) -> "Distributions":
        if len(blocks) == 1:
            return blocks[0]
        parts = []
        first = 0
        for block in blocks:
            for part in block.parts:
                moved = replace(part.points, group=part.points.group + first * block.steps)
                parts.append(Part(moved, part.scale))
            first += len(block)

        def join(column: Callable[[Distributions], Floats]) -> Floats:
            return np.concatenate([column(block) for block in blocks])

        return cls(
            [labels for block in blocks for labels in block.labels],
            np.concatenate([block.drop for block in blocks]),
            np.concatenate([block.present for block in blocks]),
            join(lambda block: block.count),
            join(lambda block: block.total),
            join(lambda block: block.m2),
            join(lambda block: block.low),
            join(lambda block: block.high),
            parts,
        )

    def quantiles(self, ranks: Floats) -> Floats:
        """Return the quantile of each cell, shape (series, steps); *ranks* has shape (steps,)."""
        result = np.full(self.present.shape, np.nan)
        valid = np.unique(ranks[(ranks >= 0) & (ranks <= 1)])
        low, high = self.low.reshape(-1), self.high.reshape(-1)
        parts = self._weighted()
        for rank in valid.tolist():
            found = percentiles(parts, low, high, np.array([rank])).reshape(result.shape)
            result = np.where(ranks == rank, found, result)
        result = np.where(ranks < 0, -np.inf, np.where(ranks > 1, np.inf, result))
        return np.where(self.count > 0, result, np.nan)

    def _weighted(self) -> list[SortedPoints]:
        """Return the points of all parts with weights on a common scale."""
        scales = {part.scale for part in self.parts}
        if len(scales) <= 1:
            return [part.points for part in self.parts]
        smallest = min((abs(scale) for scale in scales if scale), default=1.0)
        return [
            replace(
                part.points,
                weights=np.rint(
                    part.points.weights * (part.scale / smallest) * _WEIGHT_UNIT
                ).astype(np.int64),
            )
            for part in self.parts
        ]

    def fractions(self, lower: Floats, upper: Floats) -> Floats:
        """Return the share of observations between two bounds, each of shape (steps,)."""
        share = (self.cumulated(upper) - self.cumulated(lower)) / self.count
        share = np.where(lower >= upper, 0.0, np.maximum(share, 0.0))
        invalid = np.isnan(lower) | np.isnan(upper)
        return np.where((self.count > 0) & ~invalid, share, np.nan)

    def cumulated(self, bounds: Floats) -> Floats:
        """Return the number of observations up to *bounds*, shape (steps,), in each cell."""
        group, values, weights, centroid = self._sorted_points()
        cells = self.present.size
        limit = np.broadcast_to(bounds, self.present.shape).reshape(-1)
        size = np.bincount(group, minlength=cells)
        below = np.bincount(group, values <= limit[group], cells).astype(np.int64)
        ends = np.cumsum(weights)
        begin = np.cumsum(size) - size
        base = np.where(begin > 0, ends[np.maximum(begin - 1, 0)], 0.0) if len(ends) else 0.0
        mass = np.bincount(group, weights, cells)
        if not len(values):
            return np.zeros(self.present.shape)
        middle = ends - weights / 2
        left, right = np.where(centroid, middle, ends - weights), np.where(centroid, middle, ends)
        last = len(values) - 1
        before, after = np.clip(begin + below - 1, 0, last), np.clip(begin + below, 0, last)
        low, high = self.low.reshape(-1), self.high.reshape(-1)
        x0 = np.where(below > 0, values[before], low)
        y0 = np.where(below > 0, right[before] - base, 0.0)
        x1 = np.where(below < size, values[after], high)
        y1 = np.where(below < size, left[after] - base, mass)
        share = np.clip((limit - x0) / (x1 - x0), 0.0, 1.0)
        found = y0 + (y1 - y0) * np.where(x1 > x0, share, 1.0)
        found = np.where(limit >= high, mass, np.where(limit < low, 0.0, found))
        part = np.where(mass > 0, found / mass, 0.0).reshape(self.present.shape)
        return part * self.count

    def _sorted_points(self) -> tuple[Ints, Floats, Floats, Bools]:
        """Return cell, value, weight and is-centroid of all points, in order."""
        parts = self._weighted()
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.bool_)
        group = np.concatenate([np.repeat(part.group, part.sizes) for part in parts])
        values = np.concatenate([part.values for part in parts])
        weights = np.concatenate([part.weights for part in parts]).astype(np.float64)
        centroid = np.concatenate([np.repeat(part.centroid, part.sizes) for part in parts])
        order = np.lexsort((values, group))
        centroid &= weights > 1
        return group[order], values[order], weights[order], centroid[order]
