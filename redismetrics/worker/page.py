"""The worker's own HTTP page: metrics and health."""

from collections.abc import Iterable
from time import monotonic
from typing import Any

from redismetrics.exposition import http_server, self_metrics
from redismetrics.exposition.text import content_type, render

from .worker import Worker


def status_app(worker: Worker, interval: float) -> http_server.App:
    """A WSGI app: /metrics is a Prometheus page of the worker's counts, /healthz 200 while passes succeed, else 503."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            status, body = "200 OK", render(self_metrics.worker_families(worker.counts.as_dict()))
        elif path == "/healthz":
            late = (
                monotonic() - worker.moved_at > 3 * interval + 4 * worker.counts.pass_seconds + 10
            )
            trouble = worker.away or ("nothing was done for long" if late else None)
            status, body = (
                ("503 Service Unavailable", f"{trouble}\n") if trouble else ("200 OK", "ok\n")
            )
        else:
            status, body = "404 Not Found", "Ask /metrics or /healthz.\n"
        data = body.encode("utf-8", "replace")
        kind = content_type() if path == "/metrics" else "text/plain; charset=utf-8"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app
