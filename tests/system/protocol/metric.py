"""The stored data of one metric, and beside it what is expected: what a page may show."""

from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.system.protocol.totals import (
    FIELD,
    Base,
    Change,
    Exemplar,
    Row,
    TotalsRead,
    Values,
    sums,
)

# A count and a token.
Version = tuple[int, float]


class Definition(NamedTuple):
    """The definition of a metric.

    Attributes:
        created: Represents what is fixed by the creation: type, unit and buckets.
        options: What a process has set as a whole.
        newer: A field that only the newest version knows.
    """

    created: int
    options: tuple[tuple[str, int], ...] = ()
    newer: int = 0


class Moment(NamedTuple):
    """The right totals at one moment, and the series that were removed to get there.

    *values* are those of processes, by tags and writer, whether these are gone or not; of a live
    merge mode, without those that have ended.
    """

    rows: dict[str, Row]
    removed: frozenset[str] = frozenset()
    # Never changed in place.
    values: dict[tuple[str, str], Row] = {}  # noqa: RUF012

    def page(self, time: int, live: bool) -> dict[str, Row]:
        return {**self.rows, **sums(self.values, time, live)}


@dataclass
class Metric:
    """The data of one metric. Stored values are never changed in place, so copies are shallow.

    The first five outlive the deletion of the metric. *moments*, *recreated*, *newest* and
    *declared* are the expected results. They are here so that a failover loses them together with
    the data.

    Attributes:
        first: Number of the oldest change that waits. Changes are numbered because they are fields
            of the hash that holds the base.
        last: Clock of the last batch, in the state that record.lua writes.
        values: Of a metric with a value per process.
        recreated: Tags whose series was removed once, so that its total began again.
    """

    version: Version = (0, 0.0)
    next_series: int = 0
    epoch: int = 0
    first: int = 0
    moments: list[Moment] = field(default_factory=lambda: [Moment({})])
    last: int = 0
    series: dict[str, int] = field(default_factory=dict)
    base: Base = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    values: Values = field(default_factory=dict)
    exemplars: dict[tuple[int, int], Exemplar] = field(default_factory=dict)
    definition: Definition | None = None
    recreated: frozenset[str] = frozenset()
    newest: dict[tuple[str, int], Exemplar] = field(default_factory=dict)
    declared: Definition | None = None

    def copy(self) -> "Metric":
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list):
                setattr(twin, name, value.copy())
        return twin

    def read(self) -> TotalsRead:
        return TotalsRead(
            dict(self.base),
            self.first,
            self.changes,
            dict(self.series),
            dict(self.values),
            dict(self.exemplars),
        )

    def fold(self, fields: Base, count: int) -> None:
        """Put *fields* in place, and take off the oldest *count* changes."""
        self.base.update(fields)
        self.first += count
        self.changes = self.changes[count:]

    def remove(self, gone: dict[str, int]) -> None:
        """Remove series with their rows; changes that name them stay, and readers skip them."""
        ids = frozenset(gone.values())
        for tags, series in gone.items():
            del self.series[tags]
            inside = self.base.get(series // FIELD, {})
            self.base[series // FIELD] = {
                other: row for other, row in inside.items() if other != series
            }
        self.values = {key: row for key, row in self.values.items() if key[0] not in ids}
        self.exemplars = {key: found for key, found in self.exemplars.items() if key[0] not in ids}
        before = self.moments[-1]
        rows = {tags: row for tags, row in before.rows.items() if tags not in gone}
        values = {key: row for key, row in before.values.items() if key[0] not in gone}
        self.moments.append(Moment(rows, frozenset(gone), values))
        self.recreated |= set(gone)
        self.newest = {key: found for key, found in self.newest.items() if key[0] not in gone}

    def emptied(self, next_series: int, epoch: int) -> "Metric":
        """Return what is left after the metric is deleted."""
        left = Metric(self.version, next_series, epoch, self.first + len(self.changes))
        left.moments = [*self.moments, Moment({}, frozenset(self.series))]
        left.recreated = self.recreated | self.series.keys()
        return left
