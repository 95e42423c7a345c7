"""What does it cost to archive 100,000 series each hour?

    python -m benchmarks archive [--quick]

A namespace with 100 metrics of 1,000 series each: 50 counters, 40 gauges with 12 samples an hour,
10 histograms with 120. A worker has built one hour. An archiver in a process of its own writes it,
to Parquet files, to PostgreSQL and to ClickHouse (those that are not installed are skipped): into
an empty archive, and to Parquet also as the 24th hour of a day whose other hours are there, since
files are replaced as a whole. Between two hours, a pass finds nothing to do. The figures are
seconds of CPU of the archiver's process, without those of the database, and its peak memory with
all that it has loaded. ClickHouse is its engine chDB behind a small HTTP server.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import redis

import redismetrics
from benchmarks.bench_query import peak
from benchmarks.children import Child
from benchmarks.common import (
    Options,
    Past,
    bound,
    main,
    make_due,
    metric_of,
    own_server,
    own_worker,
)
from benchmarks.rows import Row
from redismetrics.archive.archiver import Archiver
from redismetrics.archive.rows import RollupRows
from redismetrics.archive.target import Target, open_target
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store.connection import Store
from tests.fixtures import clickhouse
from tests.fixtures.postgres import programs, running_postgres

QUESTION = "What does it cost to archive 100,000 series each hour?"
NAMESPACE = "archive"
SERIES = 1_000
METRICS = {"counter": 50, "gauge": 40, "histogram": 10}
# Samples of each series in each of the minutes.
MINUTES = (1, 16, 31, 46)
EACH = {"counter": 1, "gauge": 3, "histogram": 30}


def record(url: str, metrics: dict[str, int], series: int) -> None:
    """Record the last hour of yesterday, and let a worker build it."""
    client = redis.Redis.from_url(url)
    day = slot_of(int(client.time()[0]) * 1000, 24 * HOUR)
    start, clock = day - HOUR, Past(0.0)
    with redismetrics.Metrics(
        url,
        namespace=NAMESPACE,
        flush_interval=3600,
        log_bytes=1 << 30,
        buffer_bytes=1 << 30,
        max_age=60 * 3600,
        clock=clock,
        socket_timeout=60,
    ) as recorder:
        names = [f"{kind}_{number}" for kind, many in metrics.items() for number in range(many)]
        for name in names:
            kind = name.partition("_")[0]
            calls = bound(recorder, kind, name, series)
            for minute in MINUTES:
                clock.now = start / 1000 + 60 * minute
                for nth in range(EACH[kind]):
                    for number, call in enumerate(calls):
                        call(*() if kind == "counter" else (number * 7919 * (nth + minute) % 1013,))
            recorder.flush(120)
    worker = own_worker(url, NAMESPACE)
    while worker.pass_once():
        pass
    store = Store(url, 60)
    for name in names:
        make_due(store.connect(retries=0), metric_of(NAMESPACE, name))
    worker.leave()
    client.close()


class EarlierHours:
    """A target that gets other hours of the day in place of the one that is archived."""

    def __init__(self, target: Target, hours: int) -> None:
        self._target, self._hours = target, hours
        self.id = "benchmark"

    @contextmanager
    def claim(self, namespace: str, group: int) -> Iterator["EarlierHours"]:
        with self._target.claim(namespace, group) as session:
            assert session is not None
            self.state, self.save, self.finish = session.state, session.save, session.finish
            self._session = session
            yield self

    def write(self, level: str, partition_ms: int, rows: RollupRows) -> None:
        for hour in range(1, self._hours):
            earlier = replace(rows, slot=rows.slot - hour * HOUR)
            self._session.write(level, partition_ms, earlier)


def archiver(url: str, to: str) -> Callable[..., Any]:
    """Return a function that makes a pass; it returns CPU seconds, peak MB and rows."""
    store, target = Store(url, 60), open_target(to)

    def made(to: Any) -> Archiver:
        return Archiver(store.client, NAMESPACE, to, ("hour",), "benchmark")

    own = made(target)

    def work(hours: int = 1, backfill: bool = False) -> tuple[float, float, int]:
        chosen = own if hours == 1 else made(EarlierHours(target, hours))
        began = time.process_time()
        report = chosen.pass_once(backfill=backfill)
        return time.process_time() - began, peak(), sum(report.rows.values())

    return work


@contextmanager
def archives() -> Iterator[dict[str, Callable[[], str]]]:
    """Yield functions that return the URL of an empty archive, by kind."""
    with tempfile.TemporaryDirectory(prefix="rm-bench-") as folder, ExitStack() as stack:
        numbers = itertools.count()
        kinds = {"Parquet": lambda: f"file://{folder}/{next(numbers)}"}
        if programs() is not None:
            server = stack.enter_context(running_postgres()).url
            kinds["PostgreSQL"] = lambda: new_database(server, next(numbers))
        if clickhouse.is_installed():
            engine = stack.enter_context(clickhouse.running_clickhouse())
            kinds["ClickHouse"] = engine.new_database
        yield kinds


def measure(options: Options) -> Iterator[Row]:
    metrics = dict.fromkeys(METRICS, 1) if options.quick else METRICS
    series, hours = (20, 3) if options.quick else (SERIES, 24)
    expected = sum(metrics.values()) * series
    seconds, memory = (None, None) if options.quick else (120.0, 400.0)
    with own_server(options.server) as (url, _), archives() as kinds:
        record(url, metrics, series)
        for kind, empty in kinds.items():
            runs = [first_hours(url, empty(), expected) for _ in range(options.runs)]
            took, idle, peaks = (list(column) for column in zip(*runs, strict=True))
            title = f"{expected:,} series to {kind}"
            yield Row(f"{title}, an hour", "s", took, target=seconds)
            yield Row(f"{title}, an hour: peak memory", "MB", peaks, target=memory)
            yield Row(f"{title}, a pass that finds nothing to do", "s", idle)
        title = f"{expected:,} series to Parquet, the last hour of a day"
        last = last_hours(url, kinds["Parquet"](), hours, expected, options.runs)
        yield Row(title, "s", [each[0] for each in last], target=seconds)
        yield Row(f"{title}: peak memory", "MB", [each[1] for each in last], target=memory)


def first_hours(url: str, to: str, expected: int) -> tuple[float, float, float]:
    """Archive an hour; return CPU seconds, those of another pass, and the peak memory in MB."""
    with Child(archiver, url, to) as child:
        seconds, memory, rows = child()
        idle, _, more = child()
    if (rows, more) != (expected, 0):
        raise AssertionError(f"archived {rows} rows and {more}, expected {expected} and 0")
    return seconds, idle, memory


def last_hours(
    url: str, to: str, hours: int, expected: int, runs: int
) -> list[tuple[float, float, int]]:
    """Archive the last hour of a day several times, each in a new process."""
    with Child(archiver, url, to) as child:
        child(hours)
    found = []
    for _ in range(runs):
        with Child(archiver, url, to) as child:
            found.append(child(1, True))
    if any(rows != expected for _, _, rows in found):
        raise AssertionError(f"archived {found}, expected {expected} rows each")
    return found


def new_database(server: str, number: int) -> str:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE archive_{number}")
    return server.replace("/postgres?", f"/archive_{number}?")


if __name__ == "__main__":
    main(QUESTION, measure)
