"""The ASGI application: routes, error responses, and the token."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redismetrics.client.base import Client
from redismetrics.errors import (
    EvaluationFailed,
    EvaluationTimeout,
    InvalidMetric,
    InvalidQuery,
    InvalidSetting,
    MissingExtra,
    RedisMetricsError,
    StoreUnavailable,
    TooManyRows,
)
from redismetrics.exposition.compression import SECURITY_HEADERS
from redismetrics.integrations.limits import RESOURCE_ATTRIBUTES
from redismetrics.model.external_labels import check_labels

from . import mark_endpoints, query_endpoints, write_endpoints
from .auth import AuthMiddleware, may_write
from .endpoint import Endpoint
from .info_endpoint import info_endpoint
from .limits import Limits
from .log_limits import log
from .openapi import document
from .page_files import page_routes
from .parameters import FORM, Parameter, read
from .prometheus.envelope import failure, is_enveloped
from .sending import SendingMiddleware
from .service import Service, compressed, error_response, json_response

_ERROR_NAMES = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    409: "Conflict",
    413: "TooMuch",
    415: "UnsupportedMediaType",
    422: "IdempotencyKeyReused",
    504: "NotConfirmed",
}
_VISIBLE_ASCII = range(0x21, 0x7F)


def create_app(
    metrics: Client | None = None,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    write_token: str | None = None,
    allow_write: bool = False,
    localhost_only: bool = False,
    resource_attributes: Sequence[str] = RESOURCE_ATTRIBUTES,
    external_labels: Mapping[str, str] | None = None,
    page: bool = True,
) -> Starlette:
    """Return the application for *metrics*, a `Metrics` or `AsyncMetrics`.

    Args:
        metrics: The client; by default the default client. The application does not close it.
        limits: Limits on the cost of one request; see `Limits`.
        token: If given, every path requires ``Authorization: Bearer TOKEN``, except `/healthz`,
            `/readyz`, and the web page with its files, which contain no data.
        write_token: If given, the write endpoints are added and require this token, which may also
            read; *token* is then read-only.
        allow_write: Add the write endpoints, for everyone who may read. Without this and
            *write_token*, no request changes stored data. `/v1/metrics` also needs the extra
            `otel`, and is left out without it.
        localhost_only: Reject requests whose Host is not localhost or a loopback address.
        resource_attributes: OpenTelemetry resource attributes to store as tags.
        external_labels: Labels that PromQL adds to all series that lack them.
        page: Serve the web page at `/`.

    Raises:
        InvalidSetting: If a token cannot be sent in a header, both tokens are equal, or the client
            uses ``none://``.
    """
    if metrics is None:
        from redismetrics.client.default import client

        metrics = client()
    if not metrics.internals.has_store:
        raise InvalidSetting(
            "metrics must be a client of a Redis server, got one of none://, which stores nothing"
        )
    _check_tokens(token, write_token)
    allow_write = allow_write or write_token is not None
    service = Service(metrics, limits or Limits())
    endpoints = [*query_endpoints.endpoints(service.limits)]
    of_prometheus = _prometheus_endpoints(service, check_labels(external_labels or {}))
    endpoints += mark_endpoints.read_endpoints()
    endpoints += [*of_prometheus, info_endpoint(has_promql=bool(of_prometheus))]
    if allow_write:
        writing = _write_endpoints(service, resource_attributes)
        endpoints += [replace(each, writes=True) for each in writing]
    endpoints.append(
        _openapi_endpoint(endpoints, service, token is not None, write_token is not None)
    )
    open_paths = frozenset(each.path for each in endpoints if not each.requires_token)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.open_streams.reopen()
        yield
        await service.aclose()

    app = Starlette(
        routes=[
            *(_route(service, endpoint) for endpoint in endpoints),
            *(page_routes() if page else ()),
        ],
        middleware=[
            Middleware(SendingMiddleware, send_seconds=service.limits.send_seconds),
            Middleware(
                AuthMiddleware,
                token=token,
                write_token=write_token,
                allow_write=allow_write,
                open_paths=open_paths,
                localhost_only=localhost_only,
            ),
        ],
        exception_handlers={
            HTTPException: _on_http_exception,
            RedisMetricsError: _on_redismetrics_error,
            Exception: _on_bug,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _check_tokens(token: str | None, write_token: str | None) -> None:
    for name, each in (("token", token), ("write_token", write_token)):
        if each is not None and (not each or any(ord(char) not in _VISIBLE_ASCII for char in each)):
            raise InvalidSetting(f"{name} must be visible ASCII characters without spaces")
    if token is not None and token == write_token:
        raise InvalidSetting("write_token must differ from token, which can only read")


def _write_endpoints(service: Service, resource_attributes: Sequence[str]) -> list[Endpoint]:
    endpoints = [write_endpoints.record_endpoint(service.limits)]
    endpoints += mark_endpoints.write_endpoints()
    try:
        from .otlp_endpoint import otlp_endpoint
    except MissingExtra as error:
        log.info("/v1/metrics is not available: %s", error)
    else:
        endpoints.append(otlp_endpoint(service, resource_attributes))
    try:
        from .prometheus.write_endpoint import write_endpoint
    except MissingExtra as error:
        log.info("/api/v1/write is not available: %s", error)
    else:
        from . import silence_endpoints

        endpoints += [write_endpoint(service), *silence_endpoints.write_endpoints()]
    return endpoints


def _prometheus_endpoints(service: Service, external_labels: Mapping[str, str]) -> list[Endpoint]:
    try:
        from . import silence_endpoints
        from .prometheus.routes import read_endpoints

        return [
            *read_endpoints(service, external_labels),
            *silence_endpoints.read_endpoints(),
        ]
    except MissingExtra as error:
        log.info("Prometheus' HTTP API is not available: %s", error)
        return []


def _openapi_endpoint(
    endpoints: list[Endpoint], service: Service, token: bool, write_token: bool
) -> Endpoint:
    """Return the endpoint of the document that describes *endpoints* and itself."""
    described: dict[str, Any] = {}

    async def openapi(_: Service, request: Request, __: Any) -> Response:
        return compressed(request, json_response(described))

    summary = "Return this document"
    endpoint = Endpoint("GET", "/openapi.json", summary, openapi, schema={"type": "object"})
    described.update(
        document(
            [*endpoints, endpoint],
            token=token,
            write_token=write_token,
            max_repeats=service.limits.max_repeats,
        )
    )
    return endpoint


def _route(service: Service, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Any:
        if endpoint.writes and not may_write(request.scope):
            raise HTTPException(
                403, "writing needs this server's write token; send it as 'Bearer ' and the token"
            )
        # Not request.url: it is built from the Host header, which the client controls.
        query = request.scope["query_string"]
        if endpoint.form is not None:
            values = await _read_form(service, request, endpoint.form, query)
        else:
            values = read(endpoint.parameters, query, service.limits.max_repeats, service.now())
        values.update(request.path_params)
        return await endpoint.handler(service, request, values)

    return Route(endpoint.path, handle, methods=[endpoint.method])


def _error(
    request: Request, code: int, name: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error in the same form as other responses of its path."""
    if is_enveloped(request.scope):
        return failure(code, message, headers)
    return error_response(code, name, message, headers)


async def _read_form(
    service: Service, request: Request, form: tuple[Parameter, ...], query: bytes
) -> dict[str, Any]:
    """Return the parameters of a form, first those in the body, then those in the query string."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind == FORM:
        async with service.bodies.read(request) as body:
            query = b"%b&%b" % (body.decompress(service.limits.body_bytes), query)
    limits = service.limits
    return read(form, query, limits.max_repeats, service.now(), is_lenient=True)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 503:
        headers["Retry-After"] = "1"
    name = _ERROR_NAMES.get(error.status_code, "Unavailable")
    return _error(request, error.status_code, name, error.detail, headers)


async def _on_redismetrics_error(request: Request, error: Exception) -> Response:
    """Return the error's message on one line. Our messages never contain passwords."""
    name, message = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, TooManyRows):
        return _error(request, 413, name, f"{message} (limit max_rows)")
    if isinstance(error, EvaluationTimeout):
        return failure(503, message, kind="timeout")
    if isinstance(error, EvaluationFailed):
        return failure(422, message)
    if isinstance(error, InvalidQuery | InvalidMetric):
        return _error(request, 400, name, message)
    if isinstance(error, StoreUnavailable):
        return _error(request, 503, name, message, {"Retry-After": "1"})
    log.error("a request failed: %s: %s", name, message)
    return _error(request, 500, name, message)


async def _on_bug(request: Request, error: Exception) -> Response:
    # Outside of the middleware that adds these to all other responses.
    headers = dict(SECURITY_HEADERS)
    return _error(request, 500, "InternalError", f"BUG: {type(error).__name__}", headers)
