"""A namespace is copied between real servers and real clusters: nothing is lost, nothing counts twice, whatever interrupts it."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from redismetrics import Gauge, InvalidSetting, Metrics, StoreError, StoreUnavailable, keys
from redismetrics.copying import Progress, Report, copy, reset
from redismetrics.export import export
from tests.clusters import Cluster
from tests.conftest import _short_folder
from tests.servers import Server, wait_until
from tests.test_commands import Shell
from tests.workers import contents, new_worker, pull_forward

NAMES = [f"jobs_{number}" for number in range(12)]
HOUR = 3_600
DAY = 24 * HOUR
Make = Callable[..., Metrics]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    servers: list[Server] = []
    folders = []

    def start(**options: Any) -> Server:
        folders.append(_short_folder())
        servers.append(Server.start(folders[-1], **options))
        return servers[-1]

    try:
        yield Cluster(start)
    finally:
        for server in servers:
            server.kill()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A second server, to copy to."""
    folder = _short_folder()
    try:
        with Server.start(folder, port=True) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make(namespace: str) -> Iterator[Make]:
    made: list[Metrics] = []

    def client(url: str, **settings: Any) -> Metrics:
        made.append(Metrics(url, namespace=namespace, **{"flush_interval": 3_600, **settings}))
        return made[-1]

    yield client
    for each in made:
        each.close(0.5)


def work(url: str, namespace: str) -> None:
    worker = new_worker(url, namespace)
    while worker.pass_once(alone=True):
        pass
    assert worker.counts.last_error is None
    worker.leave()
    worker.store.close()


def fill(metrics: Metrics, url: str, namespace: str) -> None:
    """Every kind of metric, over most of a day, sealed, rolled up and folded, and a tail that no worker has seen."""
    now = time.time()
    for ago in (23 * HOUR, 22 * HOUR, 3 * HOUR, 2 * HOUR, 1 * HOUR, 600, 5):
        for number, name in enumerate(NAMES):
            metrics.increment(name, number + 1, tags={"queue": "mail"}, timestamp=now - ago)
        for value in range(40):
            metrics.histogram(
                "took_ms", value + ago % 7, tags={"host": f"h{value % 4}"}, metadata={"trace": str(value)},
                timestamp=now - ago,
            )  # fmt: skip
        metrics.gauge("depth", ago, tags={"queue": "mail"}, timestamp=now - ago)
        metrics.flush()
        work(url, namespace)
    Gauge("users", metrics=metrics).add(3)
    metrics.declare("bytes_sent", "counter", help="Bytes sent.", unit="bytes")
    metrics.increment("bytes_sent", 2**60)
    metrics.increment("bytes_sent", 0.5)
    metrics.increment("jobs_0", 100, tags={"queue": "mail"})
    metrics.flush()


def answers(url: str, namespace: str) -> dict[str, Any]:
    """What every verb that asks says of all metrics."""
    today = time.time() // DAY * DAY
    window = (today - 2 * DAY, today + DAY)
    with Metrics(url, namespace=namespace) as metrics:
        found: dict[str, Any] = {"list": metrics.list_metrics(), "page": export(metrics=metrics)}
        for row in found["list"]:
            name = row["name"]
            found[name] = [
                [
                    metrics.query(name, aggregation=each)
                    for each in ("count", "sum", "mean", "min", "max", "last", "p95")
                ],
                metrics.query(name, aggregation="sum", group_by="queue"),
                sorted(metrics.query(name), key=repr),
                [
                    metrics.time_series(name, interval=interval, aggregations=("count", "sum", "p50"), window=window)
                    for interval in ("minute", "hour", "day")
                ],
                metrics.rollup(name, group_by="host", aggregations=("mean", "count", "p99"), window=window),
                metrics.get_metrics(name=name, limit=500)["metrics"],
                metrics.tag_values(name, "queue"),
            ]
        found["cardinality"] = metrics.cardinality()
        storage = metrics.get_stats()["storage"]
        found["stats"] = {key: storage[key] for key in ("names", "metrics_stored")}
    return found


def copied(source: str, target: str, namespace: str, **more: Any) -> Report:
    return copy(source, target, namespace=namespace, **{"quiet": 0, **more})


@pytest.fixture
def filled(make: Make, url: str, namespace: str) -> Metrics:
    metrics = make(url)
    fill(metrics, url, namespace)
    return metrics


def test_one_server_becomes_a_cluster_and_a_single_server_again(
    filled: Metrics, make: Make, server: Server, other: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    with server.client() as admin:
        pull_forward(admin, namespace, also=("fold-minute",))
    work(url, namespace)
    filled.increment("jobs_0", tags={"queue": "fresh"})
    filled.flush()
    before = answers(url, namespace)
    with server.client() as admin:
        keys_before = contents(admin, namespace)
    steps: list[Progress] = []
    report = copied(url, cluster.url, namespace, told=steps.append)
    assert report.complete
    assert (report.source_shards, report.target_shards) == (1, 16)
    assert {row.name for row in report.rows} == {*NAMES, "took_ms", "depth", "users", "bytes_sent"}
    assert (report.different, report.changed_meanwhile) == ([], [])
    row = next(row for row in report.rows if row.name == "took_ms")
    assert (row.target.series, row.target.samples, row.target.count) == (4, 280, 280)
    assert {step.phase for step in steps} == {"copying", "counting"}
    assert all(0 <= step.done <= step.total for step in steps)
    with server.client() as admin:
        assert contents(admin, namespace) == keys_before  # the source is only read
    assert answers(cluster.url, namespace) == before

    # Everything goes on there: totals, the worker, new series.
    there = make(cluster.url)
    there.increment("jobs_0", 7, tags={"queue": "mail"})
    there.increment("jobs_0", 1, tags={"queue": "new"})
    Gauge("users", metrics=there).add(2)
    there.increment("brand_new")
    there.flush()
    work(cluster.url, namespace)
    total = 7 * 1 + 100 + 7 + 1 + 1
    assert there.query("jobs_0", aggregation="sum") == total
    assert there.query("users", aggregation="last") == 5
    assert f'jobs_0_total{{queue="mail"}} {7 + 100 + 7}' in export(metrics=there)
    assert there.query("bytes_sent", aggregation="sum") == before["bytes_sent"][0][1]
    assert there.stats()["dropped"] == {}

    # And back, to one shard on another server.
    before = answers(cluster.url, namespace)
    back = copied(cluster.url, other.url, namespace)
    assert (back.complete, back.source_shards, back.target_shards) == (True, 16, 1)
    assert answers(other.url, namespace) == before
    work(other.url, namespace)
    assert answers(other.url, namespace)["jobs_0"][0] == before["jobs_0"][0]


def test_a_copy_with_as_many_shards_is_the_same_key_by_key(
    filled: Metrics, make: Make, server: Server, other: Server, url: str, namespace: str
) -> None:
    assert copied(url, other.url, namespace).complete
    with server.client() as ours, other.client() as theirs:
        expiring = [key for key in contents(ours, namespace) if ours.pttl(key) > 0]
        assert len(expiring) > 5
        for key in expiring:
            assert abs((ours.pttl(key) + now_ms(ours)) - (theirs.pttl(key) + now_ms(theirs))) <= 100
        assert contents(theirs, namespace) == contents(ours, namespace)


def now_ms(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds * 1_000 + microseconds / 1_000)


def test_a_batch_in_doubt_counts_once_where_the_shards_are_as_many(
    make: Make, other: Server, url: str, namespace: str
) -> None:
    """The writer's guard goes along: a process whose name for the server leads to the new one sends what was applied again."""
    metrics = make(url)
    metrics.increment("jobs", 5)
    metrics.flush()
    sent: list[Any] = []
    from redismetrics import operations
    from redismetrics.drive import run

    record = operations.record
    operations.record = lambda batch: (sent.append(batch), record(batch))[1]  # type: ignore[assignment,func-returns-value]
    try:
        metrics.increment("jobs", 2)
        metrics.flush()
    finally:
        operations.record = record
    assert copied(url, other.url, namespace).complete
    there = make(other.url)
    run(there._store.client(), record(sent[0]))
    assert there.query("jobs", aggregation="sum") == 7


class Stopped(Exception):
    pass


def test_interrupted_at_every_step_and_repeated(
    make: Make, server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    metrics = make(url)
    for name in NAMES[:3]:
        metrics.histogram(name, 2, tags={"queue": "mail"})
    metrics.flush()
    work(url, namespace)
    metrics.increment("tail")
    metrics.flush()
    before = answers(url, namespace)
    interruptions = 0
    while True:
        left = interruptions

        def told(progress: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped

        try:
            report = copied(url, cluster.url, namespace, told=told)
            break
        except Stopped:
            interruptions += 1
        with make(cluster.url) as blocked, pytest.raises(StoreUnavailable, match="is being copied to here"):
            blocked.query("tail", aggregation="sum")
    assert interruptions > 3
    assert report.complete
    assert answers(cluster.url, namespace) == before


def test_interrupted_at_every_trip_to_either_side_and_repeated(
    make: Make, other: Server, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a trip, and after it: what was sent was done, and nobody heard of it."""
    from redismetrics import drive

    metrics = make(url)
    metrics.histogram("took_ms", 2, tags={"queue": "mail"})
    metrics.increment("jobs", 2)
    metrics.flush()
    work(url, namespace)
    metrics.increment("jobs")
    metrics.flush()
    before = answers(url, namespace)
    send, left = drive._send, 0

    def failing(client: Any, commands: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise StoreUnavailable("cut before")
        replies = send(client, commands)
        if left == -1:
            raise StoreUnavailable("cut after")
        return replies

    trips = 0
    while not is_open(other, namespace):  # the reply to the last of all may be lost too
        trips += 1
        for start in (trips, trips - 1):
            left = start
            with monkeypatch.context() as patch, suppress(StoreUnavailable):
                patch.setattr(drive, "_send", failing)
                copied(url, other.url, namespace)
            with other.client() as admin:
                admin.delete(keys.copier(namespace))  # as after LOCK_MS
            if is_open(other, namespace):
                break
    assert trips > 20
    assert answers(other.url, namespace) == before


def is_open(server: Server, namespace: str) -> bool:
    with server.client() as admin:
        return admin.hget(keys.config(namespace), "format") == b"1"
