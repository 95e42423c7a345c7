"""Requests that describe more than they may hold are rejected before they are parsed."""

import time
import tracemalloc

import pytest

pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from google.protobuf.descriptor import Descriptor
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from redismetrics.integrations.opentelemetry import request_size
from redismetrics.integrations.opentelemetry.otlp_request import InvalidRequest, parse_request
from redismetrics.integrations.opentelemetry.request_size import MAX_MESSAGES

BODY_BYTES = 4 << 20


def nested(data: bytes, *fields: int) -> bytes:
    """Encode *data* as a protobuf message in these fields, the outermost first."""
    for field in reversed(fields):
        size, length = len(data), b""
        while size > 127:
            size, length = size >> 7, length + bytes([size & 127 | 128])
        data = bytes([field << 3 | 2]) + length + bytes([size]) + data
    return data


def empty(field: int, size: int = BODY_BYTES) -> bytes:
    """Return as many empty messages of this field as fit into *size* bytes."""
    return bytes([field << 3 | 2, 0]) * (size // 2)


# Made when they are needed, since that takes time and memory.
PROTOBUF = {
    "resources": lambda: empty(1),
    "scopes": lambda: nested(empty(2), 1),
    "attributes": lambda: nested(empty(1), 1, 1),
    "values": lambda: nested(nested(b"", 1, 2) * (BODY_BYTES // 4), 1, 1),
    "metrics": lambda: nested(empty(2), 1, 2),
    "numbers": lambda: nested(empty(1), 1, 2, 2, 7),
    "histograms": lambda: nested(empty(1), 1, 2, 2, 9),
    "exponential histograms": lambda: nested(empty(1), 1, 2, 2, 10),
    "quantiles": lambda: nested(empty(6), 1, 2, 2, 11, 1),
    "exemplars": lambda: nested(empty(5), 1, 2, 2, 7, 1),
    "after an unknown group": lambda: b"\xa3\x06\xa4\x06" + empty(1),
    "with padded keys": lambda: b"\x8a\x80\x00\x00" * (BODY_BYTES // 4),
    "list of values": lambda: nested(empty(1), 1, 1, 1, 2, 5),
}


def in_list(prefix: bytes, element: bytes, suffix: bytes) -> bytes:
    return prefix + b",".join([element] * (BODY_BYTES // (len(element) + 1))) + suffix


JSON = {
    "resources": lambda: in_list(b'{"resourceMetrics":[', b"{}", b"]}"),
    "attributes": lambda: in_list(
        b'{"resourceMetrics":[{"resource":{"attributes":[', b"{}", b"]}}]}"
    ),
    "unknown fields": lambda: in_list(b'{"x":[', b"[]", b"]}"),
    "numbers": lambda: in_list(b'{"x":[', b"1", b"]}"),
    "keys": lambda: b"{" + b",".join(b'"%x":0' % n for n in range(700_000)) + b"}",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PROTOBUF)
def test_protobuf_of_many_messages_takes_neither_time_nor_memory(case: str) -> None:
    check_rejected(PROTOBUF[case](), as_json=False)


@pytest.mark.parametrize("case", JSON)
def test_json_of_many_elements_takes_neither_time_nor_memory(case: str) -> None:
    check_rejected(JSON[case](), as_json=True)


def check_rejected(body: bytes, *, as_json: bool) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(InvalidRequest, match=r"body must hold at most \d+ \w+.*smaller"):
            parse_request(body, as_json=as_json)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Parsing takes up to 4 s, and 100 MB.
    assert time.process_time() - began < 3
    assert peak < 20 << 20, peak


def test_usual_requests_of_the_largest_size_are_accepted() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "requests"
    metric.sum.aggregation_temporality = 1
    for number in range(33_000):
        point = metric.sum.data_points.add(time_unix_nano=1 << 60, as_int=number)
        point.start_time_unix_nano = 1 << 60
        for key in ("method", "endpoint", "status"):
            attribute = point.attributes.add(key=key)
            attribute.value.string_value = f"value {number:07}"
    body = request.SerializeToString()
    assert 2 * MAX_MESSAGES < len(body) <= BODY_BYTES
    assert parse_request(body, as_json=False) == request


def test_schema_has_every_message_of_a_request() -> None:
    def check(descriptor: Descriptor, name: str, seen: set[str]) -> None:
        if name in seen:
            return
        seen.add(name)
        fields = request_size._SCHEMA[name]
        messages = {
            field.number: field.message_type
            for field in descriptor.fields
            if field.message_type is not None
        }
        assert set(messages) <= set(fields), name
        for number, message in messages.items():
            check(message, fields[number], seen)

    check(ExportMetricsServiceRequest.DESCRIPTOR, "Request", set())


@pytest.mark.parametrize(
    "tail", [b"\x0a", b"\x0a\xff", b"\xff" * 20, b"\x0b", b"\x0a\x7f", b"\x09\x00", b""]
)
def test_malformed_bodies_are_left_to_the_parser(tail: bytes) -> None:
    body = nested(b"\x22" + nested(b"x" * 700_000, 1)[1:], 9) + tail
    request_size.check_protobuf_size(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_of_many_nested_objects_and_lists_is_refused_without_a_comma(opening: bytes) -> None:
    request_size.check_json_size(opening * request_size.MAX_MESSAGES)
    with pytest.raises(request_size.RequestTooLarge, match="objects and lists"):
        request_size.check_json_size(opening * (request_size.MAX_MESSAGES + 1))
