"""OTLP/HTTP requests from a snapshot: cumulative, with protobuf and gzip.

https://opentelemetry.io/docs/specs/otlp/ and .../docs/specs/otel/metrics/data-model/
"""

import gzip
from collections.abc import Iterator, Mapping
from typing import Any

from redismetrics import __version__
from redismetrics.errors import MissingExtra
from redismetrics.exposition.families import SeriesState
from redismetrics.exposition.named_families import NamedFamily
from redismetrics.exposition.text import help_text

from .ended_series import ended_series
from .request import MAX_SAMPLES, PushRequest
from .snapshot import TotalsSnapshot

try:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
    )
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags
except ImportError as _error:
    raise MissingExtra("OTLP needs: pip install 'redismetrics[otel]'") from _error

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
# The attributes that Prometheus turns into the labels job and instance.
_RESOURCE_NAMES = {"job": "service.name", "instance": "service.instance.id"}
_DEFAULT_SERVICE = "redismetrics"
# The flag that Prometheus turns into a staleness marker.
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
# Rows with numbers take most of the time; a higher level gains little.
_GZIP_LEVEL = 1


def make_requests(
    snapshot: TotalsSnapshot, labels: Mapping[str, str], before: TotalsSnapshot | None = None
) -> Iterator[PushRequest]:
    """Yield the requests that push *snapshot*; *labels* become attributes of the resource.

    They end with points without a value, for series that were only in *before*.
    """
    request, count = ExportMetricsServiceRequest(), 0
    metrics, points = _scope(request, labels), None
    filled: NamedFamily | None = None
    for named, own, state, has_ended in _all_series(snapshot, before):
        if count >= MAX_SAMPLES:
            yield _packed(request, count, snapshot)
            request, count, filled = ExportMetricsServiceRequest(), 0, None
            metrics = _scope(request, labels)
        if points is None or named is not filled:
            points, filled = _add_metric(metrics, named), named
        point = points.add(time_unix_nano=1_000_000 * snapshot.time_ms)
        for name, value in own.items():
            point.attributes.add(key=name).value.string_value = value
        if has_ended:
            point.flags = _NO_VALUE
        else:
            _fill(point, named, state, 1000 * snapshot.added_us.get(named.family.name, 0))
        count += 1
    if count:
        yield _packed(request, count, snapshot)


def _all_series(
    snapshot: TotalsSnapshot, before: TotalsSnapshot | None
) -> Iterator[tuple[NamedFamily, dict[str, str], SeriesState, bool]]:
    """Yield family, labels and state of each series, including ended ones."""
    for named in snapshot.families:
        for labels, state in named.series():
            yield named, labels, state, False
    for named, labels, state in ended_series(before, snapshot):
        yield named, labels, state, True


def rejected(reply: bytes) -> tuple[int, str]:
    """Return the number of rejected points in the response to a request, and the reason."""
    try:
        answer = ExportMetricsServiceResponse.FromString(reply)
    except DecodeError:
        # Some receivers respond with text: the status says that everything was accepted.
        return 0, ""
    partial = answer.partial_success
    return max(partial.rejected_data_points, 0), partial.error_message


def _scope(request: Any, labels: Mapping[str, str]) -> Any:
    """Return the list for the metrics of a request."""
    resource = request.resource_metrics.add()
    attributes = {"service.name": _DEFAULT_SERVICE}
    attributes |= {_RESOURCE_NAMES.get(name, name): value for name, value in labels.items()}
    for name, value in attributes.items():
        resource.resource.attributes.add(key=name).value.string_value = value
    scope = resource.scope_metrics.add()
    scope.scope.name, scope.scope.version = "redismetrics", __version__
    return scope.metrics


def _add_metric(metrics: Any, named: NamedFamily) -> Any:
    """Add a metric; return the list for its points."""
    metric = metrics.add(name=named.name, description=help_text(named.family), unit=named.unit)
    match named.family.definition.type:
        case "counter":
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.is_monotonic = True
            return metric.sum.data_points
        case "histogram":
            metric.histogram.aggregation_temporality = _CUMULATIVE
            return metric.histogram.data_points
        case "summary":
            return metric.summary.data_points
    # An info or state set has no kind of its own.
    return metric.gauge.data_points


def _fill(point: Any, named: NamedFamily, state: SeriesState, start_ns: int) -> None:
    """Fill in the values of a point, whose series began at *start_ns* or later."""
    kind, bounds = named.family.definition.type, named.family.definition.buckets
    if kind in ("histogram", "summary"):
        point.start_time_unix_nano = start_ns
        point.count = state.count
        if kind == "histogram":
            point.explicit_bounds.extend(bounds)
            point.bucket_counts.extend([*state.buckets, state.count - sum(state.buckets)])
            # The data model: no sum if values may be negative, because it is then not monotonic.
            if state.value < 0 or (bounds and bounds[0] < 0):
                return
        point.sum = state.value
        return
    if kind == "counter":
        point.start_time_unix_nano = start_ns
    point.as_double = state.value


def _packed(request: Any, count: int, snapshot: TotalsSnapshot) -> PushRequest:
    body = gzip.compress(request.SerializeToString(), _GZIP_LEVEL, mtime=0)
    return PushRequest(body, count, snapshot.time_ms)
