"""OpenTelemetry's own SDK and OTLP exporter, against the store: what an application measured is what is asked."""

import asyncio
import gzip
import json
import logging
import math
import random
import time
from collections.abc import Iterator
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
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from redismetrics import AsyncMetrics, Metrics, TypeMismatch
from redismetrics.api.app import create_app
from redismetrics.export import export
from redismetrics.integrations.opentelemetry import RedisMetricsExporter
from tests.fixtures.exposition import samples
from tests.fixtures.servers import PATIENCE
from tests.fixtures.webserver import running

NEVER = 3600.0
MISMATCH = "{!r} is a gauge; got a counter"
RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1"})
CUMULATIVE = dict.fromkeys((Counter, Histogram, UpDownCounter), AggregationTemporality.CUMULATIVE)
DELTA = dict.fromkeys((Counter, Histogram, UpDownCounter), AggregationTemporality.DELTA)


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=NEVER) as made:
        yield made


@pytest.fixture
def at(metrics: Metrics) -> Iterator[str]:
    with running(create_app(metrics, allow_write=True)) as address:
        yield address


class Application:
    """An application that measures with the SDK, and keeps by hand what it measured."""

    def __init__(
        self, exporter: Any, resource: Resource = RESOURCE, seed: int = 7, **options: Any
    ) -> None:
        self.reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        self.provider = MeterProvider([self.reader], resource, shutdown_on_exit=False, **options)
        self.random = random.Random(seed)
        meter = self.provider.get_meter("test", "1")
        self.jobs = meter.create_counter("jobs.done", unit="{job}", description="Jobs done")
        self.active = meter.create_up_down_counter("jobs.active")
        self.took = meter.create_histogram("took", unit="s", description="How long it took")
        self.heat = meter.create_gauge("heat", unit="Cel")
        self.cpu = 0.0
        meter.create_observable_counter("cpu", [lambda _: [Observation(self.cpu, {"core": 0})]])
        self.amounts: dict[str, int] = {"mail": 0, "audio": 0}
        self.now_active = 0
        self.times: list[float] = []
        self.last_heat = 0.0

    def work(self, rounds: int = 50) -> None:
        for _ in range(rounds):
            queue, amount = self.random.choice(["mail", "audio"]), self.random.randrange(5)
            self.jobs.add(amount, {"queue": queue, "http.ok": True})
            self.amounts[queue] += amount
            step = self.random.choice([-1, 1, 2])
            self.active.add(step)
            self.now_active += step
            value = self.random.randrange(1, 40_000) / 1024  # sums of these are exact
            self.took.record(value, {"queue": queue})
            self.times.append(value)
        self.last_heat = self.random.randrange(100) / 2
        self.heat.set(self.last_heat)
        self.cpu += 0.25

    def export(self) -> None:
        assert self.provider.force_flush(5_000)

    def end(self) -> None:
        self.provider.shutdown(5_000)


def assert_told(metrics: Metrics, *applications: Application) -> None:
    """The store tells what the applications measured."""
    metrics.flush()
    for queue in ("mail", "audio"):
        wanted = sum(each.amounts[queue] for each in applications)
        tags = {"queue": queue, "service.name": "shop", "http.ok": "true"}
        assert metrics.query("jobs.done", aggregation="sum", tags=tags) == wanted
    assert metrics.query("cpu", aggregation="sum", tags={"core": "0"}) == sum(
        each.cpu for each in applications
    )
    (active,) = metrics.live("jobs.active")[0].series
    assert active.value == sum(each.now_active for each in applications)
    assert metrics.query("heat", aggregation="last") in {each.last_heat for each in applications}
    times = [value for each in applications for value in each.times]
    assert metrics.query("took", aggregation="count") == len(times)
    assert metrics.query("took", aggregation="sum") == math.fsum(times)
    known = {
        each["name"]: (each["type"], each["unit"], each["help"]) for each in metrics.list_metrics()
    }
    assert known == {
        "jobs.done": ("counter", "job", "Jobs done"), "jobs.active": ("gauge", "", ""), "cpu": ("counter", "", ""),
        "took": ("histogram", "s", "How long it took"), "heat": ("gauge", "Cel", ""),
    }  # fmt: skip


# -- the exporter -------------------------------------------------------------------------------------------------


def test_the_exporter_tells_the_store_what_the_sdk_measured(metrics: Metrics) -> None:
    application = Application(RedisMetricsExporter(metrics))
    for _ in range(3):
        application.work()
        application.export()
    application.work()
    application.end()
    assert_told(metrics, application)
    assert metrics.query("took", aggregation="min") == min(application.times)
    assert metrics.query("took", aggregation="max") == max(application.times)
    # The SDK's bounds are the metric's, so the page counts what the SDK counted.
    page = samples(export("took", metrics=metrics), False)
    for bound in (5.0, 10.0, 25.0, 50.0):
        found = sum(
            n
            for (name, labels), n in page.items()
            if name == "took_bucket" and ("le", str(bound)) in labels
        )
        assert found == sum(value <= bound for value in application.times)


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA], ids=["cumulative", "delta"])
def test_exponential_histograms_keep_count_sum_and_about_the_percentiles(
    metrics: Metrics, temporality: Any
) -> None:
    view = View(
        instrument_name="took", aggregation=ExponentialBucketHistogramAggregation(max_size=40)
    )
    application = Application(
        RedisMetricsExporter(metrics, preferred_temporality=temporality), views=[view]
    )
    for _ in range(4):  # the scale grows coarser between them
        application.work(100)
        application.export()
    application.end()
    assert_told(metrics, application)
    times = sorted(application.times)
    for name, rank in (("p50", 0.5), ("p90", 0.9)):
        assert metrics.query("took", aggregation=name) == pytest.approx(
            times[int(rank * len(times))], rel=0.15
        )


def test_what_an_sdk_was_told_to_cumulate_counts_once(metrics: Metrics) -> None:
    application = Application(RedisMetricsExporter(metrics, preferred_temporality=CUMULATIVE))
    for _ in range(3):
        application.work()
        application.export()
    application.end()
    assert_told(metrics, application)


def test_a_metric_of_another_type_is_logged_and_left_out(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.gauge("jobs.done", 1)
    application = Application(
        RedisMetricsExporter(metrics, resource_attributes=["service.instance.id"])
    )
    with caplog.at_level(logging.WARNING, "redismetrics"):
        for _ in range(2):
            application.work(1)
            application.export()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["OpenTelemetry points are left out: jobs.done: " + MISMATCH.format("jobs.done")]
    metrics.flush()
    assert metrics.query("jobs.done", aggregation="count") == 1
    assert metrics.tag_values("took", "service.instance.id") == ["i-1"]
    assert metrics.tag_values("took", "service.name") == []
    application.end()


# -- the receiver, by the SDK's exporter --------------------------------------------------------------------------


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["as the SDK has it", "delta"])
@pytest.mark.parametrize("compression", list(Compression)[::2], ids=str)
def test_the_receiver_tells_the_store_what_the_sdk_measured(
    metrics: Metrics, at: str, temporality: Any, compression: Compression
) -> None:
    def exporter() -> OTLPMetricExporter:
        return OTLPMetricExporter(
            f"{at}/v1/metrics", compression=compression, preferred_temporality=temporality
        )

    first, second = (
        Application(exporter()),
        Application(exporter(), seed=8),
    )  # two that call themselves alike
    for _ in range(3):
        for each in (first, second):
            each.work()
            each.export()
    first.end()
    assert_told(metrics, first, second)
    third = Application(exporter(), seed=9)  # a restart: totals begin anew
    third.work()
    third.export()
    assert_told(metrics, first, second, third)
    second.end()
    third.end()


class Unlucky:
    """An ASGI application before another, which it lets answer, and then loses the first answers."""

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
def test_a_request_that_is_sent_again_counts_once(metrics: Metrics, temporality: Any) -> None:
    app = Unlucky(create_app(metrics, allow_write=True), losses=1)
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
    assert_told(metrics, application)


# -- the receiver, by hand ----------------------------------------------------------------------------------------

PROTOBUF = {"Content-Type": "application/x-protobuf"}
NOW = time.time_ns()
SECOND = 1_000_000_000


def request(**metric: Any) -> dict[str, Any]:
    """A request of one metric, in OTLP's JSON."""
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", **metric}]}]}]}


def point(value: Any, *, start: int = NOW, after: int = 1, **more: Any) -> dict[str, Any]:
    given = {"asDouble": value} if isinstance(value, float) else {"asInt": str(value)}
    return {
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(start + after * SECOND),
        **given,
        **more,
    }


def total(
    *points: Any, temporality: int = 2, monotonic: bool = True, **more: Any
) -> dict[str, Any]:
    return request(
        sum={
            "dataPoints": list(points),
            "aggregationTemporality": temporality,
            "isMonotonic": monotonic,
        },
        **more,
    )


def post(at: str, body: Any) -> Any:
    return httpx.post(f"{at}/v1/metrics", json=body)


def rejected(answer: Any) -> tuple[int, str]:
    assert answer.status_code == 200, answer.text
    partial = answer.json().get("partialSuccess", {})
    return int(partial.get("rejectedDataPoints", 0)), partial.get("errorMessage", "")


def test_totals_become_changes_stream_by_stream(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()

    def told(*points: Any) -> float:
        assert rejected(post(at, total(*points))) == (0, "")
        return float(metrics.query("m", aggregation="sum"))

    assert told(point(5, start=begun)) == 5
    assert told(point(5, start=begun)) == 5  # the same again
    assert told(point(9, start=begun, after=3)) == 9
    assert told(point(7, start=begun, after=2)) == 9  # an older one, late
    assert told(point(2, start=begun + 5 * SECOND)) == 11  # a restart
    assert told(point(10, start=begun, after=4)) == 12  # who called itself alike, and goes on
    assert told(point(1, start=begun, after=5)) == 13  # went down: began anew, without saying so
    old = (
        begun - 3600 * SECOND
    )  # before this receiver: what it counted so far may be stored already
    assert told(point(100, start=old, after=3600)) == 13
    assert told(point(103, start=old, after=3601)) == 16
    unknown = {"startTimeUnixNano": "0"}
    assert told({**point(50, start=begun), **unknown}) == 16
    assert told({**point(51, start=begun, after=2), **unknown}) == 17
    assert (
        told(point(4, start=begun, attributes=[{"key": "a", "value": {"stringValue": "b"}}])) == 21
    )


def test_points_that_cannot_be_kept_are_told_and_the_others_kept(metrics: Metrics, at: str) -> None:
    def refuses(body: Any, wanted: str, count: int = 1) -> None:
        number, message = rejected(post(at, body))
        assert number == count
        assert wanted in message

    one = {"startTimeUnixNano": str(NOW), "timeUnixNano": str(NOW + SECOND)}
    refuses(
        total(point(-1), point(3), temporality=1),
        "m: counter 'm' cannot decrease: amount must be >= 0, got -1",
    )
    refuses(total(point(1), temporality=0), "temporality must be delta or cumulative")
    refuses(
        request(gauge={"dataPoints": [{**one, "asDouble": "NaN"}]}, name="g"),
        "value must be a finite number, got nan",
    )
    refuses(total(point(1, after=3600), temporality=1), "timestamp must be")
    refuses(
        request(gauge={"dataPoints": [point(1)]}),
        "'m' is a counter",
    )
    refuses(
        request(summary={"dataPoints": [one, one]}),
        "the metric must be a sum, gauge or histogram, got a summary",
        2,
    )
    for bounds, wanted in (
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
            request(histogram={"aggregationTemporality": 1, "dataPoints": [whole]}, name="h"),
            wanted,
        )
    assert metrics.query("m", aggregation="sum") == 3
    assert [each["name"] for each in metrics.list_metrics()] == ["m"]
    nothing = post(at, total(point(1, flags=1), temporality=1))  # a point that says it has no value
    assert rejected(nothing) == (0, "")
    assert metrics.query("m", aggregation="count") == 1


def test_a_type_that_only_the_store_knows_is_told(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        other.gauge("m", 1)
    number, message = rejected(post(at, total(point(1), point(2, after=2), temporality=1)))
    assert number == 2
    assert message == "m: the metric has another type in Redis, got a counter"
    assert rejected(post(at, total(point(3, after=3), temporality=1)))[0] == 1
    assert metrics.query("m", aggregation="count") == 1


def test_a_type_that_the_store_forgot_is_taken(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        other.gauge("m", 1)
        other.flush()
        assert rejected(post(at, total(point(1), temporality=1)))[0] == 1
        other.delete_metric("m")
    assert rejected(post(at, total(point(2, after=2), temporality=1))) == (0, "")
    assert metrics.query("m", aggregation="sum") == 2
    assert metrics._sink.sender.mismatches == {}


def test_a_metric_that_was_deleted_may_come_back_as_another_type(
    metrics: Metrics, at: str, url: str, namespace: str
) -> None:
    as_gauge = request(gauge={"dataPoints": [point(5)]})
    assert rejected(post(at, as_gauge)) == (0, "")
    number, message = rejected(post(at, total(point(1), temporality=1)))
    assert (number, message) == (1, "m: " + MISMATCH.format("m"))
    with Metrics(
        url, namespace=namespace
    ) as other:  # in this process metrics.delete_metric would do as well
        other.delete_metric("m")
    assert rejected(post(at, total(point(2, after=2), temporality=1))) == (0, "")
    assert metrics.query("m", aggregation="sum") == 2
    assert rejected(post(at, request(gauge={"dataPoints": [point(5, after=3)]})))[0] == 1


def test_what_the_program_itself_declared_stays(metrics: Metrics, at: str) -> None:
    metrics.declare("m", "gauge")
    metrics.gauge("m", 1)
    metrics.flush()
    metrics.delete_metric("m")
    assert rejected(post(at, total(point(1), temporality=1)))[0] == 1
    metrics.gauge("m", 2)
    assert metrics.query("m", aggregation="last") == 2


def test_a_mismatch_that_is_over_is_told_again_when_it_comes_again(
    metrics: Metrics, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        for _ in range(2):
            other.gauge("m", 1)
            other.flush()
            metrics.increment("m")
            with pytest.raises(TypeMismatch, match="'m' is a gauge; got a counter"):
                metrics.flush()
            metrics.increment("m")
            metrics.flush()  # told once
            metrics.delete_metric("m")
            metrics.increment("m", 3)
            metrics.flush()
            assert metrics.query("m", aggregation="sum") == 3
            metrics.delete_metric("m")


def test_the_exporter_takes_an_async_client(url: str, namespace: str, metrics: Metrics) -> None:
    ametrics = AsyncMetrics(url, namespace=namespace)
    application = Application(RedisMetricsExporter(ametrics))
    application.work()
    application.export()
    application.end()  # waits until it is stored
    assert_told(metrics, application)
    asyncio.run(ametrics.aclose())


def test_attributes_become_tags_by_our_rules(metrics: Metrics, at: str) -> None:
    attributes = [
        {"key": "a b", "value": {"stringValue": "2"}}, {"key": "a_b", "value": {"intValue": "3"}},
        {"key": "a-b", "value": {"boolValue": True}}, {"key": "9", "value": {"doubleValue": 1.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "1"}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "ü"}}]}}},
        {"key": "raw", "value": {"bytesValue": "AAE="}}, {"key": "none", "value": {}},
        {"key": "long", "value": {"stringValue": "ü" * 600}}, {"key": "k" * 300, "value": {"stringValue": ""}},
    ]  # fmt: skip
    body = total(
        point(1, attributes=attributes), temporality=1, name="with space/and:ü", unit="{request}/s"
    )
    own = {"key": "list", "value": {"stringValue": "the resource's own"}}
    body["resourceMetrics"][0]["resource"] = {
        "attributes": [{"key": "service.name", "value": {"stringValue": "s"}}, own]
    }
    assert rejected(post(at, body)) == (0, "")
    (family,) = metrics.live()
    assert (family.name, family.definition.unit) == ("with_space/and:_", "request/s")
    tags = family.series[0].tags
    (long_key,) = (key for key in tags if key.startswith("kkk"))
    assert len(long_key) == 200
    assert tags == {
        "a_b": "2;3", "a-b": "true", "_9": "1.5", "list": '["x",1]', "map": '{"k":"ü"}', "raw": "AAE=", "long": "ü" * 512,
        long_key: "", "service.name": "s",
    }  # fmt: skip


def test_more_attributes_than_tags_lose_no_value(metrics: Metrics, at: str) -> None:
    many = [{"key": f"k{number:02}", "value": {"intValue": "1"}} for number in range(40)]
    assert rejected(post(at, total(point(2, attributes=many), temporality=1))) == (0, "")
    (family,) = metrics.live("m")
    assert family.series[0].value == 2
    assert list(family.series[0].tags) == [f"k{number:02}" for number in range(32)]


def test_up_down_counters_are_shared_and_go_by_changes(metrics: Metrics, at: str) -> None:
    begun = time.time_ns()
    for start, value, after in ((begun, 5, 1), (begun, 3, 2), (begun + 1, 10, 1), (begun, 3, 3)):
        post(at, total(point(value, start=start, after=after), monotonic=False))
    (active,) = metrics.live("m")[0].series
    assert active.value == 13


def test_histograms_without_all_their_figures(metrics: Metrics, at: str) -> None:
    one = {"startTimeUnixNano": str(NOW), "timeUnixNano": str(NOW + SECOND)}

    def send(name: str, **figures: Any) -> None:
        data = {"aggregationTemporality": 1, "dataPoints": [{**one, **figures}]}
        assert rejected(post(at, request(histogram=data, name=name))) == (0, "")

    send("no_buckets", count="4", sum=10.0, min=1.0, max=4.0)
    send("no_sum", count="4", explicitBounds=[1, 2], bucketCounts=["0", "4", "0"])
    send("open_end", count="2", sum=1000.5, explicitBounds=[1], bucketCounts=["1", "1"])
    send("one", count="1", sum=0.3, explicitBounds=[1], bucketCounts=["1", "0"])

    def told(name: str) -> list[Any]:
        row = metrics.rollup(name, aggregations=("count", "sum", "min", "max"))[""]
        return list(row.values())

    assert told("no_buckets") == [4, 10.0, 1.0, 4.0]
    assert told("no_sum") == [4, pytest.approx(6.0), pytest.approx(1.5), pytest.approx(1.5)]
    count, found, low, high = told("open_end")
    assert (count, found) == (2, 1000.5)
    assert 0 <= low <= 1 < high <= 1000.5
    assert told("one") == [1, 0.3, 0.3, 0.3]


def test_bodies_that_are_none_are_refused_with_a_status(metrics: Metrics, at: str) -> None:
    to = f"{at}/v1/metrics"

    def refuses(code: int, wanted: str, content: bytes, **headers: str) -> None:
        answer = httpx.post(
            to,
            content=content,
            headers={**PROTOBUF, **{k.replace("_", "-"): v for k, v in headers.items()}},
        )
        assert answer.status_code == code
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert wanted.encode() in answer.content

    refuses(400, "body must be an ExportMetricsServiceRequest", b"\xff\xff")
    refuses(400, "not valid gzip", b"\x00", Content_Encoding="gzip")
    refuses(413, "body_bytes", gzip.compress(bytes(17 << 20)), Content_Encoding="gzip")
    assert httpx.post(to, json=[]).json() == {
        "message": "body must be an ExportMetricsServiceRequest: it must be an object, got list"
    }
    assert httpx.post(to, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert (
        httpx.post(
            to, content=b"[" * 100_000, headers={"Content-Type": "application/json"}
        ).status_code
        == 400
    )
    empty = httpx.post(
        to, content=ExportMetricsServiceRequest().SerializeToString(), headers=PROTOBUF
    )
    assert (empty.status_code, empty.content) == (
        200,
        ExportMetricsServiceResponse().SerializeToString(),
    )
    assert metrics.stats()["recorded"] == 0


def test_without_a_store_the_sender_keeps_its_points(fresh_server: Any) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=0.5) as metrics:
        app = create_app(metrics, allow_write=True)
        with running(app) as at:
            body = json.dumps(total(point(5), temporality=1)).encode()
            headers = {"Content-Type": "application/json"}
            server.kill()
            answer = httpx.post(f"{at}/v1/metrics", content=body, headers=headers, timeout=PATIENCE)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert metrics.stats()["recorded"] == 0
            server.restart()
            for _ in range(2):
                answer = httpx.post(
                    f"{at}/v1/metrics", content=body, headers=headers, timeout=PATIENCE
                )
                assert answer.status_code == 200
            assert metrics.query("m", aggregation="sum") == 5
