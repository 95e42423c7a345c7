"""What `top` asks the store, in a thread of its own, so that keys answer at once whatever the store does."""

import logging
import math
import threading
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from time import monotonic
from typing import Any

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidQuery, RedisMetricsError, StoreError
from redismetrics.model.sample import Gap

from .board import TREND_MINUTES, Board, Line

log = logging.getLogger("redismetrics")

RECENT = "5m"  # of p95, and of the rate until the stream tells it
_SHOWN_AGE, _OTHER_AGE = 10.0, 60.0  # seconds after which a metric is asked again
_BREATH = 0.25  # seconds: of waiting for the stream, and after a failure
_SHARE = 3  # what was asked took so long: wait so many times that before asking the next


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Is *name* among these names and patterns? None at all choose every name."""
    wanted = [pattern.replace("[^", "[!") for pattern in patterns]
    return not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)


def catalogue(metrics: Metrics, patterns: Iterable[str]) -> list[dict[str, Any]]:
    return [row for row in metrics.list_metrics() if matches(row["name"], patterns)]


def asked(metrics: Metrics, line: Line) -> Line:
    """*line* with its rate, last value, p95 and trend, as questions answer them."""
    of_type = {"counter": "rate", "gauge": "last"}.get(line.type, "p95")
    figures = ("rate", "last") if line.type != "histogram" else ("rate", "last", "p95")
    recent = metrics.rollup(line.name, aggregations=figures, window=RECENT).get("", {})
    rows = metrics.time_series(
        line.name, interval="minute", aggregation=of_type, window=f"{TREND_MINUTES - 1}m", fill=True
    )
    trend = tuple(row[of_type] for row in rows[-TREND_MINUTES:])
    last = recent.get("last")
    if last is None and line.last is None:
        last = metrics.query(line.name, aggregation="last", window="last_24h")
    return replace(
        line,
        rate=recent.get("rate", 0.0),
        last=line.last if last is None else last,
        p95=recent.get("p95"),
        trend=trend,
    )


class Watcher:
    """Keeps a board up to date until it is closed. *shown* names what is on the screen, and is asked more often.

    Raises:
        InvalidQuery: a name or pattern that is none.
        StoreError: the store can't be listened to; later failures are told by *trouble*, and mended by trying again.
    """

    def __init__(self, metrics: Metrics, patterns: list[str], every: float) -> None:
        self.shown: frozenset[str] = frozenset()
        self.trouble: str | None = None
        self.ready = False
        self._metrics = metrics
        self._patterns = patterns
        self._board = Board(every)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._asked_at: dict[str, float] = {}
        self._list_at = self._ask_at = 0.0
        self._stream = metrics.subscribe(patterns or None, every=every)
        self._thread = threading.Thread(target=self._run, name="redismetrics-top", daemon=True)
        self._thread.start()

    def lines(self) -> list[Line]:
        with self._lock:
            return self._board.lines(monotonic())

    def close(self) -> None:
        """End it, without waiting long for a store that does not answer."""
        self._ended.set()
        self._stream.close()
        self._thread.join(_BREATH)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen()
                self._list()
                self._ask()
            except RedisMetricsError as error:
                self._fail(str(error))
            except Exception as error:
                log.debug("BUG: top can't go on", exc_info=True)
                self._fail(f"BUG: {error!r}")

    def _fail(self, text: str) -> None:
        if not self._ended.is_set():
            self.trouble = " ".join(text.split())
            self._list_at = 0.0
            self._ended.wait(_BREATH)

    def _listen(self) -> None:
        item = self._stream.get(_BREATH)
        while item is not None:
            if not isinstance(item, Gap):
                with self._lock:
                    self._board.put_summary(item, monotonic())
            item = self._stream.get(0)

    def _list(self) -> None:
        began = monotonic()
        if began < self._list_at:
            return
        rows = catalogue(self._metrics, self._patterns)
        with self._lock:
            self._board.put_catalogue(rows)
        self.ready, self.trouble = True, None
        self._list_at = monotonic() + max(1.0, 3 * _SHARE * (monotonic() - began))

    def _ask(self) -> None:
        """Ask the metrics whose figures are old, those on the screen first; for so long at a time that the stream is read."""
        began = monotonic()
        if began < self._ask_at:
            return
        with self._lock:
            lines = {line.name: line for line in self._board.lines(began)}
        self._asked_at = {name: at for name, at in self._asked_at.items() if name in lines}
        for name in self._due(lines, began):
            self._asked_at[name] = began
            try:
                line = asked(self._metrics, lines[name])
            except StoreError:
                del self._asked_at[name]
                raise
            except InvalidQuery:  # nothing of these minutes is kept
                continue
            with self._lock:
                self._board.put_asked(line)
            if self._ended.is_set() or monotonic() - began > _BREATH:
                break
        self._ask_at = monotonic() + _SHARE * (monotonic() - began)

    def _due(self, names: Iterable[str], now: float) -> list[str]:
        """Those to be asked by now: on the screen before the others, and the oldest first."""
        shown = self.shown

        def order(name: str) -> tuple[bool, float]:
            return name not in shown, self._asked_at.get(name, -math.inf)

        def age(name: str) -> float:
            return _SHOWN_AGE if name in shown else _OTHER_AGE

        return sorted(
            (name for name in names if self._asked_at.get(name, -math.inf) + age(name) <= now),
            key=order,
        )
