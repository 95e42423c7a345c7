"""`export` and `negotiate`, and the page as a WSGI and an ASGI application."""

import asyncio
import gzip
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from redismetrics.errors import FormatMismatch, StoreUnavailable
from redismetrics.export import asgi_app, content_type, export, negotiate, wsgi_app
from redismetrics.exposition.compression import SECURITY_HEADERS
from redismetrics.exposition.text import render
from tests.fixtures.exposition import (
    MIXED,
    OPENMETRICS,
    TEXT,
    UTF8,
    FakeMetrics,
    fake_module,
    g,
    gauge,
    served,
)
from tests.fixtures.servers import PATIENCE


def test_export_of_all_metrics_of_one_and_of_none() -> None:
    metrics: Any = FakeMetrics([g("a"), g("b")])
    assert export(metrics=metrics) == render([g("a"), g("b")])
    assert export("b", metrics=metrics) == "# HELP b B\n# TYPE b gauge\nb 1\n"
    assert (
        export("b", metrics=metrics, openmetrics=True) == "# TYPE b gauge\n# HELP b B\nb 1\n# EOF\n"
    )
    assert export("c", metrics=metrics) == ""
    assert metrics.asked == [None, "b", "b", "c"]


def test_without_metrics_the_default_client_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = FakeMetrics([g("a")])
    fake_module(monkeypatch, "client.default", client=lambda: metrics)
    assert export() == render([g("a")])
    assert negotiate(None) == (render([g("a")]).encode(), TEXT)
    assert metrics.asked == [None, None]


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        (BROWSER, False),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; Q=0.1", True),
        ('application/openmetrics-text; version="0.0.1"', True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.000", False),
        ("application/openmetrics-text;q=0.5,text/plain", False),
        ("application/openmetrics-text;q=0.5,text/*;q=0.6", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.4,*/*", True),
        ("application/openmetrics-text;q=0.5,*/*", False),
        ("application/openmetrics-text,text/plain", True),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=2", False),
        (",;=;,q", False),
        ("application/*", False),
        ("application/openmetrics-protobuf", False),
    ],
)
def test_openmetrics_is_negotiated(accept: str | None, openmetrics: bool) -> None:
    metrics: Any = FakeMetrics(MIXED)
    body, kind = negotiate(accept, metrics=metrics)
    assert kind == (OPENMETRICS if openmetrics else TEXT) == content_type(openmetrics)
    assert body == render(MIXED, openmetrics=openmetrics).encode()


Answer = tuple[int, Mapping[str, str], bytes]


def wsgi(
    metrics: Any, method: str = "GET", accept: str | None = None, path: str = "/metrics"
) -> Answer:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path}
    setup_testing_defaults(environ)
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    started: list[Any] = []
    body = b"".join(wsgi_app(metrics)(environ, lambda *given: started.append(given)))  # type: ignore[arg-type]
    ((status, headers),) = started
    return int(status.split()[0]), dict(headers), body


def asgi(
    metrics: Any, method: str = "GET", accept: str | None = None, path: str = "/metrics"
) -> Answer:
    headers = [] if accept is None else [(b"accept", part.encode()) for part in accept.split(",")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    sent = asgi_messages(metrics, scope, [{"type": "http.request"}])
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    answered = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    assert all(key == key.lower() for key in answered)
    return (
        sent[0]["status"],
        {key.title(): value for key, value in answered.items()},
        sent[1]["body"],
    )


def asgi_messages(metrics: Any, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asgi_app(metrics)(scope, receive, send))  # type: ignore[arg-type]
    return sent


both = pytest.mark.parametrize("request_", [wsgi, asgi])


@both
def test_get_returns_the_page_on_any_path(request_: Any) -> None:
    page = render(UTF8).encode()
    for path in ("/metrics", "/", "/favicon.ico"):
        status, headers, body = request_(FakeMetrics(UTF8), path=path)
        assert (status, body) == (200, page)
        assert headers == {
            "Content-Type": TEXT,
            "Content-Length": str(len(page)),
            "Vary": "Accept, Accept-Encoding",
            **dict(SECURITY_HEADERS),
        }


@both
def test_get_negotiates(request_: Any) -> None:
    status, headers, body = request_(FakeMetrics(UTF8), accept=PROMETHEUS_2)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS)
    assert body == render(UTF8, openmetrics=True).encode()


@both
def test_head_returns_only_headers(request_: Any) -> None:
    status, headers, body = request_(FakeMetrics(UTF8), "HEAD")
    assert (status, body) == (200, b"")
    assert headers == {
        "Content-Type": TEXT,
        "Content-Length": str(len(render(UTF8).encode())),
        "Vary": "Accept, Accept-Encoding",
        **dict(SECURITY_HEADERS),
    }


@both
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_rejected(request_: Any, method: str) -> None:
    metrics = FakeMetrics(UTF8)
    status, headers, body = request_(metrics, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == b"Only GET and HEAD are supported.\n"
    assert metrics.asked == []


@both
@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            StoreUnavailable("Redis at localhost:6379\ndid not answer"),
            503,
            b"Redis at localhost:6379 did not answer\n",
        ),
        (StoreUnavailable(), 503, b"StoreUnavailable\n"),
        (FormatMismatch("bytes of format 9"), 500, b"bytes of format 9\n"),
    ],
)
def test_an_error_of_redis_is_one_line(
    request_: Any, error: Exception, status: int, line: bytes
) -> None:
    answered, headers, body = request_(FakeMetrics(error=error))
    assert (answered, body) == (status, line)
    assert headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(line)),
        **dict(SECURITY_HEADERS),
    }


def test_asgi_reads_redis_in_a_thread() -> None:
    metrics = FakeMetrics(UTF8)
    asgi(metrics)
    assert metrics.threads != [threading.main_thread()]
    wsgi(metrics)
    assert metrics.threads[1:] == [threading.main_thread()]


def test_asgi_supports_lifespan_and_rejects_websockets() -> None:
    received = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert asgi_messages(FakeMetrics(), {"type": "lifespan"}, received) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]
    with pytest.raises(ValueError, match="got 'websocket'"):
        asgi_messages(FakeMetrics(), {"type": "websocket"}, [])


def test_asgi_sends_a_large_page_in_chunks() -> None:
    families = [gauge("large", *(({"n": f"{number:0500}"}, number) for number in range(2_000)))]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    start, *rest = asgi_messages(FakeMetrics(families), scope, [])
    page = render(families).encode()
    assert dict(start["headers"])[b"content-length"] == str(len(page)).encode()
    assert b"".join(message["body"] for message in rest) == page
    assert max(len(message["body"]) for message in rest) <= 1 << 18
    assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]


def test_wsgi_over_a_socket() -> None:
    metrics: Any = FakeMetrics(UTF8)
    with served(wsgi_app(metrics)) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            assert answer.read() == render(UTF8).encode()
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=PATIENCE
        ) as answer:
            assert answer.headers["Content-Length"] == str(len(render(UTF8).encode()))


def test_large_page_is_compressed_for_clients_that_accept_gzip() -> None:
    families = [g(f"metric_{number}") for number in range(200)]
    page = render(families).encode()
    metrics: Any = FakeMetrics(families)
    environ: dict[str, Any] = {"HTTP_ACCEPT_ENCODING": "gzip, deflate"}
    setup_testing_defaults(environ)
    started: list[Any] = []
    body = b"".join(wsgi_app(metrics)(environ, lambda *given: started.append(given)))  # type: ignore[arg-type]
    headers = dict(started[0][1])
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Length"] == str(len(body))
    assert gzip.decompress(body) == page
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"Accept-Encoding", b"deflate"), (b"accept-encoding", b"gzip")],
    }
    sent = asgi_messages(metrics, scope, [{"type": "http.request"}])
    assert (b"content-encoding", b"gzip") in sent[0]["headers"]
    assert gzip.decompress(sent[1]["body"]) == page
    assert wsgi(metrics)[2] == page


def test_asgi_app_runs_under_trio() -> None:
    trio = pytest.importorskip("trio", reason="needs trio")
    page = render(UTF8).encode()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    async def serve() -> None:
        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
        metrics: Any = FakeMetrics(UTF8)
        await asgi_app(metrics)(scope, receive, send)

    trio.run(serve)
    assert [message.get("body") for message in sent] == [None, page]
    # asyncio works as before, although trio is imported.
    assert asgi(FakeMetrics(UTF8))[2] == page
