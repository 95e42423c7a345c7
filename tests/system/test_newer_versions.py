"""A newer version writes what FORMAT 2 reserves room for: this one skips, counts, keeps and deletes
it.

Nothing of it is lost, and nothing that this version records becomes wrong.
"""

import logging

import pytest
import redis

from redismetrics import Gauge, Metrics
from redismetrics.admin.doctor import examine
from redismetrics.admin.findings import Finding
from redismetrics.columnar.totals import field_name, split_live
from redismetrics.export import export
from redismetrics.model.validation import MetricType
from redismetrics.store import keys
from redismetrics.store.replies import STAMP_BYTES
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.diagnoses import by_check
from tests.fixtures.newer import (
    OPTIONS,
    append_unknown_change,
    set_definition,
    set_exemplar,
    set_value,
)
from tests.fixtures.recorded import recorded_state
from tests.fixtures.servers import Server


def value_of(metrics: Metrics, name: str) -> float:
    return float(metrics.live(name)[0].series[0].value)


def live_fields(admin: redis.Redis, namespace: str, name: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = admin.hgetall(keys.metric(namespace, 0, name).totals)
    return found


def record(metrics: Metrics, amount: float, times: int = 1) -> None:
    for _ in range(times):
        metrics.increment("jobs", amount)
        metrics.flush()


# -- totals ---------------------------------------------------------------------------------------


def test_page_skips_unknown_changes_and_counts_them(
    metrics: Metrics, admin: redis.Redis, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    record(metrics, 2)
    assert metrics.live("jobs")[0].skipped == 0
    assert "\nredismetrics_page_skipped{" not in export(metrics=metrics, self_metrics=True)
    append_unknown_change(admin, namespace, "jobs")
    record(metrics, 5)
    set_value(admin, namespace, "jobs", 0, "newer", 1.5)
    with caplog.at_level(logging.WARNING, "redismetrics"):
        page = export(metrics=metrics, self_metrics=True)
        export(metrics=metrics)
    # The change behind the unknown one is on the page.
    assert "\njobs_total 7\n" in page
    assert '\nredismetrics_page_skipped{metric="jobs"} 2\n' in page
    assert metrics.live("jobs")[0].skipped == 2
    told = [each.getMessage() for each in caplog.records if "newer version" in each.getMessage()]
    assert len(told) == 1
    assert "upgrade this process" in told[0]


def test_worker_folds_up_to_an_unknown_change(
    metrics: Metrics, admin: redis.Redis, namespace: str, make_worker: MakeWorker
) -> None:
    worker = make_worker()
    record(metrics, 2)
    record(metrics, 3)
    unknown = append_unknown_change(admin, namespace, "jobs")
    record(metrics, 5)
    for _ in range(3):
        worker.pass_once()
        assert value_of(metrics, "jobs") == 10
        assert metrics.query("jobs", aggregation="sum") == 10
    # It waits, and so does what is behind it; the samples are sealed all the same.
    assert split_live(live_fields(admin, namespace, "jobs")).changes[0] == unknown
    state = recorded_state(admin, namespace, "jobs")
    assert (state.first_change, state.next_change) == (2, 4)
    assert state.sealed > 0
    assert worker.counts.failures == 0
    # A newer worker folds it.
    admin.hdel(keys.metric(namespace, 0, "jobs").totals, field_name(2))
    record(metrics, 1)
    assert value_of(metrics, "jobs") == 11


def test_script_folds_up_to_an_unknown_change(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record(metrics, 1, 5)
    unknown = append_unknown_change(admin, namespace, "jobs")
    # Without a worker, the script folds from 16 changes on.
    record(metrics, 1, 60)
    assert value_of(metrics, "jobs") == 65
    changes = split_live(live_fields(admin, namespace, "jobs")).changes
    assert changes[0] == unknown
    assert len(changes) == 61
    state = recorded_state(admin, namespace, "jobs")
    assert (state.first_change, state.next_change) == (5, 66)
    # A newer version folds it, and the script goes on.
    admin.hset(keys.metric(namespace, 0, "jobs").totals, field_name(5), changes[1])
    admin.hdel(keys.metric(namespace, 0, "jobs").totals, field_name(6))
    record(metrics, 1, 60)
    assert value_of(metrics, "jobs") == 125
    assert len(split_live(live_fields(admin, namespace, "jobs")).changes) <= 16


def test_shared_value_of_a_gauge_does_not_change_before_an_unknown_change(
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    users = Gauge("users", metrics=metrics)
    users.add(2)
    metrics.gauge("depth", 4)
    metrics.flush()
    append_unknown_change(admin, namespace, "users")
    before = live_fields(admin, namespace, "users")
    users.add(3)
    # A new series, whose id must not be learned from a refusal.
    Gauge("users", tags={"a": "b"}, metrics=metrics).add(1)
    metrics.gauge("depth", 9)
    with caplog.at_level(logging.ERROR, "redismetrics"):
        metrics.flush()
    stats = metrics.stats()
    assert stats["dropped"] == {"refused": 2}
    assert (stats["stored"], stats["pending"]) == (3, 0)
    assert "upgrade this process" in caplog.text
    assert live_fields(admin, namespace, "users") == before
    assert value_of(metrics, "users") == 2
    assert value_of(metrics, "depth") == 9
    # A value that is set waits behind the unknown change.
    metrics.gauge("users", 7)
    metrics.flush()
    assert value_of(metrics, "users") == 7
    assert metrics.stats()["dropped"] == {"refused": 2}
    # When a newer version has folded it, the shared value changes again.
    state = recorded_state(admin, namespace, "users")
    admin.hdel(keys.metric(namespace, 0, "users").totals, field_name(state.first_change))
    for amount, tags in ((1, {}), (5, {"a": "b"})):
        Gauge("users", tags=tags, metrics=metrics).add(amount)
    metrics.flush()
    found = {tuple(each.tags): each.value for each in metrics.live("users")[0].series}
    assert found == {(): 8, ("a",): 5}
    assert metrics.stats()["dropped"] == {"refused": 2}


# -- deletion -------------------------------------------------------------------------------------


def test_deleted_series_loses_values_of_processes_and_exemplars(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for queue in "abc":
        metrics.histogram("took", 0.5, tags={"queue": queue})
    metrics.flush()
    ids = {"a": 0, "b": 1, "c": 2}
    buckets = len(metrics.live("took")[0].definition.buckets)
    values = {
        (queue, writer): set_value(admin, namespace, "took", ids[queue], writer, 1)
        for queue in "abc"
        for writer in ("one", "two", "")
    }
    exemplars = {
        (queue, bucket): set_exemplar(admin, namespace, "took", ids[queue], bucket)
        for queue in "abc"
        for bucket in (1, buckets, buckets + 1)
    }
    assert metrics.delete_series("took", {"queue": "b"}) == 1
    left = {field.decode() for field in live_fields(admin, namespace, "took") if b" " in field}
    assert left == {field for (queue, _), field in values.items() if queue != "b"}
    left = {field.decode() for field in admin.hkeys(keys.exemplars(namespace, 0, "took"))}
    assert left == {field for (queue, _), field in exemplars.items() if queue != "b"}


def test_deleted_counter_loses_its_exemplar(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs", tags={"a": "b"})
    metrics.flush()
    set_exemplar(admin, namespace, "jobs", 0, 0)
    assert metrics.delete_series("jobs", {"a": "b"}) == 1
    assert not admin.exists(keys.exemplars(namespace, 0, "jobs"))


@pytest.mark.parametrize("how", ["delete_metric", "clear"])
def test_deleted_metric_loses_all_of_it(
    metrics: Metrics, admin: redis.Redis, namespace: str, how: str
) -> None:
    metrics.increment("jobs")
    metrics.increment("other")
    metrics.flush()
    set_definition(admin, namespace, "other", kind="sketch")
    for name in ("jobs", "other"):
        append_unknown_change(admin, namespace, name)
        set_value(admin, namespace, name, 0, "newer", 1)
        set_exemplar(admin, namespace, name, 0, 0)
    if how == "clear":
        assert metrics.clear(confirm=True) == 2
    else:
        assert metrics.delete_metric("jobs")
        assert metrics.delete_metric("other")
    for name in ("jobs", "other"):
        assert not admin.exists(keys.metric(namespace, 0, name).totals)
        assert not admin.exists(keys.exemplars(namespace, 0, name))
    metrics.increment("jobs", 3)
    metrics.flush()
    assert value_of(metrics, "jobs") == 3


# -- definitions ----------------------------------------------------------------------------------


def stored_definition(admin: redis.Redis, namespace: str, name: str) -> bytes:
    entry: bytes = admin.hget(keys.shard(namespace, 0).catalogue, name)
    return entry[:-STAMP_BYTES]


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_options_of_a_newer_version_stay(
    metrics: Metrics,
    make_metrics: MakeMetrics,
    admin: redis.Redis,
    namespace: str,
    kind: MetricType,
) -> None:
    def use(client: Metrics) -> None:
        client.declare("jobs", kind, help="Jobs done")
        client.record("jobs", 1, tags={"a": "b"})
        client.flush()

    use(metrics)
    packed = set_definition(admin, namespace, "jobs", rest=OPTIONS)
    # One that knew the definition before, and one that meets it first.
    for client in (metrics, make_metrics(), metrics):
        use(client)
        assert client.stats()["dropped"] == {}
        assert client.stats()["definition_conflicts"] == 0
    assert stored_definition(admin, namespace, "jobs") == packed
    assert metrics.query("jobs", aggregation="count") == 4
    assert metrics.list_metrics()[0]["help"] == "Jobs done"


def test_metric_of_an_unknown_type_is_left_out(
    metrics: Metrics, make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.increment("latency")
    metrics.flush()
    packed = set_definition(admin, namespace, "latency", kind="sketch", rest=OPTIONS)
    reader = make_metrics()
    assert [row["name"] for row in reader.list_metrics()] == ["jobs"]
    assert [family.name for family in reader.live()] == ["jobs"]
    skipped = reader.get_stats()["storage"]["skipped"]
    assert list(skipped) == ["latency"]
    assert "'sketch' comes from a newer version of redismetrics; upgrade" in skipped["latency"]
    # A process of this version that records it drops its samples and counts them.
    reader.increment("latency")
    reader.increment("jobs")
    reader.flush()
    assert reader.stats()["dropped"] == {"refused": 1}
    assert stored_definition(admin, namespace, "latency") == packed


# -- doctor ---------------------------------------------------------------------------------------


def versions(server: Server, namespace: str) -> Finding:
    return by_check(examine(server.url, namespace=namespace))["versions"]


def test_doctor_names_what_a_newer_version_writes(
    metrics: Metrics, admin: redis.Redis, namespace: str, server: Server
) -> None:
    assert versions(server, namespace).status == "ok"
    for name in ("jobs", "latency", "users", "quiet"):
        metrics.increment(name)
    metrics.flush()
    set_definition(admin, namespace, "quiet", rest=(b"\x80",))
    found = versions(server, namespace)
    assert (found.status, found.found) == ("ok", "nothing was written by a newer version")
    set_definition(admin, namespace, "latency", kind="sketch")
    set_definition(admin, namespace, "users", rest=OPTIONS)
    append_unknown_change(admin, namespace, "jobs")
    # The script folds what is before it.
    record(metrics, 1, 20)
    found = versions(server, namespace)
    assert found.status == "warning"
    assert found.details == {"types": ["latency"], "options": ["users"], "changes": ["jobs"]}
    for name in ("jobs", "latency", "users"):
        assert name in found.found
    assert "Upgrade redismetrics" in found.advice
