"""Invalid queries: the error, its message, and that nothing is read or sent before."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest

from redismetrics import (
    InvalidQuery,
    Metrics,
    UnknownAggregation,
    UnknownWindow,
)
from tests.fixtures.queries import (
    NAIVE,
)
from tests.fixtures.servers import PATIENCE


@pytest.mark.parametrize(
    "aggregation",
    ["p-1", "p101", "p100.1", "p", "P50", "p5e1", "avg", "", "p50 ", "p٥", 5, None, ["mean"]],
    ids=repr,
)
def test_unknown_aggregation_is_rejected(nowhere: Metrics, aggregation: Any) -> None:
    message = (
        rf"unknown aggregation {re.escape(repr(aggregation))}(; did you mean '\w+'\?)? "
        r"\(allowed: count, sum, mean, .*, and percentiles from p0 to p100\)"
    )
    with pytest.raises(UnknownAggregation, match=message):
        nowhere.rollup("m", aggregations=[aggregation])
    # query() without an aggregation returns samples.
    if aggregation is not None:
        with pytest.raises(UnknownAggregation, match=message):
            nowhere.query("m", aggregation=aggregation)


@pytest.mark.parametrize(
    ("aggregation", "suggestion"),
    [
        ("avg", "mean"),
        ("Mean", "mean"),
        ("meen", "mean"),
        ("maximum", "max"),
        ("std", "stddev"),
        ("P95", "p95"),
        ("counts", "count"),
    ],
)
def test_near_miss_of_an_aggregation_is_suggested(
    nowhere: Metrics, aggregation: str, suggestion: str
) -> None:
    with pytest.raises(UnknownAggregation, match=f"; did you mean '{suggestion}'"):
        nowhere.query("m", aggregation=aggregation)


@pytest.mark.parametrize(
    "window", ["yesterday", "0m", 3600, [1, 2], ("15m", None), timedelta(0), NAIVE]
)
@pytest.mark.parametrize(
    "ask",
    [
        "query",
        "time_series",
        "rollup",
        "digest",
        "get_aggregation",
        "get_time_series",
        "get_rollups",
    ],
)
def test_unknown_window_is_rejected_before_anything_is_read(
    nowhere: Metrics, ask: str, window: Any
) -> None:
    with pytest.raises(UnknownWindow, match=r"^window(:| must) "):
        getattr(nowhere, ask)("m", window=window)


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], type[InvalidQuery]]] = [
    *(
        (ask, (name,), {}, InvalidQuery)
        for ask in (
            "query",
            "time_series",
            "rollup",
            "digest",
            "live",
            "get_aggregation",
            "get_time_series",
            "get_rollups",
        )
        for name in ("", "a b", 5)
    ),
    *(
        (ask, ("m",), options, InvalidQuery)
        for ask in (
            "query",
            "time_series",
            "rollup",
            "get_aggregation",
            "get_time_series",
            "get_rollups",
        )
        for options in (
            {"group_by": 5},
            {"group_by": None},
            {"group_by": [5]},
            {"group_by": "a b"},
            {"group_by": [["a"]]},
            {"tags": "a=b"},
            {"tags": {"a b": 1}},
            {"tags": {"a": []}},
            {"tags": [("a", "b")]},
            {"tags": {"a": "\ud800"}},
        )
    ),
    ("query", ("m",), {"aggregation": "sum", "group_by": "sum"}, InvalidQuery),
    ("query", ("m",), {"group_by": "samples"}, InvalidQuery),
    ("query", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("get_aggregation", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("time_series", ("m",), {"group_by": "timestamp"}, InvalidQuery),
    ("time_series", ("m",), {"group_by": "count"}, InvalidQuery),
    ("time_series", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("time_series", ("m",), {"aggregations": ["count", "avg"]}, UnknownAggregation),
    ("time_series", ("m",), {"aggregations": []}, UnknownAggregation),
    *(
        ("time_series", ("m",), {"interval": interval}, UnknownWindow)
        for interval in ("week", "0m", "1500ms", 60, None)
    ),
    ("get_time_series", ("m",), {"interval": "week"}, UnknownWindow),
    ("rollup", ("m",), {"group_by": "mean"}, InvalidQuery),
    ("rollup", ("m",), {"aggregations": "avg"}, UnknownAggregation),
    ("rollup", ("m",), {"aggregations": ()}, UnknownAggregation),
    ("rollup", ("m",), {"aggregations": None}, InvalidQuery),
    *(("rollup", ("m",), {"keys": keys}, InvalidQuery) for keys in ("tuples", None, 1)),
    ("get_rollups", ("m",), {"aggregations": ["avg"]}, UnknownAggregation),
    *(("get_metrics", (), {"limit": limit}, InvalidQuery) for limit in (-1, 1.5, "10", None, True)),
    *(("get_metrics", (), {"since": since}, InvalidQuery) for since in ("yesterday", NAIVE[0], -1)),
    ("get_metrics", (), {"until": "now"}, InvalidQuery),
    ("get_metrics", (), {"type": "timer"}, InvalidQuery),
    ("get_metrics", (), {"name": "a b"}, InvalidQuery),
    ("get_metrics", (), {"tags": "a=b"}, InvalidQuery),
    ("digest", ("m",), {"tags": {"a": []}}, InvalidQuery),
    ("tag_values", ("a b", "k"), {}, InvalidQuery),
    ("tag_values", ("m", "a b"), {}, InvalidQuery),
]


@pytest.mark.parametrize(
    ("ask", "arguments", "options", "error"), WRONG, ids=lambda value: repr(value)[:40]
)
def test_invalid_query_is_rejected_before_anything_is_read(
    nowhere: Metrics,
    ask: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[InvalidQuery],
) -> None:
    nowhere.increment("unsent")  # nor is anything sent
    began = time.monotonic()
    with pytest.raises(InvalidQuery) as caught:
        getattr(nowhere, ask)(*arguments, **options)
    assert type(caught.value) is error
    assert re.search(
        r" must (be|have|hold) .+, got |invalid .+: use |unknown aggregation .+ \(allowed: |"
        r"group_by must not contain '.+': another column",
        str(caught.value),
    )
    assert time.monotonic() - began < PATIENCE
