"""
The Prometheus page as text, as a WSGI or ASGI application, and for `python -m redismetrics.export`.

    metrics.live() -> render_parts() -> export()       text
                                        negotiate()    body and content type, for
                                                       wsgi_app(), asgi_app() and --serve

`redismetrics.exposition.text` makes the page. Nothing is cached: each request reads Redis.
"""

import io
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from redismetrics.errors import RedisMetricsError, StoreUnavailable, one_line
from redismetrics.exposition.compression import SECURITY_HEADERS, compress
from redismetrics.exposition.self_metrics import page_families, reserved_families
from redismetrics.exposition.text import content_type, render_parts

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from redismetrics.client.metrics import Metrics


T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_PLAIN = "text/plain; charset=utf-8"
# Bytes of a body to send at once from an ASGI application. The server keeps them until the client
# has read them.
_CHUNK_BYTES = 1 << 18
_REASONS = {
    200: "OK",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_QUALITY = re.compile(r"(?:0(?:\.\d*)?|1(?:\.0*)?)\Z", re.ASCII)


def export(
    name: str | None = None,
    *,
    metrics: "Metrics | None" = None,
    openmetrics: bool = False,
    self_metrics: bool = False,
) -> str:
    """Return the Prometheus page of all metrics, or of the metric *name*, empty if it is unknown.

    On the page of all metrics, colliding names are numbered (see `render`); a metric requested by
    name is never renamed. With *self_metrics*, the page of all metrics includes the metrics of
    redismetrics itself, named `redismetrics_...`. These names are always reserved.

    Raises:
        StoreUnavailable: If Redis did not answer.
    """
    return "".join(_parts(name, metrics, openmetrics, self_metrics))


def _parts(
    name: str | None, metrics: "Metrics | None", openmetrics: bool, self_metrics: bool
) -> Iterator[str]:
    if metrics is None:
        from redismetrics.client.default import client

        metrics = client()
    families = metrics.live(name, exemplars=openmetrics)
    if name is None:
        own = metrics.self_metrics() if self_metrics else reserved_families()
        families = [*own, *page_families(families if self_metrics else []), *families]
    return render_parts(families, openmetrics=openmetrics)


def negotiate(
    accept: str | None, *, metrics: "Metrics | None" = None, self_metrics: bool = True
) -> tuple[bytes, str]:
    """Return body and content type of the page for an HTTP Accept header (None if it is missing).

    OpenMetrics is returned if the header names it, with a quality no lower than that of text.
    Otherwise text is returned, whatever the header accepts.
    """
    openmetrics = _prefers_openmetrics(accept or "")
    # Encoded in parts, so that the page is never in memory twice.
    body = io.BytesIO()
    for part in _parts(None, metrics, openmetrics, self_metrics):
        body.write(part.encode())
    return body.getvalue(), content_type(openmetrics)


def wsgi_app(metrics: "Metrics | None" = None) -> "WSGIApplication":
    """Return a WSGI application that serves the page for GET and HEAD on any path."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status, headers, body = _respond(
            method, environ.get("HTTP_ACCEPT"), environ.get("HTTP_ACCEPT_ENCODING"), metrics
        )
        start_response(f"{status} {_REASONS[status]}", headers)
        return [] if method == "HEAD" else [body]

    return app


def asgi_app(metrics: "Metrics | None" = None) -> ASGIApp:
    """Return an ASGI application that serves the page for GET and HEAD on any path.

    Redis is read in a thread. Works with asyncio and trio.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"ASGI scope must be 'http' or 'lifespan', got {scope['type']!r}")
        accept, encoding = _header(scope, b"accept"), _header(scope, b"accept-encoding")
        status, headers, body = await in_thread(
            _respond, scope["method"], accept, encoding, metrics
        )
        encoded = [
            (key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers
        ]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if scope["method"] == "HEAD":
            body = b""
        for start in range(0, len(body) or 1, _CHUNK_BYTES):
            end = start + _CHUNK_BYTES
            await send(
                {
                    "type": "http.response.body",
                    "body": body[start:end],
                    "more_body": end < len(body),
                }
            )

    return app


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Run *call* in a thread, with asyncio or trio."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and _runs_trio(trio):
        result: T = await trio.to_thread.run_sync(call, *arguments)
        return result
    import asyncio

    return await asyncio.to_thread(call, *arguments)


def _runs_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _header(scope: Scope, name: bytes) -> str:
    return b",".join(value for key, value in scope["headers"] if key.lower() == name).decode(
        "latin-1"
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _respond(
    method: str, accept: str | None, accept_encoding: str | None, metrics: "Metrics | None"
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body. An error becomes one line of text, never with a password."""
    extra = list(SECURITY_HEADERS)
    if method in ("GET", "HEAD"):
        try:
            body, kind = negotiate(accept, metrics=metrics)
            status = 200
            extra.append(("Vary", "Accept, Accept-Encoding"))
            compressed = compress(body, accept_encoding)
            if compressed is not None:
                body = compressed
                extra.append(("Content-Encoding", "gzip"))
        except RedisMetricsError as error:
            status = 503 if isinstance(error, StoreUnavailable) else 500
            body, kind = one_line(error).encode("utf-8", "replace") + b"\n", _PLAIN
    else:
        status, kind, body = 405, _PLAIN, b"Only GET and HEAD are supported.\n"
        extra.append(("Allow", "GET, HEAD"))
    return status, [("Content-Type", kind), ("Content-Length", str(len(body))), *extra], body


def _prefers_openmetrics(accept: str) -> bool:
    """Return whether an Accept header prefers OpenMetrics to text, or both equally."""
    openmetrics = 0.0
    text: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        options = dict(part.replace(" ", "").partition("=")[::2] for part in parameters)
        quality = options.get("q", "1")
        weight = float(quality) if _QUALITY.match(quality) else 0.0
        version = options.get("version", "").strip('"')
        # Prometheus lists 0.0.1, OpenMetrics' draft, in addition to 1.0.0. No later version is
        # supported.
        if kind == "application/openmetrics-text" and version in ("", "1.0.0", "0.0.1"):
            openmetrics = max(openmetrics, weight)
        elif kind in ("text/*", "*/*") or (kind == "text/plain" and version in ("", "0.0.4")):
            text[kind] = max(text.get(kind, 0.0), weight)
    # The most specific range that matches text counts (RFC 9110, 12.5.1).
    of_text = next((text[kind] for kind in ("text/plain", "text/*", "*/*") if kind in text), 0.0)
    return openmetrics > 0 and openmetrics >= of_text
