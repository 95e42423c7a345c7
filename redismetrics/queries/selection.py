"""The result of a fetch: rows and points of the selected series, as columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from redismetrics.columnar import metadata_columns, rollup_table
from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.columnar.percentiles import SortedPoints
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Table
from redismetrics.columnar.samples import CENTROID, Samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.model.definition import Definition
from redismetrics.model.time import OPEN_SINCE


class Edges(NamedTuple):
    """A half-open window, and the server's clock when it was read. All in ms."""

    since_ms: int
    until_ms: int
    now_ms: int


@dataclass(slots=True, eq=False)
class SeriesPoints:
    """Weighted points of many series, columns of shape (n,), for percentiles and lists of samples.

    *exact* points are samples as recorded, with their times. The others represent several samples,
    or a whole slot.
    """

    series: Ints
    time: Ints
    value: Floats
    weight: Ints
    centroid: Bools
    exact: Bools
    metadata: Mapping[int, bytes]


@dataclass(slots=True, eq=False)
class Rows:
    """Summaries of some series, columns of shape (n,), n > 0.

    *time* (ms) determines the interval of a time series that a row belongs to.
    """

    series: Ints
    time: Ints
    summaries: Summaries


@dataclass(slots=True, eq=False)
class SeriesData:
    """The data of the selected series of one metric; a series is a position in *tags*.

    *parts* count every sample exactly once; samples of one series are in order of arrival.
    """

    definition: Definition
    tags: list[dict[str, str]]
    edges: Edges
    parts: list[Rows]
    _tables: list[Table]
    _samples: Samples

    def __len__(self) -> int:
        return sum(len(rows.series) for rows in self.parts)

    @property
    def seconds(self) -> float:
        """The length of the window. An open window begins at the first sample and ends now."""
        since, until = self.edges.since_ms, min(self.edges.until_ms, self.edges.now_ms + 1)
        if since == OPEN_SINCE and len(self):
            since = min(int(rows.time.min()) for rows in self.parts)
        return max(until - since, 1) / 1000

    def filled(self, width: int) -> tuple[int, int]:
        """Return the first interval of *width* ms that has rows, and the one after the last."""
        first = min(int(rows.time.min()) for rows in self.parts) // width
        return first, max(int(rows.time.max()) for rows in self.parts) // width + 1

    def points(self) -> SeriesPoints:
        """Return every sample, in order of arrival; rollups as the points of their digests."""
        table, samples = rollup_table.concat(self._tables), self._samples
        rows, values, weights = table.spread()
        is_centroid = (table.kind[rows] == CLUSTERED) & (weights > 1)
        compressed = _is_compressed(samples)
        return SeriesPoints(
            np.concatenate([table.series[rows], samples.series]),
            np.concatenate([table.slot[rows], samples.time]),
            np.concatenate([values, samples.value]),
            np.concatenate([weights, samples.weight]),
            np.concatenate([is_centroid, compressed]),
            np.concatenate([np.zeros(len(rows), np.bool_), ~compressed]),
            metadata_columns.joined([(len(rows), samples.metadata)]),
        )

    def sorted_points(
        self, groups: Sequence[Ints], group_of: Callable[[Ints, Ints], Ints]
    ) -> list[SortedPoints]:
        """Return all points, for percentiles.

        Args:
            groups: The group numbers of the rows of each part.
            group_of: Returns the group numbers for columns of series and time (ms).
        """
        samples = self._samples
        result = [
            SortedPoints(
                group_of(samples.series, samples.time),
                None,
                samples.value,
                samples.weight,
                _is_compressed(samples),
            )
        ]
        # The first parts come from the tables; the others are summaries of the samples.
        for group, table in zip(groups, self._tables, strict=False):
            points, is_clustered = table.points, table.kind == CLUSTERED
            result.append(
                SortedPoints(group, table.size, points.values, points.weights, is_clustered)
            )
            # A row of equal values has no separate points.
            uniform = np.flatnonzero(table.kind == UNIFORM)
            if len(uniform):
                values, counts = table.summaries.low[uniform], table.summaries.count[uniform]
                no_centroids = np.zeros(len(uniform), np.bool_)
                result.append(SortedPoints(group[uniform], None, values, counts, no_centroids))
        return result


def _is_compressed(samples: Samples) -> Bools:
    """Return which of *samples* are centroids of several samples."""
    compressed: Bools = ((samples.flags & CENTROID) != 0) & (samples.weight > 1)
    return compressed
