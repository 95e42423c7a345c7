"""An application that measures with the OpenTelemetry SDK, and what must be stored of it."""

import math
import random
from typing import Any

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from redismetrics import Metrics

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1"})
CUMULATIVE = dict.fromkeys((Counter, Histogram, UpDownCounter), AggregationTemporality.CUMULATIVE)
DELTA = dict.fromkeys((Counter, Histogram, UpDownCounter), AggregationTemporality.DELTA)


class Application:
    """An application that measures with the SDK and keeps its own totals."""

    def __init__(
        self, exporter: Any, resource: Resource = RESOURCE, seed: int = 7, **options: Any
    ) -> None:
        self.reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        self.provider = MeterProvider([self.reader], resource, shutdown_on_exit=False, **options)
        self.random = random.Random(seed)
        meter = self.provider.get_meter("test", "1")
        self.jobs = meter.create_counter("jobs.done", unit="{job}", description="Jobs done")
        self.active = meter.create_up_down_counter("jobs.active")
        self.took = meter.create_histogram("took", unit="s", description="How long it took")
        self.heat = meter.create_gauge("heat", unit="Cel")
        self.cpu = 0.0
        meter.create_observable_counter("cpu", [lambda _: [Observation(self.cpu, {"core": 0})]])
        self.amounts: dict[str, int] = {"mail": 0, "audio": 0}
        self.now_active = 0
        self.times: list[float] = []
        self.last_heat = 0.0

    def work(self, rounds: int = 50) -> None:
        for _ in range(rounds):
            queue, amount = self.random.choice(["mail", "audio"]), self.random.randrange(5)
            self.jobs.add(amount, {"queue": queue, "http.ok": True})
            self.amounts[queue] += amount
            step = self.random.choice([-1, 1, 2])
            self.active.add(step)
            self.now_active += step
            # Sums of these values are exact.
            value = self.random.randrange(1, 40_000) / 1024
            self.took.record(value, {"queue": queue})
            self.times.append(value)
        self.last_heat = self.random.randrange(100) / 2
        self.heat.set(self.last_heat)
        self.cpu += 0.25

    def export(self) -> None:
        assert self.provider.force_flush(5_000)

    def end(self) -> None:
        self.provider.shutdown(5_000)


def assert_stored(metrics: Metrics, *applications: Application) -> None:
    """Assert that Redis has what the applications measured."""
    metrics.flush()
    for queue in ("mail", "audio"):
        expected = sum(each.amounts[queue] for each in applications)
        tags = {"queue": queue, "service.name": "shop", "http.ok": "true"}
        assert metrics.query("jobs.done", aggregation="sum", tags=tags) == expected
    assert metrics.query("cpu", aggregation="sum", tags={"core": "0"}) == sum(
        each.cpu for each in applications
    )
    (active,) = metrics.live("jobs.active")[0].series
    assert active.value == sum(each.now_active for each in applications)
    assert metrics.query("heat", aggregation="last") in {each.last_heat for each in applications}
    times = [value for each in applications for value in each.times]
    assert metrics.query("took", aggregation="count") == len(times)
    assert metrics.query("took", aggregation="sum") == math.fsum(times)
    known = {
        each["name"]: (each["type"], each["unit"], each["help"]) for each in metrics.list_metrics()
    }
    assert known == {
        "jobs.done": ("counter", "job", "Jobs done"),
        "jobs.active": ("gauge", "", ""),
        "cpu": ("counter", "", ""),
        "took": ("histogram", "s", "How long it took"),
        "heat": ("gauge", "Cel", ""),
    }
