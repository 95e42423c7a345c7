"""Endpoints about the store itself: the doctor's findings, and the metrics with the most series."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.admin.doctor import examine

from . import schemas
from .endpoint import Endpoint
from .parameters import Parameter, read_whole
from .sending import HeldResponse
from .service import Service, encode_and_free

# Seconds to keep a response: the doctor runs scripts, and both read all metrics.
_KEPT_SECONDS = 10.0
_MOST = 1_000


async def get_doctor(service: Service, request: Request, _: Mapping[str, Any]) -> HeldResponse:
    """Respond with the findings of `redismetrics doctor`."""
    settings = service.metrics.settings

    def find() -> dict[str, Any]:
        return examine(settings.url, namespace=settings.namespace).to_dict()

    return await _respond(service, request, "doctor", find)


async def get_cardinality(
    service: Service, request: Request, values: Mapping[str, Any]
) -> HeldResponse:
    """Respond with the metrics that have the most series."""
    limit = values["limit"]

    def find() -> dict[str, Any]:
        return {"metrics": service.metrics.cardinality(limit=limit)}

    return await _respond(service, request, ("cardinality", limit), find)


async def _respond(
    service: Service, request: Request, key: Hashable, find: Callable[[], dict[str, Any]]
) -> HeldResponse:
    def respond() -> Response:
        body = service.cached_answers.get(key, _KEPT_SECONDS, lambda: encode_and_free(find()))
        return Response(body, media_type="application/json")

    return await service.run_query(request, respond, service.large_queries)


def store_endpoints() -> tuple[Endpoint, ...]:
    """Return `/api/doctor` and `/api/cardinality`."""
    text = {"type": "string"}
    finding = schemas.object_schema(
        check=text,
        status={"enum": ["ok", "warning", "failure"]},
        found=text,
        advice=text,
        details={"type": "object"},
    )
    metric = schemas.object_schema(
        name=schemas.NAME,
        series={"type": "integer"},
        overflow=schemas.BOOLEAN,
        tags={"type": "object", "additionalProperties": {"type": "integer"}},
    )
    return (
        Endpoint(
            "GET",
            "/api/doctor",
            "Check the server and the namespace, and suggest what to do",
            get_doctor,
            schema=schemas.object_schema(
                healthy=schemas.BOOLEAN, findings={"type": "array", "items": finding}
            ),
            errors=(503,),
        ),
        Endpoint(
            "GET",
            "/api/cardinality",
            "Return the metrics with the most series, and how many values each tag has",
            get_cardinality,
            (
                Parameter(
                    "limit",
                    "Maximum number of metrics to return.",
                    {"type": "integer", "minimum": 1, "maximum": _MOST},
                    read_whole("limit", 1, _MOST),
                    default=20,
                ),
            ),
            schemas.object_schema(metrics={"type": "array", "items": metric}),
            errors=(503,),
        ),
    )
