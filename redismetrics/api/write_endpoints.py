"""`POST /api/record`, if writing is enabled. A request is checked whole, then recorded."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import InvalidMetric, InvalidTimestamp, shown
from redismetrics.integrations.limits import LimitExceeded, TimestampBounds
from redismetrics.model.validation import MetricType, check_name

from .endpoint import Endpoint
from .limits import Limits
from .parameters import read_time
from .request_body import RequestBody, content_type
from .schemas import NAME, TIME, TYPE
from .service import Service, json_response

JSON = "application/json"
# Keys of a sample that are arguments of `record` and not part of the mapping it takes.
_ARGUMENTS = ("name", "type", "timestamp")

# Name, mapping and options of one call of `record`.
Call = tuple[str, dict[str, Any], dict[str, Any]]


async def record(service: Service, request: Request, _: Mapping[str, Any]) -> Response:
    """Record the samples of a body; respond 202 once they are in this process."""
    content_type(request, JSON)
    async with service.bodies.read(request) as body, service.recordings as limiter:
        return json_response({"recorded": await limiter.run(_record, service, body)}, 202)


def _record(service: Service, body: RequestBody) -> int:
    limits, metrics = service.limits, service.metrics
    samples = _parse_samples(body.decompress(limits.body_bytes), limits.max_batch)
    bounds = TimestampBounds.now(metrics)
    types: dict[str, MetricType] = {}
    calls: list[Call] = []
    for number, sample in enumerate(samples):
        try:
            calls.append(_check_sample(service, sample, types, bounds))
        except InvalidMetric as error:
            raise HTTPException(400, f"sample {number}: {error}; nothing was recorded") from error
    try:
        limits.cardinality.check(metrics, types)
    except LimitExceeded as error:
        raise HTTPException(413, f"{error}; nothing was recorded") from error
    service.check_store()
    for name, mapping, options in calls:
        metrics.record(name, mapping, **options)
    return len(calls)


def _check_sample(
    service: Service, sample: Any, types: dict[str, MetricType], bounds: TimestampBounds
) -> Call:
    """Return the call of `record` for one sample. *types* holds the types of the samples before it.

    Raises:
        InvalidMetric: If the sample cannot be recorded, by itself or after those before it.
    """
    name, mapping, options = _arguments(sample)
    explicit, known = options["type"], types.get(name)
    checked = {**options, "type": known if explicit is None and known is not None else explicit}
    types[name] = service.metrics.check(name, mapping, **checked)
    if known not in (None, types[name]):
        raise InvalidMetric(f"{name!r} is a {known} in an earlier sample, got a {types[name]}")
    bounds.check(options["timestamp"])
    return name, mapping, options


def _parse_samples(body: bytes, max_batch: int) -> list[Any]:
    try:
        parsed = json.loads(body, parse_constant=_reject_constant)
    # A UnicodeDecodeError is a ValueError.
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"body must be JSON in UTF-8: {error}") from error
    samples = parsed if isinstance(parsed, list) else [parsed]
    if not 0 < len(samples) <= max_batch:
        raise HTTPException(
            413 if samples else 400,
            f"body must hold 1 to {max_batch} samples (limit max_batch), got {len(samples)}",
        )
    return samples


def _reject_constant(text: str) -> Any:
    raise ValueError(f"{text} is not valid JSON")


def _arguments(sample: Any) -> Call:
    """Return the arguments of `record` that one JSON object describes."""
    if not isinstance(sample, Mapping):
        raise InvalidMetric(f"sample must be an object with a name, got {shown(sample)}")
    mapping = {key: value for key, value in sample.items() if key not in _ARGUMENTS}
    if isinstance(mapping.get("value"), Mapping):
        raise InvalidMetric("value must be a number, got an object")
    timestamp = sample.get("timestamp")
    if isinstance(timestamp, str):
        try:
            timestamp = read_time("timestamp")(timestamp)
        except ValueError as error:
            raise InvalidTimestamp(str(error)) from error
    options = {"type": sample.get("type"), "timestamp": timestamp}
    return check_name(sample.get("name", "")), mapping, options


def record_endpoint(limits: Limits) -> Endpoint:
    """Return the endpoint that records samples."""
    sample = {
        "type": "object",
        "description": "Other keys become metadata, as in `record`.",
        "properties": {
            "name": NAME,
            "value": {"type": "number", "default": 1},
            "type": {"oneOf": [TYPE, {"type": "null"}]},
            "timestamp": {"anyOf": [*TIME["anyOf"], {"type": "null"}]},
            "tags": {
                "type": ["object", "null"],
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
                "propertyNames": NAME,
            },
            "metadata": {"type": ["object", "null"]},
        },
        "required": ["name"],
    }
    batch = {"type": "array", "items": sample, "minItems": 1, "maxItems": limits.max_batch}
    result = {
        "type": "object",
        "properties": {"recorded": {"type": "integer"}},
        "required": ["recorded"],
        "additionalProperties": False,
    }
    return Endpoint(
        "POST",
        "/api/record",
        "Record one or several samples. They are stored shortly after, exactly once",
        record,
        schema=result,
        bodies={JSON: {"anyOf": [sample, batch]}},
        status=202,
        errors=(408, 413, 415, 503),
    )
