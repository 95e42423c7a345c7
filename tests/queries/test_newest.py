"""The newest samples of all metrics: of many metrics only a few are read, and none is missed."""

import random
import time

import pytest

from redismetrics import Gauge, Metrics
from redismetrics.queries.samples import PROBED
from redismetrics.worker.worker import Worker
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.queries import DAY
from tests.fixtures.servers import Server

METRICS = 3 * PROBED
KINDS = ("counter", "gauge", "histogram", "shared gauge")


class Recording:
    """Records random samples of many metrics, and knows their times in ms."""

    def __init__(self, metrics: Metrics, generator: random.Random, began: float) -> None:
        self.metrics, self.generator, self.began = metrics, generator, began
        self.clock = began
        self.times: list[int] = []

    def record(self) -> None:
        """Record a sample of one metric, of the time of this process or of another."""
        generator, number = self.generator, self.generator.randrange(METRICS)
        kind, name = KINDS[number % len(KINDS)], f"metric_{number}"
        own = generator.random() < 0.4
        # Up to 3 minutes ahead, and up to 15 behind.
        when = round(
            self.began + generator.choice([170, 60, 5, -5, -60, -900]) * generator.random(), 3
        )
        timestamp = when if own else None
        self.clock += generator.choice([0, 0, 0.001])
        value, tags = generator.randrange(1, 10**9), {"of": generator.randrange(2)}
        if kind == "counter":
            self.metrics.increment(name, value, tags=tags, timestamp=timestamp)
        elif kind == "gauge":
            self.metrics.gauge(name, value, tags=tags, timestamp=timestamp)
        elif kind == "histogram":
            self.metrics.histogram(name, value, tags=tags, timestamp=timestamp)
        else:
            Gauge(name, metrics=self.metrics).add(value)


def seal(worker: Worker) -> None:
    for _ in worker.once():
        pass


def newest_of_all(metrics: Metrics, limit: int) -> list[dict[str, object]]:
    """Return the newest samples as a query with an end finds them: it reads all metrics."""
    found = metrics.get_metrics(limit=limit, until=time.time() + DAY)["metrics"]
    assert isinstance(found, list)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_newest_samples_of_many_metrics_are_those_of_all(
    make_metrics: MakeMetrics, make_worker: MakeWorker, seed: int
) -> None:
    generator = random.Random(seed)
    began = time.time() - 2
    recording: Recording
    metrics = make_metrics(clock=lambda: recording.clock, samples_per_flush=20)
    recording, worker = Recording(metrics, generator, began), make_worker()
    for _ in range(6):
        for _ in range(generator.choice([1, 20, 200])):
            recording.record()
        if generator.random() < 0.2:
            # Compressed, and listed at the start of their minute once they are sealed.
            for value in range(100):
                metrics.histogram("metric_2", value, tags={"of": 0})
        metrics.flush()
        if generator.random() < 0.4:
            seal(worker)
        for limit in (1, 3, 10, 50):
            found = metrics.get_metrics(limit=limit)["metrics"]
            assert found == newest_of_all(metrics, limit)


def test_samples_ahead_of_their_batch_are_found_in_metrics_recorded_first(
    make_metrics: MakeMetrics, make_worker: MakeWorker
) -> None:
    """Their metric was recorded before all others, and its samples are the newest all the same."""
    now = round(time.time(), 3)
    metrics = make_metrics()
    for name, ahead in (("unsealed", 40), ("sealed", 200)):
        for second in range(5):
            metrics.histogram(name, second, timestamp=now + ahead + second)
        metrics.flush()
        if name == "unsealed":
            continue
        seal(make_worker())
        for second in range(5):
            metrics.histogram("unsealed", second, timestamp=now + 100 + second)
        metrics.flush()
    for number in range(METRICS):
        metrics.increment(f"other_{number}")
        metrics.flush()
    found = metrics.get_metrics(limit=10)["metrics"]
    assert [(sample["name"], sample["value"]) for sample in found] == [
        (name, second) for name in ("sealed", "unsealed") for second in (4, 3, 2, 1, 0)
    ]


def test_at_equal_times_the_samples_of_the_last_metrics_are_the_newest(metrics: Metrics) -> None:
    now = round(time.time(), 3)
    for number in range(METRICS):
        metrics.histogram(f"metric_{number}", number, timestamp=now)
        metrics.flush()
    # Recorded last, but the first metric in the catalogue.
    metrics.histogram("metric_0", 100, timestamp=now)
    metrics.flush()
    found = metrics.get_metrics(limit=3)["metrics"]
    assert [sample["value"] for sample in found] == [METRICS - 1, METRICS - 2, METRICS - 3]


def test_metrics_with_only_older_samples_are_not_read(server: Server, metrics: Metrics) -> None:
    now = round(time.time(), 3)
    for number in range(METRICS):
        metrics.histogram(f"metric_{number}", number, timestamp=now + number)
    metrics.flush()
    with server.client() as client:
        client.config_resetstat()
        found = metrics.get_metrics(limit=3)["metrics"]
        hashes_read = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    assert [sample["value"] for sample in found] == [METRICS - 1, METRICS - 2, METRICS - 3]
    # Two of each metric, for those that are probed and again for those with the newest.
    assert hashes_read < 5 * PROBED
    assert 5 * PROBED < 2 * METRICS
