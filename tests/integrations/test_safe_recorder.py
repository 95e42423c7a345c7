"""Errors of the middleware never affect its application."""

from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import asgi
from redismetrics.testing import Captured
from tests.integrations.request_counts import request_counts, run_asgi

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": scope.get("answer", 200), "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("fault", ["the name's type", "the endpoint", "too long"])
def test_error_is_logged_once_and_never_raised(
    captured: Captured, offline_metrics: Metrics, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    endpoint: Callable[[Any], str]
    if fault == "the name's type":
        offline_metrics.declare("http_requests", "gauge")
        endpoint = lambda scope: "/"  # noqa: E731
    elif fault == "the endpoint":
        endpoint = lambda scope: str(1 / 0)  # noqa: E731
    else:
        endpoint = lambda scope: "x" * 5_000  # noqa: E731
    app = asgi.MetricsMiddleware(bare_app, metrics=offline_metrics, endpoint=endpoint)
    assert len(run_asgi(app)) == 2
    assert len(run_asgi(app)) == 2
    assert len(caplog.records) == 1
    if fault == "the endpoint":
        assert request_counts(captured) == {("GET", "unmatched", "200"): 2}
    else:
        assert captured.nothing_recorded()
