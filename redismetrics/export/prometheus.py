"""
The ways out for Prometheus: text, WSGI, ASGI, and `python -m redismetrics.export`.

    metrics.live() -> exposition.pieces() -> export()       text
                                             negotiate()    body and content type  ->  wsgi_app(), asgi_app(), --serve

What the page looks like is the matter of `exposition.py`. Nothing is kept between two requests: each asks the store.
"""

import io
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from redismetrics.errors import RedisMetricsError, StoreUnavailable, one_line
from redismetrics.exposition.self_metrics import reserved
from redismetrics.exposition.text import content_type, pieces

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from redismetrics.client.metrics import Metrics


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_PLAIN = "text/plain; charset=utf-8"
_PIECE = 1 << 18  # bytes of a body that are sent at once
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
    """Return the Prometheus page of all metrics, or of the metric *name*; an unknown one gives an empty page.

    Among all metrics, names that collide are numbered (see `render`); a metric asked for by name has its plain one. With
    *self_metrics* what redismetrics says of itself is on the page of all metrics, under `redismetrics_`; those names are its
    own in either case.

    Raises:
        StoreUnavailable: If Redis did not answer.
    """
    return "".join(_pieces(name, metrics, openmetrics, self_metrics))


def _pieces(
    name: str | None, metrics: "Metrics | None", openmetrics: bool, self_metrics: bool
) -> Iterator[str]:
    if metrics is None:
        from redismetrics.client.default import client

        metrics = client()
    families = metrics.live(name)
    if name is None:
        families = [*(metrics.self_metrics() if self_metrics else reserved()), *families]
    return pieces(families, openmetrics=openmetrics)


def negotiate(
    accept: str | None, *, metrics: "Metrics | None" = None, self_metrics: bool = True
) -> tuple[bytes, str]:
    """Return body and content type of the page for an HTTP Accept header (None: there was none).

    OpenMetrics is for those who name it and want it no less than text; all others get text, whatever they accept.
    """
    openmetrics = _wants_openmetrics(accept or "")
    body = io.BytesIO()  # never the whole page twice
    for piece in _pieces(None, metrics, openmetrics, self_metrics):
        body.write(piece.encode())
    return body.getvalue(), content_type(openmetrics)


def wsgi_app(metrics: "Metrics | None" = None) -> "WSGIApplication":
    """Return a WSGI application that answers GET and HEAD on any path with the page of *metrics*."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status, headers, body = _respond(method, environ.get("HTTP_ACCEPT"), metrics)
        start_response(f"{status} {_REASONS[status]}", headers)
        return [] if method == "HEAD" else [body]

    return app


def asgi_app(metrics: "Metrics | None" = None) -> ASGIApp:
    """Return an ASGI application that answers GET and HEAD on any path; asking the store runs in a thread."""
    import asyncio

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"ASGI scope: wanted 'http' or 'lifespan', got {scope['type']!r}")
        accept = b",".join(
            value for key, value in scope["headers"] if key.lower() == b"accept"
        ).decode("latin-1")
        status, headers, body = await asyncio.to_thread(_respond, scope["method"], accept, metrics)
        encoded = [
            (key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers
        ]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if scope["method"] == "HEAD":
            body = b""
        for start in range(
            0, len(body) or 1, _PIECE
        ):  # a server keeps what it is sent until the reader takes it
            piece = body[start : start + _PIECE]
            await send(
                {
                    "type": "http.response.body",
                    "body": piece,
                    "more_body": start + _PIECE < len(body),
                }
            )

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _respond(
    method: str, accept: str | None, metrics: "Metrics | None"
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body. An error is one line of text: messages of ours hold no password."""
    extra = []
    if method in ("GET", "HEAD"):
        try:
            body, kind = negotiate(accept, metrics=metrics)
            status = 200
        except RedisMetricsError as error:
            status = 503 if isinstance(error, StoreUnavailable) else 500
            body, kind = one_line(error).encode("utf-8", "replace") + b"\n", _PLAIN
    else:
        status, kind, body = 405, _PLAIN, b"Only GET and HEAD are answered here.\n"
        extra = [("Allow", "GET, HEAD")]
    return status, [("Content-Type", kind), ("Content-Length", str(len(body))), *extra], body


def _wants_openmetrics(accept: str) -> bool:
    ours = 0.0
    text: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        options = dict(part.replace(" ", "").partition("=")[::2] for part in parameters)
        quality = options.get("q", "1")
        weight = float(quality) if _QUALITY.match(quality) else 0.0
        version = options.get("version", "").strip('"')
        # Prometheus lists 0.0.1, OpenMetrics' draft, beside 1.0.0; versions that don't exist yet are not ours.
        if kind == "application/openmetrics-text" and version in ("", "1.0.0", "0.0.1"):
            ours = max(ours, weight)
        elif kind in ("text/*", "*/*") or (kind == "text/plain" and version in ("", "0.0.4")):
            text[kind] = max(text.get(kind, 0.0), weight)
    # The most specific range that covers text decides (RFC 9110, 12.5.1).
    wanted = next((text[kind] for kind in ("text/plain", "text/*", "*/*") if kind in text), 0.0)
    return ours > 0 and ours >= wanted
