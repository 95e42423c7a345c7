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
from tests.fixtures.webserver import error_message, running


def status_message(response: Any, code: int) -> str:
    """Return the message of a google.rpc.Status."""
    assert response.status_code == code, response.text
    return str(response.json()["message"])


def test_names_and_series_of_requests_are_limited(metrics: Metrics) -> None:
    limits = Limits(max_recorded_names=3, max_recorded_series=8)
    with (
        running(create_app(metrics, allow_write=True, limits=limits)) as at,
        httpx.Client(base_url=at) as web,
    ):
        assert web.post("/api/record", json=[{"name": "a"}, {"name": "b"}]).status_code == 202
        message = error_message(
            web.post("/api/record", json=[{"name": "a"}, {"name": "c"}, {"name": "d"}]), 413
        )
        assert message.startswith(
            "this process must hold at most 3 metrics (limit max_recorded_names), got 4"
        )
        assert status_message(web.post("/v1/metrics", json=delta_sums("c", "d")), 413) == message
        assert sorted(metrics._recorder.metrics) == ["a", "b"]
        assert web.post("/v1/metrics", json=delta_sums("c", tags=6)).status_code == 200
        assert "must hold at most 8 series" in error_message(
            web.post("/api/record", json={"name": "a"}), 413
        )
        assert "must hold at most 8 series" in status_message(
            web.post("/v1/metrics", json=delta_sums("a")), 413
        )
        assert metrics.stats()["recorded"] == 8


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
    with running(create_app(metrics, allow_write=True)) as at, httpx.Client(base_url=at) as web:
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
