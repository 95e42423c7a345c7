"""The messages of Prometheus' remote write 1.0, and their decoding: snappy, then protobuf.

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from collections.abc import Iterator
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
# Maximum bytes of the length at the beginning of a snappy block.
_MAX_LENGTH_BYTES = 5
# Maximum number of messages in a request. An empty one needs only two bytes, but takes 56 once
# decoded. Typical labels and samples have about 30 bytes, so a body of 16 MiB has half as many.
MAX_MESSAGES = 1_000_000
# Shorter bodies are not counted, because a million messages cannot fit.
_COUNTED_FROM = 1 << 20
_TIMESERIES = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class InvalidBody(ValueError):
    """A body is not a remote write 1.0 request."""


class BodyTooLong(ValueError):
    """A decompressed body is longer than allowed."""


def decode(body: bytes, max_bytes: int) -> Any:
    """Return the `WriteRequest` in a body.

    Raises:
        BodyTooLong: If its decompressed size exceeds *max_bytes*; it is then not decompressed.
        InvalidBody: If it is not snappy, not protobuf, or has over a million messages.
    """
    length = _decompressed_length(body)
    if length > max_bytes:
        raise BodyTooLong(f"body must be at most {max_bytes} bytes decompressed, got {length}")
    try:
        data = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise InvalidBody(f"body must be a block of snappy: {error}") from error
    if len(data) >= _COUNTED_FROM:
        _check_messages(data)
    request = _request_class()()
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise InvalidBody(f"body must be a WriteRequest of remote write 1.0: {error}") from error
    return request


def _check_messages(data: bytes) -> None:
    """Count the messages of a request and of its series, before memory is allocated for them.

    Anything that is not protobuf is left to the decoder, which rejects it.
    """
    count = 0
    try:
        for field, start, end in _messages(data, 0, len(data)):
            count += 1
            if field == _TIMESERIES:
                for _ in _messages(data, start, end):
                    count += 1
                    if count > MAX_MESSAGES:
                        break
            if count > MAX_MESSAGES:
                raise InvalidBody(
                    f"body must have at most {MAX_MESSAGES} series, labels and samples, got more; "
                    "send smaller requests"
                )
    except IndexError:
        return


def _messages(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the field, the start and the end of each message within *data*, one level deep.

    Raises:
        IndexError: If *data* ends too early.
    """
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(data, at)
            yield tag >> 3, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        # Ten bytes hold 64 bits; a longer one is not protobuf.
        if shift > 63:
            raise IndexError


def encode(request: Any) -> bytes:
    """Return the body of a request, in the form sent by clients."""
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def new_request() -> Any:
    """Return an empty `WriteRequest`."""
    return _request_class()()


def _decompressed_length(body: bytes) -> int:
    """Return the declared length of a snappy block: the varint at its beginning."""
    length = 0
    for number, byte in enumerate(body[:_MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return length
    raise InvalidBody("body must be a block of snappy, got one without a length")


@lru_cache(1)
def _request_class() -> Any:
    """Return the class of `WriteRequest`, built from the table above."""
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
