"""Clients of Prometheus' HTTP API on a real uvicorn."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.api.prometheus.answers import BASE
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import running


@pytest.fixture
def prometheus(metrics: Metrics) -> Iterator[Any]:
    """A client of an application that has the external label `job` and also records."""
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    app = create_app(metrics, allow_write=True, external_labels={"job": "api"})
    with running(app) as at, httpx.Client(base_url=f"{at}/api/v1", **PATIENT) as client:
        yield client


@pytest.fixture
def recorded(metrics: Metrics) -> Metrics:
    """An hour of jobs, depths and durations of two queues, one of each every ten seconds."""
    metrics.declare("took_seconds", "histogram", unit="seconds", help="Time.", buckets=[0.5, 2])
    for number in range(360):
        tags, at = {"queue": "ab"[number % 2]}, BASE + 10 * number + 3
        metrics.increment("jobs", 1 + number % 3, tags=tags, timestamp=at)
        metrics.gauge("depth", number, tags=tags, timestamp=at)
        metrics.histogram("took_seconds", number / 100, tags=tags, timestamp=at)
    metrics.flush()
    return metrics
