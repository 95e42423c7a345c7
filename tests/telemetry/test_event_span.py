"""Events at the start and end of a block."""

from typing import Any

import pytest

from redismetrics import (
    Metrics,
    attach_telemetry,
)
from redismetrics.telemetry import event_span
from redismetrics.telemetry.event_metric import EventMetric
from tests.telemetry.helpers import only_sample


def test_span_executes_start_and_stop(events: list[tuple[Any, ...]], metrics: Metrics) -> None:
    attach_telemetry(
        [
            EventMetric(
                ("db", "query", "stop"),
                "histogram",
                "duration",
                name="db_query",
                unit=("ns", "ms"),
                tags=["table"],
            )
        ],
        metrics=metrics,
    )
    with event_span.span(("db", "query"), {"table": "users"}) as metadata:
        metadata["rows"] = 3
    start, stop = events
    assert start[0] == ("db", "query", "start")
    assert start[1]["system_time"] > 1e18
    assert start[2] == {"table": "users"}
    assert stop[0] == ("db", "query", "stop")
    assert stop[2] == {"table": "users", "rows": 3}
    sample = only_sample(metrics, "db_query")
    assert sample.tags == {"table": "users"}
    assert sample.value == pytest.approx(stop[1]["duration"] / 1e6)


def test_failing_span_executes_exception_and_re_raises(events: list[tuple[Any, ...]]) -> None:
    with pytest.raises(KeyError), event_span.span(("db", "query"), {"table": "users"}):
        raise KeyError("gone")
    assert [event[0][-1] for event in events] == ["start", "exception"]
    assert events[1][2] == {"table": "users", "error": "KeyError"}
    assert events[1][1]["duration"] > 0


def test_blocks_of_one_span_may_overlap(
    events: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0]
    monkeypatch.setattr(event_span.time, "perf_counter_ns", lambda: now[0])
    span = event_span.span(("db", "query"), {"table": "users"})
    with span as outer:
        now[0] += 1
        with span as inner:
            now[0] += 10
            inner["rows"] = 1
        outer["rows"] = 2
    assert [event[1:] for event in events if event[0][-1] == "stop"] == [
        ({"duration": 10}, {"table": "users", "rows": 1}),
        ({"duration": 11}, {"table": "users", "rows": 2}),
    ]
