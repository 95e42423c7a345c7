"""The receiver: requests of the SDK, repeated requests, types, errors."""

import gzip
import json
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs opentelemetry-exporter-otlp-proto-http"
)
pytest.importorskip("starlette", reason="needs redismetrics[server]")
httpx = pytest.importorskip("httpx", reason="needs httpx")
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from redismetrics import Metrics, TypeMismatch
from redismetrics.api.app import create_app
from tests.fixtures.clients import NEVER
from tests.fixtures.otlp import (
    NOW_NS,
    SECOND_NS,
    metric_request,
    number_point,
    post_otlp,
    rejected,
    sum_request,
)
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import running
from tests.integrations.opentelemetry.sdk_application import (
    DELTA,
    Application,
    assert_stored,
)


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["as the SDK has it", "delta"])
@pytest.mark.parametrize("compression", list(Compression)[::2], ids=str)
def test_received_metrics_are_stored(
    metrics: Metrics, at: str, temporality: Any, compression: Compression
) -> None:
    def exporter() -> OTLPMetricExporter:
        return OTLPMetricExporter(
            f"{at}/v1/metrics", compression=compression, preferred_temporality=temporality
        )

    # Two processes with the same identity.
    first, second = Application(exporter()), Application(exporter(), seed=8)
    for _ in range(3):
        for each in (first, second):
            each.work()
            each.export()
    first.end()
    assert_stored(metrics, first, second)
    # A restart: totals start at 0.
    third = Application(exporter(), seed=9)
    third.work()
    third.export()
    assert_stored(metrics, first, second, third)
    second.end()
    third.end()


class LossyApp:
    """Wraps an application that handles all requests; the first responses are lost."""

    def __init__(self, app: Any, losses: int) -> None:
        self.app, self.state, self.losses, self.requests = app, app.state, losses, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.requests += 1
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        if self.requests <= self.losses:
            messages = [
                {
                    "type": "http.response.start",
                    "status": 503,
                    "headers": [(b"content-length", b"0"), (b"retry-after", b"0")],
                },
                {"type": "http.response.body", "body": b""},
            ]
        for message in messages:
            await send(message)


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["as the SDK has it", "delta"])
def test_repeated_request_counts_once(metrics: Metrics, temporality: Any) -> None:
    app = LossyApp(create_app(metrics, allow_write=True), losses=1)
    with running(app) as at:
        application = Application(
            OTLPMetricExporter(f"{at}/v1/metrics", preferred_temporality=temporality)
        )
        application.work()
        application.export()
        assert app.requests == 2, "the exporter did not try again"
        application.work()
        application.export()
        application.end()
    assert_stored(metrics, application)


PROTOBUF = {"Content-Type": "application/x-protobuf"}


def test_invalid_points_are_rejected_and_the_others_stored(metrics: Metrics, at: str) -> None:
    def refuses(body: Any, expected: str, count: int = 1) -> None:
        number, message = rejected(post_otlp(at, body))
        assert number == count
        assert expected in message

    one = {"startTimeUnixNano": str(NOW_NS), "timeUnixNano": str(NOW_NS + SECOND_NS)}
    refuses(
        sum_request(number_point(-1), number_point(3), temporality=1),
        "m: counter 'm' cannot decrease: amount must be >= 0, got -1",
    )
    refuses(sum_request(number_point(1), temporality=0), "temporality must be delta or cumulative")
    refuses(
        metric_request(gauge={"dataPoints": [{**one, "asDouble": "NaN"}]}, name="g"),
        "value must be a finite number, got nan",
    )
    refuses(sum_request(number_point(1, after=3600), temporality=1), "timestamp must be")
    refuses(
        metric_request(gauge={"dataPoints": [number_point(1)]}),
        "'m' is a counter",
    )
    refuses(
        metric_request(summary={"dataPoints": [one, one]}),
        "the metric must be a sum, gauge or histogram, got a summary",
        2,
    )
    for bounds, expected in (
        ([1], "buckets must have counts that add up to 4, got 3"),
        ([1, 2], "buckets must have 3 counts for 2 bounds, got 2"),
    ):
        whole = {
            **one,
            "count": "4",
            "sum": 1,
            "explicitBounds": bounds,
            "bucketCounts": ["1", "2"],
        }
        refuses(
            metric_request(
                histogram={"aggregationTemporality": 1, "dataPoints": [whole]}, name="h"
            ),
            expected,
        )
    assert metrics.query("m", aggregation="sum") == 3
    assert [each["name"] for each in metrics.list_metrics()] == ["m"]
    # Flag 1: the point has no value.
    no_value = post_otlp(at, sum_request(number_point(1, flags=1), temporality=1))
    assert rejected(no_value) == (0, "")
    assert metrics.query("m", aggregation="count") == 1


def test_type_that_only_redis_knows_is_rejected(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        other.gauge("m", 1)
    number, message = rejected(
        post_otlp(at, sum_request(number_point(1), number_point(2, after=2), temporality=1))
    )
    assert number == 2
    assert message == "m: the metric has another type in Redis, got a counter"
    assert rejected(post_otlp(at, sum_request(number_point(3, after=3), temporality=1)))[0] == 1
    assert metrics.query("m", aggregation="count") == 1


def test_type_of_a_metric_deleted_elsewhere_is_forgotten(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        other.gauge("m", 1)
        other.flush()
        assert rejected(post_otlp(at, sum_request(number_point(1), temporality=1)))[0] == 1
        other.delete_metric("m")
    assert rejected(post_otlp(at, sum_request(number_point(2, after=2), temporality=1))) == (0, "")
    assert metrics.query("m", aggregation="sum") == 2
    assert metrics._sink.sender.fitting.mismatches == {}


def test_deleted_metric_may_return_with_another_type(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    as_gauge = metric_request(gauge={"dataPoints": [number_point(5)]})
    assert rejected(post_otlp(at, as_gauge)) == (0, "")
    number, message = rejected(post_otlp(at, sum_request(number_point(1), temporality=1)))
    assert number == 1
    assert message.startswith("m: 'm' is a gauge")
    with Metrics(url, namespace=namespace) as other:
        other.delete_metric("m")
    assert rejected(post_otlp(at, sum_request(number_point(2, after=2), temporality=1))) == (0, "")
    assert metrics.query("m", aggregation="sum") == 2
    assert (
        rejected(post_otlp(at, metric_request(gauge={"dataPoints": [number_point(5, after=3)]})))[0]
        == 1
    )


def test_definitions_of_the_program_stay(metrics: Metrics, at: str) -> None:
    metrics.declare("m", "gauge")
    metrics.gauge("m", 1)
    metrics.flush()
    metrics.delete_metric("m")
    assert rejected(post_otlp(at, sum_request(number_point(1), temporality=1)))[0] == 1
    metrics.gauge("m", 2)
    assert metrics.query("m", aggregation="last") == 2


def test_mismatch_that_recurs_is_reported_again(metrics: Metrics, url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace) as other:
        for _ in range(2):
            other.gauge("m", 1)
            other.flush()
            metrics.increment("m")
            with pytest.raises(TypeMismatch, match="'m' is a gauge"):
                metrics.flush()
            metrics.increment("m")
            # Reported once.
            metrics.flush()
            metrics.delete_metric("m")
            metrics.increment("m", 3)
            metrics.flush()
            assert metrics.query("m", aggregation="sum") == 3
            metrics.delete_metric("m")


def test_invalid_bodies_get_a_status_message(metrics: Metrics, at: str) -> None:
    to = f"{at}/v1/metrics"

    def refuses(code: int, expected: str, content: bytes, **headers: str) -> None:
        answer = httpx.post(
            to,
            content=content,
            headers={**PROTOBUF, **{k.replace("_", "-"): v for k, v in headers.items()}},
            **PATIENT,
        )
        assert answer.status_code == code
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert expected.encode() in answer.content

    refuses(400, "body must be an ExportMetricsServiceRequest", b"\xff\xff")
    refuses(400, "not valid gzip", b"\x00", Content_Encoding="gzip")
    refuses(413, "body_bytes", gzip.compress(bytes(17 << 20)), Content_Encoding="gzip")
    assert httpx.post(to, json=[], **PATIENT).json() == {
        "message": "body must be an ExportMetricsServiceRequest: it must be an object, got list"
    }
    assert (
        httpx.post(to, content=b"{}", headers={"Content-Type": "text/plain"}, **PATIENT).status_code
        == 415
    )
    assert (
        httpx.post(
            to, content=b"[" * 100_000, headers={"Content-Type": "application/json"}, **PATIENT
        ).status_code
        == 400
    )
    empty = httpx.post(
        to, content=ExportMetricsServiceRequest().SerializeToString(), headers=PROTOBUF, **PATIENT
    )
    assert (empty.status_code, empty.content) == (
        200,
        ExportMetricsServiceResponse().SerializeToString(),
    )
    assert metrics.stats()["recorded"] == 0


def test_without_redis_the_sender_keeps_its_points(fresh_server: Any) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=0.5) as metrics:
        app = create_app(metrics, allow_write=True)
        with running(app) as at:
            body = json.dumps(sum_request(number_point(5), temporality=1)).encode()
            headers = {"Content-Type": "application/json"}
            server.kill()
            answer = httpx.post(f"{at}/v1/metrics", content=body, headers=headers, **PATIENT)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert metrics.stats()["recorded"] == 0
            server.restart()
            for _ in range(2):
                answer = httpx.post(f"{at}/v1/metrics", content=body, headers=headers, **PATIENT)
                assert answer.status_code == 200
            assert metrics.query("m", aggregation="sum") == 5
