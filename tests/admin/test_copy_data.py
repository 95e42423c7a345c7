"""Data of metrics is copied completely, in parts, and after interruptions."""

import time
from contextlib import suppress
from typing import Any

import pytest

from redismetrics import Metrics, StoreError, StoreUnavailable
from redismetrics.admin.copy_metric import CopyLimits
from redismetrics.admin.copy_report import Progress
from redismetrics.admin.copying import reset
from redismetrics.store import driver, keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.copies import (
    HOUR,
    NAMES,
    ONE_BY_ONE,
    Stopped,
    answers,
    copied,
    expires_ms,
    is_open,
    work,
)
from tests.fixtures.servers import Server
from tests.fixtures.workers import contents

pytestmark = pytest.mark.slow


def test_rollups_of_days_are_copied_also_if_partly_expired(
    moving_server: Server, cluster: Cluster, make_metrics: MakeMetrics, namespace: str
) -> None:
    """Five days: rollups of all resolutions, exact samples of the last day, unprocessed blocks."""
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


def test_with_the_same_number_of_shards_all_keys_are_equal(
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
            assert abs(expires_ms(ours, key) - expires_ms(theirs, key)) <= 100
        assert contents(theirs, namespace) == contents(ours, namespace)


def test_a_copy_interrupted_at_any_step_can_be_repeated(
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

        def interrupt(progress: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped

        try:
            report = copied(url, cluster.url, namespace, on_progress=interrupt, limits=ONE_BY_ONE)
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


def test_a_copy_interrupted_at_any_round_trip_can_be_repeated(
    make_metrics: MakeMetrics,
    second_server: Server,
    url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before a round trip, and after it: the commands were executed, but the reply was lost."""
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


@pytest.mark.parametrize("shards", [1, 4])
def test_large_keys_are_copied_in_parts(
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


def test_each_metric_of_an_active_source_is_copied_consistently(
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
        {"queue": "1", "count": 1},
        {"queue": "2", "count": 1},
        {"queue": "mail", "count": 1},
    ]
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


def test_a_metric_deleted_after_an_interruption_is_deleted_at_the_target(
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


def test_different_counts_are_reported_and_the_target_stays_closed(
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
