"""What does a recording call cost, with Redis running and with Redis stopped?

    python -m benchmarks record [--quick]

Each library runs in its own process, and all take turns. A figure is the best of 12 rounds of
10,000 calls by `timeit`, as its documentation advises: the other rounds show what else the
processor did. Between the rounds the collected samples are flushed, ours to Redis, the others
where they would send them. A bound call is one on a bound instrument (`labels()` of
prometheus_client). OpenTelemetry, datadog and statsd have none, so their calls are compared with
unbound ones. prometheus_client in multiprocess mode writes to mapped files; datadog aggregates,
with extended aggregation for histograms; statsd has no tags and no aggregation, so it sends one
datagram per call with the tags in the name. Nobody reads the datagrams.

The rows "pure Python" are the cost of the interpreter for the least that such a call does: keep a
value, and find where.

Then the server is paused (SIGSTOP) for 10 s at 50,000 calls per second: the longest calls, and
that nothing is lost afterwards.
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
TARGETS = {BOUND_INCREMENT: 0.09, BOUND_RECORD: 0.18, INCREMENT: 0.16, INCREMENT_TAGS: 0.5}


# -- contenders ---------------------------------------------------------------------------------
#
# Each returns its statements, the names they use, and a function that sends what was collected.


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
    """Multiprocess mode if PROMETHEUS_MULTIPROC_DIR is set at the import, else single mode."""
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
    """The least that an instrument can be: a slot with a list's `append`, and a method."""

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
    """Return a function that measures a case, in µs per call. Runs in a child process."""
    statements, names, drain = make(*args)

    def work(case: str) -> float:
        """Return the best of several rounds, each of as many calls as between two busy flushes."""
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(timeit.timeit(statements[case], globals=names, number=calls))
            drain()
        return min(rounds) / calls * 1e6

    return work


# By name: the package to import, the contender, and its cases.
PEERS: dict[str, tuple[str, Callable[..., Any], tuple[str, ...]]] = {
    "prometheus_client": (
        "prometheus_client",
        prometheus,
        (*TARGETS, BOUND_SET, HISTOGRAM, HISTOGRAM_TAGS),
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
    (BOUND_INCREMENT, "prometheus_client"),
    (BOUND_RECORD, "prometheus_client"),
    (INCREMENT, "prometheus_client"),
    (INCREMENT_TAGS, "prometheus_client"),
    (INCREMENT_TAGS, "OpenTelemetry SDK"),
    (INCREMENT_TAGS, "datadog, aggregated"),
    (INCREMENT_TAGS, "statsd"),
}


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
                {name: _measuring(child, case) for name, child in measures.items()}, options.runs
            )
            target = TARGETS.get(case)
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
                        target,
                        note,
                        headline,
                    )
                    target = None  # shown in the first row only
        case = "increment(name, two tags), none://"
        yield Row(case, "us", in_turn({case: _measuring(mine, case)}, options.runs)[case])
        floor = stack.enter_context(Child(contender, python, calls))
        cases = python()[0]
        for case, found in in_turn(
            {case: _measuring(floor, case) for case in cases}, options.runs
        ).items():
            yield Row(
                f"pure Python: {case}",
                "us",
                found,
                note="cost of the interpreter alone",
            )


def _measuring(child: Child, case: str) -> Callable[[], float]:
    return lambda: float(child(case))


def while_paused(url: str, pid: int, options: Options) -> Iterator[Row]:
    """Measure calls at 50,000 per second with the server stopped, and count samples afterwards."""
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
    note = (
        f"{total / took:,.0f} calls/s reached; "
        f"all {stored:,.0f} samples were stored after the server continued"
    )
    yield Row(f"{what}: median", "us", [statistics.median(durations) * 1e6], note=note)
    yield Row(f"{what}: p99.9", "us", [durations[int(total * 0.999)] * 1e6])
    yield Row(f"{what}: longest", "ms", [durations[-1] * 1e3], headline=True)


def measure(options: Options) -> Iterator[Row]:
    with own_server(options.server) as (url, process):
        yield from call_costs(url, options)
        yield from while_paused(url, process.pid, options)


if __name__ == "__main__":
    main(QUESTION, measure)
