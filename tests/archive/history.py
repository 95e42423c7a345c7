"""A history of many days, most of it older than what Redis holds, and an oracle of lists."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redismetrics import Metrics
from redismetrics.model.retention import RetentionPolicy
from tests.archive.tools import DAY, HOUR, archive, settle
from tests.fixtures.servers import Server
from tests.fixtures.workers import new_worker

RAW, FINE, DAYS = HOUR, 77 * DAY, 80 * DAY
START = 1_900_000_000.0
RETENTIONS = {
    "raw_retention": RAW,
    "minute_retention": FINE,
    "hour_retention": FINE,
    "day_retention": DAYS,
}
POLICY = RetentionPolicy.of(RAW, FINE, FINE, DAYS)


class Recorded(NamedTuple):
    """One sample; *at* is in Unix seconds."""

    metric: str
    tags: dict[str, str]
    at: float
    value: float


Choose = Callable[[Recorded], bool]


@dataclass
class History:
    """What was recorded in a namespace, and where its archives are."""

    server: Server
    namespace: str
    archives: dict[str, str]
    samples: list[Recorded] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self.server.time

    def boundary(self, level: str) -> float:
        """Return from when on Redis holds a level."""
        resolution = POLICY.named(level)
        assert resolution is not None
        return resolution.kept_from(round(self.now * 1000)) / 1000

    def client(self, to: str | None, **settings: Any) -> Metrics:
        """Return a client that reads the archive *to*."""
        return Metrics(self.server.url, **self.settings(to), **settings)

    def settings(self, to: str | None) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "archive": to,
            "clock": lambda: self.now,
            "flush_interval": 3_600,
            "max_age": FINE - HOUR,
            **RETENTIONS,
        }

    def values(
        self, metric: str, since: float, until: float, tags: dict[str, str] | None = None
    ) -> list[float]:
        """Return the values of the series with these tags in [since, until), in order of time."""
        chosen = (
            each
            for each in self.samples
            if each.metric == metric
            and since <= each.at < until
            and (tags or {}).items() <= each.tags.items()
        )
        return [each.value for each in sorted(chosen, key=lambda each: each.at)]


def make_history(
    server: Server,
    namespace: str,
    archives: Iterable[str],
    *,
    days: int,
    samples: int,
    seed: int = 1,
    levels: tuple[str, ...] = ("hour", "day"),
) -> History:
    """Record for many days; each time also late samples into hours that are archived already."""
    history = History(server, namespace, {each.partition(":")[0]: each for each in archives})
    chance, step = random.Random(seed), 74 * DAY
    # A time of its own, so that partitions begin where they did the last time.
    begin = START
    server.set_time(begin)
    metrics = history.client(None)
    worker = new_worker(server.url, namespace, **RETENTIONS)
    with server.client() as admin:
        while server.time < begin + days * DAY:
            server.advance(step)
            _record(history, metrics, chance, samples, server.time - FINE + 2 * HOUR)
            settle(metrics, worker, admin, namespace)
            for to in archives:
                archive(server.url, namespace, to, *levels)
        # What no archive has yet: also late samples.
        server.advance(3 * HOUR)
        _record(history, metrics, chance, samples, server.time - FINE + 2 * HOUR)
        settle(metrics, worker, admin, namespace)
        # And what no worker has sealed.
        _record(history, metrics, chance, 20, server.time - 2 * HOUR)
        metrics.flush()
    metrics.close()
    worker.leave()
    worker.store.close()
    return history


def _record(
    history: History, metrics: Metrics, chance: random.Random, samples: int, since: float
) -> None:
    # In few hours: a worker builds each hour.
    hours = [chance.uniform(since, history.now - HOUR) // HOUR * HOUR for _ in range(8)]
    for _ in range(samples):
        at = round(chance.choice(hours) + chance.uniform(0, HOUR - 1), 3)
        tags = {"route": chance.choice("abc")} if chance.random() < 0.9 else {}
        metric = chance.choice(["jobs", "latency", "load"])
        if metric == "jobs":
            value = float(chance.randrange(1, 9))
            metrics.increment(metric, value, tags=tags, timestamp=at)
        elif metric == "latency":
            value = chance.lognormvariate(0, 1)
            metrics.histogram(metric, value, tags=tags, timestamp=at)
        else:
            value = chance.gauss(0, 10)
            metrics.gauge(metric, value, tags=tags, timestamp=at)
        history.samples.append(Recorded(metric, tags, at, value))
