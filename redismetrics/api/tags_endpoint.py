"""The tags endpoint: how the samples of a metric are distributed over its tag values."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from redismetrics.queries.json_results import get_tags as read_tags
from redismetrics.queries.query import Query

from . import schemas
from .endpoint import Endpoint
from .parameters import METRIC, TAGS, TIMES, Parameter, read_whole, read_window, tag_filter
from .sending import HeldResponse
from .service import Service

# Maximum number of values per tag.
MAX_VALUES = 1_000


async def get_tags(service: Service, request: Request, values: Mapping[str, Any]) -> HeldResponse:
    """Respond with the tags of a metric and their most frequent values."""
    window, _ = read_window(values, service.now(), service.limits.window_seconds)
    query = Query(values["name"], window=window, tags=tag_filter(values["tag"]))

    def run() -> dict[str, Any]:
        service.check_series(query.name)
        internals = service.metrics.internals
        operation = read_tags(internals.query_context, query, values["key"], values["limit"])
        return internals.run(operation, flush=True)

    return await service.run_query(request, run)


def tags_endpoint() -> Endpoint:
    """Return the endpoint `/api/tags`."""
    whole = {"type": "integer", "minimum": 0}
    value = schemas.object_schema(
        value={"type": ["string", "null"]}, samples=whole, share={"type": "number"}
    )
    tag = schemas.object_schema(
        key={"type": "string"}, count=whole, values={"type": "array", "items": value}
    )
    return Endpoint(
        "GET",
        "/api/tags",
        "Return the tags of a metric and their most frequent values",
        get_tags,
        (
            METRIC,
            Parameter("key", "Only these tags (default: all).", schemas.NAME, repeats=True),
            TAGS,
            *TIMES,
            Parameter(
                "limit",
                "Maximum number of values per tag.",
                {"type": "integer", "minimum": 1, "maximum": MAX_VALUES},
                read_whole("limit", 1, MAX_VALUES),
                default=12,
            ),
        ),
        schemas.result_schema(
            tags={"type": "array", "items": tag},
            samples=whole,
            window=schemas.RESULT_WINDOW,
        ),
        errors=(413, 503),
    )
