"""The HTTP page of a service that serves nothing else: its metrics and its health."""

import argparse
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redismetrics.errors import InvalidSetting

from . import http_server
from .families import Family
from .text import content_type, render

_PLAIN = "text/plain; charset=utf-8"


def status_app(
    families: Callable[[], Sequence[Family]], problem: Callable[[], str | None]
) -> http_server.App:
    """Return a WSGI app with two pages.

    /metrics is a Prometheus page of *families*. /healthz returns 200, or 503 with the reason that
    *problem* returns.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind, body = "404 Not Found", _PLAIN, "Not found: try /metrics or /healthz.\n"
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            status, kind, body = "200 OK", content_type(), render(families())
        elif path == "/healthz":
            found = problem()
            status = "503 Service Unavailable" if found else "200 OK"
            body = f"{found or 'ok'}\n"
        data = body.encode("utf-8", "replace")
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app


@contextmanager
def serving(app: http_server.App, address: str, thread_name: str) -> Iterator[int]:
    """Serve *app* at *address* meanwhile; yield the port.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    try:
        host, port = http_server.parse_address(address if ":" in address else f":{address}")
    except argparse.ArgumentTypeError as error:
        raise InvalidSetting(f"--metrics-port {error}") from error
    with http_server.listen(host, port, app) as server:
        threading.Thread(target=server.serve_forever, name=thread_name, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
