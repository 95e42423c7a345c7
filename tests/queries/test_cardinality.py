"""Limits of series and tag values over all processes, `cardinality`, and deleting series."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redismetrics import InvalidName, InvalidQuery, InvalidTags, Metrics
from redismetrics.export import export
from redismetrics.recording.send_queue import SendQueue
from redismetrics.settings import resolve
from redismetrics.store import driver, keys, scripts
from redismetrics.store.connection import Store
from redismetrics.store.namespace import Namespace
from redismetrics.worker import Worker, cleanup
from tests.fixtures.exposition import needs_promtool, promtool, samples
from tests.fixtures.servers import Server
from tests.fixtures.shell import Shell
from tests.fixtures.workers import Steps

NEVER = 3_600.0
OVERFLOW = {"otel.metric.overflow": "true"}
Make = Callable[..., Metrics]


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    made: list[Metrics] = []

    def client(**settings: Any) -> Metrics:
        made.append(Metrics(url, namespace=namespace, flush_interval=NEVER, **settings))
        return made[-1]

    yield client
    for each in made:
        each.close(0.5)


@pytest.fixture
def work(url: str, namespace: str) -> Callable[[], None]:
    settings = resolve(url=url, namespace=namespace)

    def once() -> None:
        worker = Worker(settings, Store(settings.url, settings.socket_timeout))
        worker.pass_once(alone=True)
        worker.leave()

    return once


def counts(metrics: Metrics, name: str, key: str) -> dict[str | None, float]:
    return {row[key]: row["sum"] for row in metrics.query(name, aggregation="sum", group_by=key)}


# -- limits -----------------------------------------------------------


def test_tag_values_are_limited_over_all_processes_and_totals_are_right(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = make(max_tag_values=5), make(max_tag_values=5)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for number in range(4):
            one.increment("jobs", tags={"user": f"a{number}", "queue": "mail"})
        one.flush()
        for number in range(4):
            two.increment("jobs", 10, tags={"user": f"b{number}", "queue": "mail"})
        two.flush()
        # A known value in a new series.
        two.increment("jobs", 100, tags={"user": "a0", "queue": "audio"})
        two.increment("jobs", 100, tags={"user": "b0", "queue": "mail"})
        two.flush()
    assert one.query("jobs", aggregation="sum") == 4 + 40 + 200
    by_user = counts(one, "jobs", "user")
    assert {user for user in by_user if user} >= {"a0", "a1", "a2", "a3"}
    assert len([user for user in by_user if user]) == 5
    assert by_user["a0"] == 101
    assert one.query("jobs", aggregation="sum", tags=OVERFLOW) == by_user[None]
    assert one.stats()["overflow"] == {}
    assert set(two.stats()["overflow"]["jobs"]) == {"user"}
    assert two.stats()["overflow"]["jobs"]["user"] >= 3
    assert two.stats()["dropped"] == {}
    logged = [record.message for record in caplog.records if "max_tag_values" in record.message]
    assert logged == [
        "jobs: tag user has more than max_tag_values=5 values: further series share one"
    ]


def test_series_are_limited_over_all_processes_and_counted_by_metric(make: Make) -> None:
    one, two = make(max_series=5), make(max_series=5)
    for number in range(5):
        one.increment("jobs", tags={"user": f"a{number}"})
        two.increment("jobs", tags={"user": f"b{number}"})
    one.flush()
    two.flush()
    assert one.query("jobs", aggregation="sum", tags=OVERFLOW) == 5
    assert two.stats()["overflow"] == {"jobs": {"": 5}}


def test_overflow_is_counted_before_flush_returns(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, metrics = make(max_series=5), make(max_series=5)
    for number in range(5):
        other.increment("jobs", tags={"user": f"a{number}"})
    other.flush()
    seen: list[Any] = []
    confirm = SendQueue.confirm

    def look(queue: SendQueue, name: str, count: int) -> None:
        seen.append(dict(metrics._recorder.drops.overflows))
        confirm(queue, name, count)

    monkeypatch.setattr(SendQueue, "confirm", look)
    for number in range(5):
        metrics.increment("jobs", tags={"user": f"b{number}"})
    metrics.flush()
    assert seen == [{("jobs", ""): 5}]


def test_series_over_the_limit_of_one_tag_uses_no_value_of_another(make: Make) -> None:
    metrics = make(max_tag_values=2)
    for number in range(6):
        metrics.increment("jobs", tags={"user": str(number), "host": f"h{number}"})
    metrics.flush()
    metrics.increment("jobs", tags={"host": "only"})
    metrics.flush()
    hosts = counts(metrics, "jobs", "host")
    assert len([host for host in hosts if host]) == 2
    assert hosts[None] == 5
    assert set(metrics.stats()["overflow"]["jobs"]) <= {"user", "host"}


@needs_promtool
def test_prometheus_page_names_metric_and_tag(make: Make) -> None:
    metrics = make(max_tag_values=2)
    for number in range(6):
        metrics.increment("jobs", tags={"user": str(number)})
    page = export(metrics=metrics, self_metrics=True)
    at = ("redismetrics_overflow_total", frozenset({("metric", "jobs"), ("tag", "user")}))
    assert samples(page, False)[at] == 4
    promtool(page)


def test_batch_with_many_new_series_and_tags_is_stored(make: Make) -> None:
    metrics = make(max_tag_values=1_000)
    for number in range(1_500):
        metrics.increment("jobs", tags={"user": str(number), "shop": str(number % 7), "a": "b"})
    metrics.flush()
    assert metrics.query("jobs", aggregation="sum") == 1_500
    assert metrics.query("jobs", aggregation="sum", tags=OVERFLOW) == 500
    (row,) = metrics.cardinality()
    assert row == {
        "name": "jobs",
        "series": 1_001,
        "overflow": True,
        "tags": {"user": 1_000, "shop": 7, "a": 1},
    }


# -- cardinality -----------------------------------------------------------


def test_metrics_and_tags_with_the_most_values_come_first(
    make: Make, url: str, namespace: str
) -> None:
    metrics = make()
    metrics.gauge("depth", 1)
    for number in range(3):
        metrics.increment("jobs", tags={"user": str(number), "queue": "mail"})
    assert metrics.cardinality() == [
        {"name": "jobs", "series": 3, "overflow": False, "tags": {"user": 3, "queue": 1}},
        {"name": "depth", "series": 1, "overflow": False, "tags": {}},
    ]
    assert [row["name"] for row in metrics.cardinality(limit=1)] == ["jobs"]
    assert list(metrics.cardinality()[0]["tags"]) == ["user", "queue"]
    for wrong in (0, -1, True, 1.5, "many"):
        with pytest.raises(InvalidQuery, match="limit"):
            metrics.cardinality(limit=wrong)  # type: ignore[arg-type]
    shell = Shell(url, namespace)
    assert shell.json("cardinality") == metrics.cardinality()
    rows = "jobs\t3\t\tuser\t3\njobs\t3\t\tqueue\t1\ndepth\t1\t\t\t\n"
    assert shell("cardinality") == (0, f"name\tseries\toverflow\ttag\tvalues\n{rows}", "")


# -- deleting -----------------------------------------------------------


@pytest.mark.parametrize("sealed_before", [False, True])
@pytest.mark.parametrize("gone", ["0", "3", "5"], ids=["first", "middle", "last"])
def test_deleted_series_are_gone_from_every_result(
    make: Make, work: Callable[[], None], sealed_before: bool, gone: str
) -> None:
    metrics = make()
    for number in range(6):
        metrics.histogram("took", number + 1, tags={"user": str(number), "queue": "mail"})
    metrics.flush()
    if sealed_before:
        work()
    left = 21 - (int(gone) + 1)
    # Fills the cache of this client.
    assert metrics.query("took", aggregation="sum") == 21
    assert make().delete_series("took", {"user": gone}) == 1
    for client in (metrics, make()):
        assert client.query("took", aggregation="sum") == left
        assert client.query("took", aggregation="count", window="15m") == 5
        assert gone not in client.tag_values("took", "user")
        assert sorted(sample.value for sample in client.query("took")) == [
            n + 1 for n in range(6) if str(n) != gone
        ]
        assert (
            sum(
                row["sum"]
                for row in client.time_series("took", aggregation="sum", interval="minute")
            )
            == left
        )
        assert f'user="{gone}"' not in export(metrics=client)
    work()
    assert metrics.query("took", aggregation="sum") == left
    # This process must not use the old id of the series.
    metrics.histogram("took", 100, tags={"user": gone, "queue": "mail"})
    metrics.flush()
    assert counts(metrics, "took", "user")[gone] == 100
    assert metrics.query("took", aggregation="sum") == left + 100
    assert metrics.stats()["dropped"] == {}


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("kind", ["increment", "gauge", "histogram"])
def test_series_whose_totals_are_lost_are_deleted(
    server: Server, make: Make, namespace: str, kind: str, others: int
) -> None:
    """With *others* recorded later, their row of totals has nothing for the lost series."""
    metrics = make()
    for number in range(3):
        getattr(metrics, kind)("load", number + 1, tags={"user": str(number)})
    metrics.flush()
    of = keys.metric(namespace, 0, "load")
    with server.client() as client:
        client.delete(of.totals)
        for number in range(others):
            getattr(metrics, kind)("load", 1, tags={"user": f"new {number}"})
        metrics.flush()
        store = Store(server.url, 5.0)
        steps = Steps(
            store.connect(retries=0),
            cleanup.delete_series(Namespace(namespace), "load", {"user": "1"}),
        )
        for _ in range(30):
            if steps.commands:
                steps.step()
        store.close()
        assert (steps.commands, steps.result) == ([], 1)
        assert metrics.tag_values("load", "user") == [
            "0",
            "2",
            *(f"new {number}" for number in range(others)),
        ]
        assert metrics.query("load", aggregation="count") == 2 + others
        # The others follow, and the metric is usable again.
        for user in ("0", "2"):
            assert metrics.delete_series("load", {"user": user}) == 1
        getattr(metrics, kind)("load", 7, tags={"user": "1"})
        metrics.flush()
    assert metrics.query("load", aggregation="count") == 1 + others
    assert metrics.query("load", aggregation="sum", tags={"user": "1"}) == 7


def test_many_series_are_deleted_at_once(make: Make, work: Callable[[], None]) -> None:
    metrics = make()
    for number in range(40):
        metrics.gauge(
            "depth", 1, tags={"user": str(number), "old": "yes" if number >= 10 else None}
        )
    metrics.flush()
    work()
    assert metrics.delete_series("depth", {"old": "yes"}) == 30
    assert metrics.query("depth", aggregation="count") == 10
    assert len(metrics.query("depth", window="15m")) == 10
    assert metrics.delete_series("depth", {"old": None}) == 10
    assert metrics.query("depth", aggregation="count") == 0
    assert metrics.delete_series("depth", {"old": None}) == 0


def test_deleted_series_no_longer_count_towards_the_limits(
    server: Server, make: Make, namespace: str
) -> None:
    metrics = make(max_tag_values=3)
    for number in range(3):
        metrics.increment("jobs", tags={"user": str(number), "queue": "mail"})
    metrics.flush()
    key = f"rm:{{{namespace}:0}}:jobs:values"
    with server.client() as client:
        expected = {b"user": b"3", b"queue": b"1", b"queue\0mail": b"3"}
        assert client.hgetall(key) == expected | {b"user\0%d" % number: b"1" for number in range(3)}
        assert metrics.delete_series("jobs", {"user": "1"}) == 1
        assert client.hgetall(key) == {
            b"user": b"2",
            b"queue": b"1",
            b"queue\0mail": b"2",
            b"user\x000": b"1",
            b"user\x002": b"1",
        }
        metrics.increment("jobs", tags={"user": "new"})
        metrics.flush()
        assert metrics.stats()["overflow"] == {}
        assert metrics.delete_metric("jobs")
        assert not client.exists(key)
        metrics.increment("jobs", tags={"user": "first again"})
        metrics.flush()
        assert client.hget(key, "user") == b"1"


def test_delete_series_requires_a_name_and_tags(make: Make) -> None:
    metrics = make()
    with pytest.raises(InvalidQuery, match="delete_metric"):
        metrics.delete_series("jobs", {})
    with pytest.raises(InvalidName):
        metrics.delete_series("no name", {"a": "b"})
    with pytest.raises((InvalidQuery, InvalidTags)):
        metrics.delete_series("jobs", {"a": "x" * 5_000})
    assert metrics.delete_series("nobody", {"a": "b"}) == 0


def test_delete_series_deletes_from_a_metric_that_is_being_recorded(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch before the deletion is deleted with the series; later samples belong to a new one."""
    metrics, busy = make(), make()
    for number in range(3):
        metrics.increment("jobs", tags={"user": str(number)})
    metrics.flush()
    busy.increment("jobs", tags={"user": "1"})
    busy.flush()
    send = driver._send

    def after_a_batch(client: Any, commands: Any) -> Any:
        if commands[0][:2] == ("EVALSHA", scripts.script("delete_series").sha):
            busy.increment("jobs", tags={"user": "1"})
            busy.flush()
        return send(client, commands)

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_send", after_a_batch)
        assert metrics.delete_series("jobs", {"user": "1"}) == 1
    assert counts(metrics, "jobs", "user") == {"0": 1, "2": 1}
    busy.increment("jobs", tags={"user": "1"})  # it knows the old id
    busy.flush()
    assert counts(metrics, "jobs", "user") == {"0": 1, "1": 1, "2": 1}
    assert {each.tags["user"]: each.value for each in metrics.live("jobs")[0].series} == {
        "0": 1,
        "1": 1,
        "2": 1,
    }


def test_delete_command_deletes_series(make: Make, url: str, namespace: str) -> None:
    metrics = make()
    for number in range(3):
        metrics.increment("jobs", tags={"user": str(number)})
    metrics.flush()
    shell = Shell(url, namespace)
    assert shell("delete", "jobs", "--tag", "user=1") == (0, "Deleted 1 series of jobs.\n", "")
    assert metrics.query("jobs", aggregation="sum") == 2
    status, _, said = shell("delete", "jobs", "--tag", "user=1")
    assert (status, said) == (1, "redismetrics: no series of 'jobs' has user=1\n")
