"""`POST /v1/metrics`, beside the other endpoints; OTLP itself is tested in tests/integrations."""

import shutil
import subprocess
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.otlp import delta_sums
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import error_message, running


def status_message(response: Any, code: int) -> str:
    """Return the message of a google.rpc.Status."""
    assert response.status_code == code, response.text
    return str(response.json()["message"])


def test_names_and_series_of_requests_are_limited(metrics: Metrics) -> None:
    limits = Limits(max_recorded_names=3, max_recorded_series=8)
    with (
        running(create_app(metrics, allow_write=True, limits=limits)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        assert web.post("/api/record", json=[{"name": "a"}, {"name": "b"}]).status_code == 202
        message = error_message(
            web.post("/api/record", json=[{"name": "a"}, {"name": "c"}, {"name": "d"}]), 413
        )
        assert message.startswith(
            "this process holds at most 3 metrics (limit max_recorded_names), got 4"
        )
        assert status_message(web.post("/v1/metrics", json=delta_sums("c", "d")), 413) == message
        assert sorted(metrics._recorder.metrics) == ["a", "b"]
        assert web.post("/v1/metrics", json=delta_sums("c", tags=6)).status_code == 200
        assert "holds at most 8 series" in error_message(
            web.post("/api/record", json={"name": "a", "tags": {"new": "x"}}), 413
        )
        assert "holds at most 8 series" in status_message(
            web.post("/v1/metrics", json=delta_sums("a", tags=3)), 413
        )
        assert metrics.stats()["recorded"] == 8


def tagged(first: int, count: int, size: int) -> dict[str, Any]:
    """Return a request with *count* new series, each with a tag of *size* characters."""
    body = delta_sums("wide", tags=count)
    (metric,) = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    metric["sum"]["dataPoints"] = [
        {**point, "attributes": [{"key": "n", "value": {"stringValue": f"{n:0{size}}"}}]}
        for n, point in enumerate(metric["sum"]["dataPoints"], first)
    ]
    return body


def test_bytes_of_tags_that_requests_bring_are_limited(metrics: Metrics) -> None:
    limits = Limits(max_recorded_bytes=40_000)
    with (
        running(create_app(metrics, allow_write=True, limits=limits)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        answers = [web.post("/v1/metrics", json=tagged(10 * n, 9, 1000)) for n in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [413]
        message = status_message(answers[-1], 413)
        assert "holds at most 40000 bytes of tags (limit max_recorded_bytes)" in message
        assert "limit max_recorded_bytes" in error_message(
            web.post("/api/record", json={"name": "a"}), 413
        )
        # One request may bring a quarter of it, however few bytes describe it.
        assert "a quarter of the limit max_recorded_bytes" in status_message(
            web.post("/v1/metrics", json=tagged(900, 11, 1000)), 413
        )
        assert metrics.internals.buffered_counts()[1:] == (
            45,
            sum(len(each) for each in metrics._recorder.metrics["wide"].buffers),
        )


def test_selected_resource_attributes_become_tags(metrics: Metrics) -> None:
    keys = ("service.name", "service.instance.id")
    with running(create_app(metrics, allow_write=True, resource_attributes=keys)) as at:
        for pod in ("a", "b", "c"):
            body = delta_sums("jobs")
            body["resourceMetrics"][0]["resource"] = {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "shop"}},
                    {"key": "service.instance.id", "value": {"stringValue": pod}},
                    {"key": "host.name", "value": {"stringValue": "ignored"}},
                ]
            }
            assert httpx.post(f"{at}/v1/metrics", json=body, **PATIENT).json() == {}
    found = metrics.query("jobs", aggregation="sum", group_by=list(keys))
    assert sorted((each["service.instance.id"], each["sum"]) for each in found) == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
    ]


def test_promtool_accepts_the_page_of_hostile_names(metrics: Metrics) -> None:
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
    with (
        running(create_app(metrics, allow_write=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        assert web.post("/api/record", json=samples).status_code == 202
        metrics.flush()
        body = delta_sums("of.otel", tags=3)
        body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["description"] = (
            'help \\ "and"\n# TYPE x counter'
        )
        assert web.post("/v1/metrics", json=body).json() == {}
        page = web.get("/metrics").content
        openmetrics = web.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    # 3: promtool also checks the style of names.
    assert done.returncode in (0, 3), done.stderr
    assert b"of_otel_total" in page
    # promtool does not read OpenMetrics.
    families = list(text_string_to_metric_families(openmetrics.text))
    assert {family.name for family in families} >= {"took_bucket", "of_otel"}
