"""Marks as series of PromQL."""

from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

import time

from redismetrics import Metrics

NOON = int(time.time()) // 3600 * 3600 - 3600


def rows(metrics: Metrics, expression: str, **times: Any) -> dict[str, list[float]]:
    """Return the minutes from NOON at which each text has a value."""
    window = {"since": NOON, "until": NOON + 600, "step": "1m", **times}
    found: dict[str, list[float]] = {}
    for row in metrics.promql_range(expression, **window):
        assert {value for _, value in row["values"]} == {1.0}
        minutes = [(moment.timestamp() - NOON) / 60 for moment, _ in row["values"]]
        found[row["labels"]["text"]] = minutes
    return found


def test_a_mark_is_shown_once_at_the_first_time_that_is_not_before_it(metrics: Metrics) -> None:
    metrics.mark("a", tags={"service": "web", "odd-key": "x"}, timestamp=NOON + 61)
    metrics.mark("a", tags={"service": "web", "odd-key": "x"}, timestamp=NOON + 300)
    metrics.mark("b", timestamp=NOON + 179.5)
    metrics.mark("outside", timestamp=NOON + 601)
    assert rows(metrics, "redismetrics_mark") == {"a": [2, 5], "b": [3]}
    assert rows(metrics, 'redismetrics_mark{service="web"}') == {"a": [2, 5]}
    assert rows(metrics, 'redismetrics_mark{odd_key="x",text=~"a|b"}') == {"a": [2, 5]}
    assert rows(metrics, 'redismetrics_mark{text!="a"}') == {"b": [3]}
    assert rows(metrics, "redismetrics_mark", step="5m") == {"a": [5], "b": [5]}
    (count,) = metrics.promql_query('count_over_time(redismetrics_mark{text="a"}[10m])', NOON + 600)
    assert count["value"] == 2
    assert [row["labels"]["text"] for row in metrics.promql_query("redismetrics_mark", NOON + 900)]
    assert metrics.promql_query("redismetrics_mark", NOON + 1000) == []


def test_a_metric_of_the_same_name_takes_precedence(metrics: Metrics) -> None:
    metrics.mark("a", timestamp=NOON + 61)
    metrics.gauge("redismetrics_mark", 7, timestamp=NOON + 61)
    metrics.flush()
    (row,) = metrics.promql_query("redismetrics_mark", NOON + 120)
    assert (row["labels"].get("text"), row["value"]) == (None, 7)
