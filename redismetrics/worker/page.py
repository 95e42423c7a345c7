"""The worker's own HTTP page: metrics and health."""

from collections.abc import Iterable
from typing import Any

from redismetrics.exposition import http_server, self_metrics
from redismetrics.exposition.text import content_type, render
from redismetrics.model.time import monotonic

from .worker import Worker

_PLAIN = "text/plain; charset=utf-8"


def status_app(worker: Worker) -> http_server.App:
    """Return a WSGI app with two pages.

    /metrics is a Prometheus page of the worker's counts. /healthz returns 200 while passes
    succeed, else 503 with the reason.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind, body = "404 Not Found", _PLAIN, "Not found: try /metrics or /healthz.\n"
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            status, kind = "200 OK", content_type()
            body = render(self_metrics.worker_families(worker.counts.as_dict()))
        elif path == "/healthz":
            problem = _problem(worker)
            status = "200 OK" if problem is None else "503 Service Unavailable"
            body = f"{problem or 'ok'}\n"
        data = body.encode("utf-8", "replace")
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app


def _problem(worker: Worker) -> str | None:
    """Return why the worker is not healthy, or None."""
    longest = 3 * worker.limits.interval + 4 * worker.counts.pass_seconds + 10
    silent = monotonic() - worker.progressed_at
    return worker.unreachable or (
        f"no progress for {silent:.0f} seconds" if silent > longest else None
    )
