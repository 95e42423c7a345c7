"""Summaries, infos, state sets and exemplars as FORMAT 2 stores them, read by today's code.

`python -m tests.system.golden.test_golden_kinds` writes kinds2.json again. After a release it must
not change. See test_golden.py, whose namespace has the other types.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.model.exemplar import StoredExemplar, unpack_exemplar
from redismetrics.store import keys
from tests.fixtures.servers import Server
from tests.system.golden.dumps import dump, load, restored_dump, save
from tests.system.golden.test_golden import AGES, BASE, CLOCK, NEVER

NAMESPACE = "golden_kinds"
FILE = "kinds2.json"
WRITERS = ("a1", "b2")
STATES = ("starting", "running", "stopped")


def client(url: str, number: int, clock: float) -> Metrics:
    made = Metrics(url, namespace=NAMESPACE, flush_interval=NEVER, **AGES, clock=lambda: clock)
    made._sink.sender.writer = WRITERS[number]
    return made


def record(server: Server) -> None:
    with server.client() as direct:
        direct.set(keys.shard(NAMESPACE, 0).clock, f"{CLOCK}000000")
    with client(server.url, 0, BASE) as metrics:
        took = metrics.summary("took")
        for value in (0.5, 2.25, 2.0**53, 1.0):
            took.record(value, queue="mail")
        took.record(-1.5)
        build = metrics.info("build")
        build.set({"version": "1", "commit": "a1"}, app="shop")
        build.set({"version": "2"}, app="shop")
        build.set({"version": "7"}, app="mail")
        metrics.state_set("job", STATES).set("running", queue="mail")
        metrics.declare("size", "histogram", buckets=[1, 10])
        metrics.histogram("size", 0.5, exemplar={"trace_id": "old"})
        metrics.histogram("size", 0.75, exemplar={"trace_id": "t1"})
        metrics.histogram("size", 70, tags={"queue": "mail"}, exemplar={"trace_id": "t2"})
        metrics.increment("jobs", 3, exemplar={"trace_id": "t3"})
    with client(server.url, 1, BASE + 60.25) as metrics:
        metrics.info("build").set({"version": "3"}, app="shop")
        metrics.state_set("job").set("stopped", queue="mail")
        metrics.summary("took").record(1, queue="mail")
        metrics.increment("jobs", 1, exemplar={"trace_id": "t4"})


@pytest.fixture(params=["file", "today"])
def restored(request: pytest.FixtureRequest, server: Server) -> Iterator[redis.Redis]:
    """A server whose namespace holds the dump and nothing else."""
    content = dump(NAMESPACE, record) if request.param == "today" else load(FILE)
    with restored_dump(server, NAMESPACE, content) as direct:
        yield direct


@pytest.fixture
def metrics(restored: redis.Redis, url: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=NAMESPACE, flush_interval=NEVER, series_idle=1e9, **AGES) as made:
        yield made


def shown(metrics: Metrics, name: str) -> list[tuple[Any, ...]]:
    (family,) = metrics.live(name)
    found = [(each.tags, each.value, each.count) for each in family.series]
    return sorted(found, key=lambda each: sorted(each[0].items()))


def exemplars(direct: redis.Redis, name: str) -> dict[tuple[int, int], StoredExemplar]:
    """Return the stored exemplars of a metric, however old, by series id and bucket."""
    found = direct.hgetall(keys.exemplars(NAMESPACE, 0, name))
    return {keys.series_and_bucket(field): unpack_exemplar(data) for field, data in found.items()}


def test_every_kind_is_read(metrics: Metrics, restored: redis.Redis) -> None:
    assert shown(metrics, "took") == [({}, -1.5, 1), ({"queue": "mail"}, 2.0**53 + 4.75, 5)]
    assert metrics.query("took", aggregation="count", tags={"queue": "mail"}) == 5
    assert metrics.query("took", aggregation="p50") == 1
    assert shown(metrics, "build") == [
        ({"app": "mail", "version": "7"}, 1, 0),
        ({"app": "shop", "version": "3"}, 1, 0),
    ]
    assert shown(metrics, "job") == [
        ({"job": state, "queue": "mail"}, float(state == "stopped"), 0) for state in sorted(STATES)
    ]
    assert exemplars(restored, "size") == {
        (0, 1): StoredExemplar(0.75, BASE * 1000, {"trace_id": "t1"}),
        (1, 3): StoredExemplar(70, BASE * 1000, {"trace_id": "t2"}),
    }
    assert exemplars(restored, "jobs") == {
        (0, 0): StoredExemplar(1, BASE * 1000 + 60_250, {"trace_id": "t4"})
    }
    # They are older than a day.
    assert metrics.exemplars("size") == []
    types = {row["name"]: (row["type"], row["series"]) for row in metrics.list_metrics()}
    assert types == {
        "took": ("summary", 2),
        "build": ("info", 4),
        "job": ("stateset", 3),
        "size": ("histogram", 2),
        "jobs": ("counter", 1),
    }


def test_recording_continues(metrics: Metrics) -> None:
    metrics.summary("took").record(1, queue="mail")
    metrics.info("build").set({"version": "4"}, app="mail")
    metrics.state_set("job").set("starting", queue="mail")
    metrics.increment("jobs", exemplar={"trace_id": "t5"})
    metrics.flush()
    assert shown(metrics, "took")[1] == ({"queue": "mail"}, 2.0**53 + 5.75, 6)
    assert ({"app": "mail", "version": "4"}, 1, 0) in shown(metrics, "build")
    assert [value for _, value, _ in shown(metrics, "job")] == [0, 1, 0]
    assert [each.labels for each in metrics.exemplars("jobs")] == [{"trace_id": "t5"}]


if __name__ == "__main__":
    save(FILE, dump(NAMESPACE, record))
