"""The endpoints that record, where writing is switched on. All of a request is checked before any of it is recorded."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import InvalidMetric, InvalidTimestamp
from redismetrics.integrations.limits import CardinalityLimit, LimitExceeded, TimestampBounds
from redismetrics.model.validation import MetricType, check_name

from .parameters import NAME, TIME, TYPE, Endpoint, read_time
from .request_body import Body, content_type, read_body
from .service import Limits, Service, answer

_OURS = ("name", "type", "timestamp")
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"


async def record(service: Service, request: Request, _: Mapping[str, Any]) -> Response:
    content_type(request, _JSON)
    async with service.recordings as gate:
        body = await read_body(request, service.limits)
        return answer({"recorded": await gate.work(_record, service, body)}, 202)


def _record(service: Service, body: Body) -> int:
    limits, metrics = service.limits, service.metrics
    samples = _samples(body.opened(limits.body_bytes), limits.batch)
    ages = TimestampBounds.now(metrics)
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
                raise InvalidMetric(
                    f"{name!r} is a {known} in a sample before; got a {kinds[name]}"
                )
            ages.check(options["timestamp"])
            ready.append((name, mapping, options))
        except InvalidMetric as error:
            raise HTTPException(400, f"sample {number}: {error}; nothing was recorded") from error
    try:
        CardinalityLimit(limits.recorded_names, limits.recorded_series).check(metrics, kinds)
    except LimitExceeded as error:
        raise HTTPException(413, f"{error}; nothing was recorded") from error
    service.check_store()
    for name, mapping, options in ready:
        metrics.record(name, mapping, **options)
    return len(ready)


def _samples(body: bytes, most: int) -> list[Any]:
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise HTTPException(
            400, f"body: wanted JSON in UTF-8, got something else: {error}"
        ) from error
    samples = found if isinstance(found, list) else [found]
    if not 0 < len(samples) <= most:
        raise HTTPException(
            413 if samples else 400,
            f"body: wanted 1 to {most} samples (the limit batch), got {len(samples)}",
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
    return (
        check_name(sample.get("name", "")),
        mapping,
        {"type": sample.get("type"), "timestamp": timestamp},
    )


def otlp_endpoint(service: Service) -> Endpoint:
    """The OTLP/HTTP receiver; it needs the extra `otel`.

    Raises:
        MissingExtra: opentelemetry-proto is not installed.
    """
    from redismetrics.integrations.opentelemetry.receiver import (
        Answer,
        NotReadable,
        NotStored,
        Receiver,
        status,
    )

    limits = service.limits
    room = CardinalityLimit(limits.recorded_names, limits.recorded_series)
    receiver = Receiver(service.metrics, streams=limits.otlp_streams, room=room)

    def refused(
        kind: str, code: int, message: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        """A google.rpc.Status, as OTLP answers what it refuses."""
        if code == 503:
            headers = {"Retry-After": "1"}
        body = json.dumps({"message": message}).encode() if kind == _JSON else status(message)
        return Response(body, code, headers, media_type=kind)

    def work(body: Body, as_json: bool) -> Answer:
        return receiver.receive(body.opened(limits.body_bytes), as_json=as_json)

    async def receive(_: Service, request: Request, __: Mapping[str, Any]) -> Response:
        kind = content_type(request, _PROTOBUF, _JSON)
        try:
            async with service.recordings as gate:
                body = await read_body(request, limits)
                found = await gate.work(work, body, kind == _JSON)
        except HTTPException as error:
            return refused(kind, error.status_code, str(error.detail), error.headers)
        except NotReadable as error:
            return refused(kind, 400, str(error))
        except LimitExceeded as error:
            return refused(kind, 413, f"{error}; nothing was recorded")
        except NotStored as error:
            return refused(kind, 503, str(error))
        return Response(found.as_json() if kind == _JSON else found.as_protobuf(), media_type=kind)

    body = {_PROTOBUF: {"type": "string", "format": "binary"}, _JSON: {"type": "object"}}
    return Endpoint(
        "POST", "/v1/metrics", "OpenTelemetry metrics: OTLP over HTTP", receive, bodies=body,
        answers=(_PROTOBUF, _JSON), errors=(408, 413, 415, 503),
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
    body = {
        "anyOf": [
            sample,
            {"type": "array", "items": sample, "minItems": 1, "maxItems": limits.batch},
        ]
    }
    told = {
        "type": "object", "properties": {"recorded": {"type": "integer"}}, "required": ["recorded"],
        "additionalProperties": False,
    }  # fmt: skip
    return (
        Endpoint(
            "POST", "/api/record", "Record one sample or several; stored a moment later, once", record, answer=told,
            bodies={_JSON: body}, status=202, errors=(408, 413, 415, 503),
        ),
    )  # fmt: skip
