"""A metric that cannot be read is left out of results about all, and its own queries raise."""

import logging
import math
import struct
import uuid
from collections.abc import Callable, Iterator

import msgpack
import pytest
import redis

from redismetrics import Metrics, StoreError
from redismetrics.export import export
from redismetrics.store import keys, unreadable
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.servers import Server
from tests.fixtures.workers import pull_forward

Damage = Callable[[redis.Redis, str], object]


def _metric(namespace: str) -> keys.MetricKeys:
    return keys.metric(namespace, 0, "bad")


def _retype(admin: redis.Redis, key: str) -> None:
    admin.delete(key)
    admin.set(key, "junk")


DAMAGES: dict[str, Damage] = {
    "definition": lambda admin, namespace: admin.hset(
        keys.shard(namespace, 0).catalogue, "bad", b"\xc1 junk"
    ),
    "name": lambda admin, namespace: admin.hset(keys.shard(namespace, 0).catalogue, b"\xff", "x"),
    "state": lambda admin, namespace: admin.hset(keys.shard(namespace, 0).recorded, "bad", "junk"),
    "state without numbers": lambda admin, namespace: admin.hset(
        keys.shard(namespace, 0).recorded, "bad", struct.pack("<13d", 1, *[math.inf] * 12)
    ),
    "state of a time to come": lambda admin, namespace: admin.hset(
        keys.shard(namespace, 0).recorded, "bad", struct.pack("<13d", *[1e30] * 13)
    ),
    "state of another type": lambda admin, namespace: _retype(
        admin, keys.rollup(namespace, 0, "bad").state
    ),
    "changes": lambda admin, namespace: admin.hset(_metric(namespace).totals, "+7", "junk"),
    "totals": lambda admin, namespace: admin.hset(_metric(namespace).totals, "0", "junk"),
    "totals of another type": lambda admin, namespace: _retype(admin, _metric(namespace).totals),
    "series": lambda admin, namespace: admin.hset(_metric(namespace).series, b"\xc1", "0"),
    "series of another type": lambda admin, namespace: _retype(admin, _metric(namespace).series),
    "log of another type": lambda admin, namespace: _retype(admin, _metric(namespace).log),
    "writer": lambda admin, namespace: admin.hset(keys.shard(namespace, 0).writers, "w", "junk"),
    "writer of a time to come": lambda admin, namespace: admin.hset(
        keys.shard(namespace, 0).writers, "w", msgpack.packb([1, 1 << 62, b""])
    ),
}


# What `get_stats` and `get_metrics` leave out.
_NONE: set[str] = set()
SKIPPED = {
    "definition": ({"bad"}, {"bad"}),
    "name": ({"b'\\xff'"}, {"b'\\xff'"}),
    "state": ({"bad"}, _NONE),
    "state without numbers": ({"bad"}, _NONE),
    "state of a time to come": ({"bad"}, _NONE),
    "state of another type": ({"bad"}, {"bad"}),
    "totals": (_NONE, _NONE),
    "changes": (_NONE, _NONE),
    "totals of another type": (_NONE, _NONE),
    "series": (_NONE, {"bad"}),
    "series of another type": ({"bad"}, {"bad"}),
    "log of another type": ({"bad"}, {"bad"}),
    "writer": (_NONE, _NONE),
    "writer of a time to come": (_NONE, _NONE),
}


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    with server.client() as admin:
        yield admin


@pytest.mark.parametrize("damage", DAMAGES)
def test_results_about_all_metrics_leave_out_one_that_cannot_be_read(
    make_metrics: MakeMetrics,
    admin: redis.Redis,
    namespace: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other tests may have led to the same warnings.
    monkeypatch.setattr(unreadable, "_warned", set())
    metrics = make_metrics()
    for name in ("bad", "one", "two"):
        metrics.increment(name, 5, tags={"of": name})
    metrics.flush()
    DAMAGES[damage](admin, namespace)
    caplog.set_level(logging.WARNING, "redismetrics")
    good = {"one", "two"}
    assert good <= {row["name"] for row in metrics.list_metrics()}
    assert good <= {row["name"] for row in metrics.get_metrics()["metrics"]}
    assert good <= {row["name"] for row in metrics.cardinality()}
    assert {family.name: family.series[0].value for family in metrics.live() if family.series} | {
        "bad": 5
    } == {"bad": 5, "one": 5, "two": 5}
    found = metrics.get_stats()["storage"]
    assert found["metrics_stored"] >= 2
    for skipped in (found["skipped"], metrics.get_metrics()["skipped"]):
        assert set(skipped) <= {"bad", "b'\\xff'"}
        assert all("cannot read" in error or "WRONGTYPE" in error for error in skipped.values())
    expected = SKIPPED[damage]
    assert (set(found["skipped"]), set(metrics.get_metrics()["skipped"])) == expected
    page = export(metrics=metrics)
    assert "\none_total" in page
    assert "\ntwo_total" in page
    assert any("is skipped" in message for message in caplog.messages)


def test_queries_of_a_metric_that_cannot_be_read_raise(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.increment("bad")
    metrics.flush()
    DAMAGES["definition"](admin, namespace)
    asks: list[Callable[[Metrics], object]] = [
        lambda metrics: metrics.query("bad"),
        lambda metrics: metrics.live("bad"),
        lambda metrics: metrics.get_metrics(name="bad"),
    ]
    for ask in asks:
        with pytest.raises(StoreError, match="bad"):
            ask(metrics)


def test_clear_deletes_metrics_that_cannot_be_read(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    for name in ("bad", "one"):
        metrics.increment(name)
    metrics.flush()
    DAMAGES["definition"](admin, namespace)
    metrics.clear(confirm=True)
    assert admin.hlen(keys.shard(namespace, 0).catalogue) == 0


def test_rejected_permissions_raise_instead_of_leaving_everything_out(
    make_metrics: MakeMetrics, server: Server, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.increment("one")
    metrics.flush()
    user = f"u{uuid.uuid4().hex}"
    admin.execute_command("ACL", "SETUSER", user, "on", ">x", "~*", "+@all", "-hlen")
    try:
        url = server.url.replace("://", f"://{user}:x@")
        with Metrics(url, namespace=namespace) as reader, pytest.raises(StoreError, match="hlen"):
            reader.list_metrics()
    finally:
        admin.execute_command("ACL", "DELUSER", user)


@pytest.mark.parametrize("member", [b"junk", b"hour x y jobs", b"\xff\xff", b""])
def test_a_corrupt_member_of_pending_costs_only_itself(
    make_metrics: MakeMetrics,
    make_worker: MakeWorker,
    admin: redis.Redis,
    namespace: str,
    member: bytes,
) -> None:
    metrics = make_metrics()
    metrics.increment("jobs", timestamp=metrics._recorder.clock() - 7_200)
    metrics.flush()
    worker = make_worker()
    for _ in worker.once():
        pass
    pull_forward(admin, namespace)
    pending = keys.pending(namespace, 0)
    due = admin.zcount(pending, "-inf", 0)
    assert due
    admin.zadd(pending, {member: -1})
    for _ in worker.once():
        pass
    assert admin.zcount(pending, "-inf", 0) == 1
    assert worker.counts.failures == 0


def test_a_corrupt_writer_costs_only_itself(
    make_metrics: MakeMetrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.increment("jobs")
    metrics.flush()
    admin.hset(keys.shard(namespace, 0).writers, "old", b"junk")
    worker = make_worker()
    worker.pass_once()
    assert (worker.counts.passes, worker.counts.failures) == (1, 0)
