"""The exporter: what an application measured with the SDK is what Redis has."""

import asyncio
import logging
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs opentelemetry-exporter-otlp-proto-http"
)
pytest.importorskip("starlette", reason="needs redismetrics[server]")
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from redismetrics import AsyncMetrics, Metrics
from redismetrics.export import export
from redismetrics.integrations.opentelemetry import RedisMetricsExporter
from tests.fixtures.exposition import samples
from tests.integrations.opentelemetry.sdk_application import (
    CUMULATIVE,
    DELTA,
    Application,
    assert_stored,
)


def test_exported_metrics_are_stored(metrics: Metrics) -> None:
    application = Application(RedisMetricsExporter(metrics))
    for _ in range(3):
        application.work()
        application.export()
    application.work()
    application.end()
    assert_stored(metrics, application)
    assert metrics.query("took", aggregation="min") == min(application.times)
    assert metrics.query("took", aggregation="max") == max(application.times)
    # The metric has the bounds of the SDK, so the page has its counts.
    page = samples(export("took", metrics=metrics), False)
    for bound in (5.0, 10.0, 25.0, 50.0):
        found = sum(
            n
            for (name, labels), n in page.items()
            if name == "took_bucket" and ("le", str(bound)) in labels
        )
        assert found == sum(value <= bound for value in application.times)


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA], ids=["cumulative", "delta"])
def test_exponential_histograms_keep_count_sum_and_approximate_percentiles(
    metrics: Metrics, temporality: Any
) -> None:
    view = View(
        instrument_name="took", aggregation=ExponentialBucketHistogramAggregation(max_size=40)
    )
    application = Application(
        RedisMetricsExporter(metrics, preferred_temporality=temporality), views=[view]
    )
    # The scale becomes coarser between the exports.
    for _ in range(4):
        application.work(100)
        application.export()
    application.end()
    assert_stored(metrics, application)
    times = sorted(application.times)
    for name, rank in (("p50", 0.5), ("p90", 0.9)):
        assert metrics.query("took", aggregation=name) == pytest.approx(
            times[int(rank * len(times))], rel=0.15
        )


def test_cumulative_exports_count_once(metrics: Metrics) -> None:
    application = Application(RedisMetricsExporter(metrics, preferred_temporality=CUMULATIVE))
    for _ in range(3):
        application.work()
        application.export()
    application.end()
    assert_stored(metrics, application)


def test_metric_of_another_type_is_logged_and_left_out(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.gauge("jobs.done", 1)
    application = Application(
        RedisMetricsExporter(metrics, resource_attributes=["service.instance.id"])
    )
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(2):
            application.work(1)
            application.export()
    (record,) = caplog.records
    reason = "jobs.done: 'jobs.done' is a gauge"
    assert record.getMessage().startswith(f"OpenTelemetry points are left out: {reason}")
    metrics.flush()
    assert metrics.query("jobs.done", aggregation="count") == 1
    assert metrics.tag_values("took", "service.instance.id") == ["i-1"]
    assert metrics.tag_values("took", "service.name") == []
    application.end()


def test_exporter_accepts_an_async_client(url: str, namespace: str, metrics: Metrics) -> None:
    ametrics = AsyncMetrics(url, namespace=namespace)
    application = Application(RedisMetricsExporter(ametrics))
    application.work()
    application.export()
    # Waits until everything is stored.
    application.end()
    assert_stored(metrics, application)
    asyncio.run(ametrics.aclose())
