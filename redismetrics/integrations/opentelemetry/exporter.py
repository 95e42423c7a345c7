"""The exporter for OpenTelemetry's SDK: what its instruments measured, into the store. The extra `otel`."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redismetrics.client.base import Client
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidMetric, MissingExtra, RedisMetricsError

from .distributions import Buckets, Exponential
from .points import (
    RESOURCE_ATTRIBUTES,
    Counted,
    OtlpRecorder,
    Outcome,
    Point,
    Streams,
    Temporality,
    clean_name,
    clean_tags,
    clean_unit,
    tag_attributes,
)

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

_STREAMS = 100_000
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
    """Records what a metric reader of the SDK collects, with *metrics* (an `AsyncMetrics` too) or the default client.

    Counters become counters, up-down counters changes of a gauge that all processes share, gauges gauges, and histograms of
    both kinds histograms with exact count and sum. Instruments are asked for changes (delta temporality) unless
    *preferred_temporality* says otherwise. The *resource_attributes* become tags of every series. `export` records in memory
    and never waits for Redis; `force_flush` and `shutdown` do. What can't be recorded is logged, and left out.
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
        self._metrics = Metrics(metrics=metrics)  # the SDK's threads wait by the blocking face
        self._resource_attributes = tuple(resource_attributes)
        self._intake = OtlpRecorder(metrics, Streams(_STREAMS, 0, time.time_ns))
        self._told: set[str] = set()
        self._ended = False

    def export(
        self, metrics_data: sdk.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> sdk.MetricExportResult:
        """Record one collection; fails only after `shutdown`, or when the client is closed."""
        if self._ended or self._metrics._recorder.closed:
            log.warning("the exporter was shut down: a collection is not recorded")
            return sdk.MetricExportResult.FAILURE
        outcome = Outcome()
        self._intake.take(list(self._points(metrics_data, outcome)), outcome)
        for reason in outcome.reasons:
            if reason not in self._told and len(self._told) < 1000:
                self._told.add(reason)
                log.warning("OpenTelemetry points are left out: %s", reason)
        return sdk.MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until all that was exported is stored; False when the store did not confirm it in time."""
        try:
            self._metrics.flush(timeout_millis / 1000)
        except RedisMetricsError as error:
            log.warning("exported and not confirmed: %s", error)
            return False
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Wait until all is stored, and take nothing more. The client stays open: it may be used for more than this."""
        if not self._ended:
            self._ended = True
            self.force_flush(timeout_millis)

    def _points(self, data: sdk.MetricsData, outcome: Outcome) -> Iterator[Point]:
        for of_resource in data.resource_metrics:
            attributes = dict(of_resource.resource.attributes)
            more = tag_attributes(
                {key: attributes[key] for key in self._resource_attributes if key in attributes}
            )
            for of_scope in of_resource.scope_metrics:
                scope = (of_scope.scope.name, of_scope.scope.version, sorted(attributes.items()))
                for metric in of_scope.metrics:
                    yield from _points_of(metric, scope, more, outcome)


def _points_of(
    metric: sdk.Metric, scope: Any, more: Mapping[str, Any], outcome: Outcome
) -> Iterator[Point]:
    data: Any = metric.data
    name, unit = clean_name(metric.name), clean_unit(metric.unit or "")
    kind: Any = {sdk.Sum: "sum", sdk.Gauge: "gauge"}.get(type(data), "histogram")
    for point in data.data_points:
        attributes = dict(point.attributes or {})
        try:
            value = _counted(point) if kind == "histogram" else float(point.value)
        except InvalidMetric as error:
            outcome.reject(f"{name}: {error}")
            continue
        yield Point(
            name, kind, unit, metric.description or "", repr((scope, metric.name, sorted(attributes.items()))).encode(),
            clean_tags(attributes, more), point.start_time_unix_nano or 0, point.time_unix_nano, value,
            monotonic=kind == "sum" and data.is_monotonic,
            temporality=_TEMPORALITIES.get(getattr(data, "aggregation_temporality", None), ""),
        )  # fmt: skip


def _counted(point: Any) -> Counted:
    buckets: Buckets | Exponential
    if isinstance(point, sdk.ExponentialHistogramDataPoint):
        positive, negative = (
            (side.offset, side.bucket_counts) for side in (point.positive, point.negative)
        )
        buckets = Exponential.of(
            point.scale, point.zero_count, getattr(point, "zero_threshold", 0.0), positive, negative
        )
    else:
        buckets = Buckets(tuple(point.explicit_bounds), tuple(point.bucket_counts))
    # Where the SDK was told not to look for them, min and max are infinite.
    low, high = (value if math.isfinite(value) else None for value in (point.min, point.max))
    return Counted(point.count, float(point.sum), low, high, buckets)
