"""`/api/info`: what a client needs to know about this server first."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from redismetrics import __version__

from . import schemas
from .auth import may_write
from .endpoint import Endpoint
from .sending import HeldResponse
from .service import Service

_LIMITS = ("max_rows", "max_series", "max_samples", "max_repeats", "window_seconds")


def info_endpoint(*, has_promql: bool) -> Endpoint:
    """Return the endpoint; *has_promql*: whether this server has Prometheus' HTTP API."""

    async def get_info(service: Service, request: Request, _: Mapping[str, Any]) -> HeldResponse:
        def read() -> dict[str, Any]:
            internals = service.metrics.internals
            config = internals.run(internals.query_context.namespace.config())
            return {
                "version": __version__,
                "namespace": service.metrics.settings.namespace,
                "now": service.now(),
                "retention": {
                    each.name: each.retention / 1000 for each in config.retention.with_raw
                },
                "limits": {name: getattr(service.limits, name) for name in _LIMITS},
                "writable": may_write(request.scope),
                "promql": has_promql,
            }

        return await service.run_query(request, read)

    numbers = {"type": "object", "additionalProperties": {"type": "number"}}
    return Endpoint(
        "GET",
        "/api/info",
        "Return version, namespace, retention, limits, and whether the caller may write",
        get_info,
        schema=schemas.object_schema(
            version={"type": "string"},
            namespace={"type": "string"},
            now={"type": "number"},
            retention=numbers,
            limits=numbers,
            writable=schemas.BOOLEAN,
            promql=schemas.BOOLEAN,
        ),
        errors=(503,),
    )
