"""What the web page's demo records: the steady traffic of a small service, and its recent history.

Both come from the same functions of time, so the live traffic continues the history. In the
history, a deploy goes wrong and is rolled back, and a queue begins to grow.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from redismetrics.client.metrics import Metrics
from redismetrics.model.time import system_clock

RULES = """\
groups:
  - name: demo
    interval: 30s
    rules:
      - alert: JobsFail
        expr: sum by (tenant) (rate(jobs_completed_total{status="failed"}[5m])) > 0.4
        for: 2m
        labels: {severity: page}
        annotations:
          summary: "{{ $value | humanize }} jobs of {{ $labels.tenant }} fail per second"
      - alert: QueueTooLong
        expr: max by (queue) (queue_depth) > 150
        for: 2m
        labels: {severity: ticket}
        annotations: {summary: "{{ $value }} jobs are waiting in {{ $labels.queue }}"}
      - alert: CacheMisses
        expr: avg(cache_hit_ratio) < 0.6
        labels: {severity: ticket}
        annotations: {summary: "{{ $value | humanizePercentage }} of reads hit the cache"}
"""

# Each process records one of each.
_TENANTS = (("acme", 6.0), ("globex", 4.0), ("initech", 2.0), ("umbrella", 1.0))
# Requests per second, the median response time in seconds, and bytes per response.
_ENDPOINTS = (
    ("/api", 6.0, 0.040, 4_000),
    ("/search", 3.0, 0.120, 18_000),
    ("/upload", 0.5, 0.450, 900),
    ("/health", 1.0, 0.004, 60),
)
_QUEUES = (("mail", 40), ("reports", 25), ("ingest", 70), ("thumbnails", 12))
# Seconds before now at which it started, and how fast the loss falls.
_RUNS = (("r1-baseline", 3000, 90.0), ("r2-more-data", 2400, 60.0), ("r3-larger", 1500, 45.0))
_RUN_STEPS = 240
_STEP_SECONDS = 10.0

# Seconds before now: a bad deploy, and its rollback.
_DEPLOY, _ROLLBACK = 2700, 1740
# Seconds before now at which the reports start piling up.
_PILING = 1200
_LONGEST_QUEUE = 260

# Seconds between records of history, and of live traffic.
_HISTORY_STEP = 20
_LIVE_STEP = 0.5


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic around *now*, the Unix time at which the demo began to record live."""

    now: float
    seed: int = 1

    def record_history(self, metrics: Metrics, seconds: float) -> None:
        """Record the last *seconds* before `now`, with marks; return once everything is stored."""
        random = Random(self.seed)
        _declare(metrics)
        for steps in range(math.floor(seconds / _HISTORY_STEP), 0, -1):
            for part in range(len(_TENANTS)):
                at = self.now - steps * _HISTORY_STEP
                self._record(metrics, random, part, at, _HISTORY_STEP)
        for run in range(len(_RUNS)):
            for number in range(self._steps_of(run, self.now)):
                self._record_step(metrics, random, run, number)
        metrics.flush(60)
        place = {"service": "api"}
        metrics.mark("Deploy 2.4.0", tags=place, timestamp=self.now - _DEPLOY)
        metrics.mark("Roll back to 2.3.9", tags=place, timestamp=self.now - _ROLLBACK)

    def record_until(self, ends: Callable[[], bool], metrics: Metrics, part: int) -> None:
        """Record one part of the live traffic until *ends* returns True."""
        random = Random(self.seed + part + 1)
        _declare(metrics)
        done = self._steps_of(part, self.now) if part < len(_RUNS) else 0
        while not ends():
            at = system_clock()
            self._record(metrics, random, part, at, _LIVE_STEP)
            while part < len(_RUNS) and done < self._steps_of(part, at):
                self._record_step(metrics, random, part, done)
                done += 1
            time.sleep(_LIVE_STEP)

    def _record(
        self, metrics: Metrics, random: Random, part: int, at: float, seconds: float
    ) -> None:
        """Record what happens in the *seconds* from *at* on."""
        age = self.now - at
        load = 1 + 0.35 * math.sin(1 - age / 860) + 0.12 * math.sin(-age / 113)
        is_broken = _ROLLBACK < age <= _DEPLOY
        tenant, rate = _TENANTS[part]
        failing = 0.16 if is_broken else 0.012
        for status, each in (("ok", rate * (1 - failing)), ("failed", rate * failing)):
            tags = {"tenant": tenant, "status": status}
            for _ in range(_whole(random, each * load * seconds)):
                metrics.increment("jobs_completed", tags=tags, timestamp=at)
        endpoint, rate, median, size = _ENDPOINTS[part]
        slow = 2.6 if is_broken and endpoint != "/health" else 1.0
        where = {"endpoint": endpoint}
        for _ in range(_whole(random, rate * load * seconds)):
            took = slow * median * random.lognormvariate(0, 0.45)
            metrics.histogram(
                "response_time_seconds", took, tags=where, timestamp=at + random.random() * seconds
            )
            sent = round(size * random.lognormvariate(0, 0.3))
            metrics.increment("bytes_sent", sent, tags=where, timestamp=at)
        self._record_gauges(metrics, random, part, at, load, is_broken)

    def _record_gauges(
        self,
        metrics: Metrics,
        random: Random,
        part: int,
        at: float,
        load: float,
        is_broken: bool,
    ) -> None:
        queue, depth = _QUEUES[part]
        piled = max(0.0, _PILING - (self.now - at)) / 6 if queue == "reports" else 0.0
        waiting = min(_LONGEST_QUEUE, depth * load + piled) + random.gauss(0, 3)
        metrics.gauge("queue_depth", max(0, round(waiting)), tags={"queue": queue}, timestamp=at)
        # A worker is replaced every 40 minutes.
        grown = (600 * (part + 1) - (self.now - at)) % 2400 / 2400
        memory = round((180 + 140 * grown + random.gauss(0, 2)) * 2**20)
        worker = {"worker": f"w{part + 1}"}
        metrics.gauge("worker_memory_bytes", memory, tags=worker, timestamp=at)
        hits = (0.52 if is_broken else 0.93) - 0.05 * load + random.gauss(0, 0.008)
        metrics.gauge("cache_hit_ratio", hits, tags=worker, timestamp=at)

    def _steps_of(self, run: int, at: float) -> int:
        began = self.now - _RUNS[run][1]
        return min(_RUN_STEPS, math.floor((at - began) / _STEP_SECONDS))

    def _record_step(self, metrics: Metrics, random: Random, run: int, step: int) -> None:
        name, before, pace = _RUNS[run]
        loss = 0.35 - 0.06 * run + 2.1 * math.exp(-step / pace)
        metrics.gauge(
            "training_loss",
            loss * random.lognormvariate(0, 0.03),
            tags={"run": name},
            metadata={"step": step},
            timestamp=self.now - before + step * _STEP_SECONDS,
        )


def _declare(metrics: Metrics) -> None:
    for name, kind, unit, text in (
        ("jobs_completed", "counter", "", "Jobs that ended, with or without success."),
        ("queue_depth", "gauge", "", "Jobs waiting."),
        ("response_time_seconds", "histogram", "seconds", "From the request to the last byte."),
        ("bytes_sent", "counter", "bytes", "Bodies of responses."),
        ("worker_memory_bytes", "gauge", "bytes", "Resident memory of each worker."),
        ("cache_hit_ratio", "gauge", "ratio", "Reads that the cache answers."),
    ):
        metrics.declare(name, kind, unit=unit, help=text)  # type: ignore[arg-type]
    metrics.declare(
        "training_loss", "gauge", help="Loss of each training step.", exact_samples=True
    )


def _whole(random: Random, amount: float) -> int:
    """Return a random whole number with mean *amount*, like a count of independent events."""
    return max(0, math.floor(random.gauss(amount, math.sqrt(amount)) + random.random()))
