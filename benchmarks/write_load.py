"""Load of one version of redismetrics, which takes orders on standard input; see before.py.

    python -P write_load.py URL

Only PYTHONPATH says which version is imported, so this file imports nothing of this repository but
what old versions have too. An order is a line of JSON, a method's name and its arguments; the
answer is a line of JSON.
"""

import json
import random
import sys
import time
from typing import Any

from redismetrics import Metrics
from redismetrics.settings import resolve
from redismetrics.worker import Worker

ORDINARY = ("counter",) * 7 + ("gauge",) * 6 + ("histogram",) * 7
# Mix -> the kind of each metric, series of each, samples of each series.
MIXES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "ordinary": (ORDINARY, 5, 10),
    "histogram 1": (("histogram",), 100, 1),
    "histogram 10": (("histogram",), 100, 10),
    "counter 10": (("counter",), 100, 10),
    "gauge 1": (("gauge",), 100, 1),
}
SMALL_KINDS, SMALL_SERIES = ("counter", "gauge", "histogram"), 2


class Load:
    """Writers and a worker on one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writers: list[Metrics] = []
        self.random = random.Random(20240501)
        self.calls: list[tuple[str, str, dict[str, str], int]] = []

    def open(self, mix: str, writers: int) -> None:
        kinds, series, each = MIXES[mix]
        name = mix.replace(" ", "_")
        self._open(writers, [(kind, f"{name}_{at}") for at, kind in enumerate(kinds)], series, each)

    def open_small(self, metrics: int) -> None:
        kinds = [SMALL_KINDS[at % len(SMALL_KINDS)] for at in range(metrics)]
        self._open(1, [(kind, f"small_{at}") for at, kind in enumerate(kinds)], SMALL_SERIES, 1)

    def _open(self, writers: int, metrics: list[tuple[str, str]], series: int, each: int) -> None:
        for writer in self.writers:
            writer.close()
        self.writers = [
            Metrics(self.url, flush_interval=3600, socket_timeout=60) for _ in range(writers)
        ]
        self.calls = [
            (kind, name, {"route": str(at)}, each) for kind, name in metrics for at in range(series)
        ]

    def record(self, writer: int = 0) -> None:
        metrics, draw = self.writers[writer], self.random
        for kind, name, tags, each in self.calls:
            for _ in range(each):
                if kind == "counter":
                    metrics.increment(name, draw.randrange(1, 9), tags=tags)
                elif kind == "gauge":
                    metrics.gauge(name, round(draw.random(), 3), tags=tags)
                else:
                    metrics.histogram(name, round(draw.expovariate(5), 3), tags=tags)

    def flush(self) -> float:
        """Record nothing; send what waits, and return the seconds that it took."""
        began = time.perf_counter()
        self.writers[0].flush(60)
        return time.perf_counter() - began

    def flushes(self, count: int, passes: bool) -> None:
        """Record and flush; with *passes* a worker passes after each fifth flush."""
        for number in range(count):
            self.record()
            self.flush()
            if passes and number % 5 == 4:
                self.work()

    def fleet(self, seconds: float, until: float) -> list[int]:
        """Flush each writer once a second; return how many flushes there were, and how many late.

        *until* is the time at which it ends. A writer that is late by a second leaves one out.
        """
        begin, count, late = until - seconds, len(self.writers), 0
        due = [begin + at / count for at in range(count)]
        flushed = 0
        while True:
            writer = min(range(count), key=due.__getitem__)
            now = time.time()
            if due[writer] >= until or now >= until:
                return [flushed, late]
            time.sleep(max(due[writer] - now, 0))
            self.record(writer)
            self.writers[writer].flush(60)
            flushed += 1
            due[writer] += 1
            while due[writer] < time.time() - 1:
                due[writer] += 1
                late += 1

    def passes(self, every: float, until: float) -> int:
        """Make a worker's pass each *every* seconds until the time *until*; return how many."""
        made = 0
        while time.time() + every <= until:
            time.sleep(every)
            self.work()
            made += 1
        return made

    # What a user waits for, each in seconds.

    def work(self) -> float:
        worker = self._worker()
        began = time.perf_counter()
        worker.pass_once(alone=True)
        return time.perf_counter() - began

    def newest(self) -> float:
        began = time.perf_counter()
        self.writers[0].get_metrics(limit=10)
        return time.perf_counter() - began

    def listing(self) -> float:
        began = time.perf_counter()
        self.writers[0].list_metrics()
        return time.perf_counter() - began

    def page(self) -> float:
        try:
            from redismetrics.export.prometheus import negotiate
        except ImportError:
            from redismetrics.export import negotiate
        began = time.perf_counter()
        negotiate(None, metrics=self.writers[0])
        return time.perf_counter() - began

    def doctor(self) -> float:
        try:
            from redismetrics.admin.doctor import examine
        except ImportError:
            from redismetrics.doctor import examine
        began = time.perf_counter()
        examine(self.url, socket_timeout=60)
        return time.perf_counter() - began

    def _worker(self) -> Any:
        if not hasattr(self, "_made"):
            try:
                from redismetrics.store.connection import Store
            except ImportError:
                from redismetrics.connect import Store
            self._made = Worker(resolve(url=self.url, socket_timeout=60), Store(self.url, 60))
        return self._made


def main() -> None:
    load = Load(sys.argv[1])
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(getattr(load, method)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
