"""The messages of Prometheus' remote write 1.0, and their decoding: snappy, then protobuf.

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from functools import lru_cache
from typing import Any

from redismetrics.errors import MissingExtra

try:
    import cramjam
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError
except ImportError as _error:
    raise MissingExtra("remote write needs: pip install 'redismetrics[promql]'") from _error

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "redismetrics.remote_write"
# Name, number, type and message type of the fields that are read, by message. Exemplars and native
# histograms are skipped as unknown fields; `histograms` is there to count them.
_MESSAGES: dict[str, list[tuple[str, int, int, str]]] = {
    "Label": [("name", 1, _Field.TYPE_STRING, ""), ("value", 2, _Field.TYPE_STRING, "")],
    "Sample": [("value", 1, _Field.TYPE_DOUBLE, ""), ("timestamp", 2, _Field.TYPE_INT64, "")],
    "Histogram": [],
    "TimeSeries": [
        ("labels", 1, _Field.TYPE_MESSAGE, "Label"),
        ("samples", 2, _Field.TYPE_MESSAGE, "Sample"),
        ("histograms", 4, _Field.TYPE_MESSAGE, "Histogram"),
    ],
    "MetricMetadata": [
        ("type", 1, _Field.TYPE_INT32, ""),
        ("metric_family_name", 2, _Field.TYPE_STRING, ""),
        ("help", 4, _Field.TYPE_STRING, ""),
        ("unit", 5, _Field.TYPE_STRING, ""),
    ],
    "WriteRequest": [
        ("timeseries", 1, _Field.TYPE_MESSAGE, "TimeSeries"),
        ("metadata", 3, _Field.TYPE_MESSAGE, "MetricMetadata"),
    ],
}
# Bytes of the length at the beginning of a block of snappy.
_MAX_LENGTH_BYTES = 5


class InvalidBody(ValueError):
    """A body is not a request of remote write 1.0."""


class BodyTooLong(ValueError):
    """A body is longer than allowed once it is decompressed."""


def decode(body: bytes, max_bytes: int) -> Any:
    """Return the `WriteRequest` in a body.

    Raises:
        BodyTooLong: If it is longer than *max_bytes* decompressed; it is not decompressed then.
        InvalidBody: If it is not snappy, or not protobuf.
    """
    length = _decompressed_length(body)
    if length > max_bytes:
        raise BodyTooLong(f"body must be at most {max_bytes} bytes decompressed, got {length}")
    try:
        data = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise InvalidBody(f"body must be a block of snappy: {error}") from error
    request = _request_class()()
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise InvalidBody(f"body must be a WriteRequest of remote write 1.0: {error}") from error
    return request


def encode(request: Any) -> bytes:
    """Return the body of a request, as clients send it."""
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def new_request() -> Any:
    """Return an empty `WriteRequest`."""
    return _request_class()()


def _decompressed_length(body: bytes) -> int:
    """Return the length that a block of snappy says it has: a varint at its beginning."""
    length = 0
    for number, byte in enumerate(body[:_MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return length
    raise InvalidBody("body must be a block of snappy, got one without a length")


@lru_cache(1)
def _request_class() -> Any:
    """Return the class of `WriteRequest`, made of the table above."""
    file = descriptor_pb2.FileDescriptorProto(
        name="redismetrics_remote_write.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, type_name in fields:
            is_message = kind == _Field.TYPE_MESSAGE
            message.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=_Field.LABEL_REPEATED if is_message else _Field.LABEL_OPTIONAL,
                type_name=f".{_PACKAGE}.{type_name}" if is_message else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.WriteRequest")
    return message_factory.GetMessageClass(found)
