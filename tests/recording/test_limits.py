"""Limits of times, metadata, series and sizes."""

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from redismetrics import Gauge
from redismetrics.model.validation import OVERFLOW_TAGS
from redismetrics.recording.drain import MAX_METADATA
from tests.recording.helpers import (
    NEVER,
    Make,
    balanced,
    spread,
)


def test_samples_too_old_or_in_the_future_are_dropped(
    make: Make,
) -> None:
    metrics = make(max_age=600, max_future=60)
    now = datetime.now(UTC)
    kept = [now - timedelta(seconds=590), now, now + timedelta(seconds=50)]
    for method in (metrics.increment, metrics.gauge, metrics.histogram):
        for when in (
            *kept,
            now - timedelta(seconds=610),
            now - timedelta(days=9),
            now + timedelta(seconds=70),
        ):
            method(method.__name__, 2, timestamp=when)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (9, {"too_old": 6, "in_future": 3})
    for method in ("increment", "gauge", "histogram"):
        times = [sample.timestamp for sample in metrics.query(method)]
        assert times == [
            when.replace(microsecond=when.microsecond // 1000 * 1000) for when in kept
        ]  # cut to the ms
    (family,) = metrics.live("increment")
    assert family.series[0].value == 6
    (family,) = metrics.live("histogram")
    assert (family.series[0].count, family.series[0].value) == (3, 6)


def test_samples_of_a_clock_far_behind_the_server_are_refused_by_the_script(
    make: Make,
) -> None:
    behind = make(max_age=600, clock=lambda: time.time() - 3_600)
    for _ in range(2):
        behind.increment("jobs")
        behind.gauge("depth", 1)
        behind.flush()
    stats = balanced(behind)
    assert (stats["stored"], stats["dropped"], stats["pending"]) == (0, {"too_old": 4}, 0)
    assert (
        behind.query("jobs", aggregation="count") == behind.query("depth", aggregation="count") == 0
    )


def test_samples_of_a_clock_ahead_of_the_server_count_as_new_as_the_batch(make: Make) -> None:
    ahead = make(clock=lambda: time.time() + 3_600)
    ahead.gauge("depth", 1)
    ahead.increment("jobs")
    ahead.flush()
    assert balanced(ahead)["stored"] == 2
    for name in ("depth", "jobs"):
        (sample,) = ahead.query(name)
        assert abs(sample.timestamp - datetime.now(UTC)) < timedelta(minutes=1)


# -- limits -----


def test_metadata_beyond_the_limit_is_dropped_but_its_samples_are_kept(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    for number in range(MAX_METADATA + 5):
        metrics.increment("jobs", metadata={"n": number})
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["metadata_dropped"], stats["dropped"]) == (1_005, 5, {})
    assert "jobs: too many samples with metadata in one flush" in caplog.text
    samples = metrics.query("jobs")
    assert sum(sample.count for sample in samples) == 1_005
    assert [sample.metadata["n"] for sample in samples if sample.metadata] == list(range(1_000))


def test_series_beyond_the_limit_share_one_and_totals_stay_exact(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(max_series=5), make(max_series=5)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for metrics in (first, second, first):
            for number in range(20):
                metrics.increment("jobs", 2, tags={"user": number})
                metrics.histogram("took", number + 0.5, tags={"user": number})
                Gauge("depth", {"user": number}, metrics=metrics).set(number)
            metrics.flush()
    assert (
        len(
            [
                record
                for record in caplog.records
                if "jobs has more than max_series=5" in record.message
            ]
        )
        == 2
    )
    assert balanced(first)["stored"] == 120
    assert first.query("jobs", aggregation="sum") == 120
    assert first.query("took", aggregation="sum") == 3 * sum(number + 0.5 for number in range(20))
    ((key, value),) = OVERFLOW_TAGS.items()
    for name, kept in (("jobs", "count"), ("took", "count"), ("depth", "count")):
        rows = first.query(name, aggregation=kept, group_by=["user", key])
        assert [row["count"] for row in rows] == [45, 3, 3, 3, 3, 3]
        assert rows[0][key] == value
        (family,) = first.live(name)
        assert len(family.series) == 6
    (family,) = first.live("jobs")
    assert sorted(series.value for series in family.series) == [6, 6, 6, 6, 6, 90]
    (family,) = first.live("took")
    assert sum(series.count for series in family.series) == 60


def test_blocks_cut_from_a_full_log_are_counted(make: Make) -> None:
    metrics = make(flush_interval=NEVER, log_bytes=1 << 16, samples_per_flush=10_000)
    for flush in range(20):
        spread(metrics, "took", 1_000, flush)
        metrics.increment("jobs")
        metrics.flush()
    assert balanced(metrics)["stored"] == 20_020
    left = metrics.query("took", aggregation="count")
    storage = metrics.get_stats()["storage"]
    assert 0 < left < 20_000
    assert left % 1_000 == 0
    assert storage["metrics_stored"] == 20_020
    assert storage["metrics_dropped"] == {"never_sealed": 20_000 - left, "late": 0}
    assert storage["total_metrics"] == left + 20
    assert storage["bytes"]["log"] <= 1 << 17
    assert metrics.query("jobs", aggregation="sum") == 20
    (family,) = metrics.live("took")
    assert family.series[0].count == 20_000  # totals include all


def test_a_large_flush_is_sent_in_several_batches(make: Make) -> None:
    metrics = make(flush_interval=NEVER, max_tag_values=3_000)
    for metric in range(150):
        for series in range(10):
            metrics.increment(f"jobs_{metric}", series, tags={"s": series})
    for series in range(3_000):
        metrics.histogram("took", 1.5, tags={"s": series})
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (4_500, {})
    assert stats["batches"] >= 10
    assert metrics.query("took", aggregation="sum") == 4_500
    assert len(metrics.tag_values("took", "s")) == 3_000
    assert {metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(150)} == {45}


def test_the_largest_values_do_not_harm_others(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    for _ in range(3):
        for value in (1.7e308, 1.7e308, 10**308):
            metrics.increment("jobs", value)
        metrics.gauge("depth", -1.7e308)
        Gauge("depth", metrics=metrics).add(-1.7e308)
        metrics.increment("others")
        metrics.flush()
    assert balanced(metrics)["stored"] == 18
    assert metrics.query("others", aggregation="sum") == 3
    assert metrics.query("jobs", aggregation="count") == 9


@pytest.mark.parametrize("how", ["series", "metric", "clear"])
def test_series_that_were_deleted_leave_their_places(make: Make, how: str) -> None:
    metrics = make(flush_interval=NEVER, max_series=3)
    for pod in "abc":
        metrics.increment("restarts", tags={"pod": pod})
    metrics.flush()
    with_access = make()
    if how == "series":
        for pod in "abc":
            with_access.delete_series("restarts", {"pod": pod})
    elif how == "metric":
        with_access.delete_metric("restarts")
    else:
        with_access.clear(confirm=True)
    metrics.increment("restarts", tags={"pod": "d"})
    metrics.flush()
    assert metrics.query("restarts", aggregation="sum", group_by="pod") == [{"pod": "d", "sum": 1}]
    assert metrics.stats()["overflow"] == {}
