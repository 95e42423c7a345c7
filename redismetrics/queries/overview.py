"""An overview of many metrics: a summary of each over a window, and its trend by interval.

Many metrics are read in the same round trips, which is much cheaper than one query per metric.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.errors import OutsideRetention
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND
from redismetrics.store.driver import Operation, gather
from redismetrics.store.unreadable import read_readable

from .aggregate import Row, aggregate
from .catalog import list_metrics
from .context import QueryContext
from .fetch import fetch
from .plan import check_interval
from .query import Query
from .selection import SeriesData

# Intervals of a trend if none is given: about as many points as a small chart has room for.
TREND_POINTS = 60
_INTERVALS = (
    *(minutes * MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * HOUR for hours in (1, 2, 6, 12)),
    *(days * DAY for days in (1, 2, 7, 14)),
)
# Metrics read at the same time, which bounds the memory of their rows.
_AT_ONCE = 50
_DIGITS = ".6g"
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class OverviewQuery:
    """The contents of an overview.

    Attributes:
        since_ms: Start of the window.
        until_ms: End of the window, exclusive.
        now_ms: The current time: no interval of a trend ends later.
        interval_ms: The interval of the trends; None chooses one that suits the window.
        names: Only metrics whose name matches one of these patterns; empty means all.
        after: Only metrics after this name, for paging through a long list.
        types: Only metrics of these types; empty means all.
        tags: Only series with these tags, as for `Query`.
        limit: Maximum number of metrics.
        max_series: Maximum number of series to read; for metrics beyond it, only names are
            returned.
    """

    since_ms: int
    until_ms: int
    now_ms: int
    interval_ms: int | None = None
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    tags: Mapping[str, str | None] | None = None
    limit: int = 1000
    max_series: int = 20_000
    after: str = ""

    def choose(self, metrics: list[Row]) -> list[Row]:
        """Return the metrics from `list_metrics` that have one of the names and types."""
        names = {name for name in self.names if not _WILDCARDS.intersection(name)}
        patterns = [name for name in self.names if name not in names]
        return [
            metric
            for metric in metrics
            if metric["name"] > self.after
            and (not self.types or metric["type"] in self.types)
            and (
                not self.names
                or metric["name"] in names
                or any(fnmatchcase(metric["name"], pattern) for pattern in patterns)
            )
        ]


@dataclass(frozen=True, slots=True)
class _Trend:
    """The whole intervals of a window: *count* intervals of *width* ms, from number *first* on."""

    width: int
    first: int
    count: int

    @property
    def times(self) -> list[int]:
        """The start of each interval, in Unix seconds."""
        return [(self.first + at) * self.width // SECOND for at in range(self.count)]

    def cells(self, time: Ints) -> Ints:
        """Return the interval of each time in ms; times outside share one after the last."""
        cells: Ints = time // self.width - self.first
        return np.where((cells >= 0) & (cells < self.count), cells, self.count)


def overview(context: QueryContext, query: OverviewQuery) -> Operation[dict[str, Any]]:
    """Return a summary of each metric over the window, with its trend.

    The result has `times` (Unix seconds) and `interval` (seconds) of the trends, `samples` (per
    second, over all metrics, by interval), `metrics`, sorted by name, and `left_off`, the number of
    metrics beyond the limit. Each metric has, in addition to the fields of `list_metrics`:

        rate, last, p95     over the window; p95 only of a histogram or summary
        value, previous     its main figure (rate of a counter, p95 of a histogram or summary,
                            otherwise the mean) over the window, and over the one before it
        trend               rate, p95 or last by interval; None where nothing was recorded
        low                 the median by interval of a histogram or summary

    Metrics without any series with the tags are left out.
    """
    config = yield from context.namespace.config()
    trend = _trend(query, config.retention)
    metrics = query.choose((yield from list_metrics(context)))
    shown = metrics[: query.limit]
    budget, read = query.max_series, []
    for row in shown:
        budget -= row["series"]
        if budget >= 0:
            read.append(row)
    by_name = {row["name"]: row for row in read}

    def read_some(names: list[str]) -> Operation[list[tuple[str, _Read]]]:
        found = yield from gather([_read(context, query, by_name[name], trend) for name in names])
        return list(zip(names, found, strict=True))

    figures: dict[str, _Read] = {}
    names = list(by_name)
    for first in range(0, len(names), _AT_ONCE):
        figures.update((yield from read_readable(names[first : first + _AT_ONCE], read_some)))
    samples = np.zeros(trend.count)
    rows = []
    for row in shown:
        found = figures.get(row["name"])
        if found is None:
            # Beyond the limit of series, or unreadable.
            rows.append({**row, **_no_figures(row, trend)})
        elif found.series or not query.tags:
            rows.append({**row, "series": found.series, **found.figures})
            samples += found.samples
    return {
        "times": trend.times,
        "interval": trend.width // SECOND,
        "samples": [_rounded(each / trend.width * SECOND) for each in samples.tolist()],
        "metrics": rows,
        "left_off": len(metrics) - len(shown),
        "next": shown[-1]["name"] if len(metrics) > len(shown) else None,
    }


def _trend(query: OverviewQuery, retention: RetentionPolicy) -> _Trend:
    """Return the intervals of the trends: wide enough to be still stored for the whole window."""
    if query.interval_ms is not None:
        return _whole_intervals(query, query.interval_ms)
    trends = [_whole_intervals(query, width) for width in _INTERVALS]
    fitting = (
        each
        for each in trends
        if each.count <= TREND_POINTS and _is_stored(each.width, query, retention)
    )
    return next(fitting, trends[-1])


def _whole_intervals(query: OverviewQuery, width: int) -> _Trend:
    first = -(-query.since_ms // width)
    end = min(query.until_ms, query.now_ms) // width
    return _Trend(width, first, max(end - first, 0))


def _is_stored(interval_ms: int, query: OverviewQuery, retention: RetentionPolicy) -> bool:
    try:
        check_interval(interval_ms, query.since_ms, retention, query.now_ms)
    except OutsideRetention:
        return False
    return True


@dataclass(slots=True, eq=False)
class _Read:
    """The data of one metric: the number of series with the tags, figures, samples by interval."""

    series: int
    figures: Row
    samples: Any


def _read(context: QueryContext, query: OverviewQuery, row: Row, trend: _Trend) -> Operation[_Read]:
    name, main = row["name"], _main(row["type"])
    before = Query(
        name,
        aggregation=main,
        window=((2 * query.since_ms - query.until_ms) / 1000, query.since_ms / 1000),
        tags=query.tags,
    )
    window = query.since_ms / 1000, query.until_ms / 1000
    by_interval = Query(
        name,
        aggregation=main,
        window=window,
        tags=query.tags,
        interval=f"{trend.width // SECOND}s",
    )
    has_trend = trend.count > 0
    try:
        data, _ = yield from fetch(context, by_interval)
    except OutsideRetention:
        # A metric may be kept for a shorter time than the others.
        has_trend = False
        within = Query(name, aggregation=main, window=window, tags=query.tags)
        data, _ = yield from fetch(context, within)
    earlier, _ = yield from fetch(context, before)
    figures = _no_figures(row, trend)
    figures["previous"] = _whole(earlier, (main,)).get(main)
    samples = np.zeros(trend.count)
    if data is None or not len(data):
        return _Read(0 if data is None else len(data.tags), figures, samples)
    columns = _whole(data, ("rate", "last", main))
    figures.update(rate=columns["rate"], last=columns["last"], value=columns[main])
    if main == "p95":
        figures["p95"] = columns[main]
    if has_trend:
        samples = _add_trend(figures, data, trend, _of_trend(main))
    return _Read(len(data.tags), figures, samples)


def _add_trend(figures: Row, data: SeriesData, trend: _Trend, of: tuple[str, ...]) -> Any:
    """Add the trend to *figures*; return the number of samples in each interval."""
    found = aggregate(
        data,
        ("count", *of),
        lambda _, time: trend.cells(time),
        trend.count + 1,
        trend.width / SECOND,
    )
    counts = found["count"][:-1]
    for key, aggregation in zip(("trend", "low"), of, strict=False):
        values = zip(found[aggregation], counts, strict=False)
        figures[key] = [_rounded(value) if count else None for value, count in values]
    return np.array(counts)


def _whole(data: SeriesData | None, aggregations: tuple[str, ...]) -> Row:
    """Return aggregations over the whole window; empty if it has no samples."""
    if data is None or not len(data):
        return {}
    found = aggregate(
        data, aggregations, lambda series, _: np.zeros(len(series), np.int64), 1, data.seconds
    )
    return {name: _rounded(found[name][0]) for name in aggregations}


def _main(type: str) -> str:
    """Return the aggregation that best describes a metric of this type in one figure."""
    return {"counter": "rate", "histogram": "p95", "summary": "p95"}.get(type, "mean")


def _of_trend(main: str) -> tuple[str, ...]:
    """Return the aggregations of a trend and of its lower line, if it has one."""
    return {"mean": ("last",), "p95": ("p95", "p50")}.get(main, (main,))


def _no_figures(row: Row, trend: _Trend) -> Row:
    """Return the figures of a metric without samples in the window."""
    nothing = [None] * trend.count
    return {
        "rate": None,
        "last": None,
        "p95": None,
        "value": None,
        "previous": None,
        "trend": nothing,
        "low": nothing if _main(row["type"]) == "p95" else None,
    }


def _rounded(value: float | None) -> float | None:
    """Return a figure with six significant digits, as many as a chart can show."""
    return None if value is None else float(format(value, _DIGITS))
