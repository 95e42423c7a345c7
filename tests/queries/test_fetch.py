"""Which samples a query covers: windows, tag filters, clients and the overflow series."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
import redis

from redismetrics import (
    Counter,
    FormatMismatch,
    Gauge,
    Metrics,
)
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from redismetrics.store.keys import FORMAT, config, data, metric, shard
from tests.fixtures.clients import MakeWorker
from tests.fixtures.queries import AGGREGATIONS, DAY, HOUR, at, expected, moment
from tests.fixtures.servers import Server


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        ("last_hour", 1),
        ("last_24h", 2),
        ("last_7d", 3),
        ("last_30d", 4),
        (None, 5),
        ("15m", 0),
        ("31m", 1),
        ("121m", 2),
        ("1w", 3),
        (timedelta(hours=3), 2),
        ((None, None), 5),
        ("999999999w", 5),
    ],
    ids=str,
)
def test_window_reaches_back_from_now(url: str, namespace: str, window: Any, wanted: int) -> None:
    with Metrics(url, namespace=namespace, max_age=50 * DAY, minute_retention=60 * DAY) as metrics:
        for age in (30 * 60, 2 * HOUR, 3 * DAY, 20 * DAY, 40 * DAY):
            metrics.increment("jobs", timestamp=time.time() - age)
        assert metrics.query("jobs", aggregation="count", window=window) == wanted
        assert metrics.rollup("jobs", aggregations="sum", window=window) == (
            {"": {"sum": wanted}} if wanted else {}
        )
        assert sum(row["count"] for row in metrics.time_series("jobs", window=window)) == wanted


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (at(10), at(20), [2, 3]),
        (at(10), None, [2, 3, 4]),
        (None, at(20), [1, 2, 3]),
        (at(10.001), at(20.001), [3, 4]),
        (moment(10), moment(20), [2, 3]),
        (moment(10).astimezone(timezone(timedelta(hours=-5))), at(20), [2, 3]),
        (at(10), at(10), []),
        (at(20), at(10), []),
        (at(10), at(10.001), [2]),
        (at(20), at(20.001), [4]),
    ],
)
def test_window_includes_its_start_and_excludes_its_end(
    metrics: Metrics, since: Any, until: Any, wanted: list[int]
) -> None:
    for value, seconds in enumerate((9.999, 10, 19.999, 20), start=1):
        metrics.gauge("depth", value, timestamp=at(seconds))
    window = (since, until)
    assert [sample.value for sample in metrics.query("depth", window=window)] == wanted
    assert metrics.query("depth", aggregation="count", window=window) == len(wanted)
    assert sum(
        row["sum"] for row in metrics.time_series("depth", aggregation="sum", window=window)
    ) == sum(wanted)
    found = metrics.get_metrics(name="depth", since=since, until=until)
    assert [row["value"] for row in found["metrics"]] == wanted[::-1]


def test_window_includes_only_its_minutes_of_a_compressed_flush(metrics: Metrics) -> None:
    for number in range(150):  # more than are kept one by one
        for minute in range(3):
            metrics.histogram("size", 1000 * minute + number, timestamp=at(60 * minute + 5))
    for minute in range(3):
        values = [1000.0 * minute + number for number in range(150)]
        found = metrics.rollup(
            "size", aggregations=AGGREGATIONS[:7], window=(at(60 * minute), at(60 * minute + 60))
        )[""]
        wanted = {name: expected(name, values, 60) for name in AGGREGATIONS[:7]}
        assert found == pytest.approx(wanted, rel=1e-13)
        assert (
            metrics.query("size", aggregation="count", window=(None, at(60 * minute)))
            == 150 * minute
        )
        assert metrics.query("size", aggregation="count", window=(at(60 * minute), None)) == 150 * (
            3 - minute
        )


def test_window_that_starts_now_includes_what_is_recorded_next(metrics: Metrics) -> None:
    gauge, counter = Gauge("depth", metrics=metrics), Counter("jobs", metrics=metrics)
    missed = []
    for number in range(20):  # a moment lies anywhere within its millisecond
        began = time.time()
        gauge.set(1.0)
        counter.increment()
        edge = datetime.fromtimestamp(began, UTC) if number % 2 else began
        missed += [
            (name, edge)
            for name in ("depth", "jobs")
            if not metrics.query(name, window=(edge, None))
        ]
    assert missed == []


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"model": "llama-3.1"}, 14),
        ({"model": "llama-3.1", "dataset": "scifact"}, 6),
        ({"model": None}, 16),
        ({"dataset": None}, 24),
        ({"model": "llama-3.1", "dataset": None}, 8),
        ({"dataset": ""}, 32),
        ({"model": "nobody"}, 0),
        ({"nobody": None}, 63),
        ({}, 63),
        (None, 63),
    ],
    ids=str,
)
def test_tag_filter_selects_series_with_tags_and_without_none_tags(
    grouped: Metrics, tags: Any, wanted: int
) -> None:
    assert grouped.query("score", aggregation="sum", tags=tags) == wanted
    assert (
        sum(
            row["sum"]
            for row in grouped.query("score", aggregation="sum", group_by="model", tags=tags)
        )
        == wanted
    )
    assert (
        sum(row["value"] for row in grouped.get_metrics(name="score", tags=tags)["metrics"])
        == wanted
    )
    assert (
        sum(row["sum"] for row in grouped.time_series("score", aggregation="sum", tags=tags))
        == wanted
    )
    points = grouped.digest("score", tags=tags)
    assert points.values @ points.weights == wanted


def test_tag_filter_accepts_numbers_and_bools(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"retry": 3, "ok": True})
    assert metrics.query("jobs", aggregation="sum", tags={"retry": 3, "ok": True}) == 1
    assert metrics.query("jobs", aggregation="sum", tags={"retry": "3", "ok": "true"}) == 1
    assert metrics.query("jobs", aggregation="sum", tags={"retry": 3.5}) == 0


def test_tags_of_the_client_are_defaults_for_its_samples(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, tags={"host": "a", "zone": "z"}) as metrics:
        metrics.increment("jobs", tags={"host": "b"})
        assert [sample.tags for sample in metrics.query("jobs")] == [{"host": "b", "zone": "z"}]


def test_totals_include_the_overflow_series(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, max_series=3) as metrics:
        for number in range(10):
            metrics.increment("jobs", number, tags={"id": number})
        assert metrics.query("jobs", aggregation="sum") == 45
        assert metrics.query("jobs", aggregation="count") == 10
        overflow = {"otel.metric.overflow": "true"}
        assert metrics.query("jobs", aggregation="count", tags=overflow) == 10 - 3
        assert metrics.list_metrics()[0]["series"] == 4


@pytest.mark.parametrize("damaged", [b"", b"junk", b"\x99" * 50, b"\xff" * 500])
def test_corrupt_block_is_an_error(server: Server, metrics: Metrics, damaged: bytes) -> None:
    metrics.gauge("depth", 1)
    metrics.flush()
    of = metric(metrics.settings.namespace, 0, "depth")
    with server.client() as client:
        client.zadd(
            of.log, {damaged: int(client.get(shard(metrics.settings.namespace, 0).clock) or 0)}
        )
    with pytest.raises(FormatMismatch, match=r"^corrupt block"):
        metrics.query("depth", aggregation="count")


def test_namespace_of_another_format_is_an_error(server: Server, url: str, namespace: str) -> None:
    with server.client() as client:
        client.hset(config(namespace), mapping={"format": FORMAT + 1, "shards": 1})
    with (
        Metrics(url, namespace=namespace) as metrics,
        pytest.raises(FormatMismatch, match=r"must have format 2, got 3"),
    ):
        metrics.query("depth")


def test_a_change_is_no_older_than_its_base(metrics: Metrics) -> None:
    """The change's block is older than its sample, which a window still finds."""
    now = round(time.time(), 3)
    metrics.gauge("depth", 5, timestamp=now + 200)
    metrics.flush()
    Gauge("depth", metrics=metrics).add(1)
    metrics.flush()
    assert [each.value for each in metrics.query("depth", window=(now + 100, None))] == [5, 6]


def test_blocks_of_other_times_are_left_out_of_a_window(metrics: Metrics) -> None:
    now = round(time.time(), 3)
    for age in (50, 40, 30):
        metrics.increment("jobs", age, timestamp=now - age)
        metrics.flush()
    metrics.increment("jobs", 1, timestamp=now + 60)
    metrics.flush()
    found = metrics.query("jobs", window=(now - 35, None))
    assert [each.value for each in found] == [30, 1]
    assert [each.value for each in metrics.query("jobs", window=(now + 1, None))] == [1]


def test_exact_samples_of_series_that_do_not_exist_are_passed_over(
    metrics: Metrics, admin: redis.Redis, make_worker: MakeWorker, namespace: str
) -> None:
    hour = int(time.time()) // 3_600 * 3_600 - 3_600
    for number in range(3):
        metrics.gauge("depth", number, timestamp=hour + number)
    metrics.flush()
    make_worker().pass_once(alone=True)
    raw = data(namespace, 0, "depth", "raw", hour * 1000)
    ((field, packed),) = admin.hgetall(raw).items()
    samples = unpack_samples(packed)
    for series in (511, 512, 1 << 40):
        damaged = replace(samples, series=np.array([0, 0, series]))
        admin.hset(raw, field, pack_samples(damaged))
        with Metrics(metrics.settings.url, namespace=namespace) as reader:
            found = reader.get_metrics(name="depth", limit=10)["metrics"]
            assert {each["value"] for each in found} <= {0, 1, 2}
            part = (hour, hour + 30)
            assert reader.query("depth", aggregation="count", window=part) <= 3
