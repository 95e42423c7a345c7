"""`POST /v1/metrics`: the OTLP/HTTP receiver. Needs the extra `otel`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.integrations.limits import LimitExceeded
from redismetrics.integrations.opentelemetry.receiver import (
    InvalidRequest,
    NotStored,
    Receiver,
    ReceiverResult,
    encode_status,
)

from .endpoint import Endpoint
from .request_body import RequestBody, content_type
from .service import Service

_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"


def otlp_endpoint(service: Service, resource_attributes: Sequence[str]) -> Endpoint:
    """Return the endpoint that records OTLP requests with the client of *service*.

    *resource_attributes* become tags.
    """
    limits = service.limits
    receiver = Receiver(
        service.metrics,
        resource_attributes=resource_attributes,
        max_streams=limits.max_otlp_streams,
        limit=limits.cardinality,
    )

    def work(body: RequestBody, as_json: bool) -> ReceiverResult:
        return receiver.receive(body.decompress(limits.body_bytes), as_json=as_json)

    async def receive(_: Service, request: Request, __: Mapping[str, Any]) -> Response:
        kind = content_type(request, _PROTOBUF, _JSON)
        as_json = kind == _JSON
        try:
            async with service.bodies.read(request) as body, service.recordings as limiter:
                result = await limiter.run(work, body, as_json)
        except HTTPException as error:
            return _error(kind, error.status_code, str(error.detail), error.headers)
        except InvalidRequest as error:
            return _error(kind, 400, str(error))
        except LimitExceeded as error:
            return _error(kind, 413, f"{error}; nothing was recorded")
        except NotStored as error:
            return _error(kind, 503, str(error))
        return Response(result.to_json() if as_json else result.to_protobuf(), media_type=kind)

    return Endpoint(
        "POST",
        "/v1/metrics",
        "Record OpenTelemetry metrics: OTLP over HTTP",
        receive,
        bodies={_PROTOBUF: {"type": "string", "format": "binary"}, _JSON: {"type": "object"}},
        media_types=(_PROTOBUF, _JSON),
        errors=(408, 413, 415, 503),
    )


def _error(
    kind: str, code: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as a google.rpc.Status, as the OTLP specification requires.

    https://opentelemetry.io/docs/specs/otlp/#failures-1
    """
    if code == 503:
        headers = {"Retry-After": "1"}
    body = json.dumps({"message": message}).encode() if kind == _JSON else encode_status(message)
    return Response(body, code, headers, media_type=kind)
