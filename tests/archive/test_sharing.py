"""Archivers that are killed at any step, that share the work, and that archive a cluster."""

import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.archive import archiver as archiver_module
from redismetrics.archive.archiver import Archiver, PassReport
from redismetrics.archive.state import GROUPS, group_of
from redismetrics.archive.target import open_target
from redismetrics.settings import resolve
from redismetrics.store import keys
from redismetrics.store.connection import Store
from tests.archive.tools import DAY, HOUR, Recording, Seal, archive, check, compared, rows, settle
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import PROCESS_PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    # One metric, of which two hours of a day are over, and the day.
    yesterday = (time.time() // DAY - 1) * DAY
    for number in range(4):
        at = yesterday + HOUR * (number % 2)
        metrics.increment("jobs", number, tags={"route": "a"}, timestamp=at)
    seal()
    done = subprocess.run(
        [sys.executable, "-m", "tests.archive.killed_passes", url, namespace, to],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PROCESS_PATIENCE,
        check=True,
    )
    passes = int(done.stdout)
    assert passes > 10
    for number in range(passes):
        where = (f"{to}/{number}", "") if to.startswith("file") else (to, f"k{number}_")
        found = {level: rows(where[0], level, where[1]) for level in ("hour", "day")}
        assert sorted(row["sum"] for row in found["hour"]) == [2, 4]
        assert [row["sum"] for row in found["day"]] == [6]


def one_pass(url: str, namespace: str, to: str, holder: str) -> PassReport:
    with (
        closing(Store(resolve({}, url=url).url, 60.0)) as store,
        closing(open_target(to)) as target,
    ):
        return Archiver(store.client, namespace, target, ("hour",), holder).pass_once()


def test_two_archivers_share_the_work(
    metrics: Metrics,
    url: str,
    namespace: str,
    to: str,
    seal: Seal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"jobs_{number}" for number in range(40)]
    for name in names:
        metrics.increment(name, tags={"route": "a"}, timestamp=time.time() - 2 * HOUR)
    seal()
    # However long this test is stopped, no lease expires.
    monkeypatch.setattr(archiver_module, "LEASE_MS", 3_600_000)
    is_reading, go_on = threading.Event(), threading.Event()
    read = archiver_module.read_rollups

    def waiting(*args: Any) -> Any:
        if threading.current_thread() is thread:
            is_reading.set()
            assert go_on.wait(PROCESS_PATIENCE)
        return read(*args)

    monkeypatch.setattr(archiver_module, "read_rollups", waiting)
    reports: list[PassReport] = []
    thread = threading.Thread(target=lambda: reports.append(one_pass(url, namespace, to, "slow")))
    thread.start()
    try:
        assert is_reading.wait(PROCESS_PATIENCE)
        # While the first one is at its first group, the second one does all others.
        report = one_pass(url, namespace, to, "fast")
    finally:
        go_on.set()
        thread.join(PROCESS_PATIENCE)
    assert len({group_of(name) for name in names}) == GROUPS
    held = group_of("slow")
    assert report.elsewhere == 1
    assert report.rows == {"hour": sum(group_of(name) != held for name in names)}
    assert reports[0].rows == {"hour": sum(group_of(name) == held for name in names)}
    assert sorted(row["metric"] for row in rows(to, "hour")) == sorted(names)


@pytest.mark.slow
def test_a_cluster_is_archived(
    cluster: Cluster,
    make_metrics: MakeMetrics,
    make_worker: MakeWorker,
    namespace: str,
    tmp_path: Path,
) -> None:
    metrics, to = make_metrics(cluster.url, max_age=60 * HOUR), f"file://{tmp_path}/archive"
    names = [f"jobs_{number}" for number in range(20)]
    shards = {keys.shard_of(name, 16) for name in names}
    assert len(shards) > 5
    recording = Recording(metrics, 9)
    now = time.time()
    recording.add(60, since=now - 40 * HOUR, until=now)
    for number, name in enumerate(names):
        metrics.increment(name, number + 1, tags={"route": "a"}, timestamp=now - 2 * HOUR)
    worker = make_worker(cluster.url)
    with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as admin:
        settle(metrics, worker, admin, namespace, shards=16)
        report = archive(cluster.url, namespace, to, "raw", "hour", "day")
        assert (report.skipped, report.waiting, report.metrics) == ({}, 0, 22)
        found = {row["metric"]: row["sum"] for row in rows(to, "hour")}
        assert [found[name] for name in names] == list(range(1, 21))
        check(to, recording, "hour", "day", metrics={"latency", "jobs"})
        assert archive(cluster.url, namespace, to, "raw", "hour", "day").rows == {}
        # Late samples replace their rows.
        metrics.increment("jobs_7", 5, tags={"route": "a"}, timestamp=now - 2 * HOUR)
        settle(metrics, worker, admin, namespace, shards=16)
        assert archive(cluster.url, namespace, to, "raw", "hour", "day").rows["hour"] == 1
    assert {row["sum"] for row in rows(to, "hour") if row["metric"] == "jobs_7"} == {13}
    assert compared(cluster.url, namespace, to, "raw", "hour", "day").different == 0
