"""A namespace is copied between real servers and clusters: nothing is lost or counted twice."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Gauge, Metrics, StoreError, StoreUnavailable
from redismetrics.admin.copy_report import Progress
from redismetrics.admin.copying import reset
from redismetrics.export import export
from redismetrics.recording import write
from redismetrics.store import driver, keys
from tests.fixtures.clients import MakeMetrics, fail_to_send
from tests.fixtures.clusters import Cluster
from tests.fixtures.copies import (
    DAY,
    NAMES,
    ONE_BY_ONE,
    Stopped,
    answers,
    copied,
    fill,
    work,
)
from tests.fixtures.newer import (
    OPTIONS,
    append_unknown_change,
    set_definition,
    set_exemplar,
    set_value,
)
from tests.fixtures.servers import PATIENCE, Server, binaries
from tests.fixtures.workers import contents, new_worker, pull_forward

pytestmark = pytest.mark.slow


def test_a_server_is_copied_to_a_cluster_and_back(
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


def test_a_repeated_batch_counts_once_with_the_same_number_of_shards(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    """The writers are copied, so the new server detects a batch that was applied before."""
    metrics = make_metrics(url)
    metrics.increment("jobs", 5)
    metrics.flush()
    sent: list[Any] = []
    record = write.record

    def recording(batch: Any, *others: Any) -> Any:
        sent.append(batch)
        return record(batch, *others)

    write.record = recording  # type: ignore[assignment]
    try:
        metrics.increment("jobs", 2)
        metrics.flush()
    finally:
        write.record = record
    assert copied(url, second_server.url, namespace).complete
    there = make_metrics(second_server.url)
    driver.run(there._store.client(), record(sent[0]))
    assert there.query("jobs", aggregation="sum") == 7


@pytest.mark.parametrize(
    "pair",
    list(itertools.permutations(binaries(), 2)),
    ids=lambda pair: f"{pair[0].name}-{pair[1].name}",
)
def test_a_namespace_is_copied_between_different_servers(
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


def test_processes_move_one_by_one_and_nothing_is_lost_or_counted_twice(
    make_metrics: MakeMetrics, cluster: Cluster, url: str, namespace: str
) -> None:
    """As documented: the copy waits until old processes end; new ones keep their samples."""
    old = make_metrics(url)
    old.increment("jobs", 5)
    old.flush()
    worker = new_worker(url, namespace)
    worker.pass_once()
    new = make_metrics(cluster.url, flush_interval=0.05)
    steps: list[Progress] = []

    def during(progress: Progress) -> None:
        steps.append(progress)
        if progress.phase != "waiting":
            return
        waits = sum(each.phase == "waiting" for each in steps)
        if waits == 1:
            new.increment("jobs", 10)
            fail_to_send(new)
            with pytest.raises(StoreUnavailable, match="being copied to here"):
                new.flush(0.1)
            old.increment("jobs", 100)
            old.close()
        elif waits == 2:
            worker.leave()
            new.increment("jobs", 1_000)

    report = copied(url, cluster.url, namespace, wait=20, idle_seconds=0.5, on_progress=during)
    assert report.complete
    waiting = [each.metric for each in steps if each.phase == "waiting"]
    assert "1 worker is running" in waiting[0]
    new.flush(PATIENCE)
    assert new.stats()["dropped"] == {}
    assert new.query("jobs", aggregation="sum") == 1_115
    assert "jobs_total 1115" in export(metrics=new)
    worker.store.close()


def test_recording_during_the_copy_is_detected(
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
        StoreError, match=r"received samples during the copy; .* the target stays closed"
    ):
        copied(url, second_server.url, namespace, on_progress=once, limits=ONE_BY_ONE)
    assert copied(url, second_server.url, namespace, on_progress=once, limits=ONE_BY_ONE).complete
    assert make_metrics(second_server.url).query(NAMES[0], aggregation="sum") == 11


def test_a_target_with_metrics_is_rejected_until_it_is_cleared(
    make_metrics: MakeMetrics, second_server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    here, there = make_metrics(url), make_metrics(second_server.url)
    here.increment("jobs", 3)
    here.flush()
    there.increment("jobs", 4, tags={"a": "b"})
    there.flush()
    with pytest.raises(StoreError, match=r"already has 1 metric; .* `redismetrics clear`"):
        copied(url, second_server.url, namespace)
    with pytest.raises(StoreError, match="contains 1 metric not left by an interrupted copy"):
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


def test_a_process_that_recorded_at_the_target_before_learns_the_new_series_ids(
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
        {"a": None, "sum": 3},
        {"a": "b", "sum": 20},
    ]


def test_recording_at_the_target_during_the_copy_is_detected(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    here, there = make_metrics(url), make_metrics(second_server.url)
    here.increment("jobs")
    here.flush()
    there.increment("others")
    there.flush()
    there.clear(confirm=True)

    def during(progress: Progress) -> None:
        # A process that opened the namespace before the copy, and has nothing confirmed that the
        # copy removed: otherwise it would open the namespace again, and wait.
        there._sink.sender._confirmed.clear()
        there.increment("others")
        there.flush()

    with pytest.raises(StoreError, match="received samples during the copy"):
        copied(url, second_server.url, namespace, on_progress=during)
    assert reset(second_server.url, namespace=namespace) == 2
    with second_server.client() as admin:
        left = set(contents(admin, namespace))
    assert {key.rpartition(b":")[2] for key in left} <= {b"state"}  # which outlives a metric
    assert copied(url, second_server.url, namespace).complete
    assert [row["name"] for row in make_metrics(second_server.url).list_metrics()] == ["jobs"]


def test_a_target_created_with_other_retentions_is_rejected(
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
        StoreError, match=r"with retentions of .*day:34560000 .*`redismetrics copy --reset`"
    ):
        copied(url, second_server.url, namespace)
    assert reset(second_server.url, namespace=namespace) == 0
    assert copied(url, second_server.url, namespace).complete


def test_the_retentions_of_the_source_are_copied(
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


def test_data_written_by_a_newer_version_is_copied(
    make_metrics: MakeMetrics, server: Server, second_server: Server, namespace: str, url: str
) -> None:
    metrics = make_metrics(url)
    for name in ("jobs", "latency"):
        metrics.increment(name)
    metrics.flush()
    with server.client() as here, second_server.client() as there:
        set_definition(here, namespace, "latency", kind="sketch", rest=OPTIONS)
        set_definition(here, namespace, "jobs", rest=OPTIONS)
        for name in ("jobs", "latency"):
            append_unknown_change(here, namespace, name)
            set_value(here, namespace, name, 0, "newer", 1.5)
            set_exemplar(here, namespace, name, 0, 0)
        # What was there before is replaced.
        there.hset(keys.exemplars(namespace, 0, "jobs"), "3 0", b"other")
        report = copied(url, second_server.url, namespace)
        assert (report.different, report.changed_meanwhile) == ([], [])
        before, after = contents(here, namespace), contents(there, namespace)
        for name in ("jobs", "latency"):
            of, exemplars = keys.metric(namespace, 0, name), keys.exemplars(namespace, 0, name)
            for key in (of.totals.encode(), exemplars.encode()):
                assert after[key] == before[key]
            assert abs(there.ttl(exemplars) - here.ttl(exemplars)) <= 60
        catalogue = keys.shard(namespace, 0).catalogue
        assert there.hgetall(catalogue) == here.hgetall(catalogue)


def test_all_types_and_exemplars_are_copied(
    make_metrics: MakeMetrics, second_server: Server, namespace: str, url: str
) -> None:
    metrics = make_metrics(url)
    metrics.summary("took").record(1.5, queue="mail")
    metrics.info("build").set({"version": "1"}, app="shop")
    metrics.info("build").set({"version": "2"}, app="shop")
    metrics.state_set("job", ["running", "stopped"]).set("stopped")
    metrics.histogram("size", 2.5, exemplar={"trace_id": "t1"})
    metrics.flush()
    report = copied(url, second_server.url, namespace)
    assert (report.different, report.changed_meanwhile) == ([], [])
    there = make_metrics(second_server.url)
    assert there.live(exemplars=True) == metrics.live(exemplars=True)
    assert there.exemplars("size") == metrics.exemplars("size") != []
    # Recording goes on there.
    there.info("build").set({"version": "3"}, app="shop")
    there.state_set("job").set("running")
    there.flush()
    (build,), (job,) = there.live("build"), there.live("job")
    assert [each.tags["version"] for each in build.series] == ["3"]
    assert {each.tags["job"]: each.value for each in job.series} == {"running": 1, "stopped": 0}


def test_values_of_processes_are_copied(
    make_metrics: MakeMetrics, second_server: Server, namespace: str, url: str
) -> None:
    metrics, other = make_metrics(url), make_metrics(url)
    for mode in ("all", "livesum", "sum"):
        for each, value in ((metrics, 3.0), (other, 4.0)):
            each.gauge(mode, per="process", merge=mode).set(value)
            each.flush()
    other.close()
    report = copied(url, second_server.url, namespace)
    assert (report.different, report.changed_meanwhile) == ([], [])
    there = make_metrics(second_server.url)
    assert there.live() == metrics.live()
    # Recording goes on there, in a new process.
    there.gauge("sum", per="process", merge="sum").set(5.0)
    there.flush()
    assert [row.value for row in there.live("sum")[0].series] == [12]


def test_the_documented_permissions_are_enough(
    make_metrics: MakeMetrics, fresh_server: Callable[..., Server], cluster: Cluster, namespace: str
) -> None:
    """Deleting an interrupted copy needs the same permissions at the target as copying."""
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
            "+evalsha",
            "+script|load",
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
