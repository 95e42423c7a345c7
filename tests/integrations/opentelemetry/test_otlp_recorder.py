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
    metric_request,
    number_point,
    post_otlp,
    rejected,
    sum_request,
)


def test_totals_become_changes_per_stream(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()

    def stored_after(*points: Any) -> float:
        assert rejected(post_otlp(at, sum_request(*points))) == (0, "")
        return float(metrics.query("m", aggregation="sum"))

    assert stored_after(number_point(5, start=begun)) == 5
    # A repeated point changes nothing.
    assert stored_after(number_point(5, start=begun)) == 5
    assert stored_after(number_point(9, start=begun, after=3)) == 9
    # Nor does an older point that arrives late.
    assert stored_after(number_point(7, start=begun, after=2)) == 9
    # A restart has a new start time.
    assert stored_after(number_point(2, start=begun + 5 * SECOND_NS)) == 11
    # Another process with the same identity goes on.
    assert stored_after(number_point(10, start=begun, after=4)) == 12
    # A total that decreases is a restart without a new start time.
    assert stored_after(number_point(1, start=begun, after=5)) == 13
    # A stream older than this receiver: its first total may be stored already.
    old = begun - 3600 * SECOND_NS
    assert stored_after(number_point(100, start=old, after=3600)) == 13
    assert stored_after(number_point(103, start=old, after=3601)) == 16
    unknown = {"startTimeUnixNano": "0"}
    assert stored_after({**number_point(50, start=begun), **unknown}) == 16
    assert stored_after({**number_point(51, start=begun, after=2), **unknown}) == 17
    other = [{"key": "a", "value": {"stringValue": "b"}}]
    assert stored_after(number_point(4, start=begun, attributes=other)) == 21


def test_up_down_counters_change_a_shared_gauge(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()
    for start, value, after in ((begun, 5, 1), (begun, 3, 2), (begun + 1, 10, 1), (begun, 3, 3)):
        post_otlp(at, sum_request(number_point(value, start=start, after=after), monotonic=False))
    (active,) = metrics.live("m")[0].series
    assert active.value == 13


def test_histograms_with_missing_fields(metrics: Metrics, at: str) -> None:
    one = {"startTimeUnixNano": str(NOW_NS), "timeUnixNano": str(NOW_NS + SECOND_NS)}

    def send(name: str, **figures: Any) -> None:
        data = {"aggregationTemporality": 1, "dataPoints": [{**one, **figures}]}
        assert rejected(post_otlp(at, metric_request(histogram=data, name=name))) == (0, "")

    send("no_buckets", count="4", sum=10.0, min=1.0, max=4.0)
    send("no_sum", count="4", explicitBounds=[1, 2], bucketCounts=["0", "4", "0"])
    send("open_end", count="2", sum=1000.5, explicitBounds=[1], bucketCounts=["1", "1"])
    send("one", count="1", sum=0.3, explicitBounds=[1], bucketCounts=["1", "0"])

    def stored(name: str) -> list[Any]:
        row = metrics.rollup(name, aggregations=("count", "sum", "min", "max"))[""]
        return list(row.values())

    assert stored("no_buckets") == [4, 10.0, 1.0, 4.0]
    assert stored("no_sum") == [4, pytest.approx(6.0), pytest.approx(1.5), pytest.approx(1.5)]
    count, found, low, high = stored("open_end")
    assert (count, found) == (2, 1000.5)
    assert 0 <= low <= 1 < high <= 1000.5
    assert stored("one") == [1, 0.3, 0.3, 0.3]
