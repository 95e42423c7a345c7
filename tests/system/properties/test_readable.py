"""Whatever is recorded can be read: every query, before, between and after the worker's passes.

Subscriptions hear all of it as well.

Values go up to the largest float, since sums of few of them are beyond it.
"""

import itertools
import json
import math
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import Counter, Gauge, Histogram, Metrics, Sample, Summary
from redismetrics.export import export
from redismetrics.model.sample import MAX_COUNT, Distribution
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from redismetrics.store.namespace import open_namespace
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.workers import new_worker, pull_forward

NEVER = 3_600.0
LARGEST = 1.7976931348623157e308
AGGREGATIONS = ("count", "sum", "min", "max", "mean", "last", "p50", "stddev", "rate")
NAMES = {"gauge": "depth", "counter": "jobs", "histogram": "took", "timer": "block"}

_numbers = itertools.count(1)
_values = st.one_of(
    st.sampled_from([LARGEST, -LARGEST, 1e308, -1e308, 0.0, -0.0, 5e-324, 1.0]),
    st.floats(allow_nan=False, allow_infinity=False),
)
_texts = st.one_of(
    st.sampled_from(["\0", '\n"\\', "a/b", "\u202ereversed", "\ufeff", "e\u0301", "\U0001f600"]),
    st.text(max_size=8),
)
_tags = st.one_of(
    st.sampled_from([{}, {"a": "b"}]), st.builds(lambda text: {"a": text, "b": "c"}, _texts)
)
# Seconds before now, or after it.
_ages = st.sampled_from([None, 0, 0.0015, 61, 3_700, 80_000, -30])
_calls = st.one_of(
    st.tuples(st.sampled_from(["add", "bound", "otlp", "timed"]), _values, _tags, st.none()),
    st.tuples(
        st.sampled_from(["gauge", "histogram", "increment", "record", "metadata"]),
        _values,
        _tags,
        _ages,
    ),
    st.tuples(st.sampled_from(["distribution", "counted"]), _values, _tags, _ages),
    st.tuples(st.sampled_from(["many", "equal"]), _values, _tags, _ages),
    st.tuples(st.just("flush"), st.just(0.0), st.just({}), st.none()),
)


def record(metrics: Metrics, call: str, value: float, tags: dict[str, str], age: Any) -> None:
    when = None if age is None else metrics._recorder.clock() - age
    at: Any = {"tags": tags, "timestamp": when}
    match call:
        case "add":
            Gauge("depth", tags=tags, metrics=metrics).add(value)
        case "bound":
            Counter("jobs", tags=tags, metrics=metrics).increment(abs(value))
            Gauge("depth", tags=tags, metrics=metrics).set(value)
            Histogram("took", tags=tags, metrics=metrics).record(value)
        case "otlp":
            # What an OTLP up-down counter does.
            metrics.internals.add_to_gauge("depth", value, tags)
        case "timed":
            with metrics.measure("block", tags=tags):
                pass
        case "gauge":
            metrics.gauge("depth", value, **at)
        case "histogram":
            metrics.histogram("took", value, **at)
        case "increment":
            metrics.increment("jobs", abs(value), **at)
        case "record":
            metrics.record("took", value, type="histogram", **at)
        case "metadata":
            metrics.gauge("depth", value, metadata={"n": value}, **at)
        case "distribution":
            low, high = sorted((value, -value))
            part = Distribution((low, high), (1, 1), 0.0, low, high)
            metrics.internals.add_distribution("took", part, tags, when)
        case "counted":
            part = Distribution((value,), (MAX_COUNT // 100,), value, value, value)
            metrics.internals.add_distribution("took", part, tags, when)
        case "many":
            for number in range(30):
                metrics.histogram("took", value * (1 - number / 100), **at)
                metrics.gauge("depth", -value * (1 - number / 100), **at)
        case "equal":
            for _ in range(400):
                metrics.histogram("took", value, **at)
                metrics.gauge("depth", value, **at)
                metrics.increment("jobs", abs(value), **at)
        case _:
            metrics.flush()


def ask_everything(metrics: Metrics) -> None:
    results: list[Any] = []
    for name in NAMES.values():
        samples = metrics.query(name)
        for sample in samples:
            assert math.isfinite(sample.value), sample
        results += [samples, metrics.query(name, group_by="a"), metrics.tag_values(name, "a")]
        for aggregation in AGGREGATIONS:
            for window in ("last_hour", "last_30d"):
                results.append(
                    metrics.query(name, aggregation=aggregation, window=window, group_by="a")
                )
        results += [
            metrics.time_series(name, interval="minute", aggregation="mean"),
            metrics.time_series(
                name, interval="hour", aggregations=("sum", "p95"), group_by="a", window="last_24h"
            ),
            metrics.rollup(name, group_by="a", aggregations=AGGREGATIONS),
            metrics.get_aggregation(name, aggregation="sum"),
            metrics.get_time_series(name, interval="day", aggregation="max"),
            metrics.get_rollups(name, group_by="a"),
        ]
        digest = metrics.digest(name)
        for rank in (0, 50, 100):
            assert not digest.count or math.isfinite(digest.percentile(rank)), (name, rank)
    rows = metrics.list_metrics()
    assert {row["name"] for row in rows} <= set(NAMES.values())
    newest, stats = metrics.get_metrics(limit=5_000), metrics.get_stats()
    assert (newest["skipped"], stats["storage"]["skipped"]) == ({}, {})
    results += [rows, newest, stats, metrics.cardinality()]
    for result in results:
        json.loads(metrics.to_json(result), parse_constant=pytest.fail)
    for openmetrics in (False, True):
        export(metrics=metrics, openmetrics=openmetrics, self_metrics=True)
    for family in metrics.live():
        for series in family.series:
            assert math.isfinite(series.value), (family, series)
    metrics.self_metrics()


def _work(admin: redis.Redis, metrics: Metrics, url: str, namespace: str, shards: int = 1) -> None:
    worker = new_worker(url, namespace)
    try:
        for _ in range(2):
            for _ in worker.once():
                pass
            assert worker.counts.failures == 0, worker.counts.last_error
            ask_everything(metrics)
            pull_forward(admin, namespace, shards=shards)
    finally:
        worker.leave()
        worker.store.close()


def _hear(subscription: Any, count: int) -> None:
    """Read all samples of a subscription, or their summaries; *count* were recorded."""
    heard = 0
    while heard < count:
        item = subscription.get(PATIENCE)
        assert isinstance(item, Sample | Summary), (item, heard, count)
        if isinstance(item, Sample):
            assert math.isfinite(item.value), item
        heard += item.count
        json.loads(Metrics.to_json(item), parse_constant=pytest.fail)
    assert heard == count


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(_calls, min_size=1, max_size=12),
    st.sampled_from([1, 3]),
    st.sampled_from([20, 10_000]),
    st.sampled_from([None, None, 0.1]),
)
def test_whatever_is_recorded_can_be_read(
    server: Server, calls: list[Any], shards: int, per_flush: int, every: float | None
) -> None:
    namespace = f"readable-{uuid.uuid4().hex[:8]}-{next(_numbers)}"
    store = Store(server.url, 5.0)
    run(store.connect(retries=0), open_namespace(namespace, shards=shards))
    store.close()
    with (
        warnings.catch_warnings(),
        server.client() as admin,
        Metrics(
            server.url, namespace=namespace, flush_interval=NEVER, samples_per_flush=per_flush
        ) as metrics,
        metrics.subscribe(every=every, queue=100_000) as subscription,  # type: ignore[arg-type]
    ):
        # Sums beyond the range of a float are inf in results.
        warnings.simplefilter("ignore", RuntimeWarning)
        for call in calls:
            record(metrics, *call)
        metrics.flush()
        stats = metrics.stats()
        assert stats["stored"] == stats["recorded"]
        _hear(subscription, stats["recorded"])
        ask_everything(metrics)
        _work(admin, metrics, server.url, namespace, shards)


def _add(metrics: Metrics, *amounts: float) -> None:
    for amount in amounts:
        Gauge("depth", metrics=metrics).add(amount)
        metrics.flush()


@pytest.mark.parametrize("step", [lambda _: None, lambda metrics: metrics.flush()])
def test_a_gauge_saturates_at_the_largest_float(
    server: Server, step: Callable[[Metrics], Any]
) -> None:
    namespace = f"readable-{uuid.uuid4().hex[:8]}"
    with (
        server.client() as admin,
        Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics,
    ):
        for amount in (1e308, 1e308, 1e308):
            Gauge("depth", metrics=metrics).add(amount)
            step(metrics)
        assert metrics.query("depth", aggregation="last") == LARGEST
        _work(admin, metrics, server.url, namespace)
        _add(metrics, -LARGEST, 5)
        assert metrics.query("depth", aggregation="last") == 5
        (family,) = metrics.live("depth")
        assert family.series[0].value == 5
        _add(metrics, -LARGEST, -LARGEST)
        assert metrics.query("depth", aggregation="last") == -LARGEST


@pytest.mark.parametrize("first", [None, 0.0], ids=["no value before", "a value before"])
def test_changes_in_one_flush_saturate_one_by_one(server: Server, first: float | None) -> None:
    namespace = f"readable-{uuid.uuid4().hex[:8]}"
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        depth = Gauge("depth", metrics=metrics)
        if first is not None:
            depth.set(first)
        for amount in (1e308, 1e308, 1e308, -LARGEST, 5):
            depth.add(amount)
        metrics.flush()
        assert metrics.query("depth", aggregation="last") == 5
