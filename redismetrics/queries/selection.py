"""What a fetch returns: rows and points of the selected series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar import rollup_table
from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.columnar.percentiles import SortedPoints
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Table
from redismetrics.columnar.samples import CENTROID, Samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.model.definition import Definition
from redismetrics.model.time import OPEN_SINCE


@dataclass(slots=True, eq=False)
class Points:
    """Weighted points of many series, columns of shape (n,): for percentiles and for lists of samples.

    *exact* are samples as recorded, with their times; the others stand for several, or for what is known of a whole slot.
    """

    series: Ints
    time: Ints
    value: Floats
    weight: Ints
    centroid: Bools
    exact: Bools
    metadata: dict[int, bytes]


@dataclass(slots=True, eq=False)
class Rows:
    """Summaries of some series: *time* is the ms by which each falls into an interval. Columns of shape (n,), n > 0."""

    series: Ints
    time: Ints
    summaries: Summaries


@dataclass(slots=True, eq=False)
class SeriesData:
    """What answers a question; a series is a position in *tags*.

    *parts* count every sample once, exactly, those of one series in order of arrival.
    """

    definition: Definition
    tags: list[dict[str, str]]
    since_ms: int
    until_ms: int
    now_ms: int
    parts: list[Rows]
    _rolled: list[Table]
    _samples: Samples

    def __len__(self) -> int:
        return sum(len(rows.series) for rows in self.parts)

    @property
    def seconds(self) -> float:
        """How long the window is; one that is open begins at the first sample, or ends now."""
        since, until = self.since_ms, min(self.until_ms, self.now_ms + 1)
        if since == OPEN_SINCE and len(self):
            since = min(int(rows.time.min()) for rows in self.parts)
        return max(until - since, 1) / 1000

    def points(self) -> Points:
        """Every sample, those of rollups by the points of their digests; in order of arrival."""
        rolled, samples = rollup_table.concat(self._rolled), self._samples
        rows, values, weights = rolled.spread()
        centroid = (rolled.kind[rows] == CLUSTERED) & (weights > 1)
        compacted = _compacted(samples)
        return Points(
            np.concatenate([rolled.series[rows], samples.series]),
            np.concatenate([rolled.slot[rows], samples.time]),
            np.concatenate([values, samples.value]),
            np.concatenate([weights, samples.weight]),
            np.concatenate([centroid, compacted]),
            np.concatenate([np.zeros(len(rows), np.bool_), ~compacted]),
            {row + len(rows): text for row, text in samples.metadata.items()},
        )

    def runs(
        self, groups: Sequence[Ints], group_of: Callable[[Ints, Ints], Ints]
    ) -> list[SortedPoints]:
        """All points, for percentiles.

        *groups* are those of the summaries of each part, *group_of* tells them from columns of series and time.
        """
        samples = self._samples
        found = [
            SortedPoints(
                group_of(samples.series, samples.time),
                None,
                samples.value,
                samples.weight,
                _compacted(samples),
            )
        ]
        for group, rows in zip(
            groups, self._rolled, strict=False
        ):  # the parts of the log come after those
            found.append(
                SortedPoints(
                    group,
                    rows.size,
                    rows.points.values,
                    rows.points.weights,
                    rows.kind == CLUSTERED,
                )
            )
            alone = np.flatnonzero(rows.kind == UNIFORM)
            if len(alone):
                summaries = rows.summaries
                equal = np.zeros(len(alone), np.bool_)
                found.append(
                    SortedPoints(
                        group[alone], None, summaries.low[alone], summaries.count[alone], equal
                    )
                )
        return found


def _compacted(samples: Samples) -> Bools:
    compacted: Bools = ((samples.flags & CENTROID) != 0) & (samples.weight > 1)
    return compacted
