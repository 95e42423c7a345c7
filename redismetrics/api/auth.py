"""Token and Host checks for every request."""

import hmac
import re
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from redismetrics.store.urls import is_loopback

from .service import answer

_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/\s]+))(?::\d{1,5})?\Z", re.ASCII
)


class AuthMiddleware:
    """Lets through who bears the token. It is compared in constant time, and never logged.

    With *localhost_only*, those who ask for another host are turned away first: a page of another site can make its own name
    stand for 127.0.0.1 (DNS rebinding), and is then, to a browser, of one site with this server.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        open_paths: frozenset[str],
        localhost_only: bool = False,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._open = open_paths
        self._localhost_only = localhost_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._localhost_only and not _is_local(scope):
            message = "Host: wanted localhost, since this server has no token, got another name"
            await failure(403, "Forbidden", message)(scope, receive, send)
        elif scope["type"] == "http" and not self._is_open(scope) and not self._allows(scope):
            message = "Authorization: wanted 'Bearer' and this server's token, got another or none"
            response = failure(401, "Unauthorized", message, {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Is it a path without a guard? A larger application may have mounted us below its root_path."""
        return (
            self._token is None
            or scope["path"].removeprefix(scope.get("root_path", "")) in self._open
        )

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


def failure(code: int, name: str, message: str, headers: Any = None) -> Response:
    response = answer({"error": name, "message": message}, code)
    response.headers.update(headers or {})
    return response
