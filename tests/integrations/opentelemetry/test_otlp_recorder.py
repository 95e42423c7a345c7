"""Totals become changes, and histograms become distributions."""

import math
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
from tests.fixtures.servers import Server
from tests.fixtures.workers import new_worker


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


def collector_request(start: int, at: int, total: int) -> dict[str, Any]:
    """Return what a Collector's prometheus receiver sends for one scrape of a web server."""
    times = {"startTimeUnixNano": str(start), "timeUnixNano": str(at)}
    labels = [{"key": "code", "value": {"stringValue": "200"}}]
    number = {**times, "asDouble": float(total), "attributes": labels}
    cumulative = {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE"}
    buckets = [str(total - 10), "6", "4", "0"]
    histogram = {
        **times,
        "count": str(total),
        "sum": total * 0.25,
        "explicitBounds": [0.1, 0.5, 2.5],
        "bucketCounts": buckets,
        "attributes": labels,
    }
    exponential = {
        **times,
        "count": str(total),
        "sum": total * 0.25,
        "scale": 3,
        "zeroCount": "0",
        "positive": {"offset": -17, "bucketCounts": [str(total)]},
        "negative": {},
    }
    metrics = [
        {
            "name": "http_requests",
            "unit": "1",
            "sum": {**cumulative, "isMonotonic": True, "dataPoints": [number]},
        },
        {"name": "connections", "sum": {**cumulative, "dataPoints": [number]}},
        {"name": "latency", "unit": "s", "histogram": {**cumulative, "dataPoints": [histogram]}},
        {
            "name": "size",
            "unit": "By",
            "exponentialHistogram": {**cumulative, "dataPoints": [exponential]},
        },
    ]
    attributes = {
        "service.name": "web",
        "service.instance.id": "10.0.0.7:9100",
        "server.address": "10.0.0.7",
        "server.port": "9100",
        "url.scheme": "http",
    }
    scope = {
        "name": "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/"
        "prometheusreceiver",
        "version": "0.115.0",
    }
    resource = {
        "attributes": [
            {"key": key, "value": {"stringValue": value}} for key, value in attributes.items()
        ]
    }
    return {
        "resourceMetrics": [
            {
                "resource": resource,
                "scopeMetrics": [{"scope": scope, "metrics": metrics}],
                "schemaUrl": "https://opentelemetry.io/schemas/1.9.0",
            }
        ]
    }


def stored_counts(metrics: Metrics) -> list[float | None]:
    """Return what was stored of the metrics of `collector_request`."""
    (connections,) = metrics.live("connections")[0].series or [None]
    return [
        metrics.query("http_requests", aggregation="sum"),
        None if connections is None else connections.value,
        metrics.query("latency", aggregation="count"),
        metrics.query("size", aggregation="count"),
    ]


def test_restarted_collector_does_not_add_its_totals_again(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()
    for began, totals in ((0, (1_000_000, 1_000_010, 1_000_020)), (60, (1_000_030, 1_000_040))):
        start = begun + began * SECOND_NS
        for n, total in enumerate(totals):
            request = collector_request(start, start + n * 10 * SECOND_NS, total)
            assert rejected(post_otlp(at, request)) == (0, "")
    assert stored_counts(metrics) == [30, 30, 30, 30]


def test_start_time_that_moves_a_little_is_not_a_restart(metrics: Metrics, at: str) -> None:
    start = time.time_ns()
    for n, move in enumerate((0, 1_000_000, 2_000_000, 1_000_000)):
        request = collector_request(start + move, start + (n + 1) * SECOND_NS, 130 + 10 * n)
        assert rejected(post_otlp(at, request)) == (0, "")
    assert stored_counts(metrics) == [160, 160, 160, 160]


# -- values that no float holds --------------------------------------------------------------------

LARGEST = 1.7976931348623157e308


def worked(server: Server, metrics: Metrics) -> None:
    """Assert that a worker, and then every question about the metric m, can read it."""
    worker = new_worker(server.url, metrics.settings.namespace)
    try:
        for _ in worker.once():
            pass
        assert worker.counts.failures == 0, worker.counts.last_error
    finally:
        worker.leave()
        worker.store.close()
    for sample in metrics.query("m"):
        assert math.isfinite(sample.value), sample
    metrics.digest("m")
    metrics.query("m", aggregation="p50")
    metrics.query("m", aggregation="stddev")
    assert "m" in metrics.get_metrics()["metrics"][0]["name"]
    assert metrics.get_metrics()["skipped"] == {}


@pytest.mark.parametrize("monotonic", [True, False])
@pytest.mark.parametrize("temporality", [1, 2])
def test_points_that_are_not_finite_are_rejected_and_the_stream_continues(
    metrics: Metrics, at: str, server: Server, temporality: int, monotonic: bool
) -> None:
    begun = time.time_ns()

    def post(number: Any, after: int) -> tuple[int, str]:
        point = {**number_point(0.0, start=begun, after=after), "asDouble": number}
        body = sum_request(point, temporality=temporality, monotonic=monotonic)
        return rejected(post_otlp(at, body))

    assert post(5.0, 1) == (0, "")
    for after, value in enumerate(("Infinity", "-Infinity", "NaN"), 2):
        count, message = post(value, after)
        assert count == 1
        assert "value must be a finite number" in message
    assert post(7.0, 5) == (0, "")
    if monotonic:
        found = metrics.query("m", aggregation="sum")
    else:
        found = metrics.query("m", aggregation="last")
    assert found == (12 if temporality == 1 else 7)
    worked(server, metrics)
    assert metrics.stats()["dropped"] == {}


def test_an_up_down_counter_beyond_a_float_saturates(
    metrics: Metrics, at: str, server: Server
) -> None:
    for after in range(3):
        body = sum_request(number_point(1e308, after=after + 1), temporality=1, monotonic=False)
        assert rejected(post_otlp(at, body)) == (0, "")
    assert metrics.query("m", aggregation="last") == LARGEST
    worked(server, metrics)
    body = sum_request(number_point(-LARGEST, after=9), temporality=1, monotonic=False)
    assert rejected(post_otlp(at, body)) == (0, "")
    assert metrics.query("m", aggregation="last") == 0


def test_a_total_that_changes_by_more_than_a_float_is_rejected_until_it_is_back(
    metrics: Metrics, at: str, server: Server
) -> None:
    begun = time.time_ns()
    values = [(1e308, 0), (-1e308, 1), (-9e307, 1), (0.0, 0), (7.0, 0)]
    for after, (value, expected) in enumerate(values, 1):
        body = sum_request(number_point(value, start=begun, after=after), monotonic=False)
        assert rejected(post_otlp(at, body))[0] == expected
    # The change that counts is the one from the last total that was recorded.
    assert metrics.query("m", aggregation="last") == 7
    worked(server, metrics)


@pytest.mark.parametrize("kind", ["sum", "gauge", "histogram"])
def test_a_value_that_its_unit_makes_too_large_is_rejected(
    metrics: Metrics, at: str, server: Server, kind: str
) -> None:
    metrics.declare("m", type="gauge" if kind != "histogram" else kind, unit="ms")

    def post(value: float) -> tuple[int, str]:
        if kind == "sum":
            body = sum_request(number_point(value), temporality=1, monotonic=False, unit="s")
        elif kind == "gauge":
            body = metric_request(gauge={"dataPoints": [number_point(value)]}, unit="s")
        else:
            point = {
                "startTimeUnixNano": str(NOW_NS),
                "timeUnixNano": str(NOW_NS + round(value % 1000)),
                "count": "2",
                "sum": value,
                "min": 0.0,
                "max": value,
                "bucketCounts": ["1", "1"],
                "explicitBounds": [1.0],
            }
            body = metric_request(
                histogram={"dataPoints": [point], "aggregationTemporality": 1}, unit="s"
            )
        return rejected(post_otlp(at, body))

    count, message = post(LARGEST)
    assert count == 1, message
    assert "finite" in message
    assert post(2.0) == (0, "")
    assert metrics.query("m", aggregation="max") == 2_000
    worked(server, metrics)
