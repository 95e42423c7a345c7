"""The endpoints that record, where writing is switched on. All of a request is checked before any of it is recorded."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import InvalidMetric, InvalidTimestamp
from redismetrics.integrations.ages import Ages
from redismetrics.model import MetricType

from .parameters import NAME, TIME, TYPE, Endpoint, read_time
from .service import Limits, Service, answer

_CHUNK = 1 << 16
_OURS = ("name", "type", "timestamp")
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"


async def read_body(request: Request, most: int) -> bytes:
    """The body, decompressed; neither form longer than *most* bytes.

    Raises:
        HTTPException: 400, 413 or 415, with a sentence.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, f"Content-Encoding: wanted gzip or identity, got {encoding!r:.60}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_long(most)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_long(most)
        parts.append(part)
    body = b"".join(parts)
    return _unzipped(body, most) if encoding == "gzip" else body


def _too_long(most: int) -> HTTPException:
    return HTTPException(413, f"body: wanted at most {most} bytes (the limit body_bytes), decompressed too; got more")


def _unzipped(body: bytes, most: int) -> bytes:
    """A gzip body of one or more members."""
    parts: list[bytes] = []
    size = 0
    while body:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            while not member.eof:
                part = member.decompress(body, _CHUNK)
                body = member.unconsumed_tail
                if not part and not body and not member.eof:
                    raise HTTPException(400, "body: wanted gzip, got one that ends early")
                size += len(part)
                if size > most:
                    raise _too_long(most)
                parts.append(part)
        except zlib.error as error:
            raise HTTPException(400, f"body: wanted gzip, got something else: {error}") from error
        body = member.unused_data
    return b"".join(parts)


def content_type(request: Request, *wanted: str) -> str:
    """The media type of the body: one of *wanted*, none of which a page of another site can send unasked."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in wanted:
        raise HTTPException(415, f"Content-Type: wanted {' or '.join(wanted)}, got {given!r:.60}")
    return given


# -- POST /api/record ---------------------------------------------------------------------------------------------


async def record(service: Service, request: Request, _: Mapping[str, Any]) -> Response:
    content_type(request, _JSON)
    body = await read_body(request, service.limits.body_bytes)
    return answer({"recorded": await service.ask(_record, service, body)}, 202)


def _record(service: Service, body: bytes) -> int:
    samples = _samples(body, service.limits.batch)
    metrics = service.metrics
    ages = Ages.now(metrics)
    kinds: dict[str, MetricType] = {}
    ready: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for number, sample in enumerate(samples):
        try:
            name, mapping, options = _arguments(sample)
            told = options["type"]
            known = kinds.get(name)
            if told is None and known is not None:
                options["type"] = known
            kinds[name] = metrics.check(name, mapping, **options)
            options["type"] = told
            if known not in (None, kinds[name]):
                raise InvalidMetric(f"{name!r} is a {known} in a sample before; got a {kinds[name]}")
            ages.check(options["timestamp"])
            ready.append((name, mapping, options))
        except InvalidMetric as error:
            raise HTTPException(400, f"sample {number}: {error}; nothing was recorded") from error
    service.check_store()
    for name, mapping, options in ready:
        metrics.record(name, mapping, **options)
    return len(ready)


def _samples(body: bytes, most: int) -> list[Any]:
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise HTTPException(400, f"body: wanted JSON in UTF-8, got something else: {error}") from error
    samples = found if isinstance(found, list) else [found]
    if not 0 < len(samples) <= most:
        raise HTTPException(
            413 if samples else 400, f"body: wanted 1 to {most} samples (the limit batch), got {len(samples)}"
        )
    return samples


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _arguments(sample: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name, mapping and options of `record`, from one JSON object."""
    if not isinstance(sample, Mapping):
        raise InvalidMetric(f"wanted an object with a name, got {sample!r:.60}")
    mapping = {key: value for key, value in sample.items() if key not in _OURS}
    if isinstance(mapping.get("value"), Mapping):
        raise InvalidMetric("value: wanted a number, got an object")
    timestamp = sample.get("timestamp")
    if isinstance(timestamp, str):
        try:
            timestamp = read_time("timestamp")(timestamp)
        except ValueError as error:
            raise InvalidTimestamp(str(error)) from error
    return sample.get("name", ""), mapping, {"type": sample.get("type"), "timestamp": timestamp}


# -- POST /v1/metrics ---------------------------------------------------------------------------------------------


def otlp_endpoint(service: Service) -> Endpoint:
    """The OTLP/HTTP receiver; it needs the extra `otel`.

    Raises:
        MissingExtra: opentelemetry-proto is not installed.
    """
    from redismetrics.integrations import otlp

    receiver = otlp.Receiver(service.metrics, streams=service.limits.otlp_streams)

    def refused(kind: str, code: int, message: str) -> Response:
        """A google.rpc.Status, as OTLP answers what it refuses."""
        headers = {"Retry-After": "1"} if code == 503 else None
        body = json.dumps({"message": message}).encode() if kind == _JSON else otlp.status(message)
        return Response(body, code, headers, media_type=kind)

    async def receive(service: Service, request: Request, _: Mapping[str, Any]) -> Response:
        kind = content_type(request, _PROTOBUF, _JSON)
        try:
            body = await read_body(request, service.limits.body_bytes)
            found = await service.ask(receiver.receive, body, as_json=kind == _JSON)
        except HTTPException as error:
            return refused(kind, error.status_code, str(error.detail))
        except otlp.NotReadable as error:
            return refused(kind, 400, str(error))
        except otlp.NotStored as error:
            return refused(kind, 503, str(error))
        return Response(found.as_json() if kind == _JSON else found.as_protobuf(), media_type=kind)

    body = {_PROTOBUF: {"type": "string", "format": "binary"}, _JSON: {"type": "object"}}
    return Endpoint(
        "POST", "/v1/metrics", "OpenTelemetry metrics: OTLP over HTTP", receive, bodies=body,
        answers=(_PROTOBUF, _JSON), errors=(413, 415, 503),
    )  # fmt: skip


def endpoints(service: Service) -> tuple[Endpoint, ...]:
    """All that records."""
    limits: Limits = service.limits
    sample = {
        "type": "object",
        "description": "Other keys become metadata, as in `record`.",
        "properties": {
            "name": NAME,
            "value": {"type": "number", "default": 1},
            "type": {"oneOf": [TYPE, {"type": "null"}]},
            "timestamp": {"anyOf": [*TIME["anyOf"], {"type": "null"}]},
            "tags": {
                "type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
                "propertyNames": NAME,
            },
            "metadata": {"type": ["object", "null"]},
        },
        "required": ["name"],
    }  # fmt: skip
    body = {"anyOf": [sample, {"type": "array", "items": sample, "minItems": 1, "maxItems": limits.batch}]}
    told = {
        "type": "object", "properties": {"recorded": {"type": "integer"}}, "required": ["recorded"],
        "additionalProperties": False,
    }  # fmt: skip
    return (
        Endpoint(
            "POST", "/api/record", "Record one sample or several; stored a moment later, once", record, answer=told,
            bodies={_JSON: body}, status=202, errors=(413, 415, 503),
        ),
    )  # fmt: skip
