"""The middleware inside real applications: Starlette, FastAPI, Flask and Django, by test clients and by real servers."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import asgi, wsgi
from redismetrics.testing import Captured
from tests.fixtures.servers import PATIENCE, wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

starlette = pytest.importorskip("starlette")
fastapi = pytest.importorskip("fastapi")
flask = pytest.importorskip("flask")
django = pytest.importorskip("django")
pytest.importorskip("httpx")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route, WebSocketRoute  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it would rather find than httpx
    from starlette.testclient import TestClient

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://127.0.0.1:1"

Seen = dict[tuple[str, str, str], int]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics(NOWHERE, flush_interval=3600)
    yield metrics
    metrics.close(0)


def seen(captured: Captured) -> Seen:
    """How many requests there were of each method, endpoint and status; the histogram must say the same."""
    found: Tally[tuple[str, str, str]] = Tally()
    timed: Tally[tuple[str, str, str]] = Tally()
    for sample in captured.samples():
        tags = sample.tags
        series = (tags["method"], tags["endpoint"], tags["status"])
        (found if sample.name == "http_requests" else timed)[series] += sample.count
    assert found == timed
    return dict(found)


# -- Starlette and FastAPI ----------------------------------------------------------------------------------------


async def _hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def _fails(request: Any) -> PlainTextResponse:
    raise ZeroDivisionError("mine")


class _Forgets:
    """Takes the route off the scope once it was answered, as Starlette leaves it up to 1.0."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def forgetting(message: Any) -> None:
            scope.pop("route", None)
            await send(message)

        await self.app(scope, receive, forgetting)


@pytest.mark.parametrize("forgets", [False, True], ids=["route", "endpoint alone"])
@pytest.mark.parametrize("around", [False, True], ids=["added", "around"])
def test_starlette(captured: Captured, metrics: Metrics, forgets: bool, around: bool) -> None:
    app = Starlette(
        routes=[
            Route("/", _hello),
            Route("/users/{id:int}", _hello, methods=["GET", "POST"]),
            Route("/fails", _fails),
            Mount("/shops/{shop}", routes=[Route("/items/{item}", _hello), Mount("/deep", routes=[Route("/{x}", _hello)])]),
            Mount("/plain", app=PlainTextResponse("mounted")),
        ]
    )  # fmt: skip
    if forgets:
        app.add_middleware(_Forgets)
    whole: Any = app
    if around:
        whole = asgi.MetricsMiddleware(app, metrics=metrics)
    else:
        app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    client = TestClient(whole, raise_server_exceptions=False)
    for path in (
        "/",
        "/users/1",
        "/users/2",
        "/shops/7/items/8",
        "/shops/9/items/8",
        "/shops/a/deep/b",
        "/plain/x/y",
    ):
        assert client.get(path).status_code == 200
    assert client.post("/users/1").status_code == 200
    assert client.put("/users/1").status_code == 405
    assert client.request("BREW", "/users/1").status_code == 405
    for number in range(20):
        assert client.get(f"/nobody/{number}").status_code == 404
    assert client.get("/fails").status_code == 500
    assert seen(captured) == {
        ("GET", "/", "200"): 1,
        ("GET", "/users/{id:int}", "200"): 2,
        ("GET", "/shops/{shop}/items/{item}", "200"): 2,
        ("GET", "/shops/{shop}/deep/{x}", "200"): 1,
        ("GET", "/plain", "200"): 1,
        ("POST", "/users/{id:int}", "200"): 1,
        ("PUT", "/users/{id:int}", "405"): 1,
        ("other", "/users/{id:int}", "405"): 1,
        ("GET", "unmatched", "404"): 20,
        ("GET", "/fails", "500"): 1,
    }


def test_an_exception_goes_on_and_counts_as_500(captured: Captured, metrics: Metrics) -> None:
    app = Starlette(routes=[Route("/fails", _fails)])
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    with pytest.raises(ZeroDivisionError, match="mine"):
        TestClient(app).get("/fails")
    assert seen(captured) == {("GET", "/fails", "500"): 1}


def test_fastapi_with_routers_and_a_mounted_application(
    captured: Captured, metrics: Metrics
) -> None:
    items = fastapi.APIRouter(prefix="/items")

    @items.get("/{id}")
    def item(id: int) -> dict[str, int]:
        return {"id": id}

    inner = fastapi.FastAPI()
    inner.include_router(items, prefix="/in")
    app = fastapi.FastAPI()
    outer = fastapi.APIRouter(prefix="/v2/{tenant}")
    outer.include_router(items)
    app.include_router(items, prefix="/v1")
    app.include_router(outer)
    app.mount("/sub/{shop}", inner)
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    client = TestClient(app)
    for path in (
        "/v1/items/1",
        "/v1/items/2",
        "/v2/cns/items/3",
        "/sub/de/in/items/4",
        "/v1/items/none",
        "/sub/de/nobody",
    ):
        client.get(path)
    client.delete("/v1/items/1")
    assert seen(captured) == {
        ("GET", "/v1/items/{id}", "200"): 2,
        ("GET", "/v2/{tenant}/items/{id}", "200"): 1,
        ("GET", "/sub/{shop}/in/items/{id}", "200"): 1,
        ("GET", "/v1/items/{id}", "422"): 1,
        ("GET", "/sub/{shop}", "404"): 1,
        ("DELETE", "/v1/items/{id}", "405"): 1,
    }


def test_a_streamed_answer_ends_with_its_last_chunk(captured: Captured, metrics: Metrics) -> None:
    open_: list[Seen] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            open_.append(seen(captured))
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
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    assert TestClient(app).get("/stream").text == "xxx"
    assert open_ == [{}, {}, {}]
    assert seen(captured) == {("GET", "/stream", "200"): 1}
    assert captured.histogram("http_request_duration_seconds").values[0] > 0.05
    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/broken")
    assert seen(captured)[("GET", "/broken", "500")] == 1


def test_what_comes_after_the_answer_is_not_counted_twice(
    captured: Captured, metrics: Metrics
) -> None:
    from starlette.background import BackgroundTask

    def fails() -> None:
        raise ZeroDivisionError("in the background")

    app = Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("x", background=BackgroundTask(fails)))
        ]
    )
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/")
    assert seen(captured) == {("GET", "/", "200"): 1}


def test_websockets_pass_untouched(captured: Captured, metrics: Metrics) -> None:
    async def echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = asgi.MetricsMiddleware(Starlette(routes=[WebSocketRoute("/ws", echo)]), metrics=metrics)
    with TestClient(app) as client, client.websocket_connect("/ws") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    assert captured.nothing_recorded()


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": scope.get("answer", 200), "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("endpoint", "status", "wanted"),
    [
        (None, 200, ("GET", "unmatched", "200")),
        (lambda scope: "/mine", 200, ("GET", "/mine", "200")),
        (lambda scope: None, 799, ("GET", "unmatched", "other")),
    ],
)
def test_any_application_can_name_its_routes(
    captured: Captured, metrics: Metrics, endpoint: Any, status: int, wanted: tuple[str, str, str]
) -> None:
    app = asgi.MetricsMiddleware(_bare, metrics=metrics, endpoint=endpoint)
    run(app, answer=status)
    assert seen(captured) == {wanted: 1}


def run(app: Any, **more: Any) -> list[Any]:
    sent: list[Any] = []

    async def serve() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/a",
            "root_path": "",
            "headers": [],
            **more,
        }
        await app(scope, None, send)

    asyncio.run(serve())
    return sent


@pytest.mark.parametrize("fault", ["the name's type", "the endpoint", "too long"])
def test_a_fault_of_ours_is_logged_once_and_never_felt(
    captured: Captured, metrics: Metrics, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    endpoint: Callable[[Any], str]
    if fault == "the name's type":
        metrics.declare("http_requests", "gauge")
        endpoint = lambda scope: "/"  # noqa: E731
    elif fault == "the endpoint":
        endpoint = lambda scope: str(1 / 0)  # noqa: E731
    else:
        endpoint = lambda scope: "x" * 2_000  # noqa: E731
    app = asgi.MetricsMiddleware(_bare, metrics=metrics, endpoint=endpoint)
    assert len(run(app)) == 2
    assert len(run(app)) == 2
    assert len(caplog.records) == 1
    if fault == "the endpoint":
        assert seen(captured) == {("GET", "unmatched", "200"): 2}
    else:
        assert captured.nothing_recorded()


# -- Flask --------------------------------------------------------------------------------------------------------


def test_flask(captured: Captured, metrics: Metrics) -> None:
    app = flask.Flask("shop")
    shop = flask.Blueprint("shop", "shop", url_prefix="/shop")

    @shop.get("/items/<int:id>")
    def item(id: int) -> str:
        return "x"

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[str]:
            for _ in range(3):
                assert seen(captured) == before
                yield "x"

        before = seen(captured)
        return flask.Response(chunks())

    @app.get("/fails")
    def fails() -> str:
        raise ZeroDivisionError("mine")

    @app.before_request
    def deny() -> Any:
        return ("no", 403) if flask.request.args.get("who") == "nobody" else None

    app.register_blueprint(shop)
    app.wsgi_app = wsgi.MetricsMiddleware(app.wsgi_app, metrics=metrics)
    client = app.test_client()

    def ask(path: str, method: str = "GET") -> int:
        return int(client.open(path, method=method, buffered=True).status_code)

    assert [
        ask(path) for path in ("/shop/items/1", "/shop/items/2", "/shop/items/2?who=nobody")
    ] == [200, 200, 403]
    assert [
        ask("/shop/items/2", "DELETE"),
        ask("/nobody"),
        ask("/nobody", "BREW"),
        ask("/fails"),
    ] == [
        405,
        404,
        404,
        500,
    ]
    assert client.get("/stream").text == "xxx"
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        client.get("/fails")
    assert seen(captured) == {
        ("GET", "/shop/items/<int:id>", "200"): 2,
        ("GET", "/shop/items/<int:id>", "403"): 1,
        ("DELETE", "unmatched", "405"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
        ("GET", "/fails", "500"): 1,
        ("GET", "/stream", "200"): 1,
        ("GET", "unmatched", "500"): 1,  # Flask passed the exception on, and forgot the rule
    }


def test_a_wsgi_answer_is_passed_on_as_it_is(captured: Captured, metrics: Metrics) -> None:
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

        def close(self) -> None:
            closed.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("204 No Content", [])
        return {"/list": [b"all"], "/chunks": Chunks()}[environ["PATH_INFO"]]

    wrapped = wsgi.MetricsMiddleware(app, metrics=metrics)
    assert wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/list"}, lambda *_: print) == [b"all"]
    body: Any = wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/chunks"}, lambda *_: print)
    assert next(body) == b"a"
    assert sum(seen(captured).values()) == 1
    body.close()  # the client went away
    assert closed == ["closed"]
    assert seen(captured) == {("GET", "unmatched", "204"): 2}


# -- Django -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def django_() -> Any:
    """A configured Django with this module's views; its settings are the process's."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="tests.fixtures.django_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False,
            MIDDLEWARE=["redismetrics.integrations.django.MetricsMiddleware"],
        )  # fmt: skip
        django.setup()
    return django


WANTED_OF_DJANGO = {
    ("GET", "/users/<int:id>/", "200"): 2,
    ("POST", "/users/<int:id>/", "405"): 1,
    ("GET", "/old/(?P<slug>[a-z]+)/$", "200"): 1,
    ("GET", "/shop/items/<item>", "200"): 1,
    ("GET", "/stream", "200"): 1,
    ("GET", "/fails", "500"): 1,
    ("GET", "unmatched", "404"): 1,
}


def test_django(captured: Captured, django_: Any) -> None:
    from django.test import Client

    client = Client(raise_request_exception=False)
    for path in ("/users/1/", "/users/2/", "/old/abc/", "/shop/items/9", "/fails", "/nobody"):
        client.get(path)
    client.post("/users/1/")
    before = seen(captured)
    response = client.get("/stream")
    assert seen(captured) == before
    assert b"".join(response) == b"xxx"
    assert seen(captured) == WANTED_OF_DJANGO


def test_django_asynchronous(captured: Captured, django_: Any) -> None:
    from django.test import AsyncClient

    async def ask() -> None:
        client = AsyncClient(raise_request_exception=False)
        for path in ("/users/1/", "/users/2/", "/old/abc/", "/shop/items/9", "/fails", "/nobody"):
            await client.get(path)
        await client.post("/users/1/")
        before = seen(captured)
        response = await client.get("/stream?async=1")
        assert response.is_async
        assert seen(captured) == before
        assert b"".join([chunk async for chunk in response]) == b"xxx"

    asyncio.run(ask())
    assert seen(captured) == WANTED_OF_DJANGO


# -- real servers -------------------------------------------------------------------------------------------------

SERVED = """
import redismetrics
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from redismetrics.integrations.asgi import MetricsMiddleware
async def hello(request): return PlainTextResponse("hello")
app = Starlette(routes=[Route("/users/{id}", hello)])
app.add_middleware(MetricsMiddleware)
from flask import Flask
from redismetrics.integrations.wsgi import MetricsMiddleware as Wsgi
flasks = Flask("x")
@flasks.get("/users/<id>")
def user(id): return "hello"
flasks.wsgi_app = Wsgi(flasks.wsgi_app)
"""


@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        (["uvicorn", "served:app", "--port", "0", "--log-level", "info"], "/users/{id}"),
        (
            ["gunicorn", "served:flasks", "--bind", "127.0.0.1:0", "--workers", "2", "--preload"],
            "/users/<id>",
        ),
    ],
    ids=["uvicorn", "gunicorn"],
)
def test_a_real_server_stores_every_request(
    url: str, namespace: str, tmp_path: Path, command: list[str], endpoint: str
) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    environ = {**os.environ, "REDISMETRICS_URL": url, "REDISMETRICS_NAMESPACE": namespace}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(tmp_path)])
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=tmp_path, env=environ, stdout=log, stderr=log
    )
    try:

        def port() -> str | None:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())
            return found[1] if found and found[1] != "0" else None

        wait_until(lambda: port() is not None or process.poll() is not None, "the server to listen")
        assert process.poll() is None, (tmp_path / "log").read_text()
        for number in range(30):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port()}/users/{number}", timeout=10
            ) as answer:
                assert answer.read() == b"hello"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port()}/nobody", timeout=10)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.close()
    with Metrics(url, namespace=namespace) as metrics:
        rows = metrics.query(
            "http_requests", aggregation="sum", group_by=["method", "endpoint", "status"]
        )
        assert {(row["method"], row["endpoint"], row["status"]): row["sum"] for row in rows} == {
            ("GET", endpoint, "200"): 30,
            ("GET", "unmatched", "404"): 1,
        }
        assert metrics.query("http_request_duration_seconds", aggregation="count") == 31


# -- cost ---------------------------------------------------------------------------------------------------------


def test_threads_share_one_middleware(captured: Captured, metrics: Metrics) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(environ["answer"], [])
        return [b""]

    wrapped = wsgi.MetricsMiddleware(app, metrics=metrics)

    def ask(status: str) -> None:
        for _ in range(500):
            wrapped({"REQUEST_METHOD": "GET", "answer": status}, lambda *_: print)

    threads = [
        threading.Thread(target=ask, args=(f"{status} x",)) for status in (200, 201, 202, 404)
    ]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen(captured) == {
        ("GET", "unmatched", str(status)): 500 for status in (200, 201, 202, 404)
    }
    assert captured.histogram("http_request_duration_seconds").values[-1] < perf_counter() - began
