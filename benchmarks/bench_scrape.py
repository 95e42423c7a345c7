"""How long does a scrape take, how much memory does it need, and what do exited processes cost?

    python -m benchmarks scrape [--quick]

A series is a line of the page that is not a comment, as Prometheus counts. 30 % are counters, 30 %
gauges, and 40 % belong to histograms, which have 17 lines each (14 buckets). The page is made as
for an HTTP request, from Redis to bytes, in a process of its own. The peer, prometheus_client in
multiprocess mode, makes the same lines from the files of 10 to 1,000 exited processes, each with
all the series. Memory is the peak of the process while it made its first page, less what it had
before.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redismetrics
from benchmarks.children import Child
from benchmarks.common import Options, Row, bound, main, own_server
from redismetrics.export import prometheus

QUESTION = "What does a scrape of the Prometheus page cost?"

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# Lines per series. A histogram has its buckets, +Inf, sum and count.
LINES = {"counter": 1, "gauge": 1, "histogram": len(BUCKETS) + 3}
FAMILIES = {"counter": 10, "gauge": 10, "histogram": 4}
# The targets for 100,000 series.
MILLISECONDS, MEGABYTES = 400, 100

# The number of series in each family, by kind.
Plan = dict[str, int]
RECORDED: Plan = {"counter": 4_500, "gauge": 4_500, "histogram": 2_500}


def plan(series: int) -> Plan:
    """Return the plan of a page with about *series* lines."""
    share = {"counter": 0.3, "gauge": 0.3, "histogram": 0.4}
    return {
        kind: max(round(series * share[kind] / LINES[kind] / FAMILIES[kind]), 1)
        for kind in FAMILIES
    }


def expected_lines(plan: Plan) -> int:
    return sum(many * FAMILIES[kind] * LINES[kind] for kind, many in plan.items())


def lines_of(page: bytes) -> int:
    """Count the lines of what was recorded here; the page also has some about redismetrics."""
    return len(re.findall(rb"^(?:counter|gauge|histogram)_", page, re.MULTILINE))


def families(plan: Plan) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Yield kind, name and the tags of all series of each family."""
    for kind, many in plan.items():
        tags = [
            {
                "endpoint": f"/api/v1/items/{number}",
                "method": "GET" if number % 2 else "POST",
                "status": "200",
            }
            for number in range(many)
        ]
        for number in range(FAMILIES[kind]):
            yield kind, f"{kind}_{number}_seconds", tags


def value(number: int) -> float:
    return (number * 7919 % 10_007) / 997  # all digits; neighbours differ


# -- in processes of their own ------------------------------------------------------------------


class Page(NamedTuple):
    ms: float
    lines: int
    megabytes: float  # the peak of the process, less what it had before


def measured(page: Callable[[], bytes]) -> tuple[float, int, float]:
    before = memory("VmRSS")
    began = time.perf_counter()
    body = page()
    ms = (time.perf_counter() - began) * 1e3
    return ms, lines_of(body), memory("VmHWM") - before


def memory(what: str) -> float:
    """Return megabytes of this process: VmRSS now, VmHWM at the peak; NaN without /proc."""
    try:
        found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else float("nan")


def our_scrape(url: str, namespace: str) -> Callable[[], tuple[float, int, float]]:
    with redismetrics.Metrics(url, namespace="nothing") as nothing:
        prometheus.negotiate(None, metrics=nothing)  # import and connect
    metrics = redismetrics.Metrics(url, namespace=namespace)
    return lambda: measured(lambda: prometheus.negotiate(None, metrics=metrics)[0])


def their_scrape(folder: str) -> Callable[[], tuple[float, int, float]]:
    import prometheus_client
    from prometheus_client import multiprocess

    registry = prometheus_client.CollectorRegistry()
    with tempfile.TemporaryDirectory() as nothing:
        empty = prometheus_client.CollectorRegistry()
        multiprocess.MultiProcessCollector(empty, path=nothing)
        prometheus_client.generate_latest(empty)
    multiprocess.MultiProcessCollector(registry, path=folder)
    return lambda: measured(lambda: prometheus_client.generate_latest(registry))


def their_process(plan: Plan) -> Callable[[], int]:
    """Record all series and leave the files; return a function that returns the process id."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    for kind, name, tags in families(plan):
        labels = list(tags[0])
        made: Any
        if kind == "counter":
            made = prometheus_client.Counter(name, name, labels, registry=registry)
        elif kind == "gauge":
            made = prometheus_client.Gauge(
                name, name, labels, registry=registry, multiprocess_mode="mostrecent"
            )
        else:
            made = prometheus_client.Histogram(
                name, name, labels, registry=registry, buckets=BUCKETS
            )
        method = {"counter": "inc", "gauge": "set", "histogram": "observe"}[kind]
        for number, each in enumerate(tags):
            getattr(made.labels(**each), method)(value(number))
    return os.getpid


# -- what is scraped ----------------------------------------------------------------------------


def fill(url: str, namespace: str, plan: Plan) -> None:
    metrics = redismetrics.Metrics(
        url, namespace=namespace, flush_interval=3600, max_series=100_000, max_tag_values=100_000
    )
    for kind, name, tags in families(plan):
        metrics.declare(
            name, kind, unit="seconds", buckets=BUCKETS if kind == "histogram" else None
        )
        for number, record in enumerate(bound(metrics, kind, name, tags)):
            record(value(number))
    metrics.close(60)


def leave(folder: Path, plan: Plan, processes: int) -> None:
    """Write the files of exited processes: those of one process, linked under other names."""
    folder.mkdir()
    with Child(their_process, plan, environ={"PROMETHEUS_MULTIPROC_DIR": str(folder)}) as child:
        pid = str(child())
    for file in list(folder.iterdir()):
        for number in range(1, processes):
            os.link(file, folder / file.name.replace(pid, f"{pid}{number:04d}"))


def measure(options: Options) -> Iterator[Row]:
    # Series, and exited processes.
    cases = [(1_000, 10)]
    if not options.quick:
        cases += [(1_000, 100), (1_000, 1_000), (10_000, 10), (10_000, 100), (100_000, 10)]
    with (
        own_server(options.server) as (url, _),
        tempfile.TemporaryDirectory(prefix="rm-bench-") as scratch,
    ):
        for series in dict.fromkeys(series for series, _ in cases):
            fill(url, f"scrape-{series}", plan(series))
        for series, processes in cases:
            folder = Path(scratch) / f"{series}-{processes}"
            leave(folder, plan(series), processes)
            yield from compare(url, folder, series, processes, options)
        if not options.quick:
            fill(url, "recorded", RECORDED)
            with Child(our_scrape, url, "recorded") as ours:
                found = in_turns({"ours": ours}, RECORDED, options.runs)["ours"]
            note = "a tenth are histograms: about 260,000 lines"
            yield Row("100,000 recorded series, time", "ms", [each.ms for each in found], note=note)
            yield Row("100,000 recorded series, memory", "MB", [found[0].megabytes], note=note)


def compare(url: str, folder: Path, series: int, processes: int, options: Options) -> Iterator[Row]:
    # With a million values the peer takes many seconds.
    runs = options.runs if series * processes < 1_000_000 else min(options.runs, 3)
    with (
        Child(our_scrape, url, f"scrape-{series}") as ours,
        Child(their_scrape, str(folder)) as theirs,
    ):
        found = in_turns({"ours": ours, "theirs": theirs}, plan(series), runs)
    times = {name: [each.ms for each in pages] for name, pages in found.items()}
    memory = {name: [pages[0].megabytes] for name, pages in found.items()}
    peer, largest = f"prometheus_client, {processes:,} exited processes", series == 100_000
    target = MILLISECONDS if largest else None
    figures = (times["ours"], peer, times["theirs"])
    yield Row(f"{series:,} series, time", "ms", *figures, target=target, headline=largest)
    target = MEGABYTES if largest else None
    figures = (memory["ours"], peer, memory["theirs"])
    yield Row(f"{series:,} series, memory", "MB", *figures, target=target)


def in_turns(children: dict[str, Child], plan: Plan, runs: int) -> dict[str, list[Page]]:
    """Return the pages of each child, made in turn. The first page of a process counts too."""
    found: dict[str, list[Page]] = {name: [] for name in children}
    for _ in range(runs):
        for name, child in children.items():
            found[name].append(Page(*child()))
    counted = {page.lines for pages in found.values() for page in pages}
    if counted != {expected_lines(plan)}:
        raise AssertionError(f"every page must have {expected_lines(plan)} lines, got {counted}")
    return found


if __name__ == "__main__":
    main(QUESTION, measure)
