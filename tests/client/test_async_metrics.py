"""`AsyncMetrics`: the same methods and results as `Metrics`, and clients that share a recorder."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import (
    AsyncMetrics,
    Counter,
    InvalidQuery,
    InvalidSetting,
    Metrics,
    RedisMetricsError,
    UnknownAggregation,
)
from redismetrics.client.async_query_methods import AsyncQueries
from redismetrics.client.operations import AsyncMethods
from redismetrics.client.query_methods import SyncQueries
from tests.client.async_helpers import Run


def public(of: Any) -> set[str]:
    return {name for name, member in inspect.getmembers(of, callable) if not name.startswith("_")}


def asking() -> set[str]:
    """Return the methods that query Redis: those of the parts of the client."""
    parts = {AsyncQueries, *AsyncMethods.__subclasses__()}
    return {name for part in parts if issubclass(AsyncMetrics, part) for name in public(part)}


def test_both_clients_have_the_same_methods() -> None:
    assert public(Metrics) - {"close"} == public(AsyncMetrics) - {"aclose"}
    assert public(SyncQueries) == public(AsyncQueries)
    assert len(public(AsyncQueries)) >= 15


@pytest.mark.parametrize("name", sorted(public(Metrics) - {"close"}))
def test_a_method_takes_the_same_arguments_in_both_clients(name: str) -> None:
    one, two = getattr(Metrics, name), getattr(AsyncMetrics, name)
    assert inspect.signature(Metrics).parameters == inspect.signature(AsyncMetrics).parameters
    assert inspect.signature(one).parameters == inspect.signature(two).parameters
    assert one.__doc__
    assert two.__doc__
    asks = name in asking() - {"to_json"} or name == "flush"
    assert inspect.iscoroutinefunction(two) == asks
    assert not inspect.iscoroutinefunction(one)


CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("query", ("jobs",), {"aggregation": "sum"}),
    ("query", ("jobs",), {"aggregation": "sum", "group_by": "queue"}),
    ("query", ("took",), {"aggregation": "p95", "tags": {"queue": "mail"}}),
    ("query", ("depth",), {}),
    ("query", ("nobody",), {"aggregation": "mean"}),
    ("query", ("jobs",), {"aggregation": "average"}),
    ("query", ("jobs",), {"window": "soon"}),
    ("query", ("9",), {}),
    ("time_series", ("jobs",), {"interval": "minute", "aggregation": "sum", "window": None}),
    (
        "time_series",
        ("took",),
        {"aggregations": ["count", "max"], "group_by": ["queue"], "window": None},
    ),
    ("time_series", ("jobs",), {"interval": "fortnight"}),
    (
        "rollup",
        ("took",),
        {"group_by": ["queue"], "aggregations": ("mean", "count"), "window": None},
    ),
    ("rollup", ("took",), {"keys": "json"}),
    ("heat_map", ("took",), {"interval": "minute", "window": None, "buckets": 8}),
    ("heat_map", ("took",), {"buckets": 0}),
    ("runs", ("took",), {"group_by": "queue", "x": "time", "points": 10, "whole": True}),
    ("runs", ("took",), {"x": "step"}),
    ("digest", ("took",), {}),
    ("promql_query", ("sum(jobs_total)",), {"at": 1_800_000_000}),
    ("promql_query", ("sum(",), {}),
    ("promql_range", ("1 + 1",), {"since": 1_800_000_000, "until": 1_800_000_120}),
    ("promql_range", ("1 + 1",), {"step": "soon"}),
    ("list_metrics", (), {}),
    ("list_alerts", (), {}),
    ("list_rules", (), {}),
    ("alert_history", (), {"since": 1_800_000_000, "limit": 5}),
    ("alert_history", (), {"limit": 0}),
    ("mark", ("",), {}),
    ("marks", ("1h",), {}),
    ("marks", (), {"limit": 0}),
    ("delete_mark", ("1-a",), {}),
    ("silence_alerts", ("job=",), {"comment": "a", "author": "b"}),
    ("list_silences", (), {}),
    ("expire_silence", ("nosuch",), {}),
    ("tag_values", ("jobs", "queue"), {}),
    ("tag_values", ("jobs", "9"), {}),
    ("cardinality", (), {"limit": 2}),
    ("exemplars", ("jobs",), {"tags": {"queue": "mail"}}),
    ("exemplars", ("a b",), {}),
    ("cardinality", (), {"limit": 0}),
    ("live", (), {}),
    ("live", ("depth",), {}),
    ("get_metrics", (), {"limit": 5}),
    ("get_metrics", (), {"limit": -1}),
    ("get_metrics", (), {"name": "took", "type": "histogram", "tags": {"queue": "mail"}}),
    ("get_aggregation", ("jobs",), {"aggregation": "sum", "group_by": "queue"}),
    ("get_time_series", ("jobs",), {"window": None, "aggregations": "sum"}),
    ("get_rollups", ("took",), {"group_by": "queue", "window": None}),
    ("get_stats", (), {}),
    ("clear", (), {}),
    ("delete_series", ("depth", {}), {}),
    ("delete_series", ("nobody", {"a": "b"}), {}),
    ("mark_process_dead", (4711,), {}),
    ("mark_process_dead", (0,), {}),
    ("mark_process_dead", (4711, 5), {}),
    ("delete_metric", ("nobody",), {}),
    ("delete_metric", ("9",), {}),
    ("delete_metric", ("depth",), {}),
    ("clear", (), {"confirm": True}),
]


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises, without the times of the answer."""
    try:
        answer = call()
    except RedisMetricsError as error:
        return type(error), str(error)
    if hasattr(answer, "percentile"):
        return [answer.percentile(p) for p in (0, 5, 50, 95, 100)]
    if isinstance(answer, dict):
        answer = {key: value for key, value in answer.items() if key != "timestamp"}
        if "storage" in answer:
            passing = ("memory_bytes", "worker_lag_seconds")
            answer["storage"] = {
                key: value for key, value in answer["storage"].items() if key not in passing
            }
    return answer


def test_every_query_method_is_among_the_cases() -> None:
    # The ages of self_metrics change; tests/queries/test_arrow.py compares tables.
    others = {"to_json", "self_metrics", "to_arrow", "to_pandas"}
    assert {name for name, _, _ in CASES} == asking() - others


def test_both_clients_return_the_same_results(
    url: str, namespace: str, metrics: Metrics, run: Run
) -> None:
    ametrics = AsyncMetrics(metrics=metrics)
    for name, arguments, options in CASES:
        if name in ("delete_metric", "clear") or not metrics.list_metrics():
            fill(metrics)
        one = outcome(lambda: getattr(metrics, name)(*arguments, **options))  # noqa: B023
        if name in ("delete_metric", "clear"):
            fill(metrics)
        two = outcome(lambda: run(getattr(ametrics, name)(*arguments, **options)))  # noqa: B023
        assert two == one, (name, arguments, options)
        assert one is not None or (name, arguments) == ("query", ("nobody",))


def fill(metrics: Any) -> None:
    for number in range(20):
        queue = {"queue": ("mail", "audio")[number % 2]}
        metrics.increment("jobs", number, tags=queue)
        metrics.gauge("depth", number, tags=queue)
        metrics.histogram("took", number / 8, tags=queue, metadata={"n": number})
    metrics.flush()


def test_recording_is_a_plain_call(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    ametrics.declare("took", "histogram", unit="seconds")
    ametrics.increment("jobs", 2, tags={"queue": "mail"})
    Counter("jobs", {"queue": "mail"}, metrics=ametrics).increment(3)
    ametrics.gauge("depth", 4)
    ametrics.record("score", 0.5, metadata={"a": 1})

    async def work() -> int:
        @ametrics.measure("took")
        async def measured() -> int:
            return 7

        found = await measured()
        await ametrics.flush()
        return found

    assert run(work()) == 7
    assert metrics.query("jobs", aggregation="sum", group_by="queue") == [
        {"queue": "mail", "sum": 5}
    ]
    assert metrics.query("took", aggregation="count") == 1
    assert ametrics.stats()["stored"] == 5


def test_invalid_arguments_raise_when_awaited(ametrics: AsyncMetrics, run: Run) -> None:
    asked = ametrics.query("jobs", aggregation="average")
    with pytest.raises(UnknownAggregation):
        run(asked)
    with pytest.raises(InvalidQuery, match="entered"):
        run(ametrics.subscribe("jobs").get(0))
    with pytest.raises(InvalidQuery, match="names"):
        ametrics.subscribe("a b")  # a plain call, checked at once


def test_none_url_records_nothing_and_can_not_be_queried(run: Run) -> None:
    ametrics = AsyncMetrics("none://")
    ametrics.increment("jobs")
    run(ametrics.flush())
    with pytest.raises(InvalidQuery, match="none://"):
        run(ametrics.query("jobs"))
    with pytest.raises(InvalidQuery, match="none://"):
        ametrics.subscribe()
    run(ametrics.aclose())


# -- sharing -----


def test_a_shared_recorder_outlives_the_client_that_shares_it(metrics: Metrics, run: Run) -> None:
    async def work() -> None:
        async with AsyncMetrics(metrics=metrics) as ametrics:
            metrics.increment("jobs", 2)
            ametrics.increment("jobs", 3)
            assert await ametrics.query("jobs", aggregation="sum") == 5
            assert ametrics.stats() == metrics.stats()

    run(work())
    metrics.increment("jobs", 4)
    assert metrics.query("jobs", aggregation="sum") == 9
    assert metrics.stats()["dropped"] == {}


def test_a_blocking_client_shares_an_async_client(ametrics: AsyncMetrics) -> None:
    ametrics.increment("jobs", 3)
    with Metrics(metrics=ametrics) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 3
    ametrics.increment("jobs", 3)
    assert asyncio.run(ametrics.query("jobs", aggregation="sum")) == 6


@pytest.mark.parametrize(
    "options", [{"url": "redis://localhost"}, {"namespace": "a"}, {"clock": lambda: 1.0}]
)
def test_a_client_that_shares_takes_no_other_settings(
    metrics: Metrics, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSetting, match=f"metrics must be .*{next(iter(options))}"):
        AsyncMetrics(metrics=metrics, **options)
    with pytest.raises(InvalidSetting, match="metrics must be a Metrics"):
        AsyncMetrics(metrics="redis://localhost")  # type: ignore[arg-type]
