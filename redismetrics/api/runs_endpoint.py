"""The runs endpoint: curves by elapsed time or metadata, and a summary of each run."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.queries import json_results
from redismetrics.queries.runs import MAX_POINTS, MAX_RUNS, MIN_POINTS, RunsQuery, check_x

from . import schemas
from .endpoint import Endpoint
from .parameters import (
    GROUP_BY,
    METRIC,
    TAGS,
    TIMES,
    Parameter,
    read_boolean,
    read_whole,
    read_window,
    tag_filter,
)
from .sending import HeldResponse
from .service import Service, encode_and_free

Values = Mapping[str, Any]

# Seconds to keep a response: many may view the same runs, and each request reads all samples.
_KEPT_SECONDS = 2.0

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_RUN = schemas.object_schema(
    tags={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    count={"type": "integer"},
    sum=schemas.VALUE,
    last=schemas.VALUE,
    min=schemas.VALUE,
    max=schemas.VALUE,
    since=schemas.TIMESTAMP,
    until=schemas.TIMESTAMP,
    seconds={"type": "number"},
    x=_NUMBERS,
    y={"type": "array", "items": schemas.VALUE},
)


async def get_runs(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with the most recently recorded runs of a metric."""
    window, _ = read_window(values, service.now(), service.limits.window_seconds)
    query = RunsQuery(
        values["name"],
        group_by=values["group_by"],
        x=values["x"],
        window=window,
        tags=tag_filter(values["tag"]),
        whole=values["whole"],
        points=values["points"],
        limit=values["limit"],
    )
    tags = tuple(sorted(values["tag"], key=repr))
    key = ("runs", query.name, query.query.group_by, query.x, window, tags)

    def make() -> bytes:
        service.check_series(query.name)
        internals = service.metrics.internals
        operation = json_results.get_runs(internals.query_context, query)
        return encode_and_free(internals.run(operation, flush=True))

    def respond() -> Response:
        asked = (*key, query.whole, query.points, query.limit)
        body = service.cached_answers.get(asked, _KEPT_SECONDS, make)
        return Response(body, media_type="application/json")

    return await service.run_query(request, respond, service.large_queries)


def runs_endpoint() -> Endpoint:
    """Return the endpoint `/api/runs`."""
    return Endpoint(
        "GET",
        "/api/runs",
        "Return the curve and a summary of each run, the most recently recorded first",
        get_runs,
        (
            METRIC,
            GROUP_BY,
            Parameter(
                "x",
                "The x axis: elapsed (seconds since the first sample of the run that is read), "
                "time (Unix seconds), or metadata.KEY.",
                {"type": "string", "pattern": r"^(?:elapsed|time|metadata\.[\s\S]{1,200})$"},
                check_x,
                default="elapsed",
            ),
            *TIMES,
            TAGS,
            Parameter(
                "whole",
                "Read runs with samples in the window from their beginning.",
                schemas.BOOLEAN,
                read_boolean("whole"),
                default=False,
            ),
            Parameter(
                "points",
                "Maximum number of points per curve; extremes are kept, nothing is averaged.",
                {"type": "integer", "minimum": MIN_POINTS, "maximum": MAX_POINTS},
                read_whole("points", MIN_POINTS, MAX_POINTS),
                default=500,
            ),
            Parameter(
                "limit",
                "Maximum number of runs to return.",
                {"type": "integer", "minimum": 1, "maximum": MAX_RUNS},
                read_whole("limit", 1, MAX_RUNS),
                default=50,
            ),
        ),
        schemas.result_schema(
            runs={"type": "array", "items": _RUN},
            left_off={"type": "integer", "minimum": 0},
            x={"type": "string"},
            group_by=schemas.TEXTS,
            window=schemas.RESULT_WINDOW,
        ),
        errors=(413, 503),
    )
