"""Rows for an archive: of one metric, level and partition, as columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from uuid import UUID

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.percentiles import SortedPoints, percentiles
from redismetrics.columnar.rollup_table import CLUSTERED, UNIFORM, Table
from redismetrics.columnar.summaries import Summaries
from redismetrics.model.validation import pack_tags

from .digest_bytes import pack_digests

# The levels of an archive, finest first: exact samples, then the resolutions of rollups.
LEVELS = ("raw", "minute", "hour", "day")

# The percentiles that have a column of their own.
RANKS = (0.5, 0.95, 0.99)


def storable_text(value: str) -> str:
    """Return *value* without the character 0, which PostgreSQL cannot store."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")


@dataclass(frozen=True, slots=True)
class SeriesOf:
    """The series of one metric.

    Attributes:
        tags: Tags of each series.
        ids: Permanent id of each series, the same in all archives.
    """

    namespace: str
    metric: str
    type: str
    tags: list[dict[str, str]]
    ids: list[UUID]


def series_of(
    namespace: str, metric: str, kind: str, tags: Mapping[int, dict[str, str]]
) -> SeriesOf:
    """Return the series with these *tags*, in their order."""
    head = f"{namespace}\0{metric}\0{kind}\0".encode()
    ids = [
        UUID(bytes=blake2b(head + pack_tags(each), digest_size=16).digest())
        for each in tags.values()
    ]
    return SeriesOf(namespace, metric, kind, list(tags.values()), ids)


@dataclass(frozen=True, slots=True, eq=False)
class RollupRows:
    """Rows of whole slots; columns have shape (n,).

    Attributes:
        of: Their series.
        series: Position in *of*.
        slot: Start of the slot, in ms.
        percentiles: Of `RANKS`, shape (n, 3).
        digests: Their digests, see digest_bytes.py.
    """

    of: SeriesOf
    series: Ints
    slot: Ints
    summaries: Summaries
    percentiles: Floats
    digests: list[bytes]

    def __len__(self) -> int:
        return len(self.slot)


@dataclass(frozen=True, slots=True, eq=False)
class RawRows:
    """Exact samples; columns have shape (n,).

    Attributes:
        of: Their series.
        series: Position in *of*.
        slot: Start of the minute, in ms.
        number: Position among the samples of the same series and minute.
        time: Time of the sample, in ms.
        weight: Number of equal samples.
        metadata: JSON text by row.
        replaced: Series and minutes whose archived samples these rows replace. A minute that has no
            rows here has samples that are not stored one by one.
    """

    of: SeriesOf
    series: Ints
    slot: Ints
    number: Ints
    time: Ints
    value: Floats
    weight: Ints
    metadata: Mapping[int, bytes] = field(default_factory=dict)
    replaced: tuple[Ints, Ints] = field(
        default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, np.int64))
    )

    def __len__(self) -> int:
        return len(self.slot)


def rollup_rows(of: SeriesOf, table: Table) -> RollupRows:
    """Return the rows of *table*, whose series are positions in *of*."""
    rows = np.arange(len(table))
    uniform = np.flatnonzero(table.kind == UNIFORM)
    low, count = table.summaries.low, table.summaries.count
    points = table.points
    parts = [
        SortedPoints(rows, table.size, points.values, points.weights, table.kind == CLUSTERED),
        SortedPoints(uniform, None, low[uniform], count[uniform], np.zeros(len(uniform), np.bool_)),
    ]
    found = percentiles(parts, low, table.summaries.high, np.array(RANKS))
    return RollupRows(of, table.series, table.slot, table.summaries, found, pack_digests(table))


def fingerprints(table: Table) -> dict[int, int]:
    """Return a number for each slot of *table* that changes whenever one of its rows does.

    Numbers of tables with different series can be added, modulo 2**63.
    """
    columns = table.summaries
    order = np.argsort(table.slot, kind="stable")
    slots = table.slot[order]
    stacked = [
        np.ascontiguousarray(column[order])
        for column in (
            table.series,
            columns.count,
            columns.total,
            columns.m2,
            columns.low,
            columns.high,
            columns.last,
            columns.last_ms,
        )
    ]
    edges = [*np.flatnonzero(np.diff(slots, prepend=-1)).tolist(), len(slots)]
    found = {}
    for begin, end in pairwise(edges):
        digest = blake2b(digest_size=8)
        for column in stacked:
            digest.update(column[begin:end].tobytes())
        found[int(slots[begin])] = int.from_bytes(digest.digest(), "big") >> 1
    return found
