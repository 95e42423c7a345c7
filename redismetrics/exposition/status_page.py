"""The HTTP page of a service without other pages: its metrics and its health."""

import argparse
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redismetrics.errors import InvalidSetting

from . import http_server
from .families import Family
from .text import content_type, render

_PLAIN = "text/plain; charset=utf-8"


def _nothing() -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class StatusSource:
    """The status of a service.

    Attributes:
        name: What the service does, for the page of another service in the same process.
        families: Returns its metrics.
        problem: Returns why the service is unhealthy; None or empty if it is healthy.
        notes: Returns failures, one text each, that a restart would not fix.
    """

    name: str
    families: Callable[[], Sequence[Family]]
    problem: Callable[[], str | None]
    notes: Callable[[], list[str]] = _nothing

    def lines(self) -> list[str]:
        """Return all failures, for the page of another service."""
        problem = self.problem()
        return [
            f"{self.name}: {each}" for each in (*((problem,) if problem else ()), *self.notes())
        ]


def status_app(source: StatusSource, beside: Sequence[StatusSource] = ()) -> http_server.App:
    """Return a WSGI app with two pages for a service, and for others *beside* it in its process.

    /metrics is a Prometheus page of their metrics. /healthz returns 503 with the reason if the
    service is unhealthy, otherwise 200 with one line per other failure.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind, body = "404 Not Found", _PLAIN, "Not found: try /metrics or /healthz.\n"
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            families = [each for one in (source, *beside) for each in one.families()]
            status, kind, body = "200 OK", content_type(), render(families)
        elif path == "/healthz":
            problem = source.problem()
            status = "503 Service Unavailable" if problem else "200 OK"
            more = [*source.notes(), *(line for one in beside for line in one.lines())]
            body = "".join(f"{line}\n" for line in (problem or "ok", *more))
        data = body.encode("utf-8", "replace")
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app


@contextmanager
def serving(source: StatusSource, address: str, thread_name: str) -> Iterator[int]:
    """Serve the pages of a service at *address* during the block; yield the port.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    try:
        host, port = http_server.parse_address(address if ":" in address else f":{address}")
    except argparse.ArgumentTypeError as error:
        raise InvalidSetting(f"--metrics-port {error}") from error
    with http_server.listen(host, port, status_app(source)) as server:
        threading.Thread(target=server.serve_forever, name=thread_name, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
