"""Reading OTLP requests: bounded, also where a few bytes describe a lot."""

import time

import pytest

pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from redismetrics import Metrics
from redismetrics.integrations.opentelemetry.otlp_request import (
    MAX_POINTS,
    InvalidRequest,
    parse_request,
)
from redismetrics.integrations.opentelemetry.receiver import Receiver


def test_request_of_many_empty_messages_is_rejected_first() -> None:
    request = ExportMetricsServiceRequest()
    for _ in range(MAX_POINTS + 1):
        request.resource_metrics.add()
    with pytest.raises(
        InvalidRequest, match="must hold at most 100000 points, metrics, scopes and resources"
    ):
        parse_request(request.SerializeToString(), as_json=False)
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for _ in range(MAX_POINTS + 1):
        scope.metrics.add()
    with pytest.raises(InvalidRequest, match="must hold at most"):
        parse_request(request.SerializeToString(), as_json=False)


def test_long_resource_attribute_is_cut_once(metrics: Metrics) -> None:
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    attribute = of_resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "ä" * 1_000_000
    metric = of_resource.scope_metrics.add().metrics.add()
    metric.name, metric.gauge.data_points.add().as_double = "depth", 1.0
    for _ in range(3_000):
        metric.gauge.data_points.add().as_double = 1.0
    receiver = Receiver(metrics)
    began = time.process_time()
    receiver.receive(request.SerializeToString())
    # Cutting it for each point would take 10 s.
    assert time.process_time() - began < 2
    (series,) = metrics.live("depth")[0].series
    assert len(series.tags["service.name"].encode()) == 4096


@pytest.mark.parametrize("as_json", [True, False])
def test_nested_attributes_are_limited(as_json: bool) -> None:
    if as_json:
        inner = b'{"arrayValue":{"values":[' * 400 + b"]}}" * 400
        body = (
            b'{"resourceMetrics":[{"resource":{"attributes":[{"key":"a","value":'
            + inner
            + b"}]}}]}"
        )
    else:
        data = b""
        for _ in range(400):
            # AnyValue.array_value.values
            data = nested(5, nested(1, data))
        body = nested(1, nested(1, nested(1, nested(2, data))))
    with pytest.raises(InvalidRequest):
        parse_request(body, as_json=as_json)


def nested(field: int, data: bytes) -> bytes:
    """Encode *data* as a protobuf message in the field of this number."""
    size, length = len(data), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([field << 3 | 2]) + length + bytes([size]) + data
