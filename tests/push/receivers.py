"""Receivers of totals: one made of the package opentelemetry-proto, and one that answers anything.

Both are real HTTP servers; requests and answers are decoded and made without our code.
"""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.fixtures.servers import PATIENCE

Answer = tuple[int, dict[str, str], bytes]


class Receiver:
    """Received posts, and the replies to them: *answers* one after another, then 200."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[Answer] = []
        self.came = threading.Condition()
        self.url = ""

    def take(self, headers: dict[str, str], body: bytes) -> Answer:
        with self.came:
            self.bodies.append(body)
            self.headers.append(headers)
            self.came.notify_all()
            return self.answers.pop(0) if self.answers else (200, {}, b"")

    def wait_for(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.bodies) >= count, PATIENCE), self.bodies


def _handler(receiver: Receiver) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, answer = receiver.take(dict(self.headers), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def receiving(receiver: Receiver | None = None, port: int = 0) -> Iterator[Receiver]:
    """Run a receiver on the loopback."""
    receiver = receiver or Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(receiver))
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def otlp_points(body: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, Any]]:
    """Return the kind and the point of each stream in a request of OTLP."""
    service = pytest.importorskip(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        reason="needs redismetrics[otel]",
    )
    request = service.ExportMetricsServiceRequest.FromString(gzip.decompress(body))
    found = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    labels = ((each.key, each.value.string_value) for each in point.attributes)
                    found[metric.name, tuple(sorted(labels))] = (kind, point)
    return found


def partial_success(rejected: int, message: str) -> Answer:
    """Return the answer of a receiver of OTLP that rejected some points."""
    service = pytest.importorskip(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        reason="needs redismetrics[otel]",
    )
    answer = service.ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = rejected
    answer.partial_success.error_message = message
    return 200, {"Content-Type": "application/x-protobuf"}, answer.SerializeToString()
