"""Downsampling in a worker's passes."""

import time

import pytest
import redis

from redismetrics import Metrics
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import keys
from redismetrics.worker.limits import WorkerLimits
from tests.fixtures.workers import pull_forward
from tests.worker.tools import Make, due


def test_failed_downsampling_does_not_hold_up_other_metrics(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What fails fills all the pending work that is read at once.
    limits = WorkerLimits(pending_at_once=4)
    before = time.time() - 7 * 3600
    for hour in range(6):
        metrics.increment("bad", timestamp=before + 3600 * hour)
        metrics.increment("good", timestamp=before + 3600 * hour)
    metrics.flush()
    one = make(limits=limits)
    one.pass_once()
    for hour in range(6):
        span = slot_of(int((before + 3600 * hour) * 1000), HOUR)
        admin.delete(keys.data(namespace, 0, "bad", "minute", span))
        admin.set(keys.data(namespace, 0, "bad", "minute", span), "no hash")
    pull_forward(admin, namespace)
    for _ in range(3):
        one.pass_once()
    assert due(admin, namespace, "good") == set()
    assert len(due(admin, namespace, "bad")) >= 8
    assert one.counts.failures == 18
    assert metrics.query("good", aggregation="sum") == 6
