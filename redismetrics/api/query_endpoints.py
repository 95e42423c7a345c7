"""The endpoints that ask. Each answers with the JSON-ready shape of the client's method of that name; none of them writes."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import RedisMetricsError
from redismetrics.export import prometheus
from redismetrics.exposition import text
from redismetrics.model.windows import interval_ms

from . import sse
from .endpoint import Endpoint
from .limits import Limits
from .parameters import (
    AGGREGATION,
    BOOLEAN,
    EVERY,
    GROUP_BY,
    INTERVAL,
    METRIC,
    NAME,
    PATTERN,
    SINCE,
    TAGS,
    TIMES,
    TYPE,
    UNTIL,
    Parameter,
    read_number,
    read_truth,
    read_whole,
    tags_of,
    window_of,
)
from .service import Service, json_response

log = logging.getLogger("redismetrics")

Values = Mapping[str, Any]

_STAMP = {"type": "string", "format": "date-time"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_NUMBER = {"type": ["number", "null"]}
_ROW = {"type": "object", "additionalProperties": {"type": ["number", "string", "null"]}}
_WINDOW = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {"type": ["string", "null"], "format": "date-time"},
            "minItems": 2,
            "maxItems": 2,
        },
    ]
}
SAMPLE = {
    "type": "object",
    "properties": {
        "name": NAME,
        "type": TYPE,
        "value": _NUMBER,
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "timestamp": _STAMP,
        "metadata": {"type": "object"},
    },
    "required": ["name", "type", "value", "tags", "timestamp", "metadata"],
    "additionalProperties": False,
}


def _envelope(**parts: Mapping[str, Any]) -> dict[str, Any]:
    properties = {**parts, "timestamp": _STAMP}
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


async def metrics(service: Service, _: Request, values: Values) -> Response:
    name, tags = values["name"], tags_of(values["tag"])
    options = {key: values[key] for key in ("type", "since", "until", "limit")}

    def ask() -> Any:
        service.check_series(name)
        return service.metrics.get_metrics(name=name, tags=tags, **options)

    return await service.run_query(ask)


async def query(service: Service, _: Request, values: Values) -> Response:
    limits, name = service.limits, values["name"]
    span = window_of(values, service.now(), limits.window_seconds)
    tags = tags_of(values["tag"])

    def ask() -> Any:
        service.check_series(name)
        return service.metrics.get_aggregation(
            name,
            aggregation=values["aggregation"],
            group_by=values["group_by"],
            window=span.window,
            tags=tags,
        )

    return await service.run_query(ask)


async def time_series(service: Service, _: Request, values: Values) -> Response:
    limits, name = service.limits, values["name"]
    span = window_of(values, service.now(), limits.window_seconds)
    intervals = span.seconds * 1000 // interval_ms(values["interval"])
    if intervals > limits.max_rows:
        raise HTTPException(
            400, f"interval: wanted at most {limits.max_rows} intervals (the limit max_rows), got {intervals:g} of "
            f"{values['interval']!r:.80} in {span.seconds:g} s",
        )  # fmt: skip
    wanted, tags = values["aggregation"] or ("count",), tags_of(values["tag"])

    def ask() -> Any:
        service.check_series(name)
        return service.metrics.get_time_series(
            name, interval=values["interval"], window=span.window, aggregation=wanted[0],
            aggregations=None if len(wanted) == 1 else wanted, group_by=values["group_by"], tags=tags, fill=values["fill"],
        )  # fmt: skip

    return await service.run_query(ask)


async def rollup(service: Service, _: Request, values: Values) -> Response:
    limits, name = service.limits, values["name"]
    span = window_of(values, service.now(), limits.window_seconds)
    wanted, tags = values["aggregation"] or ("mean", "count"), tags_of(values["tag"])

    def ask() -> Any:
        service.check_series(name)
        return service.metrics.get_rollups(
            name, group_by=values["group_by"], aggregations=wanted, window=span.window, tags=tags
        )

    return await service.run_query(ask)


async def stats(service: Service, _: Request, __: Values) -> Response:
    return await service.run_query(service.metrics.get_stats)


async def names(service: Service, _: Request, __: Values) -> Response:
    return await service.run_query(lambda: {"metrics": service.metrics.list_metrics()})


async def stream(service: Service, request: Request, values: Values) -> Response:
    if request.method == "HEAD":
        return Response(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    subscription = service.ametrics.subscribe(
        values["name"] or None, tags=tags_of(values["tag"]), types=values["type"] or None, every=values["every"],
        queue=service.limits.stream_queue,
    )  # fmt: skip
    return sse.EventStream(service.open_streams, subscription, service.limits.heartbeat_seconds)


async def page(service: Service, request: Request, _: Values) -> Response:
    """The Prometheus page, in the format that is asked for."""
    accept = ",".join(request.headers.getlist("accept"))

    def ask() -> Response:
        body, kind = prometheus.negotiate(accept, metrics=service.metrics)
        return Response(body, headers={"Content-Type": kind, "Vary": "Accept"})

    return await service.run_query(ask)


async def healthz(_: Service, __: Request, ___: Values) -> Response:
    return json_response({"status": "ok"})


async def readyz(service: Service, _: Request, __: Values) -> Response:
    """Is the store there?"""
    try:
        await service.acheck_store()
    except RedisMetricsError as error:
        log.info("not ready: %s", error)
        raise HTTPException(
            503, "the store does not answer"
        ) from error  # whoever asks may not know where it is
    return json_response({"status": "ok"})


def endpoints(limits: Limits) -> tuple[Endpoint, ...]:
    """All that can be asked."""
    several = Parameter("aggregation", "What to work out.", AGGREGATION, several=True)
    asked = (413, 503)
    ok = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return (
        Endpoint(
            "GET", "/api/metrics", "The newest samples first", metrics,
            (
                Parameter("name", "The metric; without it all.", NAME),
                Parameter("type", "Only metrics of this type.", TYPE),
                TAGS, SINCE, UNTIL,
                Parameter(
                    "limit", "How many at most.", {"type": "integer", "minimum": 0, "maximum": limits.max_samples},
                    read_whole("limit", 0, limits.max_samples), default=min(1000, limits.max_samples),
                ),
            ),
            _envelope(metrics={"type": "array", "items": SAMPLE}, count={"type": "integer"}), errors=asked,
        ),
        Endpoint(
            "GET", "/api/query", "One aggregation over a window", query,
            (METRIC, Parameter("aggregation", "What to work out.", AGGREGATION, required=True), GROUP_BY, *TIMES, TAGS),
            _envelope(
                results={"oneOf": [_NUMBER, {"type": "array", "items": _ROW}]}, aggregation=AGGREGATION, group_by=_TEXTS,
                window=_WINDOW,
            ),
            errors=asked,
        ),
        Endpoint(
            "GET", "/api/time_series", "Aggregations by interval", time_series,
            (
                METRIC, Parameter("interval", "minute, hour, day, or text such as 5m.", INTERVAL, default="hour"), several,
                GROUP_BY, *TIMES, TAGS,
                Parameter("fill", "Give empty intervals too.", BOOLEAN, read_truth("fill"), default=False),
            ),
            _envelope(
                series={"type": "array", "items": _ROW}, interval={"type": "string"},
                aggregation={"oneOf": [AGGREGATION, {"type": "array", "items": AGGREGATION}]}, window=_WINDOW,
            ),
            errors=asked,
        ),
        Endpoint(
            "GET", "/api/rollup", "Aggregations by group", rollup, (METRIC, several, GROUP_BY, *TIMES, TAGS),
            _envelope(
                rollups={"type": "object", "additionalProperties": _ROW}, group_by=_TEXTS,
                aggregations={"type": "array", "items": AGGREGATION}, window=_WINDOW,
            ),
            errors=asked,
        ),
        Endpoint(
            "GET", "/api/names", "All metrics, by name", names,
            schema={
                "type": "object", "properties": {"metrics": {"type": "array", "items": {"type": "object"}}},
                "required": ["metrics"],
            },
            errors=(503,),
        ),
        Endpoint(
            "GET", "/api/stats", "Figures of the store and of this process", stats,
            schema=_envelope(storage={"type": "object"}, recorder={"type": "object"}), errors=(503,),
        ),
        Endpoint(
            "GET", "/api/stream", "What is recorded, as it is recorded: server-sent events", stream,
            (
                Parameter("name", "Names or patterns with * ? [...]; without it all.", PATTERN, several=True),
                Parameter("type", "Only metrics of these types.", TYPE, several=True), TAGS,
                Parameter(
                    "every", "Summaries of so many seconds, in place of samples.", EVERY, read_number("every", 0.1, 3600)
                ),
            ),
            media_types=("text/event-stream",), errors=(503,),
        ),
        Endpoint(
            "GET", "/metrics", "The Prometheus page", page,
            media_types=(text.content_type(), text.content_type(True)), errors=(503,),
        ),
        Endpoint("GET", "/healthz", "Does this process answer?", healthz, schema=ok, requires_token=False),
        Endpoint("GET", "/readyz", "Does the store answer?", readyz, schema=ok, errors=(503,), requires_token=False),
    )  # fmt: skip
