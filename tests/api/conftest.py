"""Clients of the HTTP application: a real uvicorn, a real client and a real Redis server."""

from collections.abc import Iterator
from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENT, Server

NEVER = 3600.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Modules that use it call `require_browser` first."""
    from tests.fixtures.browsers import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as made:
        yield made


@pytest.fixture
def web(metrics: Metrics) -> Iterator[Any]:
    """A client of the application with the default limits, read-only."""
    from redismetrics.api.app import create_app
    from tests.fixtures.webserver import running

    httpx = pytest.importorskip("httpx", reason="needs httpx")
    with running(create_app(metrics)) as at, httpx.Client(base_url=at, **PATIENT) as client:
        yield client


@pytest.fixture
def writable(metrics: Metrics) -> Iterator[Any]:
    """A client of an application that records, with low limits for a body."""
    from redismetrics.api.app import create_app
    from redismetrics.api.limits import Limits
    from tests.fixtures.webserver import running

    httpx = pytest.importorskip("httpx", reason="needs httpx")
    limits = Limits(max_batch=5, body_bytes=2_000)
    app = create_app(metrics, allow_write=True, limits=limits)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as client:
        yield client


@pytest.fixture(scope="module")
def refusing(server: Server) -> Iterator[Any]:
    """A client of an application that must not record anything: all requests to it are invalid."""
    from redismetrics.api.app import create_app
    from redismetrics.api.limits import Limits
    from tests.fixtures.webserver import running

    httpx = pytest.importorskip("httpx", reason="needs httpx")
    limits = Limits(max_batch=5, body_bytes=2_000)
    with Metrics(server.url, namespace="refusing", flush_interval=NEVER) as metrics:
        app = create_app(metrics, allow_write=True, limits=limits)
        with running(app) as at, httpx.Client(base_url=at, **PATIENT) as client:
            yield client
        assert metrics.stats()["recorded"] == 0
