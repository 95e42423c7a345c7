"""The ASGI application: endpoints, errors as sentences, the token."""

import hmac
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from redismetrics.client import Client
from redismetrics.errors import (
    InvalidMetric,
    InvalidQuery,
    InvalidSetting,
    MissingExtra,
    RedisMetricsError,
    StoreUnavailable,
    TooManyRows,
)
from redismetrics.wsgi import is_loopback

from . import questions, writing
from .openapi import document
from .parameters import Endpoint, read
from .service import Limits, Service, answer

log = logging.getLogger("redismetrics")

_NAMES = {
    400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 408: "Timeout", 413: "TooMuch",
    415: "UnsupportedMediaType",
}  # fmt: skip
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/\s]+))(?::\d{1,5})?\Z", re.ASCII)
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
        from redismetrics.default import client

        metrics = client()
    if metrics._flusher is None:
        raise InvalidSetting(
            "metrics: wanted a client of a store, got one of none://, which holds nothing to answer with"
        )
    if token is not None and (not token or any(ord(sign) not in _TOKEN for sign in token)):
        raise InvalidSetting("token: wanted visible ASCII signs without spaces, got something else")
    service = Service(metrics, limits or Limits())
    endpoints = [*questions.endpoints(service.limits)]
    if allow_write:
        endpoints += writing.endpoints(service)
        try:
            endpoints.append(writing.otlp_endpoint(service))
        except MissingExtra as error:
            log.info("no /v1/metrics: %s", error)
    told: dict[str, Any] = {}

    async def openapi(_: Service, __: Request, ___: Any) -> Response:
        return answer(told)

    endpoints.append(Endpoint("GET", "/openapi.json", "This document", openapi, answer={"type": "object"}))
    told.update(
        document(endpoints, token=token is not None, localhost_only=localhost_only, values=service.limits.values)
    )
    open_paths = frozenset(endpoint.path for endpoint in endpoints if not endpoint.guarded)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.streams.begin()
        yield
        await service.aclose()

    app = Starlette(
        routes=[_route(service, endpoint) for endpoint in endpoints],
        middleware=[Middleware(Guard, token=token, open_paths=open_paths, localhost_only=localhost_only)],
        exception_handlers={HTTPException: _http_error, RedisMetricsError: _our_error, Exception: _bug},
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


class Guard:
    """Lets through who bears the token. It is compared in constant time, and never logged.

    With *localhost_only*, those who ask for another host are turned away first: a page of another site can make its own name
    stand for 127.0.0.1 (DNS rebinding), and is then, to a browser, of one site with this server.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, open_paths: frozenset[str], localhost_only: bool = False
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._open = open_paths
        self._localhost_only = localhost_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._localhost_only and not _is_local(scope):
            message = "Host: wanted localhost, since this server has no token, got another name"
            await _failure(403, "Forbidden", message)(scope, receive, send)
        elif scope["type"] == "http" and not self._is_open(scope) and not self._allows(scope):
            message = "Authorization: wanted 'Bearer' and this server's token, got another or none"
            response = _failure(401, "Unauthorized", message, {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Is it a path without a guard? A larger application may have mounted us below its root_path."""
        return self._token is None or scope["path"].removeprefix(scope.get("root_path", "")) in self._open

    def _allows(self, scope: Scope) -> bool:
        given = _headers(scope, b"authorization")
        if self._token is None or len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _is_local(scope: Scope) -> bool:
    given = _headers(scope, b"host")
    found = _HOST.match(given[0].decode("latin-1")) if len(given) == 1 else None
    return found is not None and is_loopback((found["six"] or found["name"]).lower())


# -- errors -------------------------------------------------------------------------------------------------------


def _failure(code: int, name: str, message: str, headers: Any = None) -> Response:
    response = answer({"error": name, "message": message}, code)
    response.headers.update(headers or {})
    return response


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 503:
        headers["Retry-After"] = "1"
    return _failure(error.status_code, _NAMES.get(error.status_code, "Unavailable"), error.detail, headers)


async def _our_error(_: Request, error: Exception) -> Response:
    """A message of ours says which, what was wanted and what was given, and holds no password."""
    name, message = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, TooManyRows):
        return _failure(413, name, f"{message} (the limit points)")
    if isinstance(error, InvalidQuery | InvalidMetric):
        return _failure(400, name, message)
    if isinstance(error, StoreUnavailable):
        return _failure(503, name, message, {"Retry-After": "1"})
    log.error("a request failed: %s: %s", name, message)
    return _failure(500, name, message)


async def _bug(_: Request, error: Exception) -> Response:
    return _failure(500, "InternalError", f"BUG: {type(error).__name__}")
