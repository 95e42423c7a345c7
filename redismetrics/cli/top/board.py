"""The rows that `top` shows, and their rates. No I/O: the time is an argument."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from redismetrics.model.sample import Summary

# A rate is the mean over this many seconds.
RATE_SECONDS = 10.0
TREND_MINUTES = 20

# Seconds after its end until an interval without a summary counts as empty.
_SUMMARY_DELAY = 1.5


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric.

    *rate* is per second: the rate of the sum for counters, of the number of samples for other
    types. *trend* has one value per minute, oldest first: a counter's rate, a gauge's last value,
    or a histogram's p95.
    """

    name: str
    type: str
    series: int
    rate: float | None = None
    last: float | None = None
    p95: float | None = None
    trend: tuple[float | None, ...] = ()


@dataclass(slots=True)
class _Recent:
    """What the stream delivered for one metric: amounts by interval, and the newest value."""

    amounts: "deque[tuple[int, float]]" = field(default_factory=deque)
    until: float = 0.0
    last: float | None = None


class Board:
    """The current rows of all metrics.

    They are built from the catalogue, query results, and the stream's summaries of each interval of
    *every* seconds.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self._rows: dict[str, MetricRow] = {}
        self._recent: dict[str, _Recent] = {}
        # The interval in which the subscription began, which was only partly received.
        self._first: int | None = None
        self._newest = 0
        self._newest_at = 0.0

    def set_catalog(self, metrics: Iterable[Mapping[str, Any]]) -> None:
        """Take names, types and numbers of series from the result of `list_metrics`."""
        before = self._rows
        self._rows = {}
        for metric in metrics:
            known = before.get(metric["name"], MetricRow(metric["name"], metric["type"], 0))
            self._rows[metric["name"]] = replace(
                known, type=metric["type"], series=metric["series"]
            )
        self._recent = {
            name: recent
            for name, recent in self._recent.items()
            if name in self._rows or name not in before
        }

    def set_row(self, row: MetricRow) -> None:
        """Replace the row of one metric, unless the metric was deleted."""
        if row.name in self._rows:
            self._rows[row.name] = row

    def add_summary(self, summary: Summary, now: float) -> None:
        """Add a summary that arrived at *now*, in seconds by any monotonic clock."""
        interval = round(summary.until.timestamp() / self.every)
        if self._first is None:
            self._first = interval
        if interval > self._newest:
            self._newest, self._newest_at = interval, now
        recent = self._recent.setdefault(summary.name, _Recent())
        amount = summary.sum if summary.type == "counter" else float(summary.count)
        recent.amounts.append((interval, amount))
        while recent.amounts[0][0] <= self._newest - self._intervals:
            recent.amounts.popleft()
        if summary.until.timestamp() >= recent.until:
            recent.until, recent.last = summary.until.timestamp(), summary.last

    @property
    def _intervals(self) -> int:
        return max(math.ceil(RATE_SECONDS / self.every), 1)

    def rows(self, now: float) -> list[MetricRow]:
        """Return all rows at *now*, by the clock of `add_summary`."""
        newest = self._newest + int(max(now - self._newest_at - _SUMMARY_DELAY, 0) / self.every)
        complete = 0 if self._first is None else min(newest - self._first, self._intervals)
        return [self._with_recent(row, newest, complete) for row in self._rows.values()]

    def _with_recent(self, row: MetricRow, newest: int, complete: int) -> MetricRow:
        """Return *row* with the newest value, and the rate of the last *complete* intervals."""
        recent = self._recent.get(row.name)
        last = row.last if recent is None or recent.last is None else recent.last
        rate = row.rate
        if complete > 0:
            amounts = () if recent is None else recent.amounts
            total = math.fsum(amount for at, amount in amounts if at > newest - complete)
            rate = total / (complete * self.every)
        return replace(row, rate=rate, last=last)
