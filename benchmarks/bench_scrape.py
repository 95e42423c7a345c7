"""How long does a scrape take, how much memory, and what do processes that are gone cost it?

    python -m benchmarks.bench_scrape [--json] [--quick]

A series is counted as Prometheus does: a line of the page that is no comment. Of them 30 % are counters, 30 % gauges, 40 % the
17 lines each that a histogram of 14 buckets is. The page is made as for an HTTP request, from the store to bytes, in a process
of its own. prometheus_client in multiprocess mode makes the same lines from the files that so many processes left behind, each
with all the series. Memory is the most that the process had while it made its first page, less what it had before.
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
LINES = {
    "counter": 1,
    "gauge": 1,
    "histogram": len(BUCKETS) + 3,
}  # a series has: buckets, +Inf, sum, count
FAMILIES = {"counter": 10, "gauge": 10, "histogram": 4}
MILLISECONDS, MEGABYTES = 400, 100  # what is wanted for 100,000 series

Plan = dict[str, int]  # how many series each family of a kind has
RECORDED: Plan = {"counter": 4_500, "gauge": 4_500, "histogram": 2_500}


def plan(series: int) -> Plan:
    """For a page of about so many lines."""
    share = {"counter": 0.3, "gauge": 0.3, "histogram": 0.4}
    return {
        kind: max(round(series * share[kind] / LINES[kind] / FAMILIES[kind]), 1)
        for kind in FAMILIES
    }


def lines_wanted(plan: Plan) -> int:
    return sum(many * FAMILIES[kind] * LINES[kind] for kind, many in plan.items())


def lines_of(page: bytes) -> int:
    """The lines of what was recorded here; the page has some of redismetrics' own."""
    return len(re.findall(rb"^(?:counter|gauge|histogram)_", page, re.MULTILINE))


def families(plan: Plan) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Kind, name and the tags of all series of each family."""
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
    return (number * 7919 % 10_007) / 997  # all digits, no two alike for long


# -- in processes of their own ------------------------------------------------------------------------------------


class Page(NamedTuple):
    ms: float
    lines: int
    megabytes: float  # the most that the process had so far, less what it had before


def measured(page: Callable[[], bytes]) -> tuple[float, int, float]:
    before = memory("VmRSS")
    began = time.perf_counter()
    body = page()
    ms = (time.perf_counter() - began) * 1e3
    return ms, lines_of(body), memory("VmHWM") - before


def memory(what: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most so far. NaN where the system doesn't tell."""
    try:
        found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else float("nan")


def our_scrape(url: str, namespace: str) -> Callable[[], tuple[float, int, float]]:
    with redismetrics.Metrics(url, namespace="nothing") as nothing:
        prometheus.negotiate(None, metrics=nothing)  # all is imported and connected once
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
    """One process that records all series and leaves its files; returns its id."""
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
        verb = {"counter": "inc", "gauge": "set", "histogram": "observe"}[kind]
        for number, each in enumerate(tags):
            getattr(made.labels(**each), verb)(value(number))
    return os.getpid


# -- what is scraped ----------------------------------------------------------------------------------------------


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
    """The files of so many processes that are gone: one's, by so many names."""
    folder.mkdir()
    with Child(their_process, plan, environ={"PROMETHEUS_MULTIPROC_DIR": str(folder)}) as child:
        pid = str(child())
    for file in list(folder.iterdir()):
        for number in range(1, processes):
            os.link(file, folder / file.name.replace(pid, f"{pid}{number:04d}"))


def measure(options: Options) -> Iterator[Row]:
    cases = [(1_000, 10)] if options.quick else [
        (1_000, 10), (1_000, 100), (1_000, 1_000), (10_000, 10), (10_000, 100), (100_000, 10),
    ]  # fmt: skip
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
                found = taken({"ours": ours}, RECORDED, options.runs)["ours"]
            note = "a tenth of them histograms, so about 260,000 lines"
            yield Row("100,000 recorded series, time", "ms", [each.ms for each in found], note=note)
            yield Row("100,000 recorded series, memory", "MB", [found[0].megabytes], note=note)


def compare(url: str, folder: Path, series: int, processes: int, options: Options) -> Iterator[Row]:
    # Of a million values theirs takes many seconds.
    runs = options.runs if series * processes < 1_000_000 else min(options.runs, 3)
    with (
        Child(our_scrape, url, f"scrape-{series}") as ours,
        Child(their_scrape, str(folder)) as theirs,
    ):
        found = taken({"ours": ours, "theirs": theirs}, plan(series), runs)
    times = {name: [each.ms for each in pages] for name, pages in found.items()}
    memory = {name: [pages[0].megabytes] for name, pages in found.items()}
    peer, largest = f"prometheus_client, {processes:,} processes gone", series == 100_000
    yield Row(
        f"{series:,} series, time", "ms", times["ours"], peer, times["theirs"],
        wanted=MILLISECONDS if largest else None, headline=largest,
    )  # fmt: skip
    yield Row(
        f"{series:,} series, memory", "MB", memory["ours"], peer, memory["theirs"],
        wanted=MEGABYTES if largest else None,
    )  # fmt: skip


def taken(children: dict[str, Child], plan: Plan, runs: int) -> dict[str, list[Page]]:
    """The pages of each, taken in turn; the first of a process is measured as well, as it is of most scrapes."""
    found: dict[str, list[Page]] = {name: [] for name in children}
    for _ in range(runs):
        for name, child in children.items():
            found[name].append(Page(*child()))
    counted = {page.lines for pages in found.values() for page in pages}
    if counted != {lines_wanted(plan)}:
        raise AssertionError(f"wanted {lines_wanted(plan)} lines on every page, got {counted}")
    return found


if __name__ == "__main__":
    main(QUESTION, measure)
