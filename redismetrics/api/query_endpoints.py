"""The read endpoints. Their results are those of the client's `get_...` methods."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import RedisMetricsError, shown
from redismetrics.export import prometheus
from redismetrics.exposition import text
from redismetrics.queries import json_results
from redismetrics.queries.context import QueryContext
from redismetrics.queries.query import Query, SamplesQuery
from redismetrics.store.driver import Operation

from . import columns, schemas, sse
from .endpoint import Endpoint
from .heat_endpoint import heat_endpoint
from .limits import Limits
from .log_limits import log
from .overview_endpoint import overview_endpoint
from .parameters import (
    AGGREGATIONS,
    GROUP_BY,
    METRIC,
    SINCE,
    TAGS,
    TIMES,
    UNTIL,
    Parameter,
    read_boolean,
    read_number,
    read_whole,
    read_window,
    tag_filter,
)
from .runs_endpoint import runs_endpoint
from .sending import HeldResponse
from .service import ConcurrencyLimiter, Service, json_response
from .store_endpoints import store_endpoints
from .tags_endpoint import tags_endpoint

Values = Mapping[str, Any]
Q = TypeVar("Q", Query, SamplesQuery)


async def _respond(
    service: Service,
    request: Request,
    read: Callable[[QueryContext, Q], Operation[dict[str, Any]]],
    query: Q,
    limiter: ConcurrencyLimiter | None = None,
) -> HeldResponse:
    """Respond with the result of *query*, unless it would read too many series."""

    def run() -> dict[str, Any]:
        service.check_series(query.name)
        internals = service.metrics.internals
        return internals.run(read(internals.query_context, query), flush=True)

    return await service.run_query(request, run, limiter)


async def get_metrics(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with the newest samples."""
    query = SamplesQuery(
        name=values["name"],
        type=values["type"],
        tags=tag_filter(values["tag"]),
        since=values["since"],
        until=values["until"],
        limit=values["limit"],
    )
    # Each sample may have 4 KiB of metadata, including those that are read but not returned.
    limiter = service.large_queries
    return await _respond(service, request, json_results.get_metrics, query, limiter)


async def get_aggregation(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with one aggregation over a window."""
    window, _seconds = read_window(values, service.now(), service.limits.window_seconds)
    query = Query(
        values["name"],
        aggregation=values["aggregation"],
        group_by=values["group_by"],
        window=window,
        tags=tag_filter(values["tag"]),
    )
    return await _respond(service, request, json_results.get_aggregation, query)


async def get_time_series(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with aggregations by interval."""
    limits = service.limits
    window, seconds = read_window(values, service.now(), limits.window_seconds)
    aggregations = values["aggregation"] or ("count",)
    largest = columns.read_largest(values, aggregations)
    query = Query(
        values["name"],
        interval=values["interval"],
        aggregation=aggregations[0],
        aggregations=None if len(aggregations) == 1 else aggregations,
        group_by=values["group_by"],
        window=window,
        tags=tag_filter(values["tag"]),
        fill=values["fill"],
    )
    assert query.interval_ms is not None, "BUG: a time series without an interval"
    intervals = seconds * 1000 // query.interval_ms
    if intervals > limits.max_rows:
        raise HTTPException(
            400,
            f"interval must yield at most {limits.max_rows} intervals (limit max_rows), "
            f"got {intervals:g} of {shown(query.interval, 80)} in {seconds:g} s",
        )
    read = json_results.get_time_series
    if largest is not None:
        read = partial(json_results.get_time_series_columns, largest=largest)
    return await _respond(service, request, read, query)


async def get_rollups(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with aggregations by group."""
    window, _seconds = read_window(values, service.now(), service.limits.window_seconds)
    aggregations = values["aggregation"] or ("mean", "count")
    largest = columns.read_largest(values, aggregations)
    query = Query(
        values["name"],
        aggregations=aggregations,
        group_by=values["group_by"],
        window=window,
        tags=tag_filter(values["tag"]),
        keys="text",
    )
    read = json_results.get_rollups
    if largest is not None:
        read = partial(json_results.get_rollup_columns, largest=largest)
    return await _respond(service, request, read, query)


async def get_exemplars(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with the newest exemplar of each series and bucket of a metric."""
    query = SamplesQuery(name=values["name"], tags=tag_filter(values["tag"]))
    return await _respond(service, request, json_results.get_exemplars, query)


async def get_stats(service: Service, request: Request, _: Values) -> HeldResponse:
    """Respond with statistics of the namespace and of this process."""
    return await service.run_query(request, service.metrics.get_stats)


async def list_metrics(service: Service, request: Request, _: Values) -> HeldResponse:
    """Respond with all metrics by name."""
    return await service.run_query(request, lambda: {"metrics": service.metrics.list_metrics()})


async def stream(service: Service, request: Request, values: Values) -> Response:
    """Respond with samples, or summaries, as they are recorded, until the client disconnects."""
    if request.method == "HEAD":
        return Response(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    subscription = service.ametrics.subscribe(
        values["name"] or None,
        tags=tag_filter(values["tag"]),
        types=values["type"] or None,
        every=values["every"],
        by=values["by"],
        queue=service.limits.stream_queue,
    )
    subscription.track(sse.read_event_id(request.headers.get("last-event-id")))
    return sse.EventStream(service.open_streams, subscription, service.limits.heartbeat_seconds)


async def prometheus_page(service: Service, request: Request, _: Values) -> HeldResponse:
    """Respond with the Prometheus page, in the format that the Accept header prefers."""
    accept = ",".join(request.headers.getlist("accept"))

    def read() -> Response:
        body, content_type = prometheus.negotiate(accept, metrics=service.metrics)
        return Response(body, headers={"Content-Type": content_type, "Vary": "Accept"})

    return await service.run_query(request, read, service.pages)


async def healthz(_: Service, __: Request, ___: Values) -> Response:
    """Respond with 200, because this process is up."""
    return json_response({"status": "ok"})


async def readyz(service: Service, _: Request, __: Values) -> Response:
    """Respond with 200 if Redis answers, otherwise with 503."""
    try:
        await service.acheck_store()
    except RedisMetricsError as error:
        log.info("not ready: %s", error)
        # Without the server's address, because probes need no token.
        raise HTTPException(503, "Redis does not answer") from error
    return json_response({"status": "ok"})


def endpoints(limits: Limits) -> tuple[Endpoint, ...]:
    """Return all endpoints that read."""
    return (
        *_query_endpoints(limits),
        overview_endpoint(limits),
        runs_endpoint(),
        tags_endpoint(),
        *_catalog_endpoints(),
        *store_endpoints(),
        *_other_endpoints(),
    )


def _query_endpoints(limits: Limits) -> tuple[Endpoint, ...]:
    max_samples = limits.max_samples
    limit = Parameter(
        "limit",
        "Maximum number of samples to return.",
        {"type": "integer", "minimum": 0, "maximum": max_samples},
        read_whole("limit", 0, max_samples),
        default=min(1000, max_samples),
    )
    interval = Parameter(
        "interval",
        "minute, hour, day, or a duration such as 5m.",
        schemas.INTERVAL,
        default="hour",
    )
    fill = Parameter(
        "fill",
        "Return intervals without samples too.",
        schemas.BOOLEAN,
        read_boolean("fill"),
        default=False,
    )
    aggregations = {"type": "array", "items": schemas.AGGREGATION}
    shape = columns.parameters(limits)
    return (
        Endpoint(
            "GET",
            "/api/metrics",
            "Return the newest samples first",
            get_metrics,
            (
                Parameter("name", "The metric (default: all metrics).", schemas.NAME),
                Parameter("type", "Only metrics of this type.", schemas.TYPE),
                TAGS,
                SINCE,
                UNTIL,
                limit,
            ),
            schemas.result_schema(
                metrics={"type": "array", "items": schemas.SAMPLE},
                count={"type": "integer"},
                skipped={"type": "object", "additionalProperties": {"type": "string"}},
            ),
            errors=(413, 503),
        ),
        Endpoint(
            "GET",
            "/api/query",
            "Return one aggregation over a window",
            get_aggregation,
            (
                METRIC,
                Parameter("aggregation", "The aggregation.", schemas.AGGREGATION, required=True),
                GROUP_BY,
                *TIMES,
                TAGS,
            ),
            schemas.result_schema(
                results={"oneOf": [schemas.VALUE, schemas.ROWS]},
                aggregation=schemas.AGGREGATION,
                group_by=schemas.TEXTS,
                window=schemas.RESULT_WINDOW,
            ),
            errors=(413, 503),
        ),
        Endpoint(
            "GET",
            "/api/time_series",
            "Return aggregations by interval",
            get_time_series,
            (METRIC, interval, AGGREGATIONS, GROUP_BY, *TIMES, TAGS, fill, *shape),
            {
                "oneOf": [
                    schemas.result_schema(
                        series=schemas.ROWS,
                        interval={"type": "string"},
                        aggregation={"oneOf": [schemas.AGGREGATION, aggregations]},
                        window=schemas.RESULT_WINDOW,
                    ),
                    columns.TIME_SERIES,
                ]
            },
            errors=(413, 503),
        ),
        Endpoint(
            "GET",
            "/api/rollup",
            "Return aggregations by group",
            get_rollups,
            (METRIC, AGGREGATIONS, GROUP_BY, *TIMES, TAGS, *shape),
            {
                "oneOf": [
                    schemas.result_schema(
                        rollups={"type": "object", "additionalProperties": schemas.ROW},
                        group_by=schemas.TEXTS,
                        aggregations=aggregations,
                        window=schemas.RESULT_WINDOW,
                    ),
                    columns.ROLLUP,
                ]
            },
            errors=(413, 503),
        ),
        heat_endpoint(interval, limits),
    )


def _catalog_endpoints() -> tuple[Endpoint, ...]:
    objects = {"type": "array", "items": {"type": "object"}}
    return (
        Endpoint(
            "GET",
            "/api/names",
            "Return all metrics by name",
            list_metrics,
            schema={"type": "object", "properties": {"metrics": objects}, "required": ["metrics"]},
            errors=(503,),
        ),
        Endpoint(
            "GET",
            "/api/exemplars",
            "Return the newest exemplar of each series and bucket, newest first",
            get_exemplars,
            (METRIC, TAGS),
            schemas.result_schema(exemplars={"type": "array", "items": schemas.EXEMPLAR}),
            errors=(413, 503),
        ),
        Endpoint(
            "GET",
            "/api/stats",
            "Return statistics of the namespace and of this process",
            get_stats,
            schema=schemas.result_schema(storage={"type": "object"}, recorder={"type": "object"}),
            errors=(503,),
        ),
    )


def _other_endpoints() -> tuple[Endpoint, ...]:
    name_help = "Names, or patterns with * ? [...] (default: all metrics)."
    ok = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return (
        Endpoint(
            "GET",
            "/api/stream",
            "Stream samples as they are recorded, as server-sent events",
            stream,
            (
                Parameter("name", name_help, schemas.NAME_OR_PATTERN, repeats=True),
                Parameter("type", "Only metrics of these types.", schemas.TYPE, repeats=True),
                TAGS,
                Parameter(
                    "every",
                    "Send summaries at this interval (seconds) instead of samples.",
                    schemas.EVERY,
                    read_number("every", 0.1, 3600),
                ),
                Parameter(
                    "by",
                    "With every: a summary of each series, or of each metric (name).",
                    {"type": "string", "enum": ["series", "name"]},
                    default="series",
                ),
            ),
            media_types=("text/event-stream",),
            headers={
                "Last-Event-ID": "The last id that was received: the stream resumes after it."
            },
            errors=(503,),
        ),
        Endpoint(
            "GET",
            "/metrics",
            "Return the Prometheus page",
            prometheus_page,
            media_types=(text.content_type(), text.content_type(True)),
            errors=(503,),
        ),
        Endpoint(
            "GET",
            "/healthz",
            "Return whether this process answers",
            healthz,
            schema=ok,
            requires_token=False,
        ),
        Endpoint(
            "GET",
            "/readyz",
            "Return whether Redis answers",
            readyz,
            schema=ok,
            errors=(503,),
            requires_token=False,
        ),
    )
