"""The heat map endpoint: how the values of a metric are distributed over buckets, by interval."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from redismetrics.errors import shown
from redismetrics.queries import heat_map, json_results
from redismetrics.queries.query import Query

from . import schemas
from .endpoint import Endpoint
from .limits import Limits
from .parameters import METRIC, TAGS, TIMES, Parameter, read_whole, read_window, tag_filter
from .sending import HeldResponse
from .service import Service


async def get_heat(service: Service, request: Request, values: Mapping[str, Any]) -> HeldResponse:
    """Respond with the number of samples by interval and value bucket."""
    limits, buckets = service.limits, values["buckets"]
    window, seconds = read_window(values, service.now(), limits.window_seconds)
    query = Query(
        values["name"],
        interval=values["interval"],
        aggregation="count",
        window=window,
        tags=tag_filter(values["tag"]),
    )
    assert query.interval_ms is not None, "BUG: a heat map without an interval"
    intervals = seconds * 1000 // query.interval_ms
    if intervals * buckets > limits.max_rows:
        raise HTTPException(
            400,
            f"interval times buckets must yield at most {limits.max_rows} cells (limit max_rows), "
            f"got {intervals:g} intervals of {shown(query.interval, 80)} with {buckets} buckets; "
            "use a longer interval, a shorter window or fewer buckets",
        )

    def run() -> dict[str, Any]:
        service.check_series(query.name)
        internals = service.metrics.internals
        operation = json_results.get_heat_map(internals.query_context, query, buckets)
        return internals.run(operation, flush=True)

    return await service.run_query(request, run)


def heat_endpoint(interval: Parameter, limits: Limits) -> Endpoint:
    """Return the endpoint `/api/heat`."""
    least, most = heat_map.MIN_BUCKETS, min(heat_map.MAX_BUCKETS, limits.max_rows)
    return Endpoint(
        "GET",
        "/api/heat",
        "Return the number of samples by interval and bucket of values",
        get_heat,
        (
            METRIC,
            interval,
            *TIMES,
            TAGS,
            Parameter(
                "buckets",
                "Maximum number of buckets.",
                {"type": "integer", "minimum": least, "maximum": most},
                read_whole("buckets", least, most),
                default=heat_map.DEFAULT_BUCKETS,
            ),
        ),
        schemas.result_schema(
            times=schemas.UNIX_TIMES,
            interval={"type": "integer", "minimum": 1},
            edges={"type": "array", "items": {"type": "number"}},
            counts={
                "type": "array",
                "items": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            },
        ),
        errors=(413, 503),
    )
