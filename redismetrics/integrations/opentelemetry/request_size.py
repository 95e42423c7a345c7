"""Count the elements of a body before it is parsed, because a few bytes can describe many. Pure."""

# Maximum number of messages in a request, including attributes and their values. 4 MiB of typical
# points have 280,000.
MAX_MESSAGES = 300_000
# Maximum number of elements of lists and objects in a JSON request; each takes about 1 µs to parse.
MAX_JSON_ELEMENTS = 600_000

_VARINT, _FIXED64, _BYTES, _GROUP_BEGIN, _GROUP_END, _FIXED32 = range(6)
# By message: the fields that are messages, by number. Of oneof fields as well. From
# https://github.com/open-telemetry/opentelemetry-proto, metrics/v1 and common/v1.
_SCHEMA: dict[str, dict[int, str]] = {
    "Request": {1: "ResourceMetrics"},
    "ResourceMetrics": {1: "Resource", 2: "ScopeMetrics"},
    "Resource": {1: "KeyValue", 3: "EntityRef"},
    "EntityRef": {},
    "ScopeMetrics": {1: "Scope", 2: "Metric"},
    "Scope": {3: "KeyValue"},
    "Metric": {
        5: "Numbers",
        7: "Numbers",
        9: "Histograms",
        10: "ExponentialHistograms",
        11: "Summaries",
        12: "KeyValue",
    },
    "Numbers": {1: "Number"},
    "Histograms": {1: "Histogram"},
    "ExponentialHistograms": {1: "ExponentialHistogram"},
    "Summaries": {1: "Summary"},
    "Number": {7: "KeyValue", 5: "Exemplar"},
    "Histogram": {9: "KeyValue", 8: "Exemplar"},
    "ExponentialHistogram": {1: "KeyValue", 8: "Buckets", 9: "Buckets", 11: "Exemplar"},
    "Summary": {7: "KeyValue", 6: "Quantile"},
    "Buckets": {},
    "Quantile": {},
    "Exemplar": {7: "KeyValue"},
    "KeyValue": {2: "AnyValue"},
    "AnyValue": {5: "ArrayValue", 6: "KeyValueList"},
    "ArrayValue": {1: "AnyValue"},
    "KeyValueList": {1: "KeyValue"},
}


class RequestTooLarge(ValueError):
    """A body describes more elements than a request may have."""


def check_json_size(body: bytes) -> None:
    """Check the number of elements of a JSON *body*; strings are counted as if they were JSON.

    Raises:
        RequestTooLarge: If there are more than `MAX_MESSAGES` objects and lists, or more than
            `MAX_JSON_ELEMENTS` elements.
    """
    _check("objects and lists", body.count(b"{") + body.count(b"["), MAX_MESSAGES)
    _check("elements", body.count(b","), MAX_JSON_ELEMENTS)


def check_protobuf_size(body: bytes) -> None:
    """Check the number of messages in an ExportMetricsServiceRequest.

    A malformed body is not rejected here, but counted as far as it is readable.

    Raises:
        RequestTooLarge: If there are more than `MAX_MESSAGES`.
    """
    # Each takes at least two bytes.
    if len(body) <= 2 * MAX_MESSAGES:
        return
    count = 0
    # The messages around the current one: their fields, and the start and end of the rest.
    unread = [(_SCHEMA["Request"], 0, len(body))]
    while unread:
        fields, position, end = unread.pop()
        while position < end:
            key, position = _varint(body, position)
            kind = key & 7
            if kind == _BYTES:
                size, position = _varint(body, position)
                name = fields.get(key >> 3)
                if name is not None:
                    count += 1
                    if count > MAX_MESSAGES:
                        _check("messages", count, MAX_MESSAGES)
                    inner = _SCHEMA[name]
                    if inner and size:
                        unread.append((fields, position + size, end))
                        fields, end = inner, min(position + size, end)
                        continue
                position += size
            elif kind == _VARINT:
                _, position = _varint(body, position)
            elif kind in (_FIXED64, _FIXED32):
                position += 8 if kind == _FIXED64 else 4
            elif kind not in (_GROUP_BEGIN, _GROUP_END):
                # The parser rejects this. It skips groups; here their contents count.
                return


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """Return the number at *position*, and the position after it (huge if it is truncated)."""
    try:
        byte = body[position]
        if byte < 0x80:
            return byte, position + 1
        value, shift = byte & 0x7F, 7
        # The parser rejects longer ones.
        for at in range(position + 1, position + 10):
            byte = body[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at + 1
            shift += 7
    except IndexError:
        pass
    return len(body), len(body)


def _check(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise RequestTooLarge(
            f"body must hold at most {limit} {what}, got more; send several smaller requests"
        )
