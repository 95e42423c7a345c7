"""Archiving to PostgreSQL and to Parquet: what is there, once, whatever happens."""

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import redis

from redismetrics import Metrics
from redismetrics.archive import archiver as archiver_module
from redismetrics.archive.digest_bytes import unpack_digest
from redismetrics.archive.target import open_target
from redismetrics.errors import InvalidSetting
from redismetrics.settings import resolve
from redismetrics.store import keys
from redismetrics.store.connection import Store
from tests.archive.tools import HOUR, Recording, Seal, archive, check, compared, rows


@pytest.mark.slow
def test_each_closed_slot_is_archived_once(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    recording, now = Recording(metrics, 1), time.time()
    recording.add(300, since=now - 40 * HOUR, until=now)
    seal()
    levels = ("minute", "hour", "day")
    first = archive(url, namespace, to, *levels)
    check(to, recording, *levels)
    assert first.skipped == {}
    assert first.rows == {level: len(recording.slots(level)) for level in levels}
    # Nothing has changed, so nothing is written.
    assert archive(url, namespace, to, *levels).rows == {}
    assert compared(url, namespace, to, *levels).different == 0


@pytest.mark.slow
def test_late_samples_replace_the_rows_of_their_slots(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    recording, now = Recording(metrics, 2), time.time()
    recording.add(100, since=now - 50 * HOUR, until=now)
    seal()
    archive(url, namespace, to, "minute", "hour", "day")
    # Also into hours whose exact samples have expired, and of which Redis no longer counts any.
    for hours in (3, 20, 48):
        recording.add(5, since=now - hours * HOUR, until=now - hours * HOUR + 60)
        seal()
        report = archive(url, namespace, to, "minute", "hour", "day")
        assert 0 < report.rows["hour"] < 100
        check(to, recording, "minute", "hour", "day")
    assert compared(url, namespace, to, "minute", "hour", "day").different == 0


def test_a_running_archiver_looks_for_very_late_samples_now_and_then(
    metrics: Metrics,
    url: str,
    namespace: str,
    tmp_path: Path,
    seal: Seal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to, at = f"file://{tmp_path}/archive", (time.time() // HOUR - 48) * HOUR
    store, target = Store(resolve({}, url=url).url, 5.0), open_target(to)
    archiver = archiver_module.Archiver(store.client, namespace, target, ("hour", "day"), "test")
    metrics.increment("jobs", 2, tags={"route": "a"}, timestamp=at)
    seal()
    archiver.pass_once()
    metrics.increment("jobs", 3, tags={"route": "a"}, timestamp=at)
    seal()
    assert archiver.pass_once().rows == {}
    monkeypatch.setattr(archiver_module, "RECHECK_SECONDS", 0.0)
    assert archiver.pass_once().rows == {"hour": 1, "day": 1}
    assert [row["sum"] for row in rows(to, "hour")] == [5]
    target.close()
    store.close()


def test_a_row_has_the_statistics_of_its_slot(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    at = (time.time() // HOUR - 2) * HOUR
    values = [float(each) for each in range(1, 101)]
    for number, value in enumerate(values):
        metrics.histogram("latency", value, tags={"route": "é\0"}, timestamp=at + number)
    metrics.gauge("load", 2.5, timestamp=at)
    seal()
    archive(url, namespace, to, "hour")
    found = {row["metric"]: row for row in rows(to, "hour")}
    row = found["latency"]
    assert (row["namespace"], row["type"]) == (namespace, "histogram")
    assert row["tags"] == {"route": "é␀" if to.startswith("postgresql") else "é\0"}
    assert row["slot"].timestamp() == at
    assert row["last"] == 100.0
    assert row["last_time"].timestamp() == at + 99
    assert row["m2"] == pytest.approx(100 * statistics.pvariance(values), rel=1e-6)
    ranks = np.percentile(values, [50, 95, 99])
    assert [row["p50"], row["p95"], row["p99"]] == pytest.approx(ranks, rel=0.01)
    means, weights, _ = unpack_digest(row["digest"])
    assert weights.sum() == 100
    assert float(np.average(means, weights=weights)) == pytest.approx(50.5, rel=0.01)
    assert [each.tolist() for each in unpack_digest(found["load"]["digest"])[:2]] == [[2.5], [1]]
    assert found["load"]["tags"] == {}


def test_exact_samples_are_replaced_by_minute(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    at = (time.time() // HOUR - 2) * HOUR
    metrics.histogram("latency", 1.0, timestamp=at, metadata={"id": 7})
    metrics.histogram("latency", 2.0, timestamp=at + 1)
    metrics.histogram("latency", 3.0, timestamp=at + 61)
    seal()
    archive(url, namespace, to, "raw")
    metrics.histogram("latency", 4.0, timestamp=at + 0.5)
    seal()
    archive(url, namespace, to, "raw")
    found = sorted((row["time"].timestamp() - at, row["value"]) for row in rows(to, "raw"))
    assert found == [(0, 1.0), (0.5, 4.0), (1, 2.0), (61, 3.0)]
    metadata = [row["metadata"] for row in rows(to, "raw") if row["value"] == 1.0]
    assert [each.replace(" ", "") for each in metadata] == ['{"id":7}']
    assert compared(url, namespace, to, "raw").rows == {"raw": 2}
    # More samples than are kept one by one: those that are archived would count twice.
    for number in range(300):
        metrics.histogram("latency", float(number), timestamp=at + 2 + number / 100)
    seal()
    archive(url, namespace, to, "raw")
    assert [row["value"] for row in rows(to, "raw")] == [3.0]
    assert compared(url, namespace, to, "raw").different == 0


def test_open_and_unbuilt_slots_wait(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal, admin: redis.Redis
) -> None:
    before = (time.time() // HOUR - 2) * HOUR
    metrics.increment("jobs", tags={"route": "a"}, timestamp=before)
    metrics.increment("jobs", tags={"route": "a"})
    seal()
    archive(url, namespace, to, "hour")
    assert [row["slot"].timestamp() for row in rows(to, "hour")] == [before]
    # A worker has not built the hour again yet.
    admin.hset(keys.rollup(namespace, 0, "jobs").due, f"hour {int(before)} 0", 0)
    report = archive(url, namespace, to, "hour", backfill=True)
    assert report.waiting == 1
    assert not any(report.rows.values())
    assert report.lag_seconds >= 2 * HOUR


def test_a_metric_that_was_deleted_keeps_its_rows(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    at = (time.time() // HOUR - 2) * HOUR
    metrics.increment("jobs", 7, tags={"route": "a"}, timestamp=at - HOUR)
    metrics.increment("jobs", 3, tags={"route": "a"}, timestamp=at)
    seal()
    archive(url, namespace, to, "hour")
    # The new metric has as many samples in that hour as the old one had.
    metrics.delete_metric("jobs")
    metrics.increment("jobs", 5, tags={"route": "a"}, timestamp=at)
    seal()
    archive(url, namespace, to, "hour")
    found = {row["slot"].timestamp() - at: row["sum"] for row in rows(to, "hour")}
    assert found == {-HOUR: 7, 0: 5}


def test_backfill_writes_again_what_the_archive_has_lost(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    recording, now = Recording(metrics, 3), time.time()
    recording.add(30, since=now - 10 * HOUR, until=now)
    seal()
    archive(url, namespace, to, "hour")
    lose(to)
    found = compared(url, namespace, to, "hour")
    assert found.different == len(recording.slots("hour"))
    assert found.differences[0]["archive"] is None
    assert archive(url, namespace, to, "hour").rows == {}
    archive(url, namespace, to, "hour", backfill=True)
    check(to, recording, "hour")
    assert compared(url, namespace, to, "hour").different == 0


def lose(to: str) -> None:
    if to.startswith("postgresql"):
        import psycopg

        with psycopg.connect(to) as connection:
            connection.execute("DELETE FROM rm_hour_rows")
        return
    if to.startswith("clickhouse"):
        import clickhouse_connect

        with clickhouse_connect.get_client(dsn=to) as client:
            client.command("TRUNCATE TABLE rm_hour_rows")
        return
    import shutil

    for folder in Path(to.removeprefix("file://")).glob("*/hour"):
        shutil.rmtree(folder)


def test_a_metric_that_changes_while_it_is_read_is_read_again(
    metrics: Metrics,
    url: str,
    namespace: str,
    to: str,
    seal: Seal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording, now = Recording(metrics, 4), time.time()
    recording.add(50, since=now - 10 * HOUR, until=now)
    seal()
    read, seen = archiver_module.read_rollups, []

    def changing(*args: object) -> object:
        if len(seen) < 3:
            seen.append(args)
            recording.add(3, since=now - 4 * HOUR, until=now - 3 * HOUR)
            seal()
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(archiver_module, "read_rollups", changing)
    archive(url, namespace, to, "hour")
    archive(url, namespace, to, "hour")
    assert len(seen) == 3
    check(to, recording, "hour")


def test_a_level_must_be_known() -> None:
    with pytest.raises(InvalidSetting, match="level must be raw, minute, hour or day, got 'week'"):
        archiver_module.check_levels(["week"])
