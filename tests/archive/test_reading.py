"""Questions that go on in the archive: equal to what the recorded samples say."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redismetrics import AsyncMetrics, Metrics, OutsideRetention
from redismetrics.archive import reading
from redismetrics.archive.rows import rollup_rows, series_of
from redismetrics.archive.state import group_of
from redismetrics.archive.target import open_target
from redismetrics.columnar.rollup_table import GroupedPoints, merge
from redismetrics.columnar.summaries import of_points
from redismetrics.errors import TooManyRows
from redismetrics.queries.columns import Largest, time_series_columns
from redismetrics.queries.query import Query
from redismetrics.store import keys
from tests.archive.conftest import (
    KINDS,
    Postgres,
    new_archive,
    new_database,
)
from tests.archive.history import History, make_history
from tests.archive.tools import DAY, HOUR
from tests.fixtures.clickhouse import is_installed
from tests.fixtures.servers import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history(
    moving_server: Server,
    postgres: Postgres,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> History:
    folder: Path = tmp_path_factory.mktemp("archive")
    archives = [new_database(postgres), f"file://{folder}"]
    if is_installed():
        archives.append(request.getfixturevalue("clickhouse").new_database())
    return make_history(moving_server, "history", archives, days=370, samples=600)


@pytest.fixture(params=["postgresql", "clickhouse", "file"])
def to(request: pytest.FixtureRequest, history: History) -> str:
    if request.param not in history.archives:
        pytest.skip("no chDB: pip install 'redismetrics[chdb]'")
    return history.archives[request.param]


@pytest.fixture(params=KINDS)
def to_empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_archive(request, tmp_path, request.param)


@pytest.fixture
def metrics(history: History, to: str) -> Iterator[Metrics]:
    with history.client(to) as client:
        yield client


def windows(history: History, count: int, seed: int) -> Iterator[tuple[float, float]]:
    """Yield windows whose edges are where slots begin that are held."""
    chance = random.Random(seed)
    days_from, hours_from = history.boundary("day"), history.boundary("hour")
    first = min(each.at for each in history.samples) // DAY * DAY

    def edge() -> float:
        at = chance.uniform(first - DAY, history.now)
        width = HOUR if at < days_from else DAY if at < hours_from else HOUR
        return at // width * width

    for _ in range(count):
        since, until = sorted((edge(), edge()))
        yield since, until + HOUR if since == until else until


def test_most_of_the_history_is_in_the_archive_only(history: History) -> None:
    held = [each for each in history.samples if each.at >= history.boundary("day")]
    assert 0 < len(held) < len(history.samples) / 2
    with history.client(None) as client:
        assert client.query("jobs", aggregation="sum") == sum(
            each.value for each in held if each.metric == "jobs"
        )


def test_aggregations_equal_those_of_the_samples(metrics: Metrics, history: History) -> None:
    for number, (since, until) in enumerate([(None, None), *windows(history, 25, seed=2)]):
        tags = {} if number % 3 else {"route": "abc"[number % 2]}
        begin, end = (0.0, 1e12) if since is None or until is None else (since, until)
        for metric in ("jobs", "latency", "load"):
            values = history.values(metric, begin, end, tags)
            (row,) = [
                *metrics.rollup(
                    metric,
                    aggregations=("count", "sum", "min", "max", "last", "mean", "stddev"),
                    window=(since, until),
                    tags=tags,
                ).values()
            ] or [None]
            if not values:
                assert row is None
                continue
            assert row is not None
            assert row["count"] == len(values)
            assert row["sum"] == pytest.approx(sum(values), rel=1e-9)
            assert (row["min"], row["max"]) == (min(values), max(values))
            assert row["last"] == values[-1]
            assert row["mean"] == pytest.approx(np.mean(values), rel=1e-9)
            assert row["stddev"] == pytest.approx(np.std(values), rel=1e-5, abs=1e-9)


def test_groups_and_missing_tags(metrics: Metrics, history: History) -> None:
    rows = metrics.query("jobs", aggregation="sum", group_by="route")
    found = {row["route"]: row["sum"] for row in rows}
    everything = [each for each in history.samples if each.metric == "jobs"]
    assert found == {
        route: sum(each.value for each in everything if each.tags.get("route") == route)
        for route in (None, "a", "b", "c")
    }
    assert metrics.query("jobs", aggregation="sum", tags={"route": None}) == found[None]


@pytest.mark.parametrize("interval", ["day", "hour"])
def test_time_series_have_each_interval_once(
    metrics: Metrics, history: History, interval: str
) -> None:
    width = DAY if interval == "day" else HOUR
    since = history.boundary("day") - 20 * DAY
    expected: dict[datetime, float] = {}
    for each in history.samples:
        if each.metric == "jobs" and each.at >= since:
            at = datetime.fromtimestamp(each.at // width * width, UTC)
            expected[at] = expected.get(at, 0) + each.value
    rows = metrics.time_series("jobs", interval=interval, aggregation="sum", window=(since, None))
    assert {row["timestamp"]: row["sum"] for row in rows} == expected
    assert len(rows) == len(expected)


def test_heat_maps_and_columns_have_the_counts_of_time_series(
    metrics: Metrics, history: History
) -> None:
    window = (history.boundary("day") - 20 * DAY, history.now)
    rows = metrics.time_series("latency", interval="day", window=window, fill=True)
    counts = [row["count"] for row in rows]
    found = metrics.heat_map("latency", interval="day", window=window)
    assert [sum(each) for each in found["counts"]] == counts
    query = Query("latency", interval="day", aggregation="count", window=window)
    internals = metrics.internals
    columns = internals.run(time_series_columns(internals.query_context, query, Largest()))
    assert [count or 0 for count in columns["groups"][0]["values"]["count"]] == counts


def test_an_interval_that_nothing_is_fine_enough_for_is_refused(
    metrics: Metrics, history: History
) -> None:
    since = history.boundary("day") - 20 * DAY
    with pytest.raises(OutsideRetention, match="multiple of 1h, or a later start"):
        metrics.time_series("jobs", interval="5m", window=(since, None))


def test_percentiles_are_those_of_merged_digests(metrics: Metrics, history: History) -> None:
    values = np.sort(history.values("latency", 0, 1e12))
    for rank in (1, 50, 95, 99):
        found = metrics.query("latency", aggregation=f"p{rank}")
        assert abs(np.searchsorted(values, found) / len(values) - rank / 100) < 0.01
    digest = metrics.digest("latency")
    assert digest.percentile(50) == pytest.approx(metrics.query("latency", aggregation="p50"))


def test_samples_that_are_in_the_archive_only_are_listed(
    metrics: Metrics, history: History
) -> None:
    until = history.boundary("day")
    samples = metrics.query("latency", window=(until - 10 * DAY, until))
    values = history.values("latency", until - 10 * DAY, until)
    assert sum(each.count for each in samples) == len(values)
    assert {round(each.value, 9) for each in samples} == {round(each, 9) for each in values}


def test_both_clients_answer_the_same(metrics: Metrics, history: History, to: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncMetrics(history.server.url, **history.settings(to)) as client:
            return await asyncio.gather(
                client.query("latency", aggregation="p95", group_by="route"),
                client.time_series("jobs", interval="day", aggregation="sum", window=None),
            )

    assert asyncio.run(ask()) == [
        metrics.query("latency", aggregation="p95", group_by="route"),
        metrics.time_series("jobs", interval="day", aggregation="sum", window=None),
    ]


def test_a_metric_that_redis_does_not_know_is_answered(
    metrics: Metrics, history: History, to: str
) -> None:
    values = history.values("jobs", 0, history.boundary("day"))
    settings = {**history.settings(to), "clock": lambda: history.now}
    with history.server.client() as admin:
        # As after `clear`: nothing of the namespace is left but its retention.
        found = set(admin.scan_iter("*history*", count=10_000)) - {keys.config("history").encode()}
        dumped = {key: admin.dump(key) for key in found}
        admin.delete(*dumped)
        try:
            with Metrics(history.server.url, **settings) as client:
                window = None, history.boundary("day")
                assert client.query("jobs", aggregation="sum", window=window) == sum(values)
                rows = client.query("jobs", aggregation="sum", group_by="route", window=window)
                assert [row["route"] for row in rows] == [None, "a", "b", "c"]
                assert client.query("unknown", aggregation="sum") == 0
        finally:
            for key, data in dumped.items():
                admin.restore(key, 0, data, replace=True)


def test_rows_and_digests_are_bounded(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    module = "redismetrics.archive.reading_" + ("postgres" if to.startswith("p") else "batches")
    monkeypatch.setattr(f"{module}.MAX_ROWS", 20)
    with pytest.raises(TooManyRows, match="an archive, which holds more of 'jobs'; use a shorter"):
        metrics.query("jobs", aggregation="sum")
    monkeypatch.undo()
    monkeypatch.setattr(f"{module}.MAX_DIGESTS", 20)
    assert metrics.query("jobs", aggregation="sum") > 0
    with pytest.raises(TooManyRows):
        metrics.query("latency", aggregation="p50")
    monkeypatch.undo()
    monkeypatch.setattr(f"{module}.MAX_DIGEST_BYTES", 100)
    assert metrics.query("jobs", aggregation="sum") > 0
    with pytest.raises(TooManyRows):
        metrics.query("latency", aggregation="p50")


def test_promql_goes_on_in_the_archive(metrics: Metrics, history: History) -> None:
    pytest.importorskip("promql_parser")
    days_from = history.boundary("day")
    for width, name in ((DAY, "1d"), (HOUR, "1h")):
        since = days_from - 12 * DAY
        until = days_from + (3 * DAY if width == DAY else -DAY)
        rows = metrics.promql_range(
            f"sum by (route) (increase(jobs_total[{name}]))", since=since, until=until, step=name
        )
        found = {
            (row["labels"].get("route"), at.timestamp()): value
            for row in rows
            for at, value in row["values"]
            if value
        }
        expected: dict[Any, float] = {}
        for each in history.samples:
            # A window is (at - width, at], to the millisecond.
            at = -(-each.at // width) * width
            if each.metric == "jobs" and since <= at <= until:
                key = each.tags.get("route"), at
                expected[key] = expected.get(key, 0) + each.value
        assert found == pytest.approx(expected)


def test_promql_of_distributions_and_gauges(metrics: Metrics, history: History) -> None:
    pytest.importorskip("promql_parser")
    at = history.boundary("day") - 5 * DAY
    values = history.values("latency", at - 30 * DAY, at)
    (row,) = metrics.promql_query("histogram_quantile(0.5, sum(increase(latency[30d])))", at)
    rank = np.searchsorted(np.sort(values), row["value"]) / len(values)
    assert abs(rank - 0.5) < 0.02
    (row,) = metrics.promql_query('sum(increase(latency_bucket{le="+Inf"}[30d]))', at)
    assert row["value"] == len(values)
    rows = metrics.promql_query("last_over_time(load[10d])", at)
    found = {row["labels"].get("route"): row["value"] for row in rows}
    expected = {}
    for each in sorted(history.samples, key=lambda each: each.at):
        if each.metric == "load" and at - 10 * DAY <= each.at <= at:
            expected[each.tags.get("route")] = each.value
    assert found == expected


def test_percentiles_of_a_year_of_days(url: str, namespace: str, to_empty: str) -> None:
    days, a_day = 365, 700
    chance = np.random.default_rng(5)
    values = chance.lognormal(chance.uniform(0, 2, (days, 1)), 1, (days, a_day))
    first = 18_000 * DAY * 1000
    slot = first + np.arange(days) * DAY * 1000
    row, zero = np.repeat(np.arange(days), a_day), np.zeros(days, np.int64)
    one = np.ones(days * a_day, np.int64)
    rows = of_points(values.ravel(), one, slot[row])
    points = GroupedPoints(row, values.ravel(), one, one > 0)
    table = merge(slot, zero, row, rows, points, budget=200)
    assert int(table.size.max()) <= 200
    of = series_of(namespace, "latency", "histogram", {0: {}})
    target = open_target(to_empty)
    with target.claim(namespace, group_of("latency")) as session:
        assert session is not None
        for partition in np.unique(slot // (32 * DAY * 1000)).tolist():
            part = table.take(slot // (32 * DAY * 1000) == partition)
            session.write("day", partition * 32 * DAY * 1000, rollup_rows(of, part))
        session.finish()
    target.close()
    ordered = np.sort(values.ravel())
    with Metrics(url, namespace=namespace, archive=to_empty) as client:
        assert client.query("latency", aggregation="count") == days * a_day
        for rank in (1, 5, 25, 50, 75, 95, 99, 99.9):
            found = client.query("latency", aggregation=f"p{rank}")
            at = np.searchsorted(ordered, found) / len(ordered)
            assert abs(at - rank / 100) < min(0.01, (100 - rank) / 100)


def test_digest_bytes_are_read_at_once() -> None:
    from redismetrics.archive.digest_bytes import pack_digest, unpack_digest, unpack_digests

    packed = [
        pack_digest(np.array([1.5, 2.5]), np.array([1, 300]), is_clustered=True),
        pack_digest(np.array([0.1]), np.array([70_000]), is_clustered=False),
        pack_digest(np.array([1e300]), np.array([1 << 40]), is_clustered=True),
    ]
    sizes, kinds, points = unpack_digests(
        b"".join(packed), np.array([len(each) for each in packed])
    )
    assert sizes.tolist() == [2, 1, 1]
    assert kinds.tolist() == [True, False, True]
    single = [unpack_digest(each) for each in packed]
    assert points.values.tolist() == [value for means, _, _ in single for value in means.tolist()]
    assert points.weights.tolist() == [
        each for _, weights, _ in single for each in weights.tolist()
    ]
    empty = unpack_digests(b"", np.zeros(0, np.int64))
    assert len(empty[0]) == len(empty[2].values) == 0
    with pytest.raises(reading.FormatMismatch):
        unpack_digests(b"\x02" + packed[0][1:], np.array([len(packed[0])]))
