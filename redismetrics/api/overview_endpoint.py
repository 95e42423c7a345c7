"""The overview endpoint: all metrics with their figures and trends, in one response."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.time import SECOND
from redismetrics.model.validation import check_type
from redismetrics.model.windows import interval_ms, window_ms
from redismetrics.queries import json_results
from redismetrics.queries.arguments import check_metric_name
from redismetrics.queries.overview import OverviewQuery

from . import schemas
from .endpoint import Endpoint
from .limits import Limits
from .parameters import TAGS, TIMES, Parameter, read_whole, read_window, tag_filter
from .sending import HeldResponse
from .service import Service, encode_and_free

Values = Mapping[str, Any]

# Intervals of the trends.
MAX_INTERVALS = 240
# Maximum number of metrics in a response.
MAX_METRICS = 2_000
_MAX_PATTERN = 200
# Edges of windows are multiples of this, so that readers of "the last hour" share an answer.
_GRID = 2 * SECOND
# Seconds to keep a response whose window is in the past: late samples may still arrive.
_PAST_SECONDS = 10.0

_FIGURES = {"type": "array", "items": schemas.VALUE}
_METRIC = schemas.object_schema(
    name=schemas.NAME,
    type=schemas.TYPE,
    unit={"type": "string"},
    help={"type": "string"},
    series={"type": "integer", "minimum": 0},
    last_seen=schemas.TIMESTAMP,
    options={"type": "object"},
    rate=schemas.VALUE,
    last=schemas.VALUE,
    p95=schemas.VALUE,
    value=schemas.VALUE,
    previous=schemas.VALUE,
    trend=_FIGURES,
    low={"oneOf": [_FIGURES, {"type": "null"}]},
)


async def get_overview(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with a summary of each metric over a window, with its trend."""
    query = _query(service, values)
    is_past = query.until_ms <= query.now_ms
    key = (
        *(query.since_ms, query.until_ms, query.interval_ms, query.limit, query.after),
        *(query.names, query.types, tuple(sorted(values["tag"], key=repr))),
    )

    def make() -> bytes:
        internals = service.metrics.internals
        operation = json_results.get_overview(internals.query_context, query)
        return encode_and_free(internals.run(operation, flush=True))

    def respond() -> Response:
        seconds = _PAST_SECONDS if is_past else _GRID / SECOND
        body = service.cached_answers.get(key, seconds, make)
        return Response(body, media_type="application/json")

    return await service.run_query(request, respond, service.large_queries)


def _query(service: Service, values: Values) -> OverviewQuery:
    now_s = service.now()
    window, _ = read_window(values, now_s, service.limits.window_seconds)
    now_ms = round(1000 * now_s)
    since_ms, until_ms = window_ms(window, now_ms)
    since_ms = since_ms // _GRID * _GRID
    until_ms = max(-(-min(until_ms, now_ms + 1) // _GRID) * _GRID, since_ms)
    width = None if values["interval"] is None else interval_ms(values["interval"])
    if width is not None and (until_ms - since_ms) // width > MAX_INTERVALS:
        raise HTTPException(
            400,
            f"interval must yield at most {MAX_INTERVALS} intervals, got "
            f"{(until_ms - since_ms) // width} of {shown(values['interval'], 80)}; "
            "use a longer one",
        )
    return OverviewQuery(
        since_ms,
        until_ms,
        now_ms,
        width,
        values["name"],
        values["type"],
        tag_filter(values["tag"]),
        values["limit"],
        service.limits.max_series,
        values["after"] or "",
    )


def _read_pattern(text: str) -> str:
    if not 1 <= len(text) <= _MAX_PATTERN:
        raise InvalidQuery(
            f"name must have 1 to {_MAX_PATTERN} characters, got {shown(text, 80)} of {len(text)}"
        )
    return text


def overview_endpoint(limits: Limits) -> Endpoint:
    """Return the endpoint `/api/overview`."""
    most = min(MAX_METRICS, limits.max_rows)
    return Endpoint(
        "GET",
        "/api/overview",
        "Return a summary of each metric over a window, with its trend",
        get_overview,
        (
            Parameter(
                "name",
                "Names, or patterns with * ? [...] (default: all metrics).",
                schemas.NAME_OR_PATTERN,
                _read_pattern,
                repeats=True,
            ),
            Parameter(
                "type", "Only metrics of these types.", schemas.TYPE, check_type, repeats=True
            ),
            TAGS,
            *TIMES,
            Parameter(
                "interval",
                "Interval of the trends: minute, hour, day, or a duration such as 5m "
                "(default: one that yields at most 60).",
                schemas.INTERVAL,
            ),
            Parameter(
                "limit",
                "Maximum number of metrics to return, by name.",
                {"type": "integer", "minimum": 1, "maximum": most},
                read_whole("limit", 1, most),
                default=min(1000, most),
            ),
            Parameter(
                "after",
                "Only metrics after this name, to page past the limit.",
                schemas.NAME,
                check_metric_name,
            ),
        ),
        schemas.result_schema(
            times={"type": "array", "items": {"type": "integer"}},
            interval={"type": "integer"},
            samples={"type": "array", "items": {"type": "number"}},
            metrics={"type": "array", "items": _METRIC},
            left_off={"type": "integer", "minimum": 0},
            next={"oneOf": [schemas.NAME, {"type": "null"}]},
        ),
        errors=(413, 503),
    )
