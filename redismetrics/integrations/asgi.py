"""ASGI middleware: requests and durations of Starlette, FastAPI and whatever else speaks ASGI.

app.add_middleware(MetricsMiddleware)      # Starlette, FastAPI
app = MetricsMiddleware(app)               # any other
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import Any

from redismetrics.recording.methods import Recording

from .common import Requests

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]


class MetricsMiddleware:
    """Counts HTTP requests and how long they take, until the last chunk of the answer; websockets pass untouched.

    An exception counts as status 500 and goes on. Nothing here raises or waits, but at the server's shutdown, for 2 s at most,
    since uvicorn then ends by a signal.

    Args:
        app: the application around which this stands.
        metrics: the client; the default one when None.
        prefix: of the metrics' names, ``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.
        endpoint: gives the template of the route from the scope, once the request has been answered; by default what
            Starlette and FastAPI leave there. None or "" means that no route took it.
    """

    def __init__(
        self,
        app: App,
        *,
        metrics: Recording | None = None,
        prefix: str = "http",
        endpoint: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self.app = app
        self._requests = Requests(metrics, prefix)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(
                scope, receive, self._until_shutdown(send) if scope["type"] == "lifespan" else send
            )
            return
        began, method, endpoint = perf_counter(), str(scope.get("method")), self._endpoint
        around, root = str(scope.get("root_path") or ""), scope.get("app") or self.app
        path = str(scope.get("path", "")).removeprefix(around)
        status, done = 500, False

        def finish() -> None:
            template = self._requests.endpoint(
                lambda: (
                    template_of(scope, root, around, path) if endpoint is None else endpoint(scope)
                )
            )
            self._requests.finished(began, method, template, status)

        async def watched(message: Message) -> None:
            nonlocal status, done
            await send(message)
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
            elif kind == "http.response.body" and not message.get("more_body") and not done:
                done = True
                finish()

        try:
            await self.app(scope, receive, watched)
        except BaseException:
            if not done:
                status = 500
                finish()
            raise
        if not done:  # no last chunk: the client went away
            finish()

    def _until_shutdown(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                self._requests.at_the_end()
            await send(message)

        return watched


def template_of(scope: Scope, root: Any, around: str, asked: str) -> str | None:
    """The whole template of the route that took a request, from what Starlette or FastAPI left in its scope.

    *root* is the application with all routes, *around* the root path that the request came with, *asked* its path after that.
    """
    routes = getattr(root, "routes", None) or ()
    route = scope.get("route")
    if route is None:  # Starlette up to 1.0 leaves the endpoint alone
        endpoint = scope.get("endpoint")
        return None if endpoint is None else _leaf(routes, asked, endpoint)
    path = getattr(route, "path", None)
    context = scope.get("fastapi")
    if isinstance(context, dict):  # of a router that was included, with its prefix
        path = getattr(context.get("effective_route_context"), "path", None) or path
    mounts: str | None = ""
    inside = str(scope.get("root_path") or "")
    if inside != around:
        mounts = _mounts(routes, inside.removeprefix(around))
    if mounts is None:
        return None
    if hasattr(route, "app") and hasattr(
        route, "routes"
    ):  # a Mount whose application knows no routes
        path = ""
    return f"{mounts}{path or ''}" or "/"


def _leaf(routes: Iterable[Any], path: str, endpoint: Any) -> str | None:
    """The template of the route to *path* that has this endpoint."""
    for route in routes:
        inner, regex = getattr(route, "routes", None), getattr(route, "path_regex", None)
        if inner is None or not hasattr(route, "app"):
            if (
                getattr(route, "endpoint", None) is endpoint
                and regex is not None
                and regex.match(path)
            ):
                return str(route.path)
            continue
        found = None
        if regex is None:  # a Host
            found = _leaf(inner, path, endpoint)
        elif match := regex.match(path):
            found = _leaf(inner, f"/{match.groupdict().get('path', '')}", endpoint)
            if found is None and route.app is endpoint:
                found = ""
            found = None if found is None else f"{route.path}{found}"
        if found is not None:
            return found
    return None


def _mounts(routes: Iterable[Any], path: str) -> str | None:
    """The template of the mounts that lead to *path*; None when none do."""
    if not path:
        return ""
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner is None or not hasattr(route, "app"):
            continue
        if not hasattr(route, "path_regex"):  # a Host
            found = _mounts(inner, path)
            if found is not None:
                return found
            continue
        match = route.path_regex.match(path + "/")
        if match is None:
            continue
        rest = match.groupdict().get("path", "").rstrip("/")
        found = _mounts(inner, f"/{rest}" if rest else "")
        if found is not None:
            return f"{route.path}{found}"
    return None
