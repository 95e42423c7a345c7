"""Corrupt keys: queries return a result or raise one of our errors, in bounded memory.

One value of a real namespace at a time is replaced by nearly valid or random bytes, and every
query is run.
"""

import contextlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from redismetrics import (
    FormatMismatch,
    Gauge,
    Metrics,
    OutsideRetention,
    ScriptFailed,
    StoreError,
    TypeMismatch,
)
from redismetrics.export import export
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import keys
from tests.fixtures.servers import Server, wait_until
from tests.fixtures.workers import new_worker, pull_forward

NAMESPACE = "hostile"
NEVER = 3_600.0
# Bytes allocated by Python and numpy. A query of this namespace takes 1 MB.
MEMORY = 20 << 20

QUERIES: dict[str, Callable[[Metrics], Any]] = {
    "query": lambda metrics: [metrics.query(name) for name in ("jobs", "depth", "took")],
    "percentiles": lambda metrics: metrics.query("took", aggregation="p95", group_by="n"),
    "rollup": lambda metrics: metrics.rollup(
        "jobs", group_by="n", aggregations=("sum", "stddev"), window="last_7d"
    ),
    "time_series": lambda metrics: metrics.time_series(
        "took", interval="minute", aggregation="mean"
    ),
    "get_metrics": lambda metrics: metrics.get_metrics(limit=5),
    "list_metrics": lambda metrics: metrics.list_metrics(),
    "tag_values": lambda metrics: metrics.tag_values("jobs", "n"),
    "get_stats": lambda metrics: metrics.get_stats(),
    "page": lambda metrics: export(metrics=metrics),
    "digest": lambda metrics: metrics.digest("took").percentile(50),
}


class Filled(NamedTuple):
    """A namespace: the dump of each key, and every place in it."""

    admin: redis.Redis
    dumps: dict[bytes, bytes]
    places: "list[Place]"

    def __repr__(self) -> str:  # hypothesis shows it with each example
        return f"{len(self.places)} places"


class Place(NamedTuple):
    """One value in Redis: a string, a field or a member."""

    key: bytes
    kind: bytes
    field: bytes


@pytest.fixture(scope="module")
def filled(server: Server) -> Iterator[Filled]:
    """A namespace with sealed and unsealed samples of every type."""
    hour = slot_of(round(time.time() * 1000), HOUR) - 2 * HOUR
    with Metrics(server.url, namespace=NAMESPACE, flush_interval=NEVER) as metrics:
        depth = Gauge("depth", metrics=metrics)
        for turn in range(3):
            for number in range(40):
                at = (hour + turn * 7 * 60_000 + number * 2_000) / 1000
                metrics.increment("jobs", number, tags={"n": number % 3}, timestamp=at)
                metrics.histogram(
                    "took",
                    number / 7,
                    tags={"n": number % 3},
                    metadata={"id": number},
                    timestamp=at,
                )
                depth.add(number)
            metrics.flush()
            if turn < 2:
                worker = new_worker(server.url, NAMESPACE)
                worker.pass_once(alone=True)
                if not turn:
                    with server.client() as admin:
                        pull_forward(admin, NAMESPACE)
                    worker.pass_once(alone=True)
                assert worker.counts.failures == 0
                worker.store.close()
    with server.client() as admin:
        found = [*admin.scan_iter(f"rm:{NAMESPACE}:*"), *admin.scan_iter(f"rm:{{{NAMESPACE}:*")]
        places = []
        for key in sorted(found):
            kind = admin.type(key)
            names = {
                b"string": lambda key: [b""],
                b"hash": admin.hkeys,
                b"zset": lambda key: admin.zrange(key, 0, -1),
            }
            places += [Place(key, kind, name) for name in names[kind](key)]
        yield Filled(admin, {key: admin.dump(key) for key in found}, places)


NUMBERS = [
    b"",
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"-inf",
    b"1.5",
    b"9" * 30,
    b"0x10",
    "٣".encode(),
    str(2**62).encode(),
]
PACKED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
).map(msgpack.packb)
JUNK = (
    st.sampled_from(NUMBERS)
    | st.binary(max_size=40)
    | PACKED
    | PACKED.map(lambda packed: packed + bytes(9))
)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def damage(admin: redis.Redis, place: Place, how: str, junk: bytes) -> None:
    if how == "key":  # missing, or of another type
        admin.delete(place.key)
        admin.set(place.key, junk) if len(junk) % 2 else None
    elif place.kind == b"string":
        admin.set(place.key, junk)
    elif place.kind == b"hash":
        if how == "field":
            value = admin.hget(place.key, place.field)
            admin.hset(place.key, junk, value)
        else:
            admin.hset(place.key, place.field, junk)
    else:
        score = admin.zscore(place.key, place.field)
        admin.zrem(place.key, place.field)
        admin.zadd(
            place.key, {junk: score} if how == "field" else {place.field: float(len(junk)) * 1e15}
        )


def restore(admin: redis.Redis, dumps: dict[bytes, bytes]) -> None:
    left = {*admin.scan_iter(f"rm:{NAMESPACE}:*"), *admin.scan_iter(f"rm:{{{NAMESPACE}:*")}
    with admin.pipeline() as pipeline:
        pipeline.delete(*left, *dumps)
        for key, dump in dumps.items():
            pipeline.restore(key, 0, dump, replace=True)
        pipeline.execute()


def query_all(metrics: Metrics) -> dict[str, str]:
    """Run every query; return the errors of ours that were raised."""
    errors = {}
    for name, query in QUERIES.items():
        try:
            query(metrics)
        except (StoreError, OutsideRetention) as error:  # the retentions may be corrupt
            errors[name] = str(error)
    return errors


@pytest.mark.slow
@given(
    st.integers(0, 1_000),
    st.integers(0, 1_000),
    st.sampled_from(["value", "value", "field", "field", "key"]),
    JUNK,
)
@settings(
    max_examples=100,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_corrupt_keys_are_read_or_raise_our_error(
    server: Server, filled: Filled, one: int, other: int, how: str, junk: bytes
) -> None:
    admin, dumps, places = filled
    of_key = sorted(dumps)[one % len(dumps)]
    inside = [place for place in places if place.key == of_key]
    restore(admin, dumps)
    damage(admin, inside[other % len(inside)], how, junk)
    metrics = Metrics(server.url, namespace=NAMESPACE, flush_interval=NEVER)
    with np.errstate(all="ignore"):
        query_all(metrics)
        metrics.increment("jobs", tags={"n": 1})
        metrics.gauge("depth", 1)
        metrics.histogram("took", 1.0)
        with contextlib.suppress(StoreError, TypeMismatch):
            metrics.flush(0.5)
        metrics.close(0.1)
    stats = metrics.stats()
    assert "BUG" not in str(stats["last_error"])
    assert stats["recorded"] == 3 == stats["stored"] + sum(stats["dropped"].values())
    assert stats["dropped"].get("failed", 0) == 0


@pytest.mark.slow
@given(
    st.integers(0, 1_000),
    st.integers(0, 1_000),
    st.sampled_from(["value", "value", "field", "field", "key"]),
    JUNK,
)
@settings(
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_a_worker_continues_with_corrupt_keys(
    server: Server, filled: Filled, one: int, other: int, how: str, junk: bytes
) -> None:
    """Metrics with valid keys are sealed completely, unless the keys of the shard are corrupt."""
    admin, dumps, places = filled
    of_key = sorted(dumps)[one % len(dumps)]
    inside = [place for place in places if place.key == of_key]
    restore(admin, dumps)
    damage(admin, inside[other % len(inside)], how, junk)
    worker = new_worker(server.url, NAMESPACE)
    raised = None
    with np.errstate(all="ignore"):
        try:
            worker.pass_once(alone=True)
        except StoreError as error:
            raised = error
    worker.store.close()
    damaged = next(
        (name for name in ("jobs", "depth", "took") if f":{name}:".encode() in of_key), None
    )
    if damaged is not None:
        assert raised is None
        left = {name.decode() for name in admin.zrange(keys.shard(NAMESPACE, 0).dirty, 0, -1)}
        assert left <= {damaged}


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        (keys.config(NAMESPACE), "shards", 10**9),
        (keys.config(NAMESPACE), "shards", 0),
        (keys.config(NAMESPACE), "retentions", "raw:1e300 minute:1e300 hour:1e300 day:inf"),
        (keys.metric(NAMESPACE, 0, "jobs").series, msgpack.packb(["n", "9"]), 10**10),
        (keys.metric(NAMESPACE, 0, "jobs").series, msgpack.packb(["n", "9"]), -5),
    ],
    ids=["shards", "no shards", "retentions", "series", "negative series"],
)
def test_an_absurd_number_raises_and_allocates_nothing(
    server: Server, filled: Filled, key: str, field: str | bytes, value: Any
) -> None:
    admin, dumps, _ = filled
    restore(admin, dumps)
    admin.hset(key, field, value)
    with (
        Metrics(server.url, namespace=NAMESPACE) as metrics,
        bounded(),
        pytest.raises(FormatMismatch, match="cannot read"),
    ):
        metrics.query("jobs", aggregation="sum")


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(103), bytes(105)])
def test_an_invalid_state_affects_only_its_metric(
    server: Server, namespace: str, junk: bytes
) -> None:
    """If record.lua failed after it had written its guard, the rest of the batch would be lost."""
    with (
        Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics,
        server.client() as admin,
    ):
        for number in range(2):
            for name in ("after", "bad", "before"):
                metrics.increment(name, 5)
            if number:
                admin.hset(keys.shard(namespace, 0).recorded, "bad", junk)
            with contextlib.suppress(ScriptFailed):
                metrics.flush()
            wait_until(lambda: metrics.stats()["pending"] == 0, "nothing is pending")
        stats = metrics.stats()
        assert (stats["recorded"], stats["stored"], stats["dropped"]) == (6, 5, {"refused": 1})
        assert [metrics.query(name, aggregation="sum") for name in ("after", "before")] == [10, 10]


def test_all_queries_work_before_the_damage(server: Server, filled: Filled) -> None:
    admin, dumps, places = filled
    restore(admin, dumps)
    kinds = {place.key.decode().rpartition(":")[2] for place in places}
    assert {
        "config",
        "clock",
        "writers",
        "catalogue",
        "series",
        "live",
        "log",
        "state",
        "due",
        "held",
        "touched",
    } <= kinds
    with Metrics(server.url, namespace=NAMESPACE) as metrics:
        assert query_all(metrics) == {}
        assert metrics.query("jobs", aggregation="sum") == 3 * sum(range(40))
