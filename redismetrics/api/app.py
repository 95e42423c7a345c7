"""The ASGI application: endpoints, errors as sentences, the token."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redismetrics.client.base import Client
from redismetrics.errors import (
    InvalidMetric,
    InvalidQuery,
    InvalidSetting,
    MissingExtra,
    RedisMetricsError,
    StoreUnavailable,
    TooManyRows,
)

from . import query_endpoints, write_endpoints
from .auth import AuthMiddleware, failure
from .openapi import document
from .parameters import Endpoint, read
from .service import Limits, Service, answer

log = logging.getLogger("redismetrics")

_NAMES = {
    400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 408: "Timeout", 413: "TooMuch",
    415: "UnsupportedMediaType",
}  # fmt: skip
_TOKEN = range(0x21, 0x7F)  # what a header can carry without a doubt


def create_app(
    metrics: Client | None = None,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    allow_write: bool = False,
    localhost_only: bool = False,
) -> Starlette:
    """Return the application over *metrics*, a `Metrics` or `AsyncMetrics`; by default the default client. It is left open.

    With a *token* every path but `/healthz` and `/readyz` asks for ``Authorization: Bearer TOKEN``. Without *allow_write*
    no request changes what is stored. With *localhost_only* a request's Host must be localhost or a loopback address. Where
    the extra `otel` is missing, `/v1/metrics` is not there.

    Raises:
        InvalidSetting: a token that a header can't carry, or a client of ``none://``.
    """
    if metrics is None:
        from redismetrics.client.default import client

        metrics = client()
    if metrics._flusher is None:
        raise InvalidSetting(
            "metrics: wanted a client of a store, got one of none://, which holds nothing to answer with"
        )
    if token is not None and (not token or any(ord(sign) not in _TOKEN for sign in token)):
        raise InvalidSetting("token: wanted visible ASCII signs without spaces, got something else")
    service = Service(metrics, limits or Limits())
    endpoints = [*query_endpoints.endpoints(service.limits)]
    if allow_write:
        endpoints += write_endpoints.endpoints(service)
        try:
            endpoints.append(write_endpoints.otlp_endpoint(service))
        except MissingExtra as error:
            log.info("no /v1/metrics: %s", error)
    told: dict[str, Any] = {}

    async def openapi(_: Service, __: Request, ___: Any) -> Response:
        return answer(told)

    endpoints.append(
        Endpoint("GET", "/openapi.json", "This document", openapi, answer={"type": "object"})
    )
    told.update(
        document(
            endpoints,
            token=token is not None,
            localhost_only=localhost_only,
            values=service.limits.values,
        )
    )
    open_paths = frozenset(endpoint.path for endpoint in endpoints if not endpoint.guarded)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.streams.begin()
        yield
        await service.aclose()

    app = Starlette(
        routes=[_route(service, endpoint) for endpoint in endpoints],
        middleware=[
            Middleware(
                AuthMiddleware, token=token, open_paths=open_paths, localhost_only=localhost_only
            )
        ],
        exception_handlers={
            HTTPException: _http_error,
            RedisMetricsError: _our_error,
            Exception: _bug,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _route(service: Service, endpoint: Endpoint) -> Route:
    async def handle(request: Request) -> Response:
        # Not request.url, which is put together with the Host header, as whoever asks wrote it.
        values = read(endpoint.parameters, request.scope["query_string"], service.limits.values)
        response: Response = await endpoint.handler(service, request, values)
        return response

    return Route(endpoint.path, handle, methods=[endpoint.method])


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 503:
        headers["Retry-After"] = "1"
    return failure(
        error.status_code, _NAMES.get(error.status_code, "Unavailable"), error.detail, headers
    )


async def _our_error(_: Request, error: Exception) -> Response:
    """A message of ours says which, what was wanted and what was given, and holds no password."""
    name, message = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, TooManyRows):
        return failure(413, name, f"{message} (the limit points)")
    if isinstance(error, InvalidQuery | InvalidMetric):
        return failure(400, name, message)
    if isinstance(error, StoreUnavailable):
        return failure(503, name, message, {"Retry-After": "1"})
    log.error("a request failed: %s: %s", name, message)
    return failure(500, name, message)


async def _bug(_: Request, error: Exception) -> Response:
    return failure(500, "InternalError", f"BUG: {type(error).__name__}")
