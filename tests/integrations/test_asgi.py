"""The ASGI middleware: when a request ends, and what is passed on."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import asgi
from redismetrics.recording import lifecycle
from redismetrics.testing import Captured
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE
from tests.integrations.request_counts import RequestCounts, request_counts, run_asgi

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

starlette = pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402

with warnings.catch_warnings():
    # The test client warns if it finds httpx instead of its preferred package.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


async def fails(request: Any) -> PlainTextResponse:
    raise ZeroDivisionError("mine")


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": scope.get("answer", 200), "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_exception_is_re_raised_and_counts_as_500(
    captured: Captured, offline_metrics: Metrics
) -> None:
    app = Starlette(routes=[Route("/fails", fails)])
    app.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)
    with pytest.raises(ZeroDivisionError, match="mine"):
        TestClient(app).get("/fails")
    assert request_counts(captured) == {("GET", "/fails", "500"): 1}


def test_streamed_response_ends_with_its_last_chunk(
    captured: Captured, offline_metrics: Metrics
) -> None:
    open_: list[RequestCounts] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            open_.append(request_counts(captured))
            await asyncio.sleep(0.02)
            yield b"x"

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ZeroDivisionError("midway")

    app = Starlette(
        routes=[
            Route("/stream", lambda request: StreamingResponse(chunks())),
            Route("/broken", lambda request: StreamingResponse(broken())),
        ]
    )
    app.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)
    assert TestClient(app).get("/stream").text == "xxx"
    assert open_ == [{}, {}, {}]
    assert request_counts(captured) == {("GET", "/stream", "200"): 1}
    assert captured.histogram("http_request_duration_seconds").values[0] > 0.05
    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/broken")
    assert request_counts(captured)[("GET", "/broken", "500")] == 1


def test_background_task_does_not_count_twice(captured: Captured, offline_metrics: Metrics) -> None:
    from starlette.background import BackgroundTask

    def fails() -> None:
        raise ZeroDivisionError("in the background")

    app = Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("x", background=BackgroundTask(fails)))
        ]
    )
    app.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)
    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/")
    assert request_counts(captured) == {("GET", "/", "200"): 1}


def test_websockets_pass_through(captured: Captured, offline_metrics: Metrics) -> None:
    async def echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = asgi.MetricsMiddleware(
        Starlette(routes=[WebSocketRoute("/ws", echo)]), metrics=offline_metrics
    )
    with TestClient(app) as client, client.websocket_connect("/ws") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    assert captured.nothing_recorded()


@pytest.mark.parametrize(
    ("endpoint", "status", "expected"),
    [
        (None, 200, ("GET", "unmatched", "200")),
        (lambda scope: "/mine", 200, ("GET", "/mine", "200")),
        (lambda scope: None, 799, ("GET", "unmatched", "other")),
    ],
)
def test_endpoint_function_names_the_route(
    captured: Captured,
    offline_metrics: Metrics,
    endpoint: Any,
    status: int,
    expected: tuple[str, str, str],
) -> None:
    app = asgi.MetricsMiddleware(bare_app, metrics=offline_metrics, endpoint=endpoint)
    run_asgi(app, answer=status)
    assert request_counts(captured) == {expected: 1}


@pytest.mark.parametrize("error", [ValueError("only http"), KeyError("path")])
def test_an_application_without_lifespan_flushes_at_shutdown(
    error: Exception, make_metrics: MakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "EXIT_TIMEOUT", PATIENCE)
    metrics = make_metrics(flush_interval=3600)

    async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
        raise error

    sent: list[str] = []
    stored: list[int] = []

    async def receive() -> dict[str, str]:
        return {"type": f"lifespan.{'shutdown' if sent else 'startup'}"}

    async def send(message: Any) -> None:
        sent.append(message["type"])
        stored.append(metrics.stats()["stored"])

    app = asgi.MetricsMiddleware(no_lifespan, metrics=metrics)
    metrics.increment("orders")
    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert stored == [0, 1]


def test_an_error_at_the_startup_of_an_application_is_its_own(offline_metrics: Metrics) -> None:
    async def fails_at_startup(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ZeroDivisionError("mine")

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        raise AssertionError(f"nothing must be sent, got {message}")

    app = asgi.MetricsMiddleware(fails_at_startup, metrics=offline_metrics)
    with pytest.raises(ZeroDivisionError, match="mine"):
        asyncio.run(app({"type": "lifespan"}, receive, send))
