"""The OTLP receiver: requests of OTLP/HTTP, protobuf or JSON, into the store. The extra `otel`."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidMetric, MissingExtra, StoreError, TypeMismatch
from redismetrics.integrations.limits import CardinalityLimit
from redismetrics.store import catalog, server
from redismetrics.store.driver import run

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
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsPartialSuccess,
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
    )
except ImportError as _error:
    raise MissingExtra("receiving OTLP needs: pip install 'redismetrics[otel]'") from _error

MAX_POINTS = 100_000  # of one request
_NO_VALUE = 1  # DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_TEMPORALITIES: dict[int, Temporality] = {1: "delta", 2: "cumulative"}


class NotReadable(ValueError):
    """The body of a request is not what it says; sending it again changes nothing."""


class NotStored(Exception):
    """The store does not answer; the same request may be sent again, and counts once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    outcome: Outcome

    @property
    def message(self) -> str:
        return "; ".join(self.outcome.reasons)

    def as_protobuf(self) -> bytes:
        response = ExportMetricsServiceResponse()
        if self.outcome.reasons:
            response.partial_success.rejected_data_points = self.outcome.rejected
            response.partial_success.error_message = self.message
        body: bytes = response.SerializeToString()
        return body

    def as_json(self) -> bytes:
        if not self.outcome.reasons:
            return b"{}"
        partial = {"rejectedDataPoints": str(self.outcome.rejected), "errorMessage": self.message}
        return json.dumps({"partialSuccess": partial}).encode()


class Receiver:
    """Takes OTLP requests for one client. *resource_attributes* become tags; *streams* is how many are remembered.

    *room* bounds how many metrics and series are taken.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        resource_attributes: Sequence[str] = RESOURCE_ATTRIBUTES,
        streams: int = 100_000,
        room: CardinalityLimit | None = None,
    ) -> None:
        assert metrics._flusher is not None, "BUG: a receiver without a store"
        self._metrics = metrics
        self._flusher = metrics._flusher
        self._resource_attributes = tuple(resource_attributes)
        self._room = room
        self._intake = OtlpRecorder(metrics, Streams(streams, time.time_ns(), time.time_ns))

    def receive(self, body: bytes, *, as_json: bool = False, timeout: float = 5.0) -> Answer:
        """Record a request's points, and wait until they are stored. Blocks.

        Raises:
            NotReadable: the body can't be read; nothing was recorded.
            NoRoom: it brings more metrics or series than this process takes; nothing was recorded.
            NotStored: the store did not answer, before or after the points were recorded. When the request comes again, what
                was recorded is recognised by its stream, times and value.
        """
        request = read(body, as_json=as_json)
        outcome = Outcome()
        points = list(self._points(request, outcome))
        if self._room is not None:
            self._room.check(self._metrics, (point.name for point in points))
        try:
            run(self._metrics._store.client(), server.now())
            self._look_again(points)
            points = self._check_types(points, outcome)
            self._intake.take(points, outcome)
            with suppress(TypeMismatch):  # of these, or of what else this process records
                self._metrics.flush(timeout)
            self._check_types(points, outcome)
        except StoreError as error:
            raise NotStored(str(error)) from error
        return Answer(outcome)

    def _look_again(self, points: list[Point]) -> None:
        """Forget that metrics were of another type where the store says so no longer: such were deleted since."""
        mismatches = self._flusher.sender.mismatches
        types = {
            point.name: point.type
            for point in points
            if point.name in mismatches or self._intake.is_at_odds(point)
        }
        if types:
            found = run(
                self._metrics._store.client(),
                catalog.types(self._metrics.settings.namespace, list(types)),
            )
            for name, kind in types.items():
                if found.get(name, kind) == kind:
                    self._flusher.sender.clear_mismatch(name)
                    self._intake.forget(name)

    def _check_types(self, points: list[Point], outcome: Outcome) -> list[Point]:
        """The points without those of metrics that the store knows as another type: such were dropped, or would be."""
        refused = set(self._flusher.sender.mismatches)
        for point in points:
            if point.name in refused:
                outcome.reject(
                    f"{point.name}: the store knows it as another type, got a {point.type}"
                )
        return [point for point in points if point.name not in refused]

    def _points(self, request: ExportMetricsServiceRequest, outcome: Outcome) -> Iterator[Point]:
        for of_resource in request.resource_metrics:
            attributes = _attributes(of_resource.resource.attributes)
            more = tag_attributes(
                {key: attributes[key] for key in self._resource_attributes if key in attributes}
            )
            resource = repr(sorted(attributes.items())).encode("utf-8", "replace")
            for of_scope in of_resource.scope_metrics:
                scope = f"{of_scope.scope.name}\0{of_scope.scope.version}\0".encode(
                    "utf-8", "replace"
                )
                for metric in of_scope.metrics:
                    yield from _points_of(
                        metric, hashlib.blake2b(resource + b"\0" + scope), more, outcome
                    )


def _points_of(
    metric: Any, identity: Any, more: Mapping[str, Any], outcome: Outcome
) -> Iterator[Point]:
    what = metric.WhichOneof("data")
    data = getattr(metric, what) if what else None
    if data is None:
        return
    name, unit = clean_name(metric.name), clean_unit(metric.unit)
    if what not in _READERS:
        outcome.reject(
            f"{name}: wanted a sum, gauge or histogram, got a {what}", len(data.data_points)
        )
        return
    identity = identity.copy()
    identity.update(f"{what}\0{metric.name}\0{metric.unit}\0".encode("utf-8", "replace"))
    temporality = _TEMPORALITIES.get(getattr(data, "aggregation_temporality", 0), "")
    kind: Any = {"sum": "sum", "gauge": "gauge"}.get(what, "histogram")
    for point in data.data_points:
        if point.flags & _NO_VALUE:
            continue
        attributes = _attributes(point.attributes)
        stream = identity.copy()
        stream.update(repr(sorted(attributes.items())).encode("utf-8", "replace"))
        try:
            value = _READERS[what](point)
        except InvalidMetric as error:
            outcome.reject(f"{name}: {error}")
            continue
        yield Point(
            name, kind, unit, metric.description, stream.digest()[:16], clean_tags(attributes, more),
            point.start_time_unix_nano, point.time_unix_nano, value, monotonic=what == "sum" and data.is_monotonic,
            temporality=temporality,
        )  # fmt: skip


def _number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value") or "as_double"))


def _optional(point: Any, name: str) -> float | None:
    return getattr(point, name) if point.HasField(name) else None


def _explicit(point: Any) -> Counted:
    buckets = Buckets(tuple(point.explicit_bounds), tuple(point.bucket_counts))
    return Counted(
        point.count,
        _optional(point, "sum"),
        _optional(point, "min"),
        _optional(point, "max"),
        buckets,
    )


def _exponential(point: Any) -> Counted:
    positive, negative = (
        (side.offset, side.bucket_counts) for side in (point.positive, point.negative)
    )
    buckets = Exponential.of(
        point.scale, point.zero_count, point.zero_threshold, positive, negative
    )
    return Counted(
        point.count,
        _optional(point, "sum"),
        _optional(point, "min"),
        _optional(point, "max"),
        buckets,
    )


_READERS: dict[str, Any] = {
    "sum": _number, "gauge": _number, "histogram": _explicit, "exponential_histogram": _exponential,
}  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    what = value.WhichOneof("value")
    if what == "array_value":
        return [_value(each) for each in value.array_value.values]
    if what == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, what) if what else None


def read(body: bytes, *, as_json: bool) -> ExportMetricsServiceRequest:
    """The request of a body; raises `NotReadable`."""
    request = ExportMetricsServiceRequest()
    try:
        if as_json:
            found = json.loads(body)
            if not isinstance(
                found, dict
            ):  # protobuf's own parser takes a list for an empty message
                raise ValueError(f"wanted an object, got {type(found).__name__}")
            json_format.ParseDict(found, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
        raise NotReadable(
            f"body: wanted an ExportMetricsServiceRequest, got something else: {error}"
        ) from error
    count = 0
    for inner in _inside(request):
        count += inner
        if count > MAX_POINTS:
            raise NotReadable(
                f"body: wanted at most {MAX_POINTS} points, metrics, scopes and resources, got more: "
                "send them in smaller requests"
            )
    return request


def _inside(request: ExportMetricsServiceRequest) -> Iterator[int]:
    """How many there are of what: a few bytes can make each, and each takes its time."""
    yield len(request.resource_metrics)
    for of_resource in request.resource_metrics:
        yield len(of_resource.scope_metrics)
        for of_scope in of_resource.scope_metrics:
            yield len(of_scope.metrics)
            for metric in of_scope.metrics:
                what = metric.WhichOneof("data")
                yield len(getattr(metric, what).data_points) if what else 0


def status(message: str) -> bytes:
    """A google.rpc.Status with this message, by which OTLP tells of errors."""
    # Field 2 is the message in both, and the code in field 1 may be left out: no need of one more package.
    body: bytes = ExportMetricsPartialSuccess(error_message=message).SerializeToString()
    return body
