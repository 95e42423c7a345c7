"""Gauges whose value is a function, without a program."""

from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="needs prometheus_client")

from redismetrics import Metrics
from redismetrics.compat.prometheus import callbacks
from redismetrics.compat.prometheus.values import SharedGaugeValue


class Gauge:
    """A gauge of prometheus_client as far as these functions know it."""

    def __init__(self, name: str, client: Metrics) -> None:
        self._value: Any = SharedGaugeValue(name, {}, client)


def test_a_collected_gauge_is_forgotten_by_a_thread_and_a_page_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Functions that take no time are due again at once.
    monkeypatch.setattr(callbacks, "monotonic", lambda: 0.0)
    with Metrics("none://") as client:
        known = callbacks.Callbacks()
        gauges = [Gauge("first", client), Gauge("second", client)]
        calls = []

        def sample_elsewhere() -> float:
            calls.append(len(gauges))
            if len(gauges) == 2 and len(calls) > 1:
                del gauges[1]
                known.sample()
            return 1.0

        known.follow(gauges[0], sample_elsewhere)
        known.follow(gauges[1], lambda: 2.0)
        known.sample()
        assert calls == [2, 2, 1]
