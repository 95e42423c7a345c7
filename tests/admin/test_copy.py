"""A namespace is copied between real servers and real clusters: nothing is lost, nothing counts twice, whatever interrupts it."""

import itertools
import re
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from redismetrics import Gauge, InvalidSetting, Metrics, StoreError, StoreUnavailable
from redismetrics.admin import copying
from redismetrics.admin.copy_metric import CopyLimits
from redismetrics.admin.copy_report import CopyReport, Progress
from redismetrics.admin.copying import copy, reset
from redismetrics.export import export
from redismetrics.recording import write
from redismetrics.store import driver, keys
from tests.cli.test_commands import Shell
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import Server, binaries, wait_until
from tests.fixtures.workers import contents, new_worker, pull_forward

NAMES = [f"jobs_{number}" for number in range(12)]
HOUR = 3_600
DAY = 24 * HOUR


# Metrics are copied and counted one after the other, so that there is a step between them.
ONE_BY_ONE = CopyLimits(metrics=1)


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
    window, week = (today - 2 * DAY, today + DAY), (today - 7 * DAY, today + DAY)
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
                    metrics.time_series(
                        name, interval=interval, aggregations=("count", "sum", "p50"), window=since
                    )
                    for interval, since in (("minute", window), ("hour", week), ("day", week))
                ],
                metrics.rollup(
                    name, group_by="host", aggregations=("mean", "count", "p99"), window=window
                ),
                metrics.get_metrics(name=name, limit=500)["metrics"],
                metrics.tag_values(name, "queue"),
            ]
        found["cardinality"] = metrics.cardinality()
        storage = metrics.get_stats()["storage"]
        found["stats"] = {key: storage[key] for key in ("names", "metrics_stored")}
    return found


def copied(source: str, target: str, namespace: str, **more: Any) -> CopyReport:
    return copy(source, target, namespace=namespace, **{"idle_seconds": 0, **more})


@pytest.fixture
def filled(make_metrics: MakeMetrics, url: str, namespace: str) -> Metrics:
    metrics = make_metrics(url)
    fill(metrics, url, namespace)
    return metrics


def test_one_server_becomes_a_cluster_and_a_single_server_again(
    filled: Metrics,
    make_metrics: MakeMetrics,
    server: Server,
    second_server: Server,
    cluster: Cluster,
    url: str,
    namespace: str,
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
    report = copied(url, cluster.url, namespace, on_progress=steps.append)
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
    there = make_metrics(cluster.url)
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
    back = copied(cluster.url, second_server.url, namespace)
    assert (back.complete, back.source_shards, back.target_shards) == (True, 16, 1)
    assert answers(second_server.url, namespace) == before
    work(second_server.url, namespace)
    assert answers(second_server.url, namespace)["jobs_0"][0] == before["jobs_0"][0]


def test_days_that_were_rolled_up_folded_and_partly_expired_go_along(
    moving_server: Server, cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    """Five days as a worker left them: days, hours, minutes of the last three, exact samples of the last one, and a tail."""
    until = time.time()
    url = moving_server.url
    metrics = make_metrics(url, clock=lambda: moving_server.time)
    for hours in range(5 * 24, 0, -8):
        moving_server.set_time(until - hours * HOUR)
        metrics.increment("jobs", hours, tags={"queue": "mail"}, timestamp=moving_server.time)
        for value in range(30):
            metrics.histogram(
                "took_ms",
                value * hours,
                tags={"queue": f"q{value % 3}"},
                timestamp=moving_server.time,
            )
        metrics.flush()
        work(url, namespace)
    moving_server.set_time(until)
    work(url, namespace)
    metrics.increment("jobs", 1, tags={"queue": "mail"}, timestamp=until)
    metrics.flush()
    with moving_server.client() as admin:
        kept = {key.decode().split(":")[-2] for key in admin.keys(f"rm:{{{namespace}:0}}:jobs:*:*")}
    assert kept == {"raw", "minute", "hour", "day"}
    before = answers(url, namespace)
    assert len(before["jobs"][3][2]) >= 5
    assert copied(url, cluster.url, namespace).complete
    assert answers(cluster.url, namespace) == before
    work(cluster.url, namespace)
    after = answers(cluster.url, namespace)
    assert [after[name][0] for name in ("jobs", "took_ms")] == [
        before[name][0] for name in ("jobs", "took_ms")
    ]
    assert after["jobs"][3] == before["jobs"][3]


def test_a_copy_with_as_many_shards_is_the_same_key_by_key(
    filled: Metrics,
    make_metrics: MakeMetrics,
    server: Server,
    second_server: Server,
    url: str,
    namespace: str,
) -> None:
    assert copied(url, second_server.url, namespace).complete
    with server.client() as ours, second_server.client() as theirs:
        expiring = [key for key in contents(ours, namespace) if ours.pttl(key) > 0]
        assert len(expiring) > 5
        for key in expiring:
            assert abs((ours.pttl(key) + now_ms(ours)) - (theirs.pttl(key) + now_ms(theirs))) <= 100
        assert contents(theirs, namespace) == contents(ours, namespace)


def now_ms(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds * 1_000 + microseconds / 1_000)


def test_a_batch_in_doubt_counts_once_where_the_shards_are_as_many(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    """The writer's guard goes along: a process whose name for the server leads to the new one sends what was applied again."""
    metrics = make_metrics(url)
    metrics.increment("jobs", 5)
    metrics.flush()
    sent: list[Any] = []
    record = write.record
    write.record = lambda batch: (sent.append(batch), record(batch))[1]  # type: ignore[assignment,func-returns-value]
    try:
        metrics.increment("jobs", 2)
        metrics.flush()
    finally:
        write.record = record
    assert copied(url, second_server.url, namespace).complete
    there = make_metrics(second_server.url)
    driver.run(there._store.client(), record(sent[0]))
    assert there.query("jobs", aggregation="sum") == 7


class Stopped(Exception):
    pass


def test_interrupted_at_every_step_and_repeated(
    make_metrics: MakeMetrics, server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
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
            report = copied(url, cluster.url, namespace, on_progress=told, limits=ONE_BY_ONE)
            break
        except Stopped:
            interruptions += 1
        with (
            make_metrics(cluster.url) as blocked,
            pytest.raises(StoreUnavailable, match="is being copied to here"),
        ):
            blocked.query("tail", aggregation="sum")
    assert interruptions > 3
    assert report.complete
    assert answers(cluster.url, namespace) == before


def test_interrupted_at_every_trip_to_either_side_and_repeated(
    make_metrics: MakeMetrics,
    second_server: Server,
    url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before a trip, and after it: what was sent was done, and nobody heard of it."""
    metrics = make_metrics(url)
    metrics.histogram("took_ms", 2, tags={"queue": "mail"})
    metrics.increment("jobs", 2)
    metrics.flush()
    work(url, namespace)
    metrics.increment("jobs")
    metrics.flush()
    before = answers(url, namespace)
    send, left = driver._send, 0

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
    while not is_open(second_server, namespace):  # the reply to the last of all may be lost too
        trips += 1
        for start in (trips, trips - 1):
            left = start
            with monkeypatch.context() as patch, suppress(StoreUnavailable):
                patch.setattr(driver, "_send", failing)
                copied(url, second_server.url, namespace)
            with second_server.client() as admin:
                admin.delete(keys.copier(namespace))  # as after LOCK_MS
            if is_open(second_server, namespace):
                break
    assert trips > 20
    assert answers(second_server.url, namespace) == before


def is_open(server: Server, namespace: str) -> bool:
    with server.client() as admin:
        return admin.hget(keys.config(namespace), "format") == b"1"


@pytest.mark.parametrize("shards", [1, 4])
def test_keys_that_are_large_go_in_pieces(
    filled: Metrics,
    second_server: Server,
    url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    shards: int,
) -> None:
    for number in range(700):
        filled.increment("jobs_0", tags={"user": str(number)})
    filled.flush()
    work(url, namespace)
    for number in range(70):
        filled.histogram("took_ms", number)
        filled.flush()
    before = answers(url, namespace)
    limits = CopyLimits(part_bytes=2_000, fields=7)
    send, largest = driver._send, 0

    def measured(client: Any, commands: Any) -> Any:
        nonlocal largest
        replies = send(client, commands)
        if commands[0][0] in ("HSCAN", "ZRANGE", "HGETALL") and len(commands) <= 3:
            largest = max(largest, sum(len(each) for each in replies[0] if isinstance(each, bytes)))
        return replies

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_send", measured)
        assert copied(url, second_server.url, namespace, shards=shards, limits=limits).complete
    assert 0 < largest < 20_000
    assert answers(second_server.url, namespace) == before


@pytest.mark.parametrize(
    "pair",
    list(itertools.permutations(binaries(), 2)),
    ids=lambda pair: f"{pair[0].name}-{pair[1].name}",
)
def test_between_servers_of_different_kinds(
    fresh_server: Callable[..., Server],
    make_metrics: MakeMetrics,
    namespace: str,
    pair: tuple[Path, Path],
) -> None:
    old, new = (fresh_server(binary=binary) for binary in pair)
    fill(make_metrics(old.url), old.url, namespace)
    before = answers(old.url, namespace)
    assert copied(old.url, new.url, namespace).complete
    assert answers(new.url, namespace) == before


# -- moving without a pause ---------------------------------------------------------------------------------------


def test_processes_move_one_by_one_while_others_record_and_nothing_is_lost_or_doubled(
    make_metrics: MakeMetrics, cluster: Cluster, url: str, namespace: str
) -> None:
    """As the page says: the copy waits; new processes hold what they record, old ones end; then all goes on."""
    old = make_metrics(url)
    old.increment("jobs", 5)
    old.flush()
    worker = new_worker(url, namespace)
    worker.pass_once()
    new = make_metrics(cluster.url, flush_interval=0.05)
    told: list[Progress] = []

    def during(progress: Progress) -> None:
        told.append(progress)
        if progress.phase != "waiting":
            return
        waits = sum(each.phase == "waiting" for each in told)
        if waits == 1:
            new.increment("jobs", 10)
            with pytest.raises(StoreUnavailable, match="being copied to here"):
                new.flush(0.3)
            old.increment("jobs", 100)
            old.close()
        elif waits == 2:
            worker.leave()
            new.increment("jobs", 1_000)

    report = copied(url, cluster.url, namespace, wait=20, idle_seconds=0.5, on_progress=during)
    assert report.complete
    waiting = [each.metric for each in told if each.phase == "waiting"]
    assert "1 worker is running" in waiting[0]
    new.flush(10)
    assert new.stats()["dropped"] == {}
    assert new.query("jobs", aggregation="sum") == 1_115
    assert "jobs_total 1115" in export(metrics=new)
    worker.store.close()


def test_a_source_in_use_is_refused_and_left_alone(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    with pytest.raises(
        StoreError, match=r"in use, the last batch came 0\.\d s ago; stop the processes that record"
    ):
        copy(url, second_server.url, namespace=namespace)
    worker = new_worker(url, namespace)
    worker.pass_once()
    with pytest.raises(StoreError, match="in use, 1 worker is running"):
        copied(url, second_server.url, namespace)
    with second_server.client() as admin:
        assert contents(admin, namespace) == {}
        with pytest.raises(
            StoreError,
            match=r"still in use after 0\.2 s, 1 worker is running\. The target stays closed",
        ):
            copied(url, second_server.url, namespace, wait=0.2)
        assert admin.hget(keys.config(namespace), "format") == b"copying"
    worker.leave()
    worker.store.close()
    assert copied(url, second_server.url, namespace).complete


def test_what_is_recorded_while_it_is_copied_is_noticed(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for name in NAMES:
        metrics.increment(name)
    metrics.flush()
    late = False

    def once(progress: Progress) -> None:
        nonlocal late
        if progress.phase == "copying" and progress.metric == NAMES[-1] and not late:
            late = True
            metrics.increment(NAMES[0], 10)
            metrics.flush()

    with pytest.raises(
        StoreError, match=r"was recorded while it was copied; .* the target stays closed"
    ):
        copied(url, second_server.url, namespace, on_progress=once, limits=ONE_BY_ONE)
    assert copied(url, second_server.url, namespace, on_progress=once, limits=ONE_BY_ONE).complete
    assert make_metrics(second_server.url).query(NAMES[0], aggregation="sum") == 11


def test_a_rehearsal_copies_what_is_in_use_each_metric_as_it_was_at_one_moment(
    make_metrics: MakeMetrics,
    second_server: Server,
    url: str,
    namespace: str,
) -> None:
    limits = CopyLimits(metrics=1, part_bytes=500, fields=2)
    metrics = make_metrics(url)
    for name in NAMES:
        metrics.increment(name, tags={"queue": "mail"})
    metrics.flush()
    recorded = 0

    def during(progress: Progress) -> None:
        nonlocal recorded
        if progress.phase == "copying" and recorded < 2:  # jobs_0 is read three times
            recorded += 1
            metrics.increment("jobs_0", tags={"queue": str(recorded)})
            metrics.flush()
        elif progress.phase == "counting" and progress.metric == "jobs_0":
            metrics.increment("jobs_11")
            metrics.flush()

    report = copied(
        url, second_server.url, namespace, allow_active=True, on_progress=during, limits=limits
    )
    assert report.complete
    assert report.changed_meanwhile == ["jobs_11"]
    there = make_metrics(second_server.url)
    assert there.query("jobs_0", aggregation="sum") == 3
    assert there.query("jobs_0", aggregation="count", group_by="queue") == [
        {"queue": "1", "count": 1}, {"queue": "2", "count": 1}, {"queue": "mail", "count": 1},
    ]  # fmt: skip
    assert there.query("jobs_11", aggregation="sum") == 1

    def always(progress: Progress) -> None:
        metrics.increment("jobs_0")
        metrics.flush()

    there.clear(confirm=True)
    with pytest.raises(StoreError, match="jobs_0 changed each of the 5 times"):
        copied(
            url, second_server.url, namespace, allow_active=True, on_progress=always, limits=limits
        )
    there.close()
    assert reset(second_server.url, namespace=namespace) > 0


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_target_with_metrics_is_refused_until_it_is_cleared(
    make_metrics: MakeMetrics, second_server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    here, there = make_metrics(url), make_metrics(second_server.url)
    here.increment("jobs", 3)
    here.flush()
    there.increment("jobs", 4, tags={"a": "b"})
    there.flush()
    with pytest.raises(StoreError, match=r"already has 1 metric; .* `redismetrics clear`"):
        copied(url, second_server.url, namespace)
    with pytest.raises(StoreError, match="has 1 metric that no interrupted copy left"):
        reset(second_server.url, namespace=namespace)
    with pytest.raises(StoreError, match="already"):
        copied(url, url, namespace)
    assert there.query("jobs", aggregation="sum") == 4
    assert make_metrics(second_server.url).clear(confirm=True) == 1
    with pytest.raises(StoreError, match="was created with 1 shard, not 4"):
        copied(url, second_server.url, namespace, shards=4)
    assert reset(second_server.url, namespace=namespace) == 0
    worker = new_worker(second_server.url, namespace)
    worker.pass_once()
    with pytest.raises(StoreError, match="in use, 1 worker is running; stop them"):
        copied(url, second_server.url, namespace)
    worker.leave()
    worker.store.close()
    assert copied(url, second_server.url, namespace).complete
    assert make_metrics(second_server.url).query("jobs", aggregation="sum") == 3


def test_who_recorded_at_the_target_before_it_was_cleared_learns_the_numbers_of_series_anew(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    here, there = make_metrics(url), make_metrics(second_server.url)
    here.increment("jobs", 3)
    here.flush()
    there.increment("jobs", 4, tags={"a": "b"})
    there.flush()
    make_metrics(second_server.url).clear(confirm=True)
    assert copied(url, second_server.url, namespace).complete
    there.increment("jobs", 20, tags={"a": "b"})  # whose number is another series' now
    there.flush()
    assert make_metrics(second_server.url).query("jobs", aggregation="sum", group_by="a") == [
        {"a": None, "sum": 3}, {"a": "b", "sum": 20},
    ]  # fmt: skip


def test_who_has_been_recording_at_the_target_is_noticed(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    here, there = make_metrics(url), make_metrics(second_server.url)
    here.increment("jobs")
    here.flush()
    there.increment("others")
    there.flush()
    there.clear(confirm=True)

    def during(progress: Progress) -> None:
        there.increment("others")
        there.flush()

    with pytest.raises(StoreError, match="was recorded while it was copied to"):
        copied(url, second_server.url, namespace, on_progress=during)
    assert reset(second_server.url, namespace=namespace) == 2
    with second_server.client() as admin:
        left = set(contents(admin, namespace))
    assert {key.rpartition(b":")[2] for key in left} <= {b"state"}  # which outlives a metric
    assert copied(url, second_server.url, namespace).complete
    assert [row["name"] for row in make_metrics(second_server.url).list_metrics()] == ["jobs"]


def test_a_target_begun_with_other_retentions_is_refused(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    here = make_metrics(url)
    here.increment("jobs")
    here.flush()
    with make_metrics(second_server.url, day_retention=400 * DAY) as there:
        there.increment("x")
        there.flush()
        there.clear(confirm=True)
    with pytest.raises(
        StoreError, match=r"other retentions, .*day:34560000 .*`redismetrics copy --reset`"
    ):
        copied(url, second_server.url, namespace)
    assert reset(second_server.url, namespace=namespace) == 0
    assert copied(url, second_server.url, namespace).complete


def test_the_source_s_retentions_go_along(
    make_metrics: MakeMetrics, second_server: Server, namespace: str, url: str
) -> None:
    with make_metrics(url, day_retention=400 * DAY) as here:
        here.increment("jobs")
        here.flush()
    assert copied(url, second_server.url, namespace).complete
    with second_server.client() as admin:
        assert (
            admin.hget(keys.config(namespace), "retentions")
            == b"raw:86400 minute:259200 hour:7776000 day:34560000"
        )


def test_a_metric_deleted_after_an_interruption_is_not_at_the_target(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for name in NAMES:
        metrics.increment(name)
    metrics.flush()

    def stop(progress: Progress) -> None:
        if progress.phase == "counting":
            raise Stopped

    with pytest.raises(Stopped):
        copied(url, second_server.url, namespace, on_progress=stop)
    metrics.delete_metric(NAMES[3])
    assert copied(url, second_server.url, namespace).complete
    assert {row["name"] for row in make_metrics(second_server.url).list_metrics()} == {*NAMES} - {
        NAMES[3]
    }


def test_two_copies_at_once_are_refused(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    refused = 0

    def again(progress: Progress) -> None:
        nonlocal refused
        for attempt in (
            lambda: copied(url, second_server.url, namespace),
            lambda: reset(second_server.url, namespace=namespace),
        ):
            with pytest.raises(StoreError, match="is being copied to by another process"):
                attempt()
            refused += 1

    assert copied(url, second_server.url, namespace, on_progress=again).complete
    assert refused > 3

    def taken(progress: Progress) -> None:
        with second_server.client() as admin:
            admin.set(keys.copier(namespace), "somebody")

    make_metrics(second_server.url).clear(confirm=True)
    with pytest.raises(
        StoreError, match="is now being copied to by another process; this copy ends"
    ):
        copied(url, second_server.url, namespace, on_progress=taken)
    with second_server.client() as admin:
        assert admin.get(keys.copier(namespace)) == b"somebody"


def test_wrong_urls_say_which_side_and_never_the_password(
    make_metrics: MakeMetrics,
    fresh_server: Callable[..., Server],
    second_server: Server,
    url: str,
    namespace: str,
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    closed = fresh_server(port=True)
    with closed.client() as admin:
        admin.config_set("requirepass", "right")
    with pytest.raises(StoreError, match="does not exist; there is nothing to copy"):
        copied(url, second_server.url, f"{namespace}-none")
    for wrong in (f"redis://:geheim@127.0.0.1:{closed.port}/0", "redis://:geheim@127.0.0.1:1/0"):
        for source, target in ((wrong, second_server.url), (url, wrong)):
            with pytest.raises(StoreError, match=r"^redis://:\*\*\*@127.0.0.1") as raised:
                copied(source, target, namespace)
            assert "geheim" not in str(raised.value)
    for wrong in ("http://:geheim@x", "none://", "redis+cluster://:geheim@h:1:2"):
        for source, target in ((wrong, second_server.url), (url, wrong)):
            with pytest.raises(InvalidSetting, match="url") as bad:
                copied(source, target, namespace)
            assert "geheim" not in str(bad.value)
    with pytest.raises(InvalidSetting, match="shards must be 1 to 16384, got 0"):
        copied(url, second_server.url, namespace, shards=0)


def test_it_needs_no_more_rights_than_the_page_says(
    make_metrics: MakeMetrics, fresh_server: Callable[..., Server], cluster: Cluster, namespace: str
) -> None:
    """What it needs at the target it needs also to delete what an interrupted copy left."""
    server = fresh_server(port=True)
    with server.client() as admin:
        admin.execute_command(
            "ACL", "SETUSER", "reader", "on", ">pw", "resetchannels", "%R~rm:*", "+@read", "+time"
        )
    for number in range(3):
        rights = (
            "resetchannels",
            "~rm:*",
            "+@read",
            "+@write",
            "+time",
            "+multi",
            "+exec",
            "+cluster|slots",
            "+asking",
        )
        cluster.command(number, "ACL", "SETUSER", "copier", "on", ">pw", *rights)
    fill(make_metrics(server.url), server.url, namespace)
    sides = (
        server.url.replace("://", "://reader:pw@"),
        cluster.url.replace("://", "://copier:pw@"),
    )

    def stop(progress: Progress) -> None:
        if progress.phase == "counting":
            raise Stopped

    with pytest.raises(Stopped):
        copied(*sides, namespace, on_progress=stop)
    assert reset(sides[1], namespace=namespace) > 10
    assert copied(*sides, namespace).complete


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_copies_tells_and_ends_with_the_verdict(
    make_metrics: MakeMetrics, server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for number, name in enumerate(NAMES):
        metrics.increment(name, number + 1)
    metrics.flush()
    shell = Shell(url, namespace)
    sides: tuple[str, ...] = ("--from", url, "--to", cluster.url)
    status, out, err = shell("copy", *sides)
    assert (status, out) == (1, "")
    assert "in use, the last batch came" in err
    sides += ("--active",)  # or it would have to be left alone for some seconds
    status, out, err = shell("copy", *sides)
    assert (status, err) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["name", "series", "samples", "count", "fields", "bytes", "sides"]
    assert {line[0] for line in lines[1:-1]} == set(NAMES)
    assert {tuple(line[at] for at in (1, 2, 6)) for line in lines[1:-1]} == {("1", "1", "same")}
    assert "Copied 12 metrics" in lines[-1][0]
    assert "1 shard" in lines[-1][0]
    assert "16 shards" in lines[-1][0]
    assert Shell(cluster.url, namespace)("query", "jobs_4", "-a", "sum") == (0, "5\n", "")
    status, _, err = shell("copy", *sides)
    assert status == 1
    assert "already has 12 metrics" in err
    with make_metrics(cluster.url) as there:
        there.clear(confirm=True)
    told = shell.json("copy", *sides)
    assert told["complete"] is True
    assert (told["source_shards"], told["target_shards"], told["different"]) == (1, 16, [])
    assert told["metrics"][0]["source"] == told["metrics"][0]["target"]
    assert len(told["metrics"]) == 12
    with make_metrics(cluster.url) as there:
        there.clear(confirm=True)
    status, screen = shell.at_a_terminal("copy", *sides)
    assert status == 0
    assert "counting both sides" in screen
    assert "same" in screen


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--to", "redis://localhost"), "--from URL is missing"),
        (("--from", "redis://localhost"), "--to"),
        (("--to", "redis://localhost", "--reset", "--active"), "--reset can be combined"),
        (("--to", "http://:geheim@x", "--from", "redis://localhost"), "url"),
        (("--to", "redis://localhost", "--from", "redis://localhost", "--shards", "0"), "--shards"),
    ],
)
def test_a_wrong_call_of_the_command_says_so(args: tuple[str, ...], said: str) -> None:
    status, out, err = Shell("redis://localhost:1/0", "x")("copy", *args)
    assert (status, out) == (2, "")
    assert said in err
    assert "geheim" not in err


def test_the_command_tells_a_side_that_does_not_answer(
    make_metrics: MakeMetrics, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    status, out, err = Shell(url, namespace)(
        "copy", "--from", url, "--to", "redis://:geheim@127.0.0.1:1/0"
    )
    assert (status, out) == (1, "")
    assert "127.0.0.1:1" in err
    assert "repeat the copy" in err
    assert "geheim" not in err


def test_differing_counts_are_told_and_the_target_stays_closed(
    make_metrics: MakeMetrics, server: Server, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs", tags={"a": "b"})
    metrics.increment("more")
    metrics.flush()
    done: list[str] = []

    def spoil(progress: Progress) -> None:
        if progress.phase == "counting" and not done:
            done.append(progress.metric)
            with second_server.client() as admin:
                admin.hset(keys.metric(namespace, 0, "more").series, "spoilt", 7)

    report = copied(url, second_server.url, namespace, on_progress=spoil, limits=ONE_BY_ONE)
    assert (report.complete, report.different, report.changed_meanwhile) == (False, ["more"], [])
    assert not is_open(second_server, namespace)
    assert copied(url, second_server.url, namespace).complete


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda each: each.name)
def test_a_command_that_is_killed_or_stopped_is_repeated(
    make_metrics: MakeMetrics, cluster: Cluster, url: str, namespace: str, how: signal.Signals
) -> None:
    metrics = make_metrics(url)
    many = [f"jobs_{number}" for number in range(300)]
    for name in many:
        metrics.increment(name, 3)
    metrics.flush()
    shell = Shell(url, namespace)
    sides = ("--from", url, "--to", cluster.url, "--active")
    noted_in = keys.copying(namespace)
    node = cluster.nodes[cluster.owner(key_slot(noted_in.encode()))]
    with node.client() as admin, shell.start("copy", *sides) as process:
        wait_until(
            lambda: process.poll() is not None or admin.hlen(noted_in) > 20,
            "some metrics are copied",
        )
        process.send_signal(how)
        assert process.wait() == (
            -signal.SIGKILL if how is signal.SIGKILL else 128 + signal.SIGTERM
        )
        noted = admin.hlen(noted_in)
    assert 20 < noted < 300
    if how is signal.SIGKILL:  # else it took its lock along
        status, _, err = shell("copy", *sides)
        assert status == 1
        assert "is being copied to by another process; wait for it, or 30 s" in err
        lock = keys.copier(namespace)
        with cluster.nodes[cluster.owner(key_slot(lock.encode()))].client() as admin:
            admin.delete(lock)
    assert shell("copy", *sides)[0] == 0
    with make_metrics(cluster.url) as there:
        assert [there.query(name, aggregation="sum") for name in many] == [3] * 300


def test_an_interrupted_copy_can_be_given_up(
    make_metrics: MakeMetrics, second_server: Server, server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for name in NAMES:
        metrics.increment(name)
    metrics.flush()

    def stop(progress: Progress) -> None:
        if progress.phase == "counting":
            raise Stopped

    with pytest.raises(Stopped):
        copied(url, second_server.url, namespace, on_progress=stop)
    shell = Shell(second_server.url, namespace)
    assert "is being copied to here" in shell("list")[2]
    assert shell("copy", "--reset", "--to", second_server.url) == (0, "Deleted 12 metrics.\n", "")
    assert shell("copy", "--reset", "--to", second_server.url, "--json") == (
        0,
        '{"deleted": 0}\n',
        "",
    )
    assert shell("list") == (0, "", "")
    there = make_metrics(second_server.url)
    there.increment("jobs")
    there.flush()
    assert there.query("jobs", aggregation="sum") == 1


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_page_s_command_prints_what_stands_below_it(
    fresh_server: Callable[..., Server], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (block,) = re.findall(r"```console\n\$ (.*?)```", page, re.DOTALL)
    command, _, printed = block.partition("\n")
    monkeypatch.setattr(copying, "copy", partial(copy, idle_seconds=0.2))
    old = fresh_server(port=True)
    urls = {"redis://old:6379/0": old.url, "redis+cluster://new-1:6379,new-2:6379": cluster.url}
    with Metrics(old.url, namespace="prod") as metrics:
        for shop, times in (("berlin", 3), ("oslo", 1)):
            metrics.increment("orders_placed", times, tags={"shop": shop})
        for value in (1.5, 2.5, 3.5):
            metrics.histogram("delivery_ms", value)
    status, out, err = Shell(old.url, "prod")(
        *(urls.get(word, word) for word in shlex.split(command)[1:])
    )
    assert (status, err) == (0, "")
    for shown, real in urls.items():
        out = out.replace(real, shown)
    assert alike(out) == alike(printed)


def alike(printed: str) -> str:
    """Without what differs from run to run: the bytes of times, and seconds."""
    return re.sub(r"\d+\tsame|in [0-9.]+ s", "", printed)
