"""Token and Host checks for every request."""

import hmac

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from redismetrics.exposition.access import CROSS_SITE_MESSAGE, is_cross_site, names_localhost

from .page_files import PREFIX
from .prometheus.envelope import failure, is_enveloped
from .service import error_response

# Where the middleware stores the caller's permissions for the endpoints.
_MAY_WRITE = "redismetrics.may_write"


def may_write(scope: Scope) -> bool:
    """Return whether the caller of a request may use the write endpoints."""
    return bool(scope.get(_MAY_WRITE))


class AuthMiddleware:
    """Rejects requests without one of this server's bearer tokens.

    Tokens are compared in constant time, and never logged. *open_paths* need no token, and neither
    do the web page and its files, to which other sites may link. Requests with *write_token* may
    read and write, those with *token* may only read. Without *write_token*, everyone who may read
    may also write if *allow_write* is set; without *token*, reading needs no token.

    With *localhost_only*, requests for any other host are rejected first: another site can make its
    own name resolve to 127.0.0.1 (DNS rebinding), and to a browser this server then belongs to that
    site. Requests that a browser sends for a page of another site are rejected as well: the page
    could not read the responses, but the requests would still affect this server.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        write_token: str | None = None,
        allow_write: bool = False,
        open_paths: frozenset[str],
        localhost_only: bool = False,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._write_token = None if write_token is None else write_token.encode()
        self._allow_write = allow_write
        self._open_paths = open_paths
        self._localhost_only = localhost_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or reject it."""
        if (
            scope["type"] == "http"
            and self._localhost_only
            and not names_localhost(_texts(scope, b"host"))
        ):
            message = (
                "Host must be localhost or a loopback address, because this server has no token; "
                "start it with a token to use another name"
            )
            await _refusal(scope, 403, "Forbidden", message)(scope, receive, send)
        elif scope["type"] == "http" and _is_page(_path(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and is_cross_site(_texts(scope, b"sec-fetch-site")):
            await _refusal(scope, 403, "Forbidden", CROSS_SITE_MESSAGE)(scope, receive, send)
        elif scope["type"] == "http" and not self._is_open(scope) and not self._is_allowed(scope):
            message = "Authorization must be 'Bearer ' and this server's token"
            headers = {"WWW-Authenticate": "Bearer"}
            await _refusal(scope, 401, "Unauthorized", message, headers)(scope, receive, send)
        else:
            if scope["type"] == "http":
                scope[_MAY_WRITE] = self._may_write(scope)
            await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Return whether no token is needed."""
        return self._token is None or _path(scope) in self._open_paths

    def _is_allowed(self, scope: Scope) -> bool:
        return _has_token(scope, self._token) or _has_token(scope, self._write_token)

    def _may_write(self, scope: Scope) -> bool:
        if self._write_token is None:
            return self._allow_write
        return _has_token(scope, self._write_token)


def _has_token(scope: Scope, expected: bytes | None) -> bool:
    values = _header_values(scope, b"authorization")
    if expected is None or len(values) != 1:
        return False
    scheme, _, token = values[0].partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), expected)


def _path(scope: Scope) -> str:
    """Return the path within this application, which may be mounted in another one."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _is_page(path: str) -> bool:
    return path == "/" or path.startswith(PREFIX)


def _refusal(
    scope: Scope, code: int, name: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    if is_enveloped(scope):
        return failure(code, message, headers)
    return error_response(code, name, message, headers)


def _header_values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _texts(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in _header_values(scope, name)]
