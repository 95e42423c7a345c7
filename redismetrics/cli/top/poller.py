"""The queries of `top`, in their own thread, so that keys respond even if Redis is slow."""

import logging
import math
import threading
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidQuery, RedisMetricsError, StoreError, one_line
from redismetrics.model.sample import Gap
from redismetrics.model.time import monotonic

from .board import TREND_MINUTES, Board, MetricRow

log = logging.getLogger("redismetrics")

# The window of p95, and of the rate until the stream delivers one.
RECENT = "5m"

# Seconds after which a metric is queried again: on the screen, and elsewhere.
_VISIBLE_AGE, _HIDDEN_AGE = 10.0, 60.0

# Seconds to wait for the stream, and after an error.
_PAUSE = 0.25

# After a query, wait this many times its duration before the next one: queries then take a quarter
# of the time.
_QUERY_SHARE = 3


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether *name* matches one of these names and patterns. Without any, all names do."""
    globs = [pattern.replace("[^", "[!") for pattern in patterns]
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def list_matching(metrics: Metrics, patterns: Iterable[str]) -> list[dict[str, Any]]:
    return [metric for metric in metrics.list_metrics() if matches(metric["name"], patterns)]


def query_row(metrics: Metrics, row: MetricRow) -> MetricRow:
    """Return *row* with rate, last value, p95 and trend from queries."""
    has_p95 = row.type in ("histogram", "summary")
    trend_of = "rate" if row.type == "counter" else "p95" if has_p95 else "last"
    aggregations = ("rate", "last", "p95") if has_p95 else ("rate", "last")
    recent = metrics.rollup(row.name, aggregations=aggregations, window=RECENT).get("", {})
    minutes = metrics.time_series(
        row.name, interval="minute", aggregation=trend_of, window=f"{TREND_MINUTES - 1}m", fill=True
    )
    trend = tuple(minute[trend_of] for minute in minutes[-TREND_MINUTES:])
    last = recent.get("last")
    if last is None and row.last is None:
        last = metrics.query(row.name, aggregation="last", window="last_24h")
    return replace(
        row,
        rate=recent.get("rate", 0.0),
        last=row.last if last is None else last,
        p95=recent.get("p95"),
        trend=trend,
    )


class Poller:
    """Keeps a board up to date until it is closed.

    *visible* holds the names on the screen, which are queried more often. *error* is the current
    failure, if any: everything is retried. *ready* is true once the catalogue has been read.

    Raises:
        InvalidQuery: If a name or pattern is invalid.
        StoreError: If the subscription fails.
    """

    def __init__(self, metrics: Metrics, patterns: list[str], every: float) -> None:
        self.visible: frozenset[str] = frozenset()
        self.error: str | None = None
        self.ready = False
        self._metrics = metrics
        self._patterns = patterns
        self._board = Board(every)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._queried_at: dict[str, float] = {}
        self._next_list = self._next_query = 0.0
        self._stream = metrics.subscribe(patterns or None, every=every, by="name")
        self._thread = threading.Thread(target=self._run, name="redismetrics-top", daemon=True)
        self._thread.start()

    def rows(self) -> list[MetricRow]:
        with self._lock:
            return self._board.rows(monotonic())

    def close(self) -> None:
        """Stop the thread, without waiting long if Redis does not answer."""
        self._ended.set()
        self._stream.close()
        self._thread.join(_PAUSE)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._read_stream()
                self._list_metrics()
                self._query_metrics()
            except RedisMetricsError as error:
                self._fail(one_line(error))
            except Exception as error:
                log.debug("BUG: top cannot continue", exc_info=True)
                self._fail(f"BUG: {error!r}")

    def _fail(self, text: str) -> None:
        if not self._ended.is_set():
            self.error = text
            self._next_list = 0.0
            self._ended.wait(_PAUSE)

    def _read_stream(self) -> None:
        item = self._stream.get(_PAUSE)
        while item is not None:
            if not isinstance(item, Gap):
                with self._lock:
                    self._board.add_summary(item, monotonic())
            item = self._stream.get(0)

    def _list_metrics(self) -> None:
        began = monotonic()
        if began < self._next_list:
            return
        found = list_matching(self._metrics, self._patterns)
        with self._lock:
            self._board.set_catalog(found)
        self.ready, self.error = True, None
        self._next_list = monotonic() + max(1.0, 3 * _QUERY_SHARE * (monotonic() - began))

    def _query_metrics(self) -> None:
        """Query the metrics that are due, but only briefly, so that the stream is read too."""
        began = monotonic()
        if began < self._next_query:
            return
        with self._lock:
            rows = {row.name: row for row in self._board.rows(began)}
        self._queried_at = {name: at for name, at in self._queried_at.items() if name in rows}
        for name in self._due(rows, began):
            self._queried_at[name] = began
            try:
                row = query_row(self._metrics, rows[name])
            except StoreError:
                del self._queried_at[name]
                raise
            # Nothing of these minutes is stored.
            except InvalidQuery:
                continue
            with self._lock:
                self._board.set_row(row)
            if self._ended.is_set() or monotonic() - began > _PAUSE:
                break
        self._next_query = monotonic() + _QUERY_SHARE * (monotonic() - began)

    def _due(self, names: Iterable[str], now: float) -> list[str]:
        """Return the metrics to query now: those on the screen first, then the oldest."""
        visible = self.visible

        def order(name: str) -> tuple[bool, float]:
            return name not in visible, self._queried_at.get(name, -math.inf)

        def is_due(name: str) -> bool:
            age = _VISIBLE_AGE if name in visible else _HIDDEN_AGE
            return self._queried_at.get(name, -math.inf) + age <= now

        return sorted(filter(is_due, names), key=order)
