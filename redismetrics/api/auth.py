"""Token and Host checks for every request."""

import hmac
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from redismetrics.store.urls import is_loopback

from .service import error_response

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/\s]+))(?::\d{1,5})?\Z", re.ASCII
)


class AuthMiddleware:
    """Reject requests without the bearer token.

    The token is compared in constant time, and never logged. *open_paths* need no token. With
    *localhost_only*, requests for any other host are rejected first: a page of another site can
    make its own name resolve to 127.0.0.1 (DNS rebinding), and to a browser this server then
    belongs to that site.
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
        self._open_paths = open_paths
        self._localhost_only = localhost_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or reject it."""
        if scope["type"] == "http" and self._localhost_only and not _is_local(scope):
            message = (
                "Host must be localhost or a loopback address, because this server has no token; "
                "start it with a token to use another name"
            )
            await error_response(403, "Forbidden", message)(scope, receive, send)
        elif scope["type"] == "http" and not self._is_open(scope) and not self._is_allowed(scope):
            message = "Authorization must be 'Bearer ' and this server's token"
            headers = {"WWW-Authenticate": "Bearer"}
            await error_response(401, "Unauthorized", message, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Return whether no token is needed. The application may be mounted in another one."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return self._token is None or path in self._open_paths

    def _is_allowed(self, scope: Scope) -> bool:
        values = _header_values(scope, b"authorization")
        if self._token is None or len(values) != 1:
            return False
        scheme, _, token = values[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


def _header_values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _is_local(scope: Scope) -> bool:
    values = _header_values(scope, b"host")
    match = _HOST.match(values[0].decode("latin-1")) if len(values) == 1 else None
    return match is not None and is_loopback((match["ipv6"] or match["name"]).lower())
