"""`POST /api/record`, if writing is enabled. A request is checked completely, then recorded."""

import json
from collections import Counter as Tally
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import InvalidMetric, InvalidTimestamp, StoreError, one_line, shown
from redismetrics.integrations.limits import LimitExceeded, TimestampBounds
from redismetrics.model.validation import MetricType, check_name
from redismetrics.recording.methods import unpack_mapping

from .endpoint import Endpoint
from .idempotency import HEADER, Reply, read_key
from .limits import Limits
from .parameters import Parameter, read_boolean, read_time
from .request_body import RequestBody, content_type
from .schemas import BOOLEAN, NAME, TIME, TYPE, object_schema
from .service import Service, json_response
from .unsettled import RecordedRequest

JSON = "application/json"
# Keys of a sample that are arguments of `record`, not part of the mapping that it accepts.
_ARGUMENTS = ("name", "type", "timestamp", "exemplar")

_WAIT = Parameter(
    "wait",
    "Respond 200 when each sample is stored or dropped, with their numbers, instead of 202.",
    BOOLEAN,
    read_boolean("wait"),
    default=False,
)
_KEY_HELP = (
    "A unique value for each request, such as a UUID. For an hour, a request with the same key, "
    "body and `wait` is not recorded again and gets the response to the first one."
)

# Name, value and options of one call of `record`.
Call = tuple[str, Any, dict[str, Any]]


async def record(service: Service, request: Request, values: Mapping[str, Any]) -> Response:
    """Record the samples in the body; respond with 202 once they are in this process.

    With ``wait=true``, respond with 200 once each is stored or dropped.
    """
    content_type(request, JSON)
    key = read_key(request)
    async with AsyncExitStack() as place:
        async with service.bodies.read(request) as body:
            limiter = await place.enter_async_context(service.recordings)
            outcome = await limiter.run(_record, service, body, key, values["wait"])
        try:
            reply = outcome if isinstance(outcome, Reply) else await _settle(service, outcome)
        finally:
            service.unsettled.start()
    return json_response(reply.result, reply.status)


async def _settle(service: Service, request: RecordedRequest) -> Reply:
    """Return the reply to a request once it is known."""
    if request.reply is not None:
        return request.reply
    seconds = service.limits.wait_seconds
    try:
        await service.ametrics.internals.asettle(seconds)
    except StoreError as error:
        service.unsettled.add(request)
        advice = (
            f"without an {HEADER}, a retry would count the samples again"
            if request.claim is None
            else f"repeat the request with the same {HEADER} to get the result"
        )
        raise HTTPException(
            504,
            f"Redis did not confirm the samples within {seconds:g} s (limit wait_seconds); they "
            f"are in this process's buffer and still being sent; {advice}: {one_line(error)}",
        ) from error
    except BaseException:
        service.unsettled.add(request)
        raise
    reply = request.settle()
    service.metrics.internals.silence_mismatches(request.recorded)
    if request.claim is not None:
        await service.recordings.run(_remember, service, request)
    return reply


def _record(
    service: Service, body: RequestBody, key: str | None, wait: bool
) -> RecordedRequest | Reply:
    """Record the samples in the body, or return the reply if it repeats a request. Blocks."""
    data = body.decompress(service.limits.body_bytes)
    claim = None
    if key is not None:
        found = service.keys.find(key, b"%d %b" % (wait, data), service.unsettled)
        if isinstance(found, Reply):
            return found
        claim = found
    calls = _check_samples(service, data)
    if service.metrics.internals.closed:
        raise HTTPException(503, "the client is closed and records nothing")
    if claim is None:
        service.check_store()
    else:
        reply = service.keys.claim(claim)
        if reply is not None:
            return reply
    request = RecordedRequest(Tally(name for name, _, _ in calls), claim)
    with ExitStack() as stack:
        if wait:
            watch = service.metrics.internals.watch_settled(request.recorded)
            request.watch = stack.enter_context(watch)
        else:
            request.reply = Reply(202, {"recorded": len(calls)})
        for name, value, options in calls:
            service.metrics.record(name, value, **options)
        request.stack = stack.pop_all()
    if claim is not None:
        _remember(service, request)
    return request


def _remember(service: Service, request: RecordedRequest) -> None:
    """Remember a request in Redis; if that fails, retry in the background. Blocks."""
    assert request.claim is not None, "BUG: a request without a key"
    try:
        service.keys.remember(request.claim, request.reply)
    except StoreError:
        service.unsettled.add(request)


def _check_samples(service: Service, data: bytes) -> list[Call]:
    """Return the calls of `record` for the samples in a body.

    Raises:
        HTTPException: If a sample cannot be recorded, or there are too many.
    """
    limits, metrics = service.limits, service.metrics
    samples = _parse_samples(data, limits.max_batch)
    bounds = TimestampBounds.now(metrics)
    types: dict[str, MetricType] = {}
    calls: list[Call] = []
    for number, sample in enumerate(samples):
        try:
            calls.append(_check_sample(service, sample, types, bounds))
        except InvalidMetric as error:
            raise HTTPException(400, f"sample {number}: {error}; nothing was recorded") from error
    try:
        limits.cardinality.check(
            metrics,
            types,
            has_new_series=lambda: (
                not all(
                    metrics.internals.has_series(name, value, options["tags"], options["metadata"])
                    for name, value, options in calls
                )
            ),
        )
    except LimitExceeded as error:
        raise HTTPException(413, f"{error}; nothing was recorded") from error
    return calls


def _check_sample(
    service: Service, sample: Any, types: dict[str, MetricType], bounds: TimestampBounds
) -> Call:
    """Return the call of `record` for one sample. *types* has the types of earlier samples.

    Raises:
        InvalidMetric: If the sample cannot be recorded, by itself or after earlier samples.
    """
    name, value, options = _arguments(sample, service.now())
    explicit, known = options["type"], types.get(name)
    checked = {**options, "type": known if explicit is None and known is not None else explicit}
    types[name] = service.metrics.check(name, value, **checked)
    if isinstance(value, Mapping) and types[name] != "info":
        raise InvalidMetric("value must be a number, got an object")
    if known not in (None, types[name]):
        raise InvalidMetric(f"{name!r} is a {known} in an earlier sample, got a {types[name]}")
    bounds.check(options["timestamp"])
    return name, value, options


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


def _arguments(sample: Any, now_s: float) -> Call:
    """Return the arguments of `record` from a JSON object; *now_s* is the current time."""
    if not isinstance(sample, Mapping):
        raise InvalidMetric(f"sample must be an object with a name, got {shown(sample)}")
    mapping = {key: value for key, value in sample.items() if key not in _ARGUMENTS}
    value, tags, metadata = unpack_mapping(mapping, None, None)
    timestamp = sample.get("timestamp")
    if isinstance(timestamp, str):
        try:
            timestamp = read_time(timestamp, "timestamp", now_s)
        except ValueError as error:
            raise InvalidTimestamp(str(error)) from error
    options = {
        "type": sample.get("type"),
        "timestamp": timestamp,
        "tags": tags,
        "metadata": metadata,
        "exemplar": sample.get("exemplar"),
    }
    return check_name(sample.get("name", "")), value, options


def record_endpoint(limits: Limits) -> Endpoint:
    """Return the endpoint that records samples."""
    sample = {
        "type": "object",
        "description": "Other keys become metadata, as in `record`.",
        "properties": {
            "name": NAME,
            "value": {
                "type": ["number", "object", "string"],
                "default": 1,
                "description": "A number; the labels of an info; the state of a state set.",
            },
            "type": {"oneOf": [TYPE, {"type": "null"}]},
            "timestamp": {"anyOf": [*TIME["anyOf"], {"type": "null"}]},
            "tags": {
                "type": ["object", "null"],
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
                "propertyNames": NAME,
            },
            "metadata": {"type": ["object", "null"]},
            "exemplar": {
                "type": ["object", "null"],
                "description": "Labels of this sample of a counter or histogram, such as a trace.",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
        },
        "required": ["name"],
    }
    batch = {"type": "array", "items": sample, "minItems": 1, "maxItems": limits.max_batch}
    recorded = {"recorded": {"type": "integer"}}
    dropped = {"type": "object", "additionalProperties": {"type": "integer"}}
    return Endpoint(
        "POST",
        "/api/record",
        "Record one or several samples. 202 means that they are in this process's buffer, which is "
        "sent within flush_interval and also on SIGTERM",
        record,
        parameters=(_WAIT,),
        schema=object_schema(**recorded),
        headers={HEADER: _KEY_HELP},
        bodies={JSON: {"anyOf": [sample, batch]}},
        status=202,
        other_results={200: object_schema(**recorded, stored={"type": "integer"}, dropped=dropped)},
        errors=(408, 409, 413, 415, 422, 503, 504),
    )
