"""Read OTLP requests, protobuf or JSON, as data points. Needs the extra `otel`."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from redismetrics.errors import InvalidMetric, MissingExtra

from .buckets import ExplicitBuckets, ExponentialBuckets
from .naming import clean_name, clean_unit, point_tags, resource_tags
from .points import DataPoint, HistogramValue, Rejections, Temporality
from .request_size import RequestTooLarge, check_json_size, check_protobuf_size

try:
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
except ImportError as _error:
    raise MissingExtra("receiving OTLP needs: pip install 'redismetrics[otel]'") from _error

# Points, metrics, scopes and resources of one request, together.
MAX_POINTS = 100_000
# DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_NO_RECORDED_VALUE = 1
_TEMPORALITIES: dict[int, Temporality] = {1: "delta", 2: "cumulative"}
# Bytes of a stream's identity.
_STREAM_BYTES = 16


class InvalidRequest(ValueError):
    """The body of a request cannot be read; retrying cannot help."""


def parse_request(body: bytes, *, as_json: bool) -> ExportMetricsServiceRequest:
    """Parse a body.

    Raises:
        InvalidRequest: If the body is malformed, describes too many messages (checked before they
            take memory), or holds more than `MAX_POINTS`.
    """
    request = ExportMetricsServiceRequest()
    try:
        if as_json:
            check_json_size(body)
            parsed = json.loads(body)
            # protobuf's own parser reads a list as an empty message.
            if not isinstance(parsed, dict):
                raise ValueError(f"it must be an object, got {type(parsed).__name__}")
            json_format.ParseDict(parsed, request, ignore_unknown_fields=True)
        else:
            check_protobuf_size(body)
            request.ParseFromString(body)
    except RequestTooLarge as error:
        raise InvalidRequest(str(error)) from error
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"body must be an ExportMetricsServiceRequest: {error}") from error
    total = 0
    for count in _counts(request):
        total += count
        if total > MAX_POINTS:
            raise InvalidRequest(
                f"body must hold at most {MAX_POINTS} points, metrics, scopes and resources, "
                "got more; send several smaller requests"
            )
    return request


def _counts(request: ExportMetricsServiceRequest) -> Iterator[int]:
    """Yield the sizes of all lists in *request*.

    A few bytes can describe each element, even an empty one, and each takes time.
    """
    yield len(request.resource_metrics)
    for resource_metrics in request.resource_metrics:
        yield len(resource_metrics.scope_metrics)
        for scope_metrics in resource_metrics.scope_metrics:
            yield len(scope_metrics.metrics)
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                yield len(getattr(metric, kind).data_points) if kind else 0


def data_points(
    request: ExportMetricsServiceRequest,
    resource_attributes: tuple[str, ...],
    rejections: Rejections,
) -> Iterator[DataPoint]:
    """Yield the points of *request*; add those that cannot be read to *rejections*.

    *resource_attributes* become tags.
    """
    for resource_metrics in request.resource_metrics:
        attributes = _attributes(resource_metrics.resource.attributes)
        tags = resource_tags(attributes, resource_attributes)
        resource = repr(sorted(attributes.items())).encode("utf-8", "replace")
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope
            name = f"{scope.name}\0{scope.version}\0".encode("utf-8", "replace")
            identity = hashlib.blake2b(resource + b"\0" + name)
            for metric in scope_metrics.metrics:
                yield from _metric_points(metric, identity, tags, rejections)


def _metric_points(
    metric: Any, scope_identity: Any, tags: Mapping[str, str], rejections: Rejections
) -> Iterator[DataPoint]:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind) if kind else None
    if data is None:
        return
    name, unit = clean_name(metric.name), clean_unit(metric.unit)
    if kind not in _READERS:
        rejections.add(
            f"{name}: the metric must be a sum, gauge or histogram, got a {kind}",
            len(data.data_points),
        )
        return
    identity = scope_identity.copy()
    identity.update(f"{kind}\0{metric.name}\0{metric.unit}\0".encode("utf-8", "replace"))
    temporality = _TEMPORALITIES.get(getattr(data, "aggregation_temporality", 0), "")
    point_kind: Any = {"sum": "sum", "gauge": "gauge"}.get(kind, "histogram")
    for point in data.data_points:
        if point.flags & _NO_RECORDED_VALUE:
            continue
        attributes = _attributes(point.attributes)
        stream = identity.copy()
        stream.update(repr(sorted(attributes.items())).encode("utf-8", "replace"))
        try:
            value = _READERS[kind](point)
        except InvalidMetric as error:
            rejections.add(f"{name}: {error}")
            continue
        yield DataPoint(
            name,
            point_kind,
            unit,
            metric.description,
            stream.digest()[:_STREAM_BYTES],
            point_tags(attributes, tags),
            point.start_time_unix_nano,
            point.time_unix_nano,
            value,
            monotonic=kind == "sum" and data.is_monotonic,
            temporality=temporality,
        )


def _number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value") or "as_double"))


def _optional(point: Any, name: str) -> float | None:
    return getattr(point, name) if point.HasField(name) else None


def _histogram(point: Any) -> HistogramValue:
    return _histogram_value(
        point, ExplicitBuckets(tuple(point.explicit_bounds), tuple(point.bucket_counts))
    )


def _exponential_histogram(point: Any) -> HistogramValue:
    positive, negative = (
        (side.offset, side.bucket_counts) for side in (point.positive, point.negative)
    )
    return _histogram_value(
        point,
        ExponentialBuckets.from_dense(
            point.scale, point.zero_count, point.zero_threshold, positive, negative
        ),
    )


def _histogram_value(point: Any, buckets: ExplicitBuckets | ExponentialBuckets) -> HistogramValue:
    total, low, high = (_optional(point, name) for name in ("sum", "min", "max"))
    return HistogramValue(point.count, total, low, high, buckets)


_READERS: dict[str, Any] = {
    "sum": _number,
    "gauge": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential_histogram,
}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
