"""Do large queries slow down recording, and how much memory does one need?

    python -m benchmarks beside [--quick]

One process records to 100 histograms: a thousand calls, then a flush, again and again. Another
process repeats one large query without a cache: the p95 by group over a day of a million samples,
or the minutes of a day of 200 gauges that were set every 15 s. The peer is the same recorder
without queries.

Memory is the peak of a new process during its first such query, less what it had before. The
result of the query is included.
"""

import time
from collections.abc import Callable, Iterator

import redismetrics
from benchmarks.bench_query import NAMESPACE, Filled, Load, each_15_s, latency, minutely, p95
from benchmarks.bench_scrape import memory
from benchmarks.bench_stream import percentile
from benchmarks.children import Child
from benchmarks.common import Options, Row, bound, main, own_server, own_worker

QUESTION = "Do large queries slow down recording?"
QUERIES = {"p95": p95, "minutes": minutely}
CALLS = 1_000


def recorder(url: str) -> Callable[[float], tuple[float, float, float]]:
    """Return a function that records for some seconds.

    It returns the p99.9 of a call in µs, and the p50 and p99 of a flush in ms.
    """
    metrics = redismetrics.Metrics(url, namespace="beside", flush_interval=3600)
    calls = bound(metrics, "histogram", "took", 100)

    def record(seconds: float) -> tuple[float, float, float]:
        taken, flushes = [], []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for number in range(CALLS):
                began = time.perf_counter()
                calls[number % 100](1.5)
                taken.append((time.perf_counter() - began) * 1e6)
            began = time.perf_counter()
            metrics.flush(30)
            flushes.append((time.perf_counter() - began) * 1e3)
        if metrics.stats()["dropped"]:
            raise AssertionError(f"dropped: {metrics.stats()['dropped']}")
        return percentile(taken, 99.9), percentile(flushes, 50), percentile(flushes, 99)

    return record


def querier(url: str, query: str, load: Load) -> Callable[[float], tuple[int, float]]:
    """Return a function that repeats a query for some seconds, but at least once.

    It returns the number of queries, and the megabytes by which the process grew at most.
    """
    metrics = redismetrics.Metrics(url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60)
    metrics.query("nothing", aggregation="p95", group_by="route")  # import and connect

    def repeat(seconds: float) -> tuple[int, float]:
        before = memory("VmRSS")
        until, count = time.perf_counter() + seconds, 0
        while not count or time.perf_counter() < until:
            if not QUERIES[query](metrics, load):
                raise AssertionError(f"{query}: the result is empty")
            count += 1
        return count, memory("VmHWM") - before

    return repeat


def during(
    url: str, title: str, query: str, load: Load, runs: int, seconds: float
) -> Iterator[Row]:
    with Child(recorder, url) as record, Child(querier, url, query, load) as repeat:
        record(seconds / 2)
        alone, together, rates = [], [], []
        for _ in range(runs):
            alone.append(record(seconds))
            repeat.start(seconds)
            together.append(record(seconds))
            rates.append(repeat.wait()[0] / seconds)
    note = f"{sum(rates) / len(rates):.3g} queries per second at the same time"
    for at, (what, unit) in enumerate(
        [("recording call, p99.9", "us"), ("flush, p50", "ms"), ("flush, p99", "ms")]
    ):
        ours, theirs = ([each[at] for each in found] for found in (together, alone))
        yield Row(
            f"{what}, during {title}", unit, ours, "the same without queries", theirs, note=note
        )


def peak(url: str, title: str, query: str, load: Load, runs: int) -> Row:
    found = []
    for _ in range(min(runs, 3)):
        with Child(querier, url, query, load) as repeat:
            found.append(repeat(0)[1])
    return Row(f"peak memory of {title}", "MB", found)


def measure(options: Options) -> Iterator[Row]:
    many, gauges, seconds = (20_000, 10, 0.3) if options.quick else (1_000_000, 200, 2.0)
    with own_server(options.server) as (url, _):
        worker = own_worker(url, NAMESPACE)
        for query, load, title in (
            ("p95", latency(many), f"p95 by group of {many:,} samples"),
            (
                "minutes",
                each_15_s("depth", "gauge", gauges),
                f"minutes of {gauges} gauges over a day",
            ),
        ):
            filled = Filled(url, worker, load)
            yield from during(url, title, query, load, options.runs, seconds)
            yield peak(url, title, query, load, options.runs)
            filled.close()
        worker.leave()


if __name__ == "__main__":
    main(QUESTION, measure)
