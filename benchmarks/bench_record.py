"""What does a recording call cost, with Redis there and with Redis stopped?

    python -m benchmarks record [--quick]

Each library in a process of its own, all taking turns: a figure is the best of 12 rounds of 10,000 calls by `timeit`, as its
documentation advises: the others tell of what else the processor did. What they gathered is flushed between the rounds, ours
to Redis, the others where they would send it. A bound call is on a handle (`labels()` of prometheus_client); OpenTelemetry,
datadog and statsd have none, so their calls stand beside the unbound ones. prometheus_client's multiprocess mode writes to
mapped files; datadog aggregates, with extended aggregation for histograms; statsd, which has no tags and no aggregation, sends
one datagram a call, tags put into the name. Datagrams go to a socket that nobody reads.

"Pure Python" lines are what the interpreter takes for the least that such a call does: to keep a value, and to find where.

Then, with the server paused (SIGSTOP) for 10 s and 50,000 calls a second, the longest calls, and that nothing is lost once it
is back.
"""

import os
import signal
import socket
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import redismetrics
from benchmarks.children import Child
from benchmarks.common import Options, Row, in_turn, main, own_server
from benchmarks.peers import installed, missing

QUESTION = "What does a recording call cost?"
ROUNDS = 12
TAGS = {"method": "GET", "status": "200"}
Statements = dict[str, str]
BOUND_INCREMENT, BOUND_RECORD, BOUND_SET = (
    "bound increment()",
    "bound histogram record()",
    "bound gauge set()",
)
INCREMENT, INCREMENT_TAGS = "increment(name)", "increment(name, two tags)"
HISTOGRAM, HISTOGRAM_TAGS = "histogram(name, value)", "histogram(name, value, two tags)"
WANTED = {BOUND_INCREMENT: 0.09, BOUND_RECORD: 0.18, INCREMENT: 0.16, INCREMENT_TAGS: 0.5}


# -- contenders: each returns its statements, their names, and what sends what was gathered ------------------------


def ours(url: str) -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    metrics = redismetrics.Metrics(url, namespace="calls", flush_interval=3600)
    names = {
        "metrics": metrics,
        "tags": TAGS,
        "counter": redismetrics.Counter("requests", TAGS, metrics=metrics),
        "gauge": redismetrics.Gauge("depth", TAGS, metrics=metrics),
        "histogram": redismetrics.Histogram("latency", TAGS, metrics=metrics),
        "none": redismetrics.Metrics("none://"),
    }
    statements = {
        BOUND_INCREMENT: "counter.increment()",
        BOUND_RECORD: "histogram.record(1.5)",
        BOUND_SET: "gauge.set(1.5)",
        INCREMENT: "metrics.increment('jobs')",
        INCREMENT_TAGS: "metrics.increment('unbound', tags=tags)",
        HISTOGRAM: "metrics.histogram('took', 1.5)",
        HISTOGRAM_TAGS: "metrics.histogram('unbound_ms', 1.5, tags=tags)",
        "increment(name, two tags), none://": "none.increment('unbound', tags=tags)",
    }
    return statements, names, lambda: metrics.flush(60)


def prometheus() -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    """Single or multiprocess mode, as PROMETHEUS_MULTIPROC_DIR says when it is imported."""
    from prometheus_client import Counter, Gauge, Histogram

    counter, gauge, histogram = (
        make(f"{make.__name__.lower()}_tags", "-", list(TAGS), registry=None)
        for make in (Counter, Gauge, Histogram)
    )
    names = {
        "tags": TAGS,
        "counter": counter,
        "histogram": histogram,
        "bound_counter": counter.labels(**TAGS),
        "bound_gauge": gauge.labels(**TAGS),
        "bound_histogram": histogram.labels(**TAGS),
        "bare_counter": Counter("bare_counter", "-", registry=None),
        "bare_histogram": Histogram("bare_histogram", "-", registry=None),
    }
    statements = {
        BOUND_INCREMENT: "bound_counter.inc()",
        BOUND_RECORD: "bound_histogram.observe(1.5)",
        BOUND_SET: "bound_gauge.set(1.5)",
        INCREMENT: "bare_counter.inc()",
        INCREMENT_TAGS: "counter.labels(**tags).inc()",
        HISTOGRAM: "bare_histogram.observe(1.5)",
        HISTOGRAM_TAGS: "histogram.labels(**tags).observe(1.5)",
    }
    return statements, names, lambda: None


def opentelemetry() -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("calls")
    names = {
        "tags": TAGS,
        "counter": meter.create_counter("c"),
        "histogram": meter.create_histogram("h"),
    }
    statements = {
        INCREMENT: "counter.add(1)",
        INCREMENT_TAGS: "counter.add(1, tags)",
        HISTOGRAM: "histogram.record(1.5)",
        HISTOGRAM_TAGS: "histogram.record(1.5, tags)",
    }
    return statements, names, lambda: reader.get_metrics_data() and None


def datadog() -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    from datadog.dogstatsd.base import DogStatsd

    sink = _sink()
    client = DogStatsd(
        "127.0.0.1",
        sink.getsockname()[1],
        disable_telemetry=True,
        disable_aggregation=True,
        disable_buffering=False,
    )
    client.enable_aggregation(flush_interval=3600, max_samples_per_context=100)
    names = {
        "client": client,
        "tags": [f"{key}:{value}" for key, value in TAGS.items()],
        "sink": sink,
    }
    statements = {
        INCREMENT: "client.increment('jobs')",
        INCREMENT_TAGS: "client.increment('unbound', tags=tags)",
        HISTOGRAM: "client.histogram('took', 1.5)",
        HISTOGRAM_TAGS: "client.histogram('unbound_ms', 1.5, tags=tags)",
    }
    return statements, names, client.flush_aggregated_metrics


def statsd() -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    from statsd import StatsClient

    sink = _sink()
    names = {"client": StatsClient("127.0.0.1", sink.getsockname()[1]), "tags": TAGS, "sink": sink}
    statements = {
        INCREMENT: "client.incr('jobs')",
        INCREMENT_TAGS: 'client.incr(f\'unbound.{tags["method"]}.{tags["status"]}\')',
        HISTOGRAM: "client.timing('took', 1.5)",
        HISTOGRAM_TAGS: 'client.timing(f\'unbound_ms.{tags["method"]}.{tags["status"]}\', 1.5)',
    }
    return statements, names, lambda: None


def _sink() -> socket.socket:
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    return sink


class _Handle:
    """What a handle is at the least: a slot with a list's own append, or one that a method calls."""

    __slots__ = ("add", "append")

    def __init__(self) -> None:
        values: list[float] = []
        self.append, self.add = values.append, values.append

    def nothing(self) -> None:
        pass

    def record(self, value: float) -> None:
        self.append(value)


def python() -> tuple[Statements, dict[str, Any], Callable[[], None]]:
    handle, found = _Handle(), {("unbound", *TAGS, *TAGS.values()): _Handle().append}

    def increment(name: str, *, tags: dict[str, str]) -> None:
        found[name, *tags, *tags.values()](1)

    statements = {
        "a list's append on an attribute": "handle.append(1.5)",
        "a method that does nothing": "handle.nothing()",
        "a method that appends": "handle.record(1.5)",
        "a function that looks up two tags, and appends": "increment('unbound', tags=tags)",
    }
    return statements, {"handle": handle, "increment": increment, "tags": TAGS}, lambda: None


def contender(make: Callable[..., Any], calls: int, *args: Any) -> Callable[[str], float]:
    """In a child: µs a call of a case."""
    statements, names, drain = make(*args)

    def work(case: str) -> float:
        """The best of several rounds, each of as many calls as a busy process may make between two flushes."""
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(timeit.timeit(statements[case], globals=names, number=calls))
            drain()
        return min(rounds) / calls * 1e6

    return work


PEERS: dict[str, tuple[str, Callable[..., Any], tuple[str, ...]]] = {
    # by name: what is imported, the contender, the cases that it has
    "prometheus_client": (
        "prometheus_client",
        prometheus,
        (*WANTED, BOUND_SET, HISTOGRAM, HISTOGRAM_TAGS),
    ),
    "prometheus_client, multiprocess": (
        "prometheus_client",
        prometheus,
        (BOUND_INCREMENT, BOUND_RECORD, BOUND_SET, INCREMENT_TAGS, HISTOGRAM_TAGS),
    ),
    "OpenTelemetry SDK": (
        "opentelemetry.sdk",
        opentelemetry,
        (INCREMENT, INCREMENT_TAGS, HISTOGRAM, HISTOGRAM_TAGS),
    ),
    "datadog, aggregated": (
        "datadog",
        datadog,
        (INCREMENT, INCREMENT_TAGS, HISTOGRAM, HISTOGRAM_TAGS),
    ),
    "statsd": ("statsd", statsd, (INCREMENT, INCREMENT_TAGS, HISTOGRAM, HISTOGRAM_TAGS)),
}
CASES = (
    BOUND_INCREMENT,
    BOUND_RECORD,
    BOUND_SET,
    INCREMENT,
    INCREMENT_TAGS,
    HISTOGRAM,
    HISTOGRAM_TAGS,
)
HEADLINES = {
    (BOUND_INCREMENT, "prometheus_client"), (BOUND_RECORD, "prometheus_client"), (INCREMENT, "prometheus_client"),
    (INCREMENT_TAGS, "prometheus_client"), (INCREMENT_TAGS, "OpenTelemetry SDK"), (INCREMENT_TAGS, "datadog, aggregated"),
    (INCREMENT_TAGS, "statsd"),
}  # fmt: skip


def call_costs(url: str, options: Options) -> Iterator[Row]:
    calls = 500 if options.quick else 10_000
    with ExitStack() as stack:
        mine = stack.enter_context(Child(contender, ours, calls, url))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-"))
        theirs = {
            name: stack.enter_context(
                Child(
                    contender,
                    make,
                    calls,
                    environ={"PROMETHEUS_MULTIPROC_DIR": folder}
                    if "multiprocess" in name
                    else None,
                )
            )
            for name, (package, make, _) in PEERS.items()
            if installed(package)
        }
        for case in CASES:
            having = {name: child for name, child in theirs.items() if case in PEERS[name][2]}
            measures = {"": mine} | having
            figures = in_turn(
                {name: _asking(child, case) for name, child in measures.items()}, options.runs
            )
            wanted = WANTED.get(case)
            for name, (package, _, cases) in PEERS.items():
                if case in cases:
                    note = "" if name in having else missing(package)
                    headline = (case, name) in HEADLINES
                    yield Row(
                        case,
                        "us",
                        figures[""],
                        name,
                        figures.get(name, []),
                        False,
                        wanted,
                        note,
                        headline,
                    )
                    wanted = None  # said once
        case = "increment(name, two tags), none://"
        yield Row(case, "us", in_turn({case: _asking(mine, case)}, options.runs)[case])
        floor = stack.enter_context(Child(contender, python, calls))
        cases = python()[0]
        for case, found in in_turn(
            {case: _asking(floor, case) for case in cases}, options.runs
        ).items():
            yield Row(
                f"pure Python: {case}",
                "us",
                found,
                note="what the interpreter takes for that alone",
            )


def _asking(child: Child, case: str) -> Callable[[], float]:
    return lambda: float(child(case))


def while_paused(url: str, pid: int, options: Options) -> Iterator[Row]:
    """Call times at 50,000 calls a second with the server stopped, and the balance when it is back."""
    metrics = redismetrics.Metrics(url, namespace="paused")
    counter = redismetrics.Counter("requests", metrics=metrics)
    histogram = redismetrics.Histogram("latency", metrics=metrics)
    counter.increment()
    histogram.record(1.0)
    metrics.flush()
    seconds = 0.5 if options.quick else 10
    total = int(50_000 * seconds)
    durations = [0.0] * total
    clock = time.perf_counter
    os.kill(pid, signal.SIGSTOP)
    try:
        began = clock()
        for batch in range(total // 50):  # 50 calls each ms
            while clock() < began + batch / 1000:
                time.sleep(0.0002)
            for call in range(batch * 50, batch * 50 + 50):
                before = clock()
                if call % 2:
                    counter.increment()
                else:
                    histogram.record(1.5)
                durations[call] = clock() - before
        took = clock() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    metrics.flush(60)
    stats = metrics.stats()
    stored = metrics.query("requests", aggregation="sum") + metrics.query(
        "latency", aggregation="count"
    )
    metrics.close()
    if stored != total + 2 or stats["dropped"]:
        raise AssertionError(f"recorded {total + 2}, stored {stored}, dropped {stats['dropped']}")
    durations.sort()
    what = f"server stopped {seconds:g} s, 50,000 calls/s"
    note = f"{total / took:,.0f} calls/s were reached; all {stored:,.0f} samples were stored when it was back"
    yield Row(f"{what}: median call", "us", [statistics.median(durations) * 1e6], note=note)
    yield Row(f"{what}: 99.9 % of calls", "us", [durations[int(total * 0.999)] * 1e6])
    yield Row(f"{what}: longest call", "ms", [durations[-1] * 1e3], headline=True)


def measure(options: Options) -> Iterator[Row]:
    with own_server(options.server) as (url, process):
        yield from call_costs(url, options)
        yield from while_paused(url, process.pid, options)


if __name__ == "__main__":
    main(QUESTION, measure)
