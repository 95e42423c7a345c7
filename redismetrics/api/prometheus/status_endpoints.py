"""Status endpoints about the server itself, for Prometheus clients."""

import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from redismetrics import __version__
from redismetrics.api.endpoint import Endpoint
from redismetrics.api.log_limits import log
from redismetrics.api.parameters import Parameter
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.errors import RedisMetricsError
from redismetrics.queries import catalog

from . import parameters
from .envelope import envelope_schema, success, to_json
from .evaluation import PromqlService

Values = Mapping[str, Any]

# The version of Prometheus whose API and PromQL this server implements. Grafana depends on it.
_PROMETHEUS_VERSION = "3.5.0"
# Metrics listed by `status/tsdb` without *limit*, as in Prometheus.
_TOP = 10
_OBJECT = envelope_schema({"type": "object"})


def status_endpoints(evaluation: PromqlService) -> list[Endpoint]:
    """Return these endpoints."""
    return [
        *(
            _fixed(f"/api/v1/status/{name}", summary, data)
            for name, summary, data in (
                ("buildinfo", "Return the versions of this server", _build),
                ("runtimeinfo", "Return the state of this server", lambda: _runtime(evaluation)),
                ("flags", "Return the limits of this server", lambda: _flags(evaluation)),
                ("config", "Return the external labels", lambda: _config(evaluation)),
            )
        ),
        _tsdb(evaluation),
        *_probes(),
    ]


def _fixed(path: str, summary: str, data: Callable[[], Any]) -> Endpoint:
    async def respond(_: Service, __: Request, ___: Values) -> Response:
        return success(to_json(data()))

    return Endpoint("GET", path, summary, respond, form=(), schema=_OBJECT)


def _build() -> dict[str, str]:
    return {
        "version": _PROMETHEUS_VERSION,
        "revision": f"redismetrics-{__version__}",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _runtime(evaluation: PromqlService) -> dict[str, Any]:
    started = datetime.fromtimestamp(evaluation.started, UTC).isoformat()
    return {
        "startTime": started,
        "serverTime": datetime.fromtimestamp(evaluation.now_ms() / 1000, UTC).isoformat(),
        "reloadConfigSuccess": True,
        "lastConfigTime": started,
        "corruptionCount": 0,
        "storageRetention": "by resolution; see the settings of redismetrics",
    }


def _flags(evaluation: PromqlService) -> dict[str, str]:
    limits = evaluation.limits
    return {
        "query.lookback-delta": "5m",
        "query.timeout": f"{limits.promql_seconds:g}s",
        "query.max-samples": str(limits.promql_samples),
        "query.max-concurrency": str(limits.max_concurrent),
    }


def _config(evaluation: PromqlService) -> dict[str, str]:
    labels = evaluation.options.external
    # JSON is valid YAML.
    lines = [f"    {to_json(name)}: {to_json(value)}\n" for name, value in labels.items()]
    return {"yaml": "global:\n  external_labels:\n" + "".join(lines) if lines else "global: {}\n"}


def _tsdb(evaluation: PromqlService) -> Endpoint:
    async def respond(service: Service, request: Request, values: Values) -> HeldResponse:
        def run() -> Response:
            context = evaluation.metrics.internals.query_context
            rows = evaluation.run(catalog.cardinality(context, values["limit"] or _TOP))
            count = evaluation.run(catalog.series_count(context))
            by_name = [{"name": row["name"], "value": row["series"]} for row in rows]
            data = {
                "headStats": {"numSeries": count},
                "seriesCountByMetricName": by_name,
                "labelValueCountByLabelName": [],
                "memoryInBytesByLabelName": [],
                "seriesCountByLabelValuePair": [],
            }
            return success(to_json(data))

        return await service.run_query(request, run)

    return Endpoint(
        "GET",
        "/api/v1/status/tsdb",
        "Return the metrics with the most series",
        respond,
        form=(parameters.LIMIT,),
        schema=_OBJECT,
        errors=(503,),
    )


def _probes() -> list[Endpoint]:
    no_parameters: tuple[Parameter, ...] = ()

    async def healthy(_: Service, __: Request, ___: Values) -> Response:
        return PlainTextResponse("redismetrics is healthy.\n")

    async def ready(service: Service, _: Request, __: Values) -> Response:
        try:
            await service.acheck_store()
        except RedisMetricsError as error:
            log.info("not ready: %s", error)
            raise HTTPException(503, "Redis does not answer") from error
        return PlainTextResponse("redismetrics is ready.\n")

    return [
        Endpoint(
            "GET",
            f"/-/{name}",
            f"Return whether {what}",
            handler,
            form=no_parameters,
            media_types=("text/plain",),
            errors=errors,
            requires_token=False,
        )
        for name, what, handler, errors in (
            ("healthy", "this process answers", healthy, ()),
            ("ready", "Redis answers", ready, (503,)),
        )
    ]
