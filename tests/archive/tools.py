"""Tools of the archive's tests: an oracle, and what an archive holds."""

import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pyarrow.parquet as pq
import pytest

from redismetrics import Metrics
from redismetrics.archive.archiver import Archiver, PassReport
from redismetrics.archive.target import open_target
from redismetrics.archive.verify import VerifyReport, verify
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from redismetrics.worker import Worker
from tests.fixtures.workers import pull_forward

Seal = Callable[[], None]
HOUR, DAY = 3_600, 86_400
WIDTHS = {"minute": 60, "hour": HOUR, "day": DAY}


def settle(
    metrics: Metrics, worker: Worker, admin: Any, namespace: str, *, shards: int = 1
) -> None:
    """Send all, and let *worker* build all hours and days that have samples."""
    metrics.flush()
    for _ in range(4):
        worker.pass_once()
        pull_forward(admin, namespace, shards=shards)
    worker.pass_once()


def archive(url: str, namespace: str, to: str, *levels: str, **options: Any) -> PassReport:
    """Make one pass to the archive *to*."""
    store, target = Store(resolve({}, url=url).url, 5.0), open_target(to)
    try:
        archiver = Archiver(store.client, namespace, target, levels or ("hour", "day"), "test")
        return archiver.pass_once(**options)
    finally:
        target.close()
        store.close()


def compared(url: str, namespace: str, to: str, *levels: str) -> VerifyReport:
    """Compare the archive *to* with Redis."""
    store, target = Store(resolve({}, url=url).url, 5.0), open_target(to)
    try:
        return verify(store.client, namespace, target, levels or ("hour", "day"))
    finally:
        target.close()
        store.close()


def rows(to: str, level: str, prefix: str = "rm_") -> list[dict[str, Any]]:
    """Return all rows of a level, as SQL or a Parquet reader sees them."""
    if to.startswith("file:"):
        paths = sorted(Path(urlsplit(to).path).glob(f"*/{level}/*/*.parquet"))
        found = [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]
        for row in found:
            row["tags"] = dict(row["tags"])
        return found
    if to.startswith("clickhouse:"):
        import clickhouse_connect

        # Aware times, and bytes where they are no text.
        with clickhouse_connect.get_client(dsn=to, tz_mode="aware") as client:
            formats = {} if level == "raw" else {"digest": "bytes"}
            result = client.query(f"SELECT * FROM {prefix}{level}", column_formats=formats)
            return list(result.named_results())
    with psycopg.connect(to, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(f"SELECT * FROM {prefix}{level}").fetchall()


class Recording:
    """Samples that were recorded, with what each slot must hold; an oracle of lists."""

    def __init__(self, metrics: Metrics, seed: int) -> None:
        self._metrics, self._random = metrics, random.Random(seed)
        self.samples: list[tuple[str, str, float, float]] = []

    def add(self, count: int, *, since: float, until: float) -> None:
        """Record random samples of two metrics with three series each."""
        for _ in range(count):
            at = round(self._random.uniform(since, until), 3)
            metric = self._random.choice(["latency", "jobs"])
            route = self._random.choice("abc")
            if metric == "jobs":
                value = float(self._random.randrange(1, 9))
                self._metrics.increment("jobs", value, tags={"route": route}, timestamp=at)
            else:
                value = self._random.lognormvariate(0, 1)
                self._metrics.histogram("latency", value, tags={"route": route}, timestamp=at)
            self.samples.append((metric, route, at, value))

    def slots(self, level: str) -> dict[tuple[str, str, datetime], list[float]]:
        """Return the values of each slot that is over."""
        width, found = WIDTHS[level], {}
        for metric, route, at, value in self.samples:
            slot = at // width * width
            if slot // max(width, HOUR) * max(width, HOUR) + max(width, HOUR) <= time.time():
                key = (metric, route, datetime.fromtimestamp(slot, UTC))
                found.setdefault(key, []).append(value)
        return found


def by_slot(found: Sequence[dict[str, Any]]) -> dict[tuple[str, str, datetime], dict[str, Any]]:
    """Return rows by metric, route and slot; each is there once."""
    keyed = {(row["metric"], row["tags"]["route"], row["slot"]): row for row in found}
    assert len(keyed) == len(found)
    return keyed


def check(
    to: str,
    recording: Recording,
    *levels: str,
    metrics: Collection[str] | None = None,
) -> None:
    """Check that *to* has each closed slot once, with the values that were recorded."""
    for level in levels:
        of_level = rows(to, level)
        found = by_slot([each for each in of_level if not metrics or each["metric"] in metrics])
        expected = recording.slots(level)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            row = found[key]
            assert row["count"] == len(values)
            assert row["sum"] == pytest.approx(math.fsum(values), rel=1e-9)
            assert (row["min"], row["max"]) == (min(values), max(values))
