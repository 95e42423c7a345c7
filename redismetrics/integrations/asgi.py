"""ASGI middleware: requests and durations of Starlette, FastAPI and other ASGI applications.

app.add_middleware(MetricsMiddleware)      # Starlette, FastAPI
app = MetricsMiddleware(app)               # any other
"""

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from redismetrics.recording.methods import Recording

from .request_metrics import FAILED, RequestMetrics, error_status
from .starlette_routes import route_template

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]


class MetricsMiddleware:
    """Counts HTTP requests and measures them until the last chunk of the response.

    An exception counts as status 500, a cancelled request as 499, and both are re-raised. A request
    counts once, even if a mounted application also has this middleware. Websockets pass through
    unchanged. Nothing here raises or blocks, except for at most 2 s at the server's shutdown,
    because uvicorn ends itself with a signal.

    Args:
        app: The application to wrap.
        metrics: The client; by default the default client.
        prefix: Prefix of the names ``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.
        endpoint: Returns the route template for a scope, once the response is complete. None or ""
            means that there is no route. By default, the route of Starlette or FastAPI is used.
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
        self._requests = RequestMetrics(metrics, prefix)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._pass_lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, method, endpoint = perf_counter(), str(scope.get("method")), self._endpoint
        # Read now, because routing changes the scope.
        root_path, app = str(scope.get("root_path") or ""), scope.get("app") or self.app
        path = str(scope.get("path", "")).removeprefix(root_path)
        ongoing = self._requests.begin(scope)
        status, done = FAILED, False

        def find_endpoint() -> str | None:
            if endpoint is None:
                return route_template(scope, app, root_path, path)
            return endpoint(scope)

        def finish() -> None:
            template = self._requests.endpoint(find_endpoint)
            if ongoing is None:
                self._requests.set_inner_endpoint(scope, template)
            else:
                self._requests.finish(began, method, template or ongoing.endpoint, status)

        async def send_and_watch(message: Message) -> None:
            nonlocal status, done
            kind = message["type"]
            if ongoing is None and kind == "http.response.body" and not done:
                # Before an outer middleware ends the request.
                done = True
                finish()
            await send(message)
            if kind == "http.response.start":
                status = message["status"]
            elif kind == "http.response.body" and not message.get("more_body") and not done:
                done = True
                finish()

        try:
            await self.app(scope, receive, send_and_watch)
        except BaseException as error:
            if not done:
                status = error_status(error)
                finish()
            raise
        # Without a last chunk the client has disconnected.
        if not done:
            finish()

    async def _pass_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the lifespan to the application; answer it here if unsupported, as by Django."""
        has_lifespan = False

        async def note_and_receive() -> Message:
            nonlocal has_lifespan
            has_lifespan = True
            return await receive()

        async def flush_and_send(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                self._requests.flush()
            await send(message)

        try:
            await self.app(scope, note_and_receive, flush_and_send)
        # Broad: each framework has its own error for a scope that it doesn't know.
        except Exception:
            if has_lifespan:
                raise
            for event in ("startup", "shutdown"):
                await receive()
                await flush_and_send({"type": f"lifespan.{event}.complete"})
