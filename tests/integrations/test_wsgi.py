"""The WSGI middleware, in Flask and by itself."""

import threading
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import wsgi
from redismetrics.testing import Captured
from tests.integrations.request_counts import request_counts

flask = pytest.importorskip("flask")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)


def test_flask_rules(captured: Captured, offline_metrics: Metrics) -> None:
    app = flask.Flask("shop")
    shop = flask.Blueprint("shop", "shop", url_prefix="/shop")

    @shop.get("/items/<int:id>")
    def item(id: int) -> str:
        return "x"

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[str]:
            for _ in range(3):
                assert request_counts(captured) == before
                yield "x"

        before = request_counts(captured)
        return flask.Response(chunks())

    @app.get("/fails")
    def fails() -> str:
        raise ZeroDivisionError("mine")

    @app.before_request
    def deny() -> Any:
        return ("no", 403) if flask.request.args.get("who") == "nobody" else None

    app.register_blueprint(shop)
    app.wsgi_app = wsgi.MetricsMiddleware(app.wsgi_app, metrics=offline_metrics)
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
    assert request_counts(captured) == {
        ("GET", "/shop/items/<int:id>", "200"): 2,
        ("GET", "/shop/items/<int:id>", "403"): 1,
        ("DELETE", "unmatched", "405"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
        ("GET", "/fails", "500"): 1,
        ("GET", "/stream", "200"): 1,
        # Flask re-raised the exception and forgot the rule.
        ("GET", "unmatched", "500"): 1,
    }


def test_response_is_passed_on_unchanged(captured: Captured, offline_metrics: Metrics) -> None:
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

        def close(self) -> None:
            closed.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("204 No Content", [])
        return {"/list": [b"all"], "/chunks": Chunks()}[environ["PATH_INFO"]]

    wrapped = wsgi.MetricsMiddleware(app, metrics=offline_metrics)
    assert wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/list"}, lambda *_: print) == [b"all"]
    body: Any = wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/chunks"}, lambda *_: print)
    assert next(body) == b"a"
    assert sum(request_counts(captured).values()) == 1
    # The client has disconnected.
    body.close()
    assert closed == ["closed"]
    assert request_counts(captured) == {("GET", "unmatched", "204"): 2}


def test_threads_share_one_middleware(captured: Captured, offline_metrics: Metrics) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(environ["answer"], [])
        return [b""]

    wrapped = wsgi.MetricsMiddleware(app, metrics=offline_metrics)

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
    assert request_counts(captured) == {
        ("GET", "unmatched", str(status)): 500 for status in (200, 201, 202, 404)
    }
    assert captured.histogram("http_request_duration_seconds").values[-1] < perf_counter() - began
