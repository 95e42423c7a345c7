"""What a caller may cost: sizes are bounded before anything is allocated, time before anybody else waits for it."""

import asyncio
import gzip
import re
import shutil
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from redismetrics import Metrics
from redismetrics.api import request_body
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.service import ConcurrencyLimiter
from redismetrics.integrations.opentelemetry.otlp_request import (
    MAX_POINTS,
    InvalidRequest,
    parse_request,
)
from redismetrics.integrations.opentelemetry.receiver import Receiver
from redismetrics.stream.patterns import glob_to_regex
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.webserver import running

NEVER = 3600.0
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as made:
        yield made


def told(response: Any, code: int) -> str:
    assert response.status_code == code, response.text
    return str(response.json()["message"])


# -- bodies -------------------------------------------------------------------------------------------------------


def opened(data: bytes, most: int = 1_000) -> bytes:
    return request_body.RequestBody(data, is_gzip=True).decompress(most)


def test_gzip_is_opened_in_pieces_and_no_further_than_wanted() -> None:
    text = b"0123456789" * 20_000
    assert opened(gzip.compress(text), len(text)) == text
    assert opened(gzip.compress(text, 0), len(text)) == text  # longer than it was
    assert (
        opened(gzip.compress(text[:99]) + gzip.compress(b"") + gzip.compress(text[99:500]), 500)
        == text[:500]
    )
    for data, code in (
        (gzip.compress(text), 413),
        (gzip.compress(text[:500])[:-1], 400),
        (gzip.compress(b"1") + b"no gzip", 400),
        (gzip.compress(b"") * 200, 400),
    ):
        with pytest.raises(HTTPException) as caught:
            opened(data)
        assert caught.value.status_code == code
    assert opened(b"") == b""


def test_a_body_of_many_small_members_takes_no_time() -> None:
    member = zlib.compress(b"", wbits=31)
    began = time.process_time()
    with pytest.raises(HTTPException, match="at most 100 members"):
        opened(member * ((4 << 20) // len(member)))
    assert time.process_time() - began < 1  # 200,000 of them, each with a copy of the rest: minutes


def test_a_body_that_comes_too_slowly_is_given_up(metrics: Metrics) -> None:
    limits = Limits(body_seconds=0.3, max_concurrent=1, max_queued=1)
    with running(create_app(metrics, allow_write=True, limits=limits)) as at:
        place = urlsplit(at)
        assert place.hostname
        head = b"POST /api/record HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n["
        with socket.create_connection((place.hostname, place.port or 0), PATIENCE) as slow:
            slow.sendall(head)
            began = time.monotonic()
            answer = b""
            while part := slow.recv(4096):  # until the server closes
                answer += part
        assert time.monotonic() - began < 4  # it is not waited for what is left
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body must arrive within 0.3 s (limit body_seconds), got 1 bytes of it" in answer
        assert httpx.post(f"{at}/api/record", json={"name": "jobs"}).status_code == 202


def test_a_length_of_many_digits_is_too_long(metrics: Metrics) -> None:
    app = create_app(metrics, allow_write=True)
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/api/record", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"9" * 5_000)],
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "x", "value": 1e999}',
        b'{"name": "x", "value": -Infinity}',
        b'{"name": "x", "value": ' + b"9" * 400 + b"}",
        b'{"name": "x", "value": ' + b"9" * 9_000 + b"}",
        b'{"name": "x", "timestamp": 1e999}',
        b'{"name": "x", "timestamp": 1e308}',
        b'{"name": "x", "timestamp": "9999-12-31T23:59:59-23:59"}',
        b'{"name": "x", "timestamp": "0001-01-01T00:00:00+23:59"}',
        b'{"name": "x", "metadata": {"a": 1e999}}',
        b'{"name": "x", "metadata": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}",
        b'{"name": "x", "note": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"name": "x", "tags": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"name": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"name": "\\ud800"}',
        b'{"name": "x", "tags": {"a": "\\ud800"}}',
        b'{"name": "x", "metadata": {"a": "\\ud800"}}',
        b'{"name": "x", "type": {}}',
        b'{"name": "x", "type": ["counter"]}',
        b'{"name": ["x"]}',
        b'{"name": "x", "value": {"value": 1}}',
        b'{"name": "x", "tags": {"\\u0000": "1"}}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"null",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_what_json_can_say_and_we_do_not_take_is_told(refusing: Any, body: bytes) -> None:
    told(refusing.post("/api/record", content=body, headers=JSON), 400)


@pytest.fixture(scope="module")
def refusing(server: Server) -> Iterator[Any]:
    with Metrics(server.url, namespace="bounds", flush_interval=NEVER) as metrics:
        with (
            running(create_app(metrics, allow_write=True)) as at,
            httpx.Client(base_url=at) as client,
        ):
            yield client
        assert metrics.stats()["recorded"] == 0


# -- names and series ---------------------------------------------------------------------------------------------


def otlp_sum(*names: str, tags: int = 1) -> dict[str, Any]:
    now = time.time_ns()
    points = [
        {
            "timeUnixNano": str(now),
            "asInt": "1",
            "attributes": [{"key": "n", "value": {"intValue": str(n)}}],
        }
        for n in range(tags)
    ]
    of = [
        {
            "name": name,
            "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": points},
        }
        for name in names
    ]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": of}]}]}


def test_names_and_series_that_others_bring_are_bounded(metrics: Metrics) -> None:
    limits = Limits(max_recorded_names=3, max_recorded_series=8)
    with (
        running(create_app(metrics, allow_write=True, limits=limits)) as at,
        httpx.Client(base_url=at) as web,
    ):
        assert web.post("/api/record", json=[{"name": "a"}, {"name": "b"}]).status_code == 202
        message = told(
            web.post("/api/record", json=[{"name": "a"}, {"name": "c"}, {"name": "d"}]), 413
        )
        assert message.startswith(
            "this process must hold at most 3 metrics (limit max_recorded_names), got 4"
        )
        assert told(web.post("/v1/metrics", json=otlp_sum("c", "d")), 413) == message
        assert sorted(metrics._recorder.metrics) == ["a", "b"]
        assert web.post("/v1/metrics", json=otlp_sum("c", tags=6)).status_code == 200
        assert "must hold at most 8 series" in told(
            web.post("/api/record", json={"name": "a"}), 413
        )
        assert "must hold at most 8 series" in told(
            web.post("/v1/metrics", json=otlp_sum("a")), 413
        )
        assert metrics.stats()["recorded"] == 8


# -- OTLP ---------------------------------------------------------------------------------------------------------


def test_a_request_of_empty_messages_is_refused_before_they_are_looked_at() -> None:
    request = ExportMetricsServiceRequest()
    for _ in range(MAX_POINTS + 1):
        request.resource_metrics.add()
    with pytest.raises(
        InvalidRequest, match="must hold at most 100000 points, metrics, scopes and resources"
    ):
        parse_request(request.SerializeToString(), as_json=False)
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for _ in range(MAX_POINTS + 1):
        scope.metrics.add()
    with pytest.raises(InvalidRequest, match="must hold at most"):
        parse_request(request.SerializeToString(), as_json=False)


def test_a_long_resource_attribute_is_cut_once_and_not_for_every_point(metrics: Metrics) -> None:
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    attribute = of_resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "ä" * 1_000_000
    metric = of_resource.scope_metrics.add().metrics.add()
    metric.name, metric.gauge.data_points.add().as_double = "depth", 1.0
    for _ in range(3_000):
        metric.gauge.data_points.add().as_double = 1.0
    receiver = Receiver(metrics)
    began = time.process_time()
    receiver.receive(request.SerializeToString())
    assert time.process_time() - began < 2  # cut for each point: 10
    (series,) = metrics.live("depth")[0].series
    assert len(series.tags["service.name"].encode()) == 1024


@pytest.mark.parametrize("as_json", [True, False])
def test_attributes_in_attributes_come_to_an_end(as_json: bool) -> None:
    if as_json:
        inner = b'{"arrayValue":{"values":[' * 400 + b"]}}" * 400
        body = (
            b'{"resourceMetrics":[{"resource":{"attributes":[{"key":"a","value":'
            + inner
            + b"}]}}]}"
        )
    else:
        data = b""
        for _ in range(400):
            data = nested(5, nested(1, data))  # AnyValue.array_value.values
        body = nested(1, nested(1, nested(1, nested(2, data))))
    with pytest.raises(InvalidRequest):
        parse_request(body, as_json=as_json)


def nested(field: int, data: bytes) -> bytes:
    """A message as a field of a message of protobuf."""
    size, length = len(data), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([field << 3 | 2]) + length + bytes([size]) + data


# -- questions ----------------------------------------------------------------------------------------------------


def test_rows_are_bounded_before_they_are_made(metrics: Metrics) -> None:
    for number in range(50):
        metrics.increment("jobs", tags={"n": number})
    with (
        running(create_app(metrics, limits=Limits(max_rows=2_000))) as at,
        httpx.Client(base_url=at) as web,
    ):
        filled = "/api/time_series?name=jobs&interval=1m&window=24h&group_by=n&fill=true"
        message = told(web.get(filled), 413)
        assert re.match(r".* 2000 rows, got 720\d\d.* \(limit max_rows\)", message)
        assert web.get(filled.replace("&group_by=n", "")).status_code == 200
        assert len(web.get(filled.replace("&fill=true", "")).json()["series"]) == 50
    assert (
        len(metrics.time_series("jobs", interval="1m", group_by="n", fill=True)) >= 72_000
    )  # others may


def test_parameters_are_bounded_in_number(refusing: Any) -> None:
    many = "&".join(f"aggregation=p{n}" for n in range(33))
    assert (
        "aggregation must be given at most 32 times (limit max_repeats), got it 33 times"
        in told(refusing.get(f"/api/rollup?name=x&{many}"), 400)
    )
    assert "a query string must have at most 1000 parameters" in told(
        refusing.get("/api/query?" + "x&" * 1_001), 400
    )


@pytest.mark.parametrize(
    "query",
    ["since=999999999999e99", "since=1e-9", "until=99999999999999", "window=999999999w", f"window={'9' * 5000}d"],
)  # fmt: skip
def test_large_numbers_are_no_windows(refusing: Any, query: str) -> None:
    told(refusing.get(f"/api/query?name=x&aggregation=sum&{query}"), 400)


def test_a_host_does_not_change_what_is_asked(refusing: Any) -> None:
    for host in ("[", "evil?name=y", "evil#", "a b", ""):
        answer = refusing.get("/api/query?name=x&aggregation=sum", headers={"Host": host})
        assert answer.status_code in (200, 400), host
        if answer.status_code == 200:
            assert answer.json()["results"] == 0


def test_patterns_of_names_take_no_time() -> None:
    fits = re.compile(glob_to_regex("*a" * 99 + "*b"), re.DOTALL)
    began = time.process_time()
    assert fits.fullmatch("a" * 200) is None
    assert fits.fullmatch("a" * 199 + "b")
    assert time.process_time() - began < 1


def test_slow_questions_are_bounded_and_hold_up_nobody_else(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    limits = Limits(max_concurrent=2, max_queued=1)
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=3) as metrics:
        app = create_app(metrics, limits=limits)
        with running(app) as at, httpx.Client(base_url=at, timeout=PATIENCE) as web:
            server.pause()
            codes: list[int] = []
            askers = [
                threading.Thread(
                    target=lambda: codes.append(
                        httpx.get(f"{at}/api/names", timeout=PATIENCE).status_code
                    )
                )
                for _ in range(3)
            ]
            for asker in askers:
                asker.start()
            wait_until(lambda: len(app.state.service.queries) == 3, "all places are taken")
            refused = web.get("/api/names")
            assert "too many queries: 2 are running (limit max_concurrent)" in told(refused, 503)
            assert refused.headers["retry-after"] == "1"
            assert web.get("/healthz").status_code == 200
            server.resume()
            for asker in askers:
                asker.join(PATIENCE)
            assert set(codes) <= {200, 503}
            assert len(codes) == 3
            assert web.get("/api/names").status_code == 200


def test_a_gate_gives_its_places_back() -> None:
    async def scenario() -> None:
        gate = ConcurrencyLimiter("things", Limits(max_concurrent=1, max_queued=1))
        release = threading.Event()

        async def hold() -> bool:
            async with gate:
                return await gate.run(release.wait, PATIENCE)

        held = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="too many things"):
            await hold()
        held[1].cancel()
        await asyncio.wait([held[1]])
        release.set()
        assert await hold()
        assert await held[0]
        gate.close()
        assert await hold()
        gate.close()

    asyncio.run(scenario())


# -- who may ------------------------------------------------------------------------------------------------------


def test_mounted_in_a_larger_application_the_same_paths_are_guarded(metrics: Metrics) -> None:
    app = create_app(metrics, token="t0ken")
    outer = Starlette(routes=[Mount("/inner", app)])
    outer.state.service = app.state.service
    with running(outer) as at, httpx.Client(base_url=at) as web:
        assert web.get("/inner/healthz").status_code == web.get("/inner/readyz").status_code == 200
        for path in (
            "/inner/api/stats",
            "/inner/healthz/",
            "/inner/healthz/../api/stats",
            "/inner//healthz",
        ):
            assert web.get(path).status_code == 401, path
        assert (
            web.get("/inner/api/stats", headers={"Authorization": "bearer t0ken"}).status_code
            == 200
        )


@pytest.mark.parametrize(
    "path", ["/api/stats", "/healthz/", "//healthz", "/healthz/..%2fapi/stats", "/healthz%00", "/"]
)
def test_only_the_probes_themselves_are_open(metrics: Metrics, path: str) -> None:
    with running(create_app(metrics, token="t0ken")) as at:
        assert httpx.get(f"{at}{path}").status_code == 401
        two = [("Authorization", "Bearer no"), ("Authorization", "Bearer t0ken")]
        assert httpx.get(f"{at}/api/stats", headers=two).status_code == 401


def test_whoever_only_probes_is_not_told_where_the_store_is(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with Metrics(server.url, socket_timeout=0.5) as metrics:
        server.kill()
        with running(create_app(metrics, token="t0ken")) as at:
            assert told(httpx.get(f"{at}/readyz"), 503) == "Redis does not answer"


def test_without_a_token_a_name_that_leads_here_is_not_enough(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, allow_write=True, localhost_only=True)) as at,
        httpx.Client(base_url=at) as web,
    ):
        port = urlsplit(at).port
        for host in (
            "localhost",
            f"LOCALHOST:{port}",
            f"127.0.0.1:{port}",
            "127.8.9.1",
            f"[::1]:{port}",
            "[::1]",
        ):
            assert web.get("/api/names", headers={"Host": host}).status_code == 200, host
        for host in (
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "",
            "0.0.0.0",
        ):
            refused = web.post("/api/record", json={"name": "jobs"}, headers={"Host": host})
            assert "Host must be localhost" in told(refused, 403), host
        assert metrics.stats()["recorded"] == 0
    with running(create_app(metrics)) as at:
        assert httpx.get(f"{at}/api/names", headers={"Host": "metrics.example"}).status_code == 200


def test_the_page_of_hostile_names_is_accepted_by_promtool(metrics: Metrics) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package: prometheus)")
    samples: list[Any] = [
        {
            "name": "a.b-c/d:e",
            "type": "counter",
            "tags": {"le": "1", "quantile": "0.5", "__name__": 'x" 1\n# HELP y'},
        },
        {"name": "a_b_c_d_e", "type": "gauge", "tags": {"k": 'line\nend\\ "quote" \u2028 \u0000'}},
        {"name": "took_bucket", "type": "gauge", "value": -1e308},
        {"name": "took", "type": "histogram", "value": 1e308, "tags": {"le": "+Inf"}},
    ]
    with running(create_app(metrics, allow_write=True)) as at, httpx.Client(base_url=at) as web:
        assert web.post("/api/record", json=samples).status_code == 202
        metrics.flush()
        body = otlp_sum("of.otel", tags=3)
        body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["description"] = (
            'help \\ "and"\n# TYPE x counter'
        )
        assert web.post("/v1/metrics", json=body).json() == {}
        page = web.get("/metrics").content
        openmetrics = web.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert done.returncode in (0, 3), done.stderr  # 3: it has opinions on names that others chose
    assert b"of_otel_total" in page
    families = list(
        text_string_to_metric_families(openmetrics.text)
    )  # promtool doesn't read this format
    assert {family.name for family in families} >= {"took_bucket", "of_otel"}
