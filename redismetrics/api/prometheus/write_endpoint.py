"""`POST /api/v1/write`: receives remote write 1.0, if writing is enabled."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.limits import Limits
from redismetrics.api.request_body import content_type
from redismetrics.api.service import Service
from redismetrics.errors import StoreError, one_line
from redismetrics.exposition.remote_write_message import BodyTooLong, InvalidBody, decode
from redismetrics.integrations.limits import LimitExceeded

from .received_series import Received, SeriesReceiver

_PROTOBUF = "application/x-protobuf"
_SNAPPY = "snappy"
# Sent in the Content-Type by clients that use version 2.0.
_OTHER_VERSION = "io.prometheus.write.v2"


def write_endpoint(service: Service) -> Endpoint:
    """Return the endpoint that records with the client of *service*."""
    receiver = SeriesReceiver(service.metrics, service.limits.cardinality)

    async def receive(_: Service, request: Request, __: Mapping[str, Any]) -> Response:
        content_type(request, _PROTOBUF)
        if _OTHER_VERSION in request.headers.get("content-type", ""):
            raise HTTPException(415, "remote write must be version 1.0, got 2.0")
        async with service.bodies.read(request, (_SNAPPY,)) as body, service.recordings as limiter:
            received = await limiter.run(_record, service, receiver, body.data)
        if received.names:
            await _settle(service)
        if received.refused:
            raise HTTPException(400, received.describe())
        return Response(status_code=204)

    return Endpoint(
        "POST",
        "/api/v1/write",
        "Record samples from Prometheus remote write 1.0. 204: all are stored; 400: some were "
        "rejected, and the others are stored",
        receive,
        bodies={_PROTOBUF: {"type": "string", "format": "binary"}},
        status=204,
        media_types=(),
        errors=(408, 413, 415, 503),
    )


def _record(service: Service, receiver: SeriesReceiver, body: bytes) -> Received:
    """Record the samples of a body. Blocks."""
    limits: Limits = service.limits
    try:
        request = decode(body, limits.remote_write_bytes)
    except BodyTooLong as error:
        raise HTTPException(413, f"{error} (limit remote_write_bytes)") from error
    except InvalidBody as error:
        raise HTTPException(400, str(error)) from error
    if service.metrics.internals.closed:
        raise HTTPException(503, "the client is closed and records nothing")
    service.check_store()
    try:
        return receiver.receive(request)
    except LimitExceeded as error:
        raise HTTPException(413, f"{error}; nothing was recorded") from error


async def _settle(service: Service) -> None:
    """Wait until the samples are stored, because clients only retry after a 5xx status.

    A repeated sample has the same time and value, so PromQL results do not change.
    """
    seconds = service.limits.wait_seconds
    try:
        await service.ametrics.internals.asettle(seconds)
    except StoreError as error:
        raise HTTPException(
            503,
            f"Redis did not confirm the samples within {seconds:g} s (limit wait_seconds): "
            f"{one_line(error)}",
        ) from error
