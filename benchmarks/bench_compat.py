"""What does prometheus_client over Redis cost, compared with plain prometheus_client?

    python -m benchmarks compat [--quick]

The real package runs in its two modes, each in a process of its own, and all take turns. A call is
the best of 12 rounds of 10,000 by `timeit`; what was counted is sent between the rounds.

A page shows what 4, 100 and 1,000 processes left that each counted and ended: a counter and a
histogram with 20 children each, and gauges of the modes all, livesum and max. The processes are
forked, one after the other, and end as those of multiprocessing do. Both make the page with
`MultiProcessCollector` and the real `generate_latest`. A page of one process, from its own
registry, is in a row of its own.
"""

import os
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.children import Child
from benchmarks.common import Options, Row, in_turn, main, own_server

QUESTION = "What does prometheus_client over Redis cost, compared with plain prometheus_client?"
ROUNDS = 12
CHILDREN = 20
STATEMENTS = {
    "counter inc()": "counter.inc()",
    "labels() and inc()": "labelled.labels('GET', '200').inc()",
    "gauge set()": "gauge.set(1.5)",
    "histogram observe()": "histogram.observe(1.5)",
    "summary observe()": "summary.observe(1.5)",
}
SINGLE, MULTI = "prometheus_client, one process", "prometheus_client, multi-process mode"


def calls(url: str | None, number: int) -> Callable[[str], float]:
    """Return a function that measures a call in us; with *url*, over Redis. In a child process."""
    flush = _install(url)
    from prometheus_client import Counter, Gauge, Histogram, Summary

    names: dict[str, Any] = {
        "counter": Counter("calls", "-"),
        "labelled": Counter("labelled", "-", ["method", "status"]),
        "gauge": Gauge("level", "-", multiprocess_mode="livesum"),
        "histogram": Histogram("took", "-"),
        "summary": Summary("size", "-"),
    }

    def best(case: str) -> float:
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(timeit.timeit(STATEMENTS[case], globals=names, number=number))
            flush()
        return min(rounds) / number * 1e6

    return best


def _install(url: str | None) -> Callable[[], None]:
    """Install the wrapper; return what sends all that was counted."""
    if url is None:
        return lambda: None
    from redismetrics.client import default
    from redismetrics.compat.prometheus_client import install

    default.configure(url, namespace="compat", flush_interval=3600)
    install()
    return lambda: default.client().flush(60) and None


def pages(url: str | None) -> Callable[[str, int], float]:
    """Return a function that lets processes count and end, or makes a page. In a child process.

    The first returns how many files there are, the second how long the page took, in ms.
    """
    _install(url)
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    own = CollectorRegistry()
    jobs = Counter("jobs", "Jobs", ["route"], registry=own)
    took = Histogram("took", "Seconds", ["route"], registry=own)
    gauges = [
        Gauge(f"level_{mode}", "Level", registry=own, multiprocess_mode=mode)
        for mode in ("all", "livesum", "max")
    ]

    def count() -> None:
        for number in range(CHILDREN):
            jobs.labels(number).inc()
            took.labels(number).observe(number / 10)
        for gauge in gauges:
            gauge.set(5)

    def fork() -> None:
        child = os.fork()
        if not child:
            count()
            if url is not None:
                from redismetrics.recording.lifecycle import close_at_exit

                close_at_exit()
            os._exit(0)
        os.waitpid(child, 0)

    def page(registry: CollectorRegistry) -> float:
        began = time.perf_counter()
        generate_latest(registry)
        return (time.perf_counter() - began) * 1e3

    def work(what: str, number: int) -> float:
        if what == "processes":
            for _ in range(number):
                fork()
            folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
            return len(list(Path(folder).iterdir())) if folder else 0
        if what == "own page":
            count()
            return page(own)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return page(registry)

    return work


def measure(options: Options) -> Iterator[Row]:
    number = 500 if options.quick else 10_000
    with ExitStack() as stack:
        url, _ = stack.enter_context(own_server(options.server))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        multi = {"PROMETHEUS_MULTIPROC_DIR": folder}
        ours = stack.enter_context(Child(calls, url, number))
        single = stack.enter_context(Child(calls, None, number))
        mapped = stack.enter_context(Child(calls, None, number, environ=multi))
        for case in STATEMENTS:
            measures = {"ours": lambda case=case: ours(case)}
            measures |= {SINGLE: lambda case=case: single(case)}
            measures |= {MULTI: lambda case=case: mapped(case)}
            figures = in_turn(measures, options.runs)
            for peer in (SINGLE, MULTI):
                yield Row(f"{case}", "us", figures["ours"], peer, figures[peer])
    yield from _pages(options)


def _pages(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        url, _ = stack.enter_context(own_server(options.server))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ours = stack.enter_context(Child(pages, url))
        multi = stack.enter_context(
            Child(pages, None, environ={"PROMETHEUS_MULTIPROC_DIR": folder})
        )
        single = stack.enter_context(Child(pages, None))
        so_far = 0
        for processes in (2, 4) if options.quick else (4, 100, 1_000):
            ours("processes", processes - so_far)
            files = multi("processes", processes - so_far)
            so_far = processes
            figures = in_turn(
                {"ours": lambda: ours("page", 0), MULTI: lambda: multi("page", 0)}, options.runs
            )
            yield Row(
                f"page after {processes:,} processes",
                "ms",
                figures["ours"],
                MULTI,
                figures[MULTI],
                note=f"the peer reads {files:,.0f} files",
                headline=processes == 1_000,
            )
        figures = in_turn(
            {"ours": lambda: ours("page", 0), SINGLE: lambda: single("own page", 0)}, options.runs
        )
        yield Row("page of one process", "ms", figures["ours"], SINGLE, figures[SINGLE])


if __name__ == "__main__":
    main(QUESTION, measure)
