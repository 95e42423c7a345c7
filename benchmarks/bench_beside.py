"""Do large questions hold up those who record, and how much memory does one take?

    python -m benchmarks.bench_beside [--json] [--quick]

One process records into 100 histograms, a thousand calls and a flush, again and again; another asks all the time, with nothing
remembered, for the p95 by group over a day of a million samples, or for the minutes of a day of 200 gauges set each 15 s. "alone"
is the same with nobody asking. Memory is the most that a new process had while it answered its first such question, less what it
had before; what the answer itself takes is in it.
"""

import time
from collections.abc import Callable, Iterator

import redismetrics
from benchmarks.bench_query import NAMESPACE, Filled, Load, each_15_s, latency, minutely, p95
from benchmarks.bench_scrape import memory
from benchmarks.bench_stream import percentile
from benchmarks.children import Child
from benchmarks.common import Options, Row, bound, main, own_server, own_worker

QUESTION = "Do large questions hold up those who record?"
QUESTIONS = {"p95": p95, "minutes": minutely}
CALLS = 1_000


def recorder(url: str) -> Callable[[float], tuple[float, float, float]]:
    """For some seconds; returns p99.9 of a call in us, p50 and p99 of a flush in ms."""
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


def asker(url: str, question: str, load: Load) -> Callable[[float], tuple[int, float]]:
    """Asks for some seconds, or once; returns how often, and megabytes at most."""
    metrics = redismetrics.Metrics(url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60)
    metrics.query("nothing", aggregation="p95", group_by="route")  # all is imported and connected

    def ask(seconds: float) -> tuple[int, float]:
        before = memory("VmRSS")
        until, many = time.perf_counter() + seconds, 0
        while not many or time.perf_counter() < until:
            if not QUESTIONS[question](metrics, load):
                raise AssertionError(f"{question}: wanted an answer, got none")
            many += 1
        return many, memory("VmHWM") - before

    return ask


def beside(
    url: str, title: str, question: str, load: Load, runs: int, seconds: float
) -> Iterator[Row]:
    with Child(recorder, url) as records, Child(asker, url, question, load) as asks:
        records(seconds / 2)
        alone, together, asked = [], [], []
        for _ in range(runs):
            alone.append(records(seconds))
            asks.start(seconds)
            together.append(records(seconds))
            asked.append(asks.wait()[0] / seconds)
    note = f"{sum(asked) / len(asked):.3g} questions a second meanwhile"
    for at, (what, unit) in enumerate(
        [("a call, p99.9", "us"), ("a flush, p50", "ms"), ("a flush, p99", "ms")]
    ):
        ours, theirs = ([each[at] for each in found] for found in (together, alone))
        yield Row(f"{what}, beside {title}", unit, ours, "the same alone", theirs, note=note)


def peak(url: str, title: str, question: str, load: Load, runs: int) -> Row:
    found = []
    for _ in range(min(runs, 3)):
        with Child(asker, url, question, load) as asks:
            found.append(asks(0)[1])
    return Row(f"peak memory of {title}", "MB", found)


def measure(options: Options) -> Iterator[Row]:
    many, gauges, seconds = (20_000, 10, 0.3) if options.quick else (1_000_000, 200, 2.0)
    with own_server(options.server) as (url, _):
        worker = own_worker(url, NAMESPACE)
        for question, load, title in (
            ("p95", latency(many), f"p95 by group of {many:,} samples"),
            ("minutes", each_15_s("depth", "gauge", gauges), f"a day's minutes of {gauges} gauges"),
        ):
            filled = Filled(url, worker, load)
            yield from beside(url, title, question, load, options.runs, seconds)
            yield peak(url, title, question, load, options.runs)
            filled.close()
        worker.leave()


if __name__ == "__main__":
    main(QUESTION, measure)
