"""
The ways out for Prometheus: text, WSGI, ASGI, and `python -m redismetrics.export`.

    metrics.live() -> exposition.pieces() -> export()       text
                                             negotiate()    body and content type  ->  wsgi_app(), asgi_app(), --serve

What the page looks like is the matter of `exposition.py`. Nothing is kept between two requests: each asks the store.
"""

import argparse
import io
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from . import figures, wsgi
from .errors import RedisMetricsError, StoreUnavailable
from .exposition import content_type, pieces, render

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .client import Metrics

__all__ = ["asgi_app", "content_type", "export", "main", "negotiate", "render", "wsgi_app"]

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


def _pieces(name: str | None, metrics: "Metrics | None", openmetrics: bool, self_metrics: bool) -> Iterator[str]:
    if metrics is None:
        from .default import client

        metrics = client()
    families = metrics.live(name)
    if name is None:
        families = [*(metrics.self_metrics() if self_metrics else figures.reserved()), *families]
    return pieces(families, openmetrics=openmetrics)


def negotiate(accept: str | None, *, metrics: "Metrics | None" = None, self_metrics: bool = True) -> tuple[bytes, str]:
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
        accept = b",".join(value for key, value in scope["headers"] if key.lower() == b"accept").decode("latin-1")
        status, headers, body = await asyncio.to_thread(_respond, scope["method"], accept, metrics)
        encoded = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if scope["method"] == "HEAD":
            body = b""
        for start in range(0, len(body) or 1, _PIECE):  # a server keeps what it is sent until the reader takes it
            piece = body[start : start + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": start + _PIECE < len(body)})

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _respond(method: str, accept: str | None, metrics: "Metrics | None") -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body. An error is one line of text: messages of ours hold no password."""
    extra = []
    if method in ("GET", "HEAD"):
        try:
            body, kind = negotiate(accept, metrics=metrics)
            status = 200
        except RedisMetricsError as error:
            status = 503 if isinstance(error, StoreUnavailable) else 500
            body, kind = _sentence(error).encode("utf-8", "replace") + b"\n", _PLAIN
    else:
        status, kind, body = 405, _PLAIN, b"Only GET and HEAD are answered here.\n"
        extra = [("Allow", "GET, HEAD")]
    return status, [("Content-Type", kind), ("Content-Length", str(len(body))), *extra], body


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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


# -- python -m redismetrics.export


def main(argv: list[str] | None = None, *, prog: str = "python -m redismetrics.export") -> int:
    """Print the page, or serve it. Returns 0, or 1 when the store can't be asked; exits with 2 on wrong arguments."""
    parser = argparse.ArgumentParser(prog=prog, description="Print or serve metrics as a Prometheus page.")
    parser.add_argument("--metric", metavar="NAME", help="only this metric")
    parser.add_argument("--openmetrics", action="store_true", help="OpenMetrics 1.0.0 instead of Prometheus text 0.0.4")
    parser.add_argument("--url", help="where the store is (default: REDISMETRICS_URL)")
    parser.add_argument("--namespace", metavar="NS", help="which share of the store (default: REDISMETRICS_NAMESPACE)")
    parser.add_argument(
        "--serve", metavar="HOST:PORT", type=wsgi.address, help="answer HTTP until stopped; :9464 alone means localhost"
    )
    given = parser.parse_args(argv)
    if given.serve and (given.metric is not None or given.openmetrics):
        parser.error("--serve answers for all metrics, in the format asked for: leave out --metric and --openmetrics")
    from .client import Metrics

    try:
        metrics = Metrics(url=given.url, namespace=given.namespace)
        try:
            if given.serve:
                return _serve(metrics, *given.serve)
            page = export(given.metric, metrics=metrics, openmetrics=given.openmetrics, self_metrics=True)
        finally:
            metrics.close()
    except RedisMetricsError as error:
        if isinstance(error, ValueError):  # a setting or a name that can't be
            parser.error(_sentence(error))
        print(_sentence(error), file=sys.stderr)
        return 1
    # Bytes: the format is UTF-8 and \n whatever the terminal's encoding and the system's line ends are.
    sys.stdout.buffer.write(page.encode())
    sys.stdout.flush()
    return 0


def _serve(metrics: "Metrics", host: str, port: int) -> int:
    """Answer HTTP until SIGINT or SIGTERM; port 0 takes a free one. The address goes to stderr once it listens."""
    # Only the main thread may set handlers, and in any other no signal arrives.
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if in_main else None
    try:
        with wsgi.listen(host, port, wsgi_app(metrics)) as server:
            print(f"serving on http://{wsgi.shown(host)}:{server.server_port}/metrics", file=sys.stderr, flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name (`a..b`)
        print(f"can't serve on {host}:{port}: {_sentence(error)}", file=sys.stderr)
        return 1
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
