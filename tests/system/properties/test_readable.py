"""Whatever is recorded can be read: every query, before, between and after the worker's passes.

Values go up to the largest float, since sums of few of them are beyond it.
"""

import itertools
import math
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import Gauge, Metrics
from redismetrics.export import export
from redismetrics.model.sample import Distribution
from tests.fixtures.servers import Server
from tests.fixtures.workers import new_worker, pull_forward

NEVER = 3_600.0
LARGEST = 1.7976931348623157e308
AGGREGATIONS = ("count", "sum", "min", "max", "mean", "last", "p50", "stddev", "rate")
NAMES = {"gauge": "depth", "counter": "jobs", "histogram": "took"}

_numbers = itertools.count(1)
_values = st.one_of(
    st.sampled_from([LARGEST, -LARGEST, 1e308, -1e308, 0.0, -0.0, 5e-324, 1.0]),
    st.floats(allow_nan=False, allow_infinity=False),
)
_tags = st.sampled_from([{}, {"a": "b"}])
_ages = st.sampled_from([None, 0, 61, 3_700])
_calls = st.one_of(
    st.tuples(st.just("add"), _values, _tags, st.none()),
    st.tuples(st.sampled_from(["gauge", "histogram", "increment"]), _values, _tags, _ages),
    st.tuples(st.just("distribution"), _values, _tags, _ages),
    st.tuples(st.just("many"), _values, _tags, st.none()),
    st.tuples(st.just("flush"), st.just(0.0), st.just({}), st.none()),
)


def record(metrics: Metrics, call: str, value: float, tags: dict[str, str], age: Any) -> None:
    when = None if age is None else metrics._recorder.clock() - age
    if call == "add":
        Gauge("depth", tags=tags, metrics=metrics).add(value)
    elif call == "gauge":
        metrics.gauge("depth", value, tags=tags, timestamp=when)
    elif call == "histogram":
        metrics.histogram("took", value, tags=tags, timestamp=when)
    elif call == "increment":
        metrics.increment("jobs", abs(value), tags=tags, timestamp=when)
    elif call == "distribution":
        low, high = sorted((value, -value))
        part = Distribution((low, high), (1, 1), 0.0, low, high)
        metrics.internals.add_distribution("took", part, tags, when)
    elif call == "many":
        for number in range(30):
            metrics.histogram("took", value * (1 - number / 100), tags=tags)
            metrics.gauge("depth", -value * (1 - number / 100), tags=tags)
    else:
        metrics.flush()


def ask_everything(metrics: Metrics) -> None:
    for name in NAMES.values():
        for sample in metrics.query(name):
            assert math.isfinite(sample.value), sample
        for aggregation in AGGREGATIONS:
            for window in ("last_hour", "last_30d"):
                metrics.query(name, aggregation=aggregation, window=window, group_by="a")
        metrics.time_series(name, interval="minute", aggregation="mean")
        metrics.digest(name).percentile(50)
    assert {row["name"] for row in metrics.list_metrics()} <= set(NAMES.values())
    metrics.get_metrics()
    metrics.get_stats()
    export(metrics=metrics)
    for family in metrics.live():
        for series in family.series:
            assert math.isfinite(series.value), (family, series)


def _work(admin: redis.Redis, metrics: Metrics, url: str, namespace: str) -> None:
    worker = new_worker(url, namespace)
    try:
        for _ in range(2):
            for _ in worker.once():
                pass
            assert worker.counts.failures == 0, worker.counts.last_error
            ask_everything(metrics)
            pull_forward(admin, namespace)
    finally:
        worker.leave()
        worker.store.close()


@settings(max_examples=40)
@given(st.lists(_calls, min_size=1, max_size=12))
def test_whatever_is_recorded_can_be_read(server: Server, calls: list[Any]) -> None:
    namespace = f"readable-{uuid.uuid4().hex[:8]}-{next(_numbers)}"
    with (
        warnings.catch_warnings(),
        server.client() as admin,
        Metrics(
            server.url, namespace=namespace, flush_interval=NEVER, samples_per_flush=20
        ) as metrics,
    ):
        # Sums beyond the range of a float are inf in results.
        warnings.simplefilter("ignore", RuntimeWarning)
        for call in calls:
            record(metrics, *call)
        metrics.flush()
        stats = metrics.stats()
        assert stats["stored"] == stats["recorded"]
        ask_everything(metrics)
        _work(admin, metrics, server.url, namespace)


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
