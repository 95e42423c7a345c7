"""Totals become changes, and histograms become distributions."""

import time
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs opentelemetry-exporter-otlp-proto-http"
)
pytest.importorskip("starlette", reason="needs redismetrics[server]")

from redismetrics import Metrics
from tests.fixtures.otlp import (
    NOW_NS,
    SECOND_NS,
    otlp_metric,
    otlp_number,
    otlp_sum_of,
    post_otlp,
    rejected,
)


def test_totals_become_changes_per_stream(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()

    def told(*points: Any) -> float:
        assert rejected(post_otlp(at, otlp_sum_of(*points))) == (0, "")
        return float(metrics.query("m", aggregation="sum"))

    assert told(otlp_number(5, start=begun)) == 5
    assert told(otlp_number(5, start=begun)) == 5  # the same again
    assert told(otlp_number(9, start=begun, after=3)) == 9
    assert told(otlp_number(7, start=begun, after=2)) == 9  # an older one, late
    assert told(otlp_number(2, start=begun + 5 * SECOND_NS)) == 11  # a restart
    assert told(otlp_number(10, start=begun, after=4)) == 12  # who called itself alike, and goes on
    assert (
        told(otlp_number(1, start=begun, after=5)) == 13
    )  # went down: began anew, without saying so
    old = (
        begun - 3600 * SECOND_NS
    )  # before this receiver: what it counted so far may be stored already
    assert told(otlp_number(100, start=old, after=3600)) == 13
    assert told(otlp_number(103, start=old, after=3601)) == 16
    unknown = {"startTimeUnixNano": "0"}
    assert told({**otlp_number(50, start=begun), **unknown}) == 16
    assert told({**otlp_number(51, start=begun, after=2), **unknown}) == 17
    assert (
        told(otlp_number(4, start=begun, attributes=[{"key": "a", "value": {"stringValue": "b"}}]))
        == 21
    )


def test_up_down_counters_change_a_shared_gauge(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()
    for start, value, after in ((begun, 5, 1), (begun, 3, 2), (begun + 1, 10, 1), (begun, 3, 3)):
        post_otlp(at, otlp_sum_of(otlp_number(value, start=start, after=after), monotonic=False))
    (active,) = metrics.live("m")[0].series
    assert active.value == 13


def test_histograms_with_missing_fields(metrics: Metrics, at: str) -> None:
    one = {"startTimeUnixNano": str(NOW_NS), "timeUnixNano": str(NOW_NS + SECOND_NS)}

    def send(name: str, **figures: Any) -> None:
        data = {"aggregationTemporality": 1, "dataPoints": [{**one, **figures}]}
        assert rejected(post_otlp(at, otlp_metric(histogram=data, name=name))) == (0, "")

    send("no_buckets", count="4", sum=10.0, min=1.0, max=4.0)
    send("no_sum", count="4", explicitBounds=[1, 2], bucketCounts=["0", "4", "0"])
    send("open_end", count="2", sum=1000.5, explicitBounds=[1], bucketCounts=["1", "1"])
    send("one", count="1", sum=0.3, explicitBounds=[1], bucketCounts=["1", "0"])

    def told(name: str) -> list[Any]:
        row = metrics.rollup(name, aggregations=("count", "sum", "min", "max"))[""]
        return list(row.values())

    assert told("no_buckets") == [4, 10.0, 1.0, 4.0]
    assert told("no_sum") == [4, pytest.approx(6.0), pytest.approx(1.5), pytest.approx(1.5)]
    count, found, low, high = told("open_end")
    assert (count, found) == (2, 1000.5)
    assert 0 <= low <= 1 < high <= 1000.5
    assert told("one") == [1, 0.3, 0.3, 0.3]
