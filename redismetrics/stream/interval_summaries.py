"""Summaries of each series per interval, for subscriptions with `every`."""

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.block_codec import Block
from redismetrics.columnar.samples import summarise
from redismetrics.columnar.summaries import Summaries
from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.sample import Summary
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType

# The shortest interval, in seconds.
MIN_INTERVAL = 0.1

# Rows of one metric to collect before they are merged to one row per series, which bounds the
# memory of a long interval.
MAX_ROWS = 50_000


# Numbers of metrics, and of rows of one metric, whose summaries take longer than about 2 ms.
_MANY_METRICS, _MANY_ROWS = 50, 500


@dataclass(slots=True)
class _MetricRows:
    """The rows of one metric in the current interval; a series is an index into *tags*."""

    tags: list[dict[str, str]] = field(default_factory=list)
    index: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    parts: list[tuple[Ints, Summaries]] = field(default_factory=list)
    count: int = 0

    def merged(self) -> Summaries:
        return summaries.merge_all(self.parts, len(self.tags))


class IntervalSummaries:
    """Collects blocks, and makes a `Summary` of each series for every interval of *every* seconds.

    If *by* is ``name``, it makes one per metric, over all its series, without tags. Intervals are
    aligned to the Unix epoch. Times are by the server's clock, in milliseconds.
    """

    def __init__(self, every: float, by: str = "series") -> None:
        self._by_name = check_by(by) == "name"
        self._width_ms = round(check_interval(every) * 1000)
        self._since_ms = 0
        self._metrics: dict[tuple[str, MetricType], _MetricRows] = {}

    def start(self, now_ms: int) -> None:
        self._since_ms = now_ms

    @property
    def due_ms(self) -> int:
        """The end of the current interval."""
        return (self._since_ms // self._width_ms + 1) * self._width_ms

    @property
    def is_large(self) -> bool:
        """Whether ending the current interval would block an event loop."""
        return len(self._metrics) > _MANY_METRICS or any(
            metric.count > _MANY_ROWS for metric in self._metrics.values()
        )

    def add(
        self, name: str, kind: MetricType, block: Block, tags: list[dict[str, str] | None]
    ) -> None:
        """Add the samples of a block. Series whose *tags* are None are left out."""
        metric = self._metrics.setdefault((name, kind), _MetricRows())
        numbers = np.full(len(tags), -1)
        for at, of_series in enumerate(tags):
            if of_series is not None:
                of_row = {} if self._by_name else of_series
                numbers[at] = metric.index.setdefault(tuple(of_row.items()), len(metric.tags))
                if numbers[at] == len(metric.tags):
                    metric.tags.append(of_row)
        series, rows = summarise(block.samples.of_series(numbers))
        metric.parts.append((series, rows))
        metric.count += len(rows)
        if metric.count > MAX_ROWS:
            metric.parts = [(np.arange(len(metric.tags)), metric.merged())]
            metric.count = len(metric.tags)

    def end_interval(self, now_ms: float) -> list[Summary]:
        """Return the summaries of the past interval, and begin the interval of *now_ms*."""
        since = to_datetime(self._since_ms)
        self._since_ms = int(now_ms) // self._width_ms * self._width_ms
        until = to_datetime(self._since_ms)
        metrics, self._metrics = self._metrics, {}
        result = []
        for (name, kind), metric in sorted(metrics.items()):
            rows = metric.merged()
            columns = (rows.count, rows.total, rows.low, rows.high, rows.last)
            values = zip(*(column.tolist() for column in columns), strict=True)
            result += [
                Summary(name, kind, tags, since, until, *of_series)
                for tags, of_series in zip(metric.tags, values, strict=True)
            ]
        return result


def check_by(by: Any) -> str:
    """Return *by*, or raise `InvalidQuery`."""
    if by not in ("series", "name"):
        raise InvalidQuery(f"by must be series or name, got {shown(by, 80)}")
    return str(by)


def check_interval(every: Any) -> float:
    """Return *every* in seconds, or raise `InvalidQuery`."""
    is_number = isinstance(every, int | float) and not isinstance(every, bool)
    if not is_number or not MIN_INTERVAL <= every <= sys.float_info.max:
        raise InvalidQuery(f"every must be at least {MIN_INTERVAL:g} seconds, got {shown(every)}")
    return float(every)
