"""Points that are dropped after they were recorded are reported to the sender."""

import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import FlushResult, Metrics
from redismetrics.api.app import create_app
from redismetrics.integrations.opentelemetry.dropped_points import reject_dropped
from redismetrics.integrations.opentelemetry.points import Rejections
from redismetrics.recording import sender
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.encode import EncodedBatch
from redismetrics.recording.flush_result import SettledWatch
from redismetrics.store import keys
from tests.fixtures.clients import NEVER
from tests.fixtures.otlp import SECOND_NS, metric_request, number_point, post_otlp, rejected
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

AHEAD = 360


def two_metrics(now: int) -> dict[str, Any]:
    """Return a request with a delta sum of two series and a delta histogram, just measured."""
    start = now - SECOND_NS
    sums = [
        number_point(n, start=start, attributes=[{"key": "n", "value": {"intValue": str(n)}}])
        for n in (1, 2)
    ]
    histogram = {
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(now),
        "count": "100",
        "sum": 250.0,
        "explicitBounds": [1, 5],
        "bucketCounts": ["50", "50", "0"],
    }
    jobs = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": sums}
    took = {"aggregationTemporality": 1, "dataPoints": [histogram]}
    metrics = [{"name": "jobs", "sum": jobs}, {"name": "took", "histogram": took}]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


@pytest.fixture
def metrics_ahead(url: str, namespace: str) -> Iterator[Metrics]:
    """A client on a machine whose clock is 6 minutes ahead of Redis."""
    with Metrics(
        url, namespace=namespace, flush_interval=NEVER, clock=lambda: time.time() + AHEAD
    ) as metrics:
        yield metrics


def test_receiver_ahead_of_redis_rejects_points_that_redis_drops(metrics_ahead: Metrics) -> None:
    with running(create_app(metrics_ahead, allow_write=True)) as at:
        for _ in range(2):
            request = two_metrics(time.time_ns() + AHEAD * SECOND_NS)
            count, message = rejected(post_otlp(at, request))
            assert count == 3
            assert "jobs: dropped as in_future: further ahead than max_future" in message
            assert "took: dropped as in_future" in message
        # Points that Redis accepts are stored.
        assert rejected(post_otlp(at, two_metrics(time.time_ns()))) == (0, "")
    assert metrics_ahead.query("jobs", aggregation="sum") == 3
    # The receiver takes nothing away from what the application's own flush reports.
    assert metrics_ahead.flush() == FlushResult(102, {"in_future": 204})


def test_points_that_redis_refuses_are_rejected_and_the_others_stored(
    metrics: Metrics, at: str, server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sender.encode

    def fails(batch: MetricBatch, *others: Any) -> EncodedBatch:
        if batch.name == "took":
            raise ArithmeticError("a fault of our own")
        return original(batch, *others)

    with monkeypatch.context() as patch:
        patch.setattr(sender, "encode", fails)
        assert rejected(post_otlp(at, two_metrics(time.time_ns()))) == (
            1,
            "took: dropped as failed: see the log of the receiver",
        )
    assert metrics.query("jobs", aggregation="sum") == 3
    with server.client() as direct:
        direct.delete(keys.metric(namespace, 0, "jobs").log)
        direct.set(keys.metric(namespace, 0, "jobs").log, "no such thing")
    request = two_metrics(time.time_ns())
    count, message = rejected(post_otlp(at, request))
    assert (count, message) == (
        2,
        "jobs: dropped as refused: Redis rejects them because of their contents",
    )
    assert rejected(post_otlp(at, request)) == (0, "")
    assert metrics.query("took", aggregation="count") == 100


def test_other_requests_do_not_reject_points_that_are_stored(metrics: Metrics, at: str) -> None:
    metrics.increment("elsewhere", timestamp=time.time() + 3600)
    assert rejected(post_otlp(at, two_metrics(time.time_ns()))) == (0, "")
    assert metrics.flush().dropped == {"in_future": 1}


def test_invalid_points_are_rejected_also_if_the_client_only_counts_them(
    url: str, namespace: str
) -> None:
    with (
        Metrics(url, namespace=namespace, flush_interval=NEVER, on_invalid="drop") as metrics,
        running(create_app(metrics, allow_write=True)) as at,
    ):
        body = metric_request(
            sum={
                "aggregationTemporality": 1,
                "isMonotonic": True,
                "dataPoints": [number_point(-1), number_point(3)],
            }
        )
        count, message = rejected(post_otlp(at, body))
        assert count == 1
        assert "counter 'm' cannot decrease" in message
        assert metrics.query("m", aggregation="sum") == 3


def test_closed_client_stores_nothing_and_reports_it(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace, flush_interval=NEVER)
    with running(create_app(metrics, allow_write=True)) as at:
        metrics.close()
        answer = post_otlp(at, two_metrics(time.time_ns()))
        assert answer.status_code == 503
        assert "the client is closed" in answer.json()["message"]


def test_points_older_than_redis_accepts_are_rejected(url: str, namespace: str) -> None:
    behind = 30 * 86_400
    with (
        Metrics(
            url, namespace=namespace, flush_interval=NEVER, clock=lambda: time.time() - behind
        ) as metrics,
        running(create_app(metrics, allow_write=True)) as at,
    ):
        request = two_metrics(time.time_ns() - behind * SECOND_NS)
        count, message = rejected(post_otlp(at, request))
        assert count == 3
        assert "jobs: dropped as too_old: older than max_age" in message
        assert metrics.flush() == FlushResult(0, {"too_old": 102})


@pytest.mark.parametrize("reason", ["buffer_full", "expired", "unsent", "unknown", "type_mismatch"])
@pytest.mark.parametrize("name", ["jobs", ""])
def test_every_reason_is_named_with_its_points(reason: str, name: str) -> None:
    watch = SettledWatch(["jobs"])
    watch.store("jobs", 1)
    watch.drop(name, reason, 2)
    rejections = Rejections()
    reject_dropped(Tally({"jobs": 3}), watch, rejections)
    assert rejections.count == 2
    (message,) = rejections.reasons
    assert message.startswith(f"{name or 'points'}: dropped as {reason}: ")
    assert "see the log" not in message
