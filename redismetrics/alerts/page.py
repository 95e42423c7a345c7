"""The service's own HTTP page: metrics and health."""

import argparse
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from redismetrics.errors import InvalidSetting
from redismetrics.exposition import http_server, self_metrics
from redismetrics.exposition.text import content_type, render

from .service import AlertService

# Seconds without a whole pass until the service is not healthy.
_SILENT = 60.0


def rule_counts(service: AlertService) -> dict[str, Any]:
    """Return what the service did, for the page: see `self_metrics.rule_families`."""
    counts = service.runner.counts
    boxes = service.outboxes()
    return {
        "evaluations": counts.evaluations,
        "failures": counts.failures,
        "missed": counts.missed,
        "evaluation_seconds": counts.seconds,
        "notifications": {name: box.sent for name, box in boxes.items()},
        "notification_failures": {name: box.failed for name, box in boxes.items()},
        "notifications_dropped": {name: box.dropped for name, box in boxes.items()},
    }


def status_app(service: AlertService) -> http_server.App:
    """Return a WSGI app with /metrics and /healthz, as a worker has them."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, kind = "404 Not Found", "text/plain; charset=utf-8"
        body = "Not found: try /metrics or /healthz.\n"
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            status, kind = "200 OK", content_type()
            body = render(self_metrics.rule_families(rule_counts(service)))
        elif path == "/healthz":
            problem = _problem(service)
            status = "503 Service Unavailable" if problem else "200 OK"
            body = f"{problem or 'ok'}\n"
        data = body.encode("utf-8", "replace")
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app


def _problem(service: AlertService) -> str:
    status = service.status
    silent = monotonic() - status.passed_at
    if status.unreachable:
        return status.unreachable
    return f"no evaluation for {silent:.0f} seconds" if silent > _SILENT else ""


@contextmanager
def serve_status(service: AlertService, address: str) -> Iterator[None]:
    """Serve the page at *address* meanwhile.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    try:
        host, port = http_server.parse_address(address if ":" in address else f":{address}")
    except argparse.ArgumentTypeError as error:
        raise InvalidSetting(f"--metrics-port {error}") from error
    with http_server.listen(host, port, status_app(service)) as server:
        threading.Thread(
            target=server.serve_forever, name="redismetrics-alerts-http", daemon=True
        ).start()
        try:
            yield
        finally:
            server.shutdown()
