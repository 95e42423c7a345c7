"""A request counts once where middleware is nested; a cancelled one counts as status 499."""

import asyncio
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import asgi, wsgi
from redismetrics.integrations.request_metrics import error_status
from redismetrics.testing import Captured
from tests.integrations.request_counts import request_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


def starlette_app(metrics: Metrics, *routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=routes)
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics, **options)
    return app


def test_mounted_starlette_application_counts_once(
    captured: Captured, offline_metrics: Metrics
) -> None:
    async def user(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    api = starlette_app(offline_metrics, Route("/users/{id}", user))
    app = starlette_app(offline_metrics, Route("/", user), Mount("/api", api))
    client = TestClient(app)
    for path in ("/api/users/1", "/api/users/2", "/", "/api/nothing"):
        client.get(path)
    counts = request_counts(captured)
    assert counts.pop(("GET", "/api/users/{id}", "200")) == 2
    assert counts.pop(("GET", "/", "200")) == 1
    ((_, _, status),) = counts
    assert (status, sum(counts.values())) == ("404", 1)


def test_mounted_fastapi_application_counts_once(
    captured: Captured, offline_metrics: Metrics
) -> None:
    fastapi = pytest.importorskip("fastapi")
    app, api = fastapi.FastAPI(), fastapi.FastAPI()
    for each in (app, api, api):
        # Even twice on one application.
        each.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)

    @api.get("/users/{id}")
    def user(id: int) -> int:
        return id

    app.mount("/api", api)
    TestClient(app).get("/api/users/1")
    assert request_counts(captured) == {("GET", "/api/users/{id}", "200"): 1}


def test_other_prefix_records_its_own_metrics(captured: Captured, offline_metrics: Metrics) -> None:
    async def user(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    api = starlette_app(offline_metrics, Route("/users/{id}", user), prefix="api")
    TestClient(starlette_app(offline_metrics, Mount("/api", api))).get("/api/users/1")
    assert captured.counter("http_requests").total == 1
    assert captured.counter("api_requests").total == 1


def test_outer_middleware_without_routes_takes_the_inner_route(
    captured: Captured, offline_metrics: Metrics
) -> None:
    async def user(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    api = starlette_app(offline_metrics, Route("/users/{id}", user))

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        await api(scope, receive, send)

    TestClient(asgi.MetricsMiddleware(dispatch, metrics=offline_metrics)).get("/users/1")
    assert request_counts(captured) == {("GET", "/users/{id}", "200"): 1}


def test_nested_wsgi_middleware_counts_once(captured: Captured, offline_metrics: Metrics) -> None:
    def page(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    inner = wsgi.MetricsMiddleware(
        page, metrics=offline_metrics, endpoint=lambda environ: "/users/<id>"
    )
    outer = wsgi.MetricsMiddleware(inner, metrics=offline_metrics)
    assert outer({"REQUEST_METHOD": "GET"}, lambda *_: None) == [b"x"]
    assert request_counts(captured) == {("GET", "/users/<id>", "200"): 1}


def cancel(app: Any, after_messages: int) -> None:
    """Serve one request, and cancel it after this number of response messages."""

    async def serve() -> None:
        reached = asyncio.Event()
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == after_messages:
                reached.set()

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/a", "root_path": "", "headers": []}
        task = asyncio.create_task(app(scope, receive, send))
        if after_messages:
            await reached.wait()
        else:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(serve())


@pytest.mark.parametrize("after", [0, 2], ids=["before the response", "within the response"])
def test_cancelled_request_counts_as_499(
    captured: Captured, offline_metrics: Metrics, after: int
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if not after:
            await asyncio.Event().wait()
        await StreamingResponse(chunks())(scope, receive, send)

    cancel(asgi.MetricsMiddleware(serve, metrics=offline_metrics), after)
    assert request_counts(captured) == {("GET", "unmatched", "499"): 1}


def test_status_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cancelled(BaseException):
        """Like trio's, which need not be installed."""

    monkeypatch.setitem(sys.modules, "trio", type("trio", (), {"Cancelled": Cancelled}))
    for error in (asyncio.CancelledError(), Cancelled(), GeneratorExit()):
        assert error_status(error) == 499
    for error in (ValueError(), KeyboardInterrupt(), SystemExit(), TimeoutError()):
        assert error_status(error) == 500
