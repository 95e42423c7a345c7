"""Limits on what is recorded on behalf of remote callers."""

import pytest

from redismetrics.integrations.limits import CardinalityLimit, LimitExceeded
from tests.fixtures.clients import MakeMetrics


def test_known_metrics_are_accepted_when_there_are_too_many(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics()
    # More than the limit, as after requests that were checked at the same time.
    for name in ("one", "two", "three"):
        metrics.increment(name)
    limit = CardinalityLimit(2, 100, 10_000)
    limit.check(metrics, ["one", "three"])
    with pytest.raises(LimitExceeded, match=r"at most 2 metrics .*, got 4"):
        limit.check(metrics, ["one", "new"])
