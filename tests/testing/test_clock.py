"""The clock that a test moves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import redismetrics
from redismetrics import (
    Metrics,
)
from redismetrics.testing import Captured, Clock
from tests.testing.application import (
    depth,
)


def test_the_capture_uses_the_clock_of_the_test(captured: Captured, metrics_clock: Clock) -> None:
    metrics_clock.set(datetime(2026, 3, 1, 12, tzinfo=UTC))
    depth.set(1.0)
    redismetrics.increment("jobs")
    assert captured.counter("jobs").count == 1
    metrics_clock.advance(timedelta(hours=1))
    depth.set(2.0)
    metrics_clock.advance(-1800)
    depth.set(3.0)
    times = [sample.timestamp for sample in captured.gauge("depth").samples]
    assert [(time.hour, time.minute) for time in times] == [(12, 0), (12, 30), (13, 0)]
    assert captured.gauge("depth").is_now(2)
    assert captured.counter("jobs").samples[0].timestamp == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_clock_can_be_passed_to_a_client(url: str, namespace: str) -> None:
    clock = Clock(datetime.now(UTC) - timedelta(hours=2))
    began = clock()
    with Metrics(url, namespace=namespace, clock=clock, flush_interval=3600) as metrics:
        metrics.histogram("took", 1)
        assert clock.advance(60) == began + 60
        metrics.histogram("took", 2)
        times = [sample.timestamp.timestamp() for sample in metrics.query("took")]
    assert times == pytest.approx([began, began + 60], abs=0.001)


@pytest.mark.parametrize("when", [datetime(2026, 1, 1), "noon", float("nan")], ids=repr)  # noqa: DTZ001
def test_an_invalid_time_raises(when: Any) -> None:
    with pytest.raises(redismetrics.InvalidMetric):
        Clock(when)
