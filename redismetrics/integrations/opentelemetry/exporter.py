"""The exporter for the OpenTelemetry SDK: records the measurements of the SDK's instruments."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redismetrics.client.base import Client
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidMetric, MissingExtra, RedisMetricsError
from redismetrics.integrations.limits import RESOURCE_ATTRIBUTES

from .buckets import Buckets, ExplicitBuckets, ExponentialBuckets
from .naming import clean_name, clean_unit, point_tags, resource_tags
from .otlp_recorder import OtlpRecorder
from .points import DataPoint, HistogramValue, Rejections, Temporality
from .stream_totals import StreamTotals

try:
    from opentelemetry.sdk.metrics import (
        Counter,
        Histogram,
        ObservableCounter,
        ObservableGauge,
        ObservableUpDownCounter,
        UpDownCounter,
    )
    from opentelemetry.sdk.metrics import export as sdk
except ImportError as _error:
    raise MissingExtra("the exporter needs: pip install 'redismetrics[otel]'") from _error

log = logging.getLogger("redismetrics")

# Maximum number of streams of one process whose state is remembered.
_MAX_STREAMS = 100_000
# Maximum number of different reasons to log.
_MAX_LOGGED = 1_000
_INSTRUMENTS = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)
_TEMPORALITIES: dict[Any, Temporality] = {
    sdk.AggregationTemporality.DELTA: "delta",
    sdk.AggregationTemporality.CUMULATIVE: "cumulative",
}


class RedisMetricsExporter(sdk.MetricExporter):
    """Records the collections of an SDK metric reader.

    Counters become counters, up-down counters become changes of a gauge that all processes share,
    gauges become gauges, and histograms of both kinds become histograms with exact count and sum.
    `export` records in memory and never waits for Redis; `force_flush` and `shutdown` wait. Points
    that cannot be recorded are logged and left out.

    Args:
        metrics: A `Metrics` or `AsyncMetrics`; by default the default client. It is not closed.
        resource_attributes: Attributes of the resource that become tags of all series.
        preferred_temporality: By default, deltas from all instruments.
        preferred_aggregation: As for other exporters of the SDK.
    """

    def __init__(
        self,
        metrics: Client | None = None,
        *,
        resource_attributes: Sequence[str] = RESOURCE_ATTRIBUTES,
        preferred_temporality: Mapping[type, sdk.AggregationTemporality] | None = None,
        preferred_aggregation: Mapping[type, Any] | None = None,
    ) -> None:
        delta: dict[type, sdk.AggregationTemporality] = dict.fromkeys(
            _INSTRUMENTS, sdk.AggregationTemporality.DELTA
        )
        super().__init__(
            preferred_temporality={**delta, **(preferred_temporality or {})},
            preferred_aggregation=dict(preferred_aggregation or {}),
        )
        if metrics is None:
            from redismetrics.client.default import client

            metrics = client()
        # The SDK calls from its own threads, so the blocking client is used.
        self._metrics = Metrics(metrics=metrics)
        self._resource_attributes = tuple(resource_attributes)
        self._recorder = OtlpRecorder(metrics, StreamTotals(_MAX_STREAMS, 0, time.time_ns))
        self._logged: set[str] = set()
        self._is_shut_down = False

    def export(
        self, metrics_data: sdk.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> sdk.MetricExportResult:
        """Record one collection. Fails only after `shutdown`, or if the client is closed."""
        if self._is_shut_down or self._metrics.internals.closed:
            log.warning("a collection was not recorded: the exporter is shut down")
            return sdk.MetricExportResult.FAILURE
        rejections = Rejections()
        self._recorder.record(list(self._points(metrics_data, rejections)), rejections)
        for reason in rejections.reasons:
            if reason not in self._logged and len(self._logged) < _MAX_LOGGED:
                self._logged.add(reason)
                log.warning("OpenTelemetry points are left out: %s", reason)
        return sdk.MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until everything is stored or dropped.

        Return False if Redis does not confirm everything in time, or if anything was dropped.
        """
        try:
            result = self._metrics.flush(timeout_millis / 1000)
        except RedisMetricsError as error:
            log.warning("an export was not confirmed: %s", error)
            return False
        # Invalid points of an export are logged and left out before they are counted as invalid.
        dropped = {key: count for key, count in result.dropped.items() if key != "invalid"}
        if dropped:
            log.warning("samples were dropped, possibly from an export: %s", dropped)
        return not dropped

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Wait until everything is stored and record nothing more. The client stays open."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self.force_flush(timeout_millis)

    def _points(self, data: sdk.MetricsData, rejections: Rejections) -> Iterator[DataPoint]:
        for resource_metrics in data.resource_metrics:
            attributes = dict(resource_metrics.resource.attributes)
            tags = resource_tags(attributes, self._resource_attributes)
            for scope_metrics in resource_metrics.scope_metrics:
                scope = scope_metrics.scope
                identity = (scope.name, scope.version, sorted(attributes.items()))
                for metric in scope_metrics.metrics:
                    yield from _metric_points(metric, identity, tags, rejections)


def _metric_points(
    metric: sdk.Metric, identity: Any, tags: Mapping[str, str], rejections: Rejections
) -> Iterator[DataPoint]:
    data: Any = metric.data
    name, unit = clean_name(metric.name), clean_unit(metric.unit or "")
    kind: Any = {sdk.Sum: "sum", sdk.Gauge: "gauge"}.get(type(data), "histogram")
    for point in data.data_points:
        attributes = dict(point.attributes or {})
        try:
            value = _histogram_value(point) if kind == "histogram" else float(point.value)
        except InvalidMetric as error:
            rejections.add(f"{name}: {error}")
            continue
        yield DataPoint(
            name,
            kind,
            unit,
            metric.description or "",
            repr((identity, metric.name, sorted(attributes.items()))).encode(),
            point_tags(attributes, tags),
            point.start_time_unix_nano or 0,
            point.time_unix_nano,
            value,
            monotonic=kind == "sum" and data.is_monotonic,
            temporality=_TEMPORALITIES.get(getattr(data, "aggregation_temporality", None), ""),
        )


def _histogram_value(point: Any) -> HistogramValue:
    buckets: Buckets
    if isinstance(point, sdk.ExponentialHistogramDataPoint):
        positive, negative = (
            (side.offset, side.bucket_counts) for side in (point.positive, point.negative)
        )
        buckets = ExponentialBuckets.from_dense(
            point.scale, point.zero_count, getattr(point, "zero_threshold", 0.0), positive, negative
        )
    else:
        buckets = ExplicitBuckets(tuple(point.explicit_bounds), tuple(point.bucket_counts))
    # If the SDK is configured not to track min and max, they are infinite.
    low, high = (value if math.isfinite(value) else None for value in (point.min, point.max))
    return HistogramValue(point.count, float(point.sum), low, high, buckets)
