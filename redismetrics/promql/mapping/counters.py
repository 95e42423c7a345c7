"""Running totals, increases and rates of counters: exact, without extrapolation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats
from redismetrics.promql.source import ComputedSeries, Labels, SampledSeries, Selector
from redismetrics.queries.slots import SeriesSlots

from .increments import IncrementRows, Placement, increments, is_known, place
from .reads import CHANGES, MappingOptions, window_edges
from .samples import running_points


@dataclass(slots=True, eq=False)
class CounterMath:
    """Shared by all counters of one metric: rows, their cells, and when series were present."""

    selector: Selector
    slots: SeriesSlots
    rows: list[IncrementRows]
    options: MappingOptions
    _placed: Placement | None = None

    @classmethod
    def of(cls, selector: Selector, slots: SeriesSlots, options: MappingOptions) -> "CounterMath":
        return cls(selector, slots, increments(slots), options)

    @property
    def placed(self) -> Placement:
        if self._placed is None:
            edges = window_edges(self.selector)
            self._placed = place(self.rows, len(self.slots.series), edges)
        return self._placed

    def values(
        self, labels: list[Labels], amounts: Sequence[Floats], current: Floats
    ) -> ComputedSeries | SampledSeries:
        """Return the answer for one counter of each series.

        Args:
            labels: The labels of each series.
            amounts: The amount added by each row, one column per part of the rows.
            current: The total of each series now, shape (series,); not used by increases.
        """
        if not self.selector.range:
            return ComputedSeries(labels, self._running(amounts, current), self._is_there(True))
        if self.selector.function in CHANGES:
            return ComputedSeries(labels, self._changes(amounts), self._is_there(False))
        return running_points(labels, self.rows, amounts, current)

    def _running(self, amounts: Sequence[Floats], current: Floats) -> Floats:
        recorded = self.placed.cumulated(amounts)
        at = self.placed.at(self.selector.times)
        after = recorded[:, -1:] - recorded[:, at]
        return np.maximum(current[:, None] - after, 0.0)

    def _changes(self, amounts: Sequence[Floats]) -> Floats:
        recorded, times = self.placed.cumulated(amounts), self.selector.times
        before, until = self.placed.at(times - self.selector.range), self.placed.at(times)
        found: Floats = recorded[:, until] - recorded[:, before]
        if self.selector.function == "rate":
            found /= self.selector.range / 1000
        return found

    def _is_there(self, with_totals: bool) -> Bools:
        times = self.selector.times
        horizon = max(self.selector.range, self.options.idle_ms)
        latest = self.placed.latest[:, self.placed.at(times)]
        found = is_known(latest, times, horizon)
        if with_totals and len(self.slots.owners):
            seen = np.full(len(self.slots.series), -1.0)
            np.maximum.at(seen, self.slots.owners, self.slots.totals[:, 0])
            # Data that is no longer readable, or was lost, is still in the total.
            found |= (seen[:, None] <= times) & (seen[:, None] >= times - horizon)
        return found


def current_totals(slots: SeriesSlots, columns: slice) -> Floats:
    """Return the sum of these columns of the totals of each series, shape (series,)."""
    if not len(slots.owners):
        return np.zeros(len(slots.series))
    values = slots.totals[:, columns].sum(axis=1)
    return np.bincount(slots.owners, values, len(slots.series)).astype(np.float64)
