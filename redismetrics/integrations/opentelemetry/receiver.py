"""The OTLP receiver: records the points of OTLP/HTTP requests. Needs the extra `otel`."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from redismetrics.client.metrics import Metrics
from redismetrics.errors import MissingExtra, StoreError
from redismetrics.integrations.limits import RESOURCE_ATTRIBUTES, CardinalityLimit
from redismetrics.store import catalog

from .dropped_points import UnconfirmedRequests, reject_dropped
from .otlp_recorder import OtlpRecorder
from .otlp_request import InvalidRequest, data_points, parse_request
from .points import DataPoint, Rejections
from .stream_totals import StreamTotals

try:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsPartialSuccess,
        ExportMetricsServiceResponse,
    )
except ImportError as _error:
    raise MissingExtra("receiving OTLP needs: pip install 'redismetrics[otel]'") from _error

__all__ = ["InvalidRequest", "NotStored", "Receiver", "ReceiverResult", "encode_status"]

# Larger bodies are read one at a time: eight of 4 MiB at once took 323 MB, one by one 164 MB.
_LARGE_BYTES = 1 << 20


class NotStored(Exception):
    """Redis does not answer. The same request may be sent again, and will count only once."""


@dataclass(frozen=True, slots=True)
class ReceiverResult:
    """The result of a request, which lists the rejected points."""

    rejections: Rejections

    @property
    def message(self) -> str:
        """The reasons for rejections, as one text."""
        return "; ".join(self.rejections.reasons)

    def to_protobuf(self) -> bytes:
        """Return an ExportMetricsServiceResponse."""
        response = ExportMetricsServiceResponse()
        if self.rejections.reasons:
            response.partial_success.rejected_data_points = self.rejections.count
            response.partial_success.error_message = self.message
        body: bytes = response.SerializeToString()
        return body

    def to_json(self) -> bytes:
        """Return an ExportMetricsServiceResponse as JSON."""
        if not self.rejections.reasons:
            return b"{}"
        partial = {"rejectedDataPoints": str(self.rejections.count), "errorMessage": self.message}
        return json.dumps({"partialSuccess": partial}).encode()


class Receiver:
    """Records OTLP requests with one client.

    Args:
        metrics: The client.
        resource_attributes: Attributes of the resource that become tags.
        max_streams: Maximum number of OpenTelemetry streams whose state is remembered.
        limit: Limit on the metrics and series of requests; None means no limit.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        resource_attributes: Sequence[str] = RESOURCE_ATTRIBUTES,
        max_streams: int = 100_000,
        limit: CardinalityLimit | None = None,
    ) -> None:
        self._metrics = metrics
        self._internals = metrics.internals
        self._resource_attributes = tuple(resource_attributes)
        self._limit = limit
        totals = StreamTotals(max_streams, time.time_ns(), time.time_ns)
        self._recorder = OtlpRecorder(metrics, totals)
        self._unconfirmed = UnconfirmedRequests()
        self._large_requests = threading.Lock()

    def receive(
        self, body: bytes, *, as_json: bool = False, timeout: float = 5.0
    ) -> ReceiverResult:
        """Record the points of a request and wait until they are stored or dropped. Blocks.

        Raises:
            InvalidRequest: If the body cannot be read. Nothing was recorded.
            LimitExceeded: If the request has more metrics or series than this process accepts.
                Nothing was recorded.
            NotStored: If Redis does not answer within *timeout* seconds, before or after the points
                were recorded, or the client is closed. If the request is sent again, points that
                were recorded are recognised by their stream, times and value.
        """
        rejections = Rejections()
        with ExitStack() as turn:
            if len(body) > _LARGE_BYTES:
                turn.enter_context(self._large_requests)
            request = parse_request(body, as_json=as_json)
            points = list(data_points(request, self._resource_attributes, rejections))
            del request
            if self._limit is not None:
                self._limit.check(
                    self._metrics,
                    (point.name for point in points),
                    # One series per stream.
                    {point.stream: point.tags for point in points}.values(),
                    has_new_series=lambda: (
                        not all(
                            self._internals.has_series(point.name, tags=point.tags)
                            for point in points
                        )
                    ),
                )
            try:
                if self._internals.closed:
                    raise NotStored("the client is closed and records nothing")
                self._internals.check_store()
                self._forget_deleted_types(points)
                points = self._reject_mismatches(points, rejections)
                self._record(points, rejections, timeout, turn.close)
            except StoreError as error:
                raise NotStored(str(error)) from error
        return ReceiverResult(rejections)

    def _record(
        self,
        points: list[DataPoint],
        rejections: Rejections,
        timeout: float,
        end_turn: Callable[[], None],
    ) -> None:
        """Record *points*, wait until they are stored or dropped, and reject dropped ones.

        Call *end_turn* once they are recorded.
        """
        with ExitStack() as stack:
            watch = stack.enter_context(
                self._internals.watch_settled(point.name for point in points)
            )
            recorded = self._recorder.record(points, rejections)
            end_turn()
            try:
                self._internals.settle(timeout)
            except StoreError:
                self._unconfirmed.add(stack.pop_all(), recorded, watch)
                raise
        mismatched = len(points) - len(self._reject_mismatches(points, rejections))
        reject_dropped(recorded, watch, rejections, skip_mismatches=mismatched > 0)
        self._unconfirmed.reject_dropped({point.name for point in points}, rejections)

    def _forget_deleted_types(self, points: list[DataPoint]) -> None:
        """Forget the types of metrics that were deleted, or recreated with the type of a point."""
        mismatches = self._internals.mismatches()
        types = {
            point.name: point.type
            for point in points
            if point.name in mismatches or self._recorder.contradicts_catalog(point)
        }
        if types:
            namespace = self._metrics.settings.namespace
            stored = self._internals.run(catalog.types(namespace, list(types)))
            for name, point_type in types.items():
                if stored.get(name, point_type) == point_type:
                    self._internals.clear_mismatch(name)
                    self._recorder.forget(name)

    def _reject_mismatches(
        self, points: list[DataPoint], rejections: Rejections
    ) -> list[DataPoint]:
        """Reject the points whose metrics have another type in Redis; return the others."""
        mismatches = self._internals.mismatches()
        self._internals.silence_mismatches({point.name for point in points})
        for point in points:
            if point.name in mismatches:
                rejections.add(
                    f"{point.name}: the metric has another type in Redis, got a {point.type}"
                )
        return [point for point in points if point.name not in mismatches]


def encode_status(message: str) -> bytes:
    """Return a google.rpc.Status with this message, OTLP's form of an error.

    Its message is field 2, as in ExportMetricsPartialSuccess, and its code in field 1 is optional,
    so no package with google.rpc is needed.
    """
    body: bytes = ExportMetricsPartialSuccess(error_message=message).SerializeToString()
    return body
