"""The endpoints that query: results, errors and limits."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")


from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.export import export
from tests.fixtures.exposition import of_users
from tests.fixtures.servers import PATIENT, Server
from tests.fixtures.webserver import error_message, running

NEVER = 3600.0


def fill(metrics: Metrics) -> None:
    for model, score in (("llama/3", 0.5), ("llama/3", 1.0), ("qwen", 0.25)):
        metrics.histogram("score", score, tags={"model": model})
    trace = {"trace_id": "x1"}
    metrics.increment("jobs", 3, tags={"queue": "mail"}, metadata=trace, exemplar=trace)
    metrics.gauge("depth", 7)
    metrics.flush()


def test_results_equal_those_of_the_client(web: Any, metrics: Metrics) -> None:
    fill(metrics)

    def same(path: str, expected: dict[str, Any]) -> None:
        response = web.get(path)
        assert response.status_code == 200, response.text
        found = response.json()
        assert found.pop("timestamp")
        expected.pop("timestamp")
        assert found == json.loads(metrics.to_json(expected))

    same("/api/metrics", metrics.get_metrics())
    same("/api/metrics?name=jobs&limit=2&type=counter", metrics.get_metrics(name="jobs", limit=2))
    same(
        "/api/query?name=score&aggregation=mean&group_by=model&window=last_hour",
        metrics.get_aggregation("score", aggregation="mean", group_by="model", window="last_hour"),
    )
    same(
        "/api/query?name=score&aggregation=count&tag=model%3Dqwen",
        metrics.get_aggregation(
            "score", aggregation="count", window="last_24h", tags={"model": "qwen"}
        ),
    )
    same(
        "/api/query?name=score&aggregation=count&tag=!model",
        metrics.get_aggregation(
            "score", aggregation="count", window="last_24h", tags={"model": None}
        ),
    )
    same(
        "/api/time_series?name=score&interval=minute&aggregation=mean&aggregation=p95&window=5m",
        metrics.get_time_series(
            "score", interval="minute", aggregations=("mean", "p95"), window="5m"
        ),
    )
    same(
        "/api/rollup?name=score&group_by=model&aggregation=count&aggregation=max",
        metrics.get_rollups("score", group_by="model", aggregations=("count", "max")),
    )
    assert web.get("/api/rollup?name=score&group_by=model").json()["rollups"] == {
        "llama\\/3": {"mean": 0.75, "count": 2},
        "qwen": {"mean": 0.25, "count": 1},
    }
    assert web.get("/api/query?name=nobody&aggregation=mean").json()["results"] is None
    exemplars = [each.to_dict() for each in metrics.exemplars("jobs")]
    assert web.get("/api/exemplars?name=jobs&tag=queue%3Dmail").json()["exemplars"] == exemplars
    assert exemplars[0]["labels"] == {"trace_id": "x1"}
    assert web.get("/api/exemplars?name=jobs&tag=!queue").json()["exemplars"] == []
    stats = web.get("/api/stats").json()
    assert stats["storage"]["metrics_stored"] == 5
    assert stats["recorder"]["recorded"] == 5
    assert [each["name"] for each in web.get("/api/names").json()["metrics"]] == [
        "depth",
        "jobs",
        "score",
    ]


def test_times_are_unix_seconds_or_iso_8601(web: Any, metrics: Metrics) -> None:
    began = datetime.now(UTC) - timedelta(hours=2)
    metrics.increment("jobs", 1, timestamp=began)
    metrics.increment("jobs", 2, timestamp=began + timedelta(minutes=10))
    metrics.flush()

    def total(**edges: Any) -> int:
        found = web.get("/api/query", params={"name": "jobs", "aggregation": "sum", **edges})
        assert found.status_code == 200, found.text
        return int(found.json()["results"])

    middle = began + timedelta(minutes=5)
    assert total() == 3
    assert total(since=middle.isoformat()) == 2
    assert total(since=began.timestamp() - 1, until=middle.timestamp()) == 1
    assert total(since=f"{middle:%Y-%m-%dT%H:%M:%SZ}", until=time.time()) == 2


def test_the_prometheus_page_is_negotiated(web: Any, metrics: Metrics) -> None:
    fill(metrics)
    text = web.get("/metrics")
    assert (of_users(text.text), text.headers["content-type"]) == (
        export(metrics=metrics),
        "text/plain; version=0.0.4; charset=utf-8",
    )
    found = web.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert of_users(found.text) == export(metrics=metrics, openmetrics=True)
    assert found.headers["content-type"].startswith("application/openmetrics-text")


def test_head_requests_get_no_body(web: Any) -> None:
    for path in ("/metrics", "/api/stats", "/api/stream"):
        found = web.head(path)
        assert (found.status_code, found.content) == (200, b"")


def test_series_and_rows_are_limited(metrics: Metrics) -> None:
    for number in range(6):
        metrics.increment("jobs", tags={"n": number})
        metrics.increment("few", tags={"n": number % 3})
    with (
        running(create_app(metrics, limits=Limits(max_series=5, max_rows=2))) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        assert "a query must read at most 5 series (limit max_series), got 6" in error_message(
            web.get("/api/query?name=jobs&aggregation=sum"), 413
        )
        assert "all metrics" in error_message(web.get("/api/metrics"), 413)
        assert web.get("/api/metrics?name=few").status_code == 200
        assert "2 rows, got 3" in error_message(web.get("/api/rollup?name=few&group_by=n"), 413)
        assert "got 3" in error_message(
            web.get("/api/query?name=few&group_by=n&aggregation=sum"), 413
        )
        assert "(limit max_rows)" in error_message(
            web.get("/api/time_series?name=few&group_by=n&window=2m&interval=1m"), 413
        )


def test_rows_are_limited_before_they_are_built(metrics: Metrics) -> None:
    for number in range(50):
        metrics.increment("jobs", tags={"n": number})
    with (
        running(create_app(metrics, limits=Limits(max_rows=2_000))) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        filled = "/api/time_series?name=jobs&interval=1m&window=24h&group_by=n&fill=true"
        message = error_message(web.get(filled), 413)
        assert re.match(r".* 2000 rows, got 720\d\d.* \(limit max_rows\)", message)
        assert web.get(filled.replace("&group_by=n", "")).status_code == 200
        assert len(web.get(filled.replace("&fill=true", "")).json()["series"]) == 50
    # The limit applies to the application only.
    assert len(metrics.time_series("jobs", interval="1m", group_by="n", fill=True)) >= 72_000


def test_without_redis_all_but_healthz_respond_503(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=0.5) as metrics:
        app = create_app(metrics, allow_write=True)
        with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
            assert web.get("/readyz").json() == {"status": "ok"}
            server.kill()
            assert web.get("/healthz").status_code == 200
            for path in (
                "/readyz",
                "/api/stats",
                "/api/metrics",
                "/metrics",
                "/api/query?name=x&aggregation=sum",
            ):
                answer = web.get(path)
                error_message(answer, 503)
                assert answer.headers["retry-after"] == "1"
            error_message(web.post("/api/record", json={"name": "x"}), 503)
            assert metrics.stats()["recorded"] == 0
            server.restart()
            assert web.get("/readyz").status_code == 200
