"""How many samples per second are recorded, sent and stored?

    python -m benchmarks flush [--quick]

Ours records on bound instruments and calls flush(), which returns when Redis has confirmed. The
peers take turns with it in the same processes and on the same server:

    one command per sample   redis-py pipelines of 1,000: HINCRBYFLOAT of a counter's total, ZADD
                             of the values of a gauge or histogram with their times
    totals only              a plain loop adds up, then one pipeline sends the totals: HINCRBYFLOAT
                             of counters, HSET of a gauge's last value, HINCRBY of a histogram's
                             count, sum and buckets. No times, no samples, no protection against
                             sending twice: the least that one can send
    write-through            prometheus-distributed-client, in its own environment, one round trip
                             per sample
    TS.MADD                  RedisTimeSeries on its own server, 1,000 samples per command; gauges
                             only, because it keeps every sample
    redis-benchmark          the most HINCRBYFLOAT and ZADD that the server takes, in pipelines of
                             100 on four connections

Several processes begin at once, and the clock stops when the last one ends. For large shapes the
peer with one command per sample gets fewer samples of each series; its rate does not depend on
them. What was recorded is compared with what Redis counts. "commands" are those of INFO
commandstats, which includes the calls of a script; "bytes" are those received by the server.

"stored points" are the rows that the first flush left in the log: counters become one per series,
and a series with more than 100 samples in a flush at most 100 weighted points and an exact
summary. "a process's flush" is one of an ordinary process with many small metrics, on one shard
and on 16 as in a cluster, here all on one server; docs/performance.md calculates with it.
"""

import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis

import redismetrics
from benchmarks import peers
from benchmarks.children import Child
from benchmarks.common import Options, Row, bound, in_turn, main, metric_of, own_server
from benchmarks.estimate import PROCESS
from redismetrics.columnar import block_codec
from redismetrics.store.cluster import SHARDS
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from redismetrics.store.namespace import open_namespace

QUESTION = "How many samples per second are recorded, sent and stored?"
KINDS = ("counter", "gauge", "histogram")
PLAIN, SUMMING, MADD = "one command per sample", "totals only", "TS.MADD"
THROUGH, TIME_SERIES, CEILING = (
    "prometheus-distributed-client",
    "RedisTimeSeries TS.MADD",
    "redis-benchmark",
)
BUCKETS = [base * 10**power for power in range(-3, 5) for base in (1, 2.5, 5)]
PIPELINE = 1_000
# The least number of samples in a run.
RUN, PLAIN_RUN, SMALL_RUN = 30_000, 10_000, 2_000
# Processes, kind, series and peer.
HEADLINES = {
    (1, "counter", 1, PLAIN),
    (1, "histogram", 1_000, PLAIN),
    (1, "histogram", 10_000, PLAIN),
    (1, "histogram", 10_000, SUMMING),
    (4, "histogram", 100, PLAIN),
}
random = np.random.default_rng(20240501)


@dataclass(frozen=True)
class Shape:
    """The number of series, and of samples of each in one flush."""

    series: int
    each: int
    target: float | None = None

    @property
    def samples(self) -> int:
        return self.series * self.each

    @property
    def title(self) -> str:
        return f"{self.series:,} series x {self.each:,}"


WHOLE = (
    Shape(1, 100_000, 2e6),
    Shape(100, 1_000, 2e6),
    Shape(1_000, 10, 1e6),
    Shape(10_000, 1, 5e5),
)
SMALL = (Shape(100, 10), Shape(1_000, 1))


# -- contenders, in child processes -------------------------------------------------------------

# A function that records and sends one flush.
Once = Callable[[], None]


class Contenders:
    """Ours and the peers, in a child process; each is made when a case needs it."""

    def __init__(self, number: int, url: str, time_series: str | None) -> None:
        self.number, self.url = number, url
        self.client = redis.Redis.from_url(url)
        self.time_series = None if time_series is None else redis.Redis.from_url(time_series)
        self.sequence = iter(range(1 << 62))
        self.made: dict[str, Once] = {}
        self.metrics: redismetrics.Metrics | None = None

    def prepare(self, kind: str, shape: Shape, namespace: str) -> None:
        """End the last case and prepare the next one."""
        self.made.clear()
        if self.metrics is not None:
            self.metrics.close()
        self.metrics = redismetrics.Metrics(self.url, namespace=namespace, flush_interval=3600)
        self.kind, self.shape = kind, shape
        values = np.round(random.lognormal(3, 1, shape.each), 3).tolist()
        self.values = [1.0] * shape.each if kind == "counter" else values

    def run(self, who: str, times: int, samples: int) -> float:
        """Make *times* flushes with *samples* of each series; return the CPU seconds they took."""
        values = self.values[:samples]
        once = self.made.get(who)
        if once is None:
            make = {"ours": self.ours, PLAIN: self.plain, SUMMING: self.summing, MADD: self.madd}[
                who
            ]
            once = self.made[who] = make(values)
        before = time.process_time()
        for _ in range(times):
            once()
        return time.process_time() - before

    def ours(self, values: list[float]) -> Once:
        assert self.metrics is not None
        metrics = self.metrics
        calls = bound(metrics, self.kind, f"{self.kind}_calls", self.shape.series)

        def once() -> None:
            if self.kind == "counter":
                for call in calls:
                    for _ in values:
                        call()
            else:
                for call in calls:
                    for value in values:
                        call(value)
            metrics.flush(60)

        return once

    def plain(self, values: list[float]) -> Once:
        names = [f"plain:{at}" for at in range(self.shape.series)]
        counts = self.kind == "counter"

        def once() -> None:
            pipeline = self.client.pipeline(transaction=False)
            waiting = 0
            for name in names:
                for value in values:
                    if counts:
                        pipeline.hincrbyfloat("plain", name, 1)
                    else:
                        now = time.time()
                        pipeline.zadd(name, {f"{self.number}:{next(self.sequence)}:{value}": now})
                    waiting += 1
                    if waiting == PIPELINE:
                        pipeline.execute()
                        waiting = 0
            pipeline.execute()

        return once

    def summing(self, values: list[float]) -> Once:
        names = [str(at) for at in range(self.shape.series)]
        kind = self.kind

        def once() -> None:
            pipeline = self.client.pipeline(transaction=False)
            if kind == "counter":
                totals = dict.fromkeys(names, 0.0)
                for name in names:
                    for _ in values:
                        totals[name] += 1
                for name, total in totals.items():
                    pipeline.hincrbyfloat("summing", name, total)
            elif kind == "gauge":
                last: dict[str, float] = {}
                for name in names:
                    for value in values:
                        last[name] = value
                pipeline.hset("summing", mapping=last)
            else:
                histograms = {name: [0.0] * (len(BUCKETS) + 2) for name in names}
                for name in names:
                    for value in values:
                        histogram = histograms[name]
                        histogram[bisect_left(BUCKETS, value)] += 1
                        histogram[-1] += value
                for name, histogram in histograms.items():
                    pipeline.hincrbyfloat(f"summing:{name}", "sum", histogram[-1])
                    for at, count in enumerate(histogram[:-1]):
                        if count:
                            pipeline.hincrby(f"summing:{name}", at, int(count))
            pipeline.execute()

        return once

    def madd(self, values: list[float]) -> Once:
        assert self.time_series is not None
        client = self.time_series
        names = [f"ts:{self.kind}:{at}" for at in range(self.shape.series)]
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.delete(name)
                pipeline.execute_command("TS.CREATE", name)
            pipeline.execute()
        clock = iter(range(int(time.time() * 1000), 1 << 62, len(values)))

        def once() -> None:
            now = next(clock)
            parts: list[Any] = []
            pipeline = client.pipeline(transaction=False)
            for name in names:
                for at, value in enumerate(values):
                    parts += (name, now + at, value)
                    if len(parts) == 3 * PIPELINE:
                        pipeline.execute_command("TS.MADD", *parts)
                        parts = []
            if parts:
                pipeline.execute_command("TS.MADD", *parts)
            pipeline.execute()

        return once


def contenders(number: int, url: str, time_series: str | None) -> Callable[..., Any]:
    found = Contenders(number, url, time_series)
    return lambda method, *args: getattr(found, method)(*args)


# -- costs on the server ------------------------------------------------------------------------


@dataclass
class Cost:
    """The costs of one run."""

    wall: float
    client_cpu: float
    commands: float
    received: float
    server_cpu: float
    samples: int


def server_totals(client: redis.Redis) -> tuple[float, float, float]:
    """Return the server's totals: commands, bytes received, CPU seconds."""
    stats: Any = client.info("commandstats")
    cpu: Any = client.info("cpu")
    received: Any = client.info("stats")["total_net_input_bytes"]
    calls = sum(
        row["calls"]
        for name, row in stats.items()
        if not name.startswith(("cmdstat_info", "cmdstat_config"))
    )
    return float(calls), float(received), float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def process(url: str, shards: int, options: Options) -> Iterator[Row]:
    """Measure one ordinary process's flush on the server: 20 metrics of 5 series, 1,000 samples."""
    namespace = f"process-{shards}"
    run(Store(url, 60).connect(retries=0), open_namespace(namespace, shards=shards))
    client = redis.Redis.from_url(url)
    metrics = redismetrics.Metrics(url, namespace=namespace, flush_interval=3600)
    kinds = ["counter"] * 10 + ["gauge"] * 5 + ["histogram"] * 5
    tags = [{"route": str(at)} for at in range(5)]
    calls = [(kind, bound(metrics, kind, f"{kind}_{at}", tags)) for at, kind in enumerate(kinds)]
    values = np.round(random.lognormal(3, 1, 10), 3).tolist()
    flushes = 3 if options.quick else 30
    found: list[list[float]] = []
    for number in range(options.runs + 1):
        before = server_totals(client)
        for _ in range(flushes):
            for kind, bounds in calls:
                for call in bounds:
                    for value in values:
                        call() if kind == "counter" else call(value)
            metrics.flush(60)
        if number:
            found.append(
                [
                    (now - then) / flushes
                    for now, then in zip(server_totals(client), before, strict=True)
                ]
            )
    stats = metrics.stats()
    metrics.close()
    client.close()
    if stats["stored"] != 1_000 * flushes * (options.runs + 1):
        raise AssertionError(f"{namespace}: {stats}")
    commands, received, cpu = (list(column) for column in zip(*found, strict=True))
    what = f"{PROCESS}, {shards} {'shard' if shards == 1 else 'shards'}"
    yield Row(f"{what}: server CPU", "ms", [seconds * 1000 for seconds in cpu])
    yield Row(f"{what}: bytes to the server", "bytes", received)
    yield Row(f"{what}: server commands", "commands", commands)


class Measurement:
    """The cases that are measured on one server."""

    def __init__(self, url: str, children: list[Child], options: Options) -> None:
        self.url, self.children, self.options = url, children, options
        self.client = redis.Redis.from_url(url)
        self.recorded = self.plain = 0

    def prepare(self, kind: str, shape: Shape, many: int) -> None:
        self.client.flushall()
        self.kind, self.shape, self.many = kind, shape, many
        self.namespace = f"flush-{kind}-{shape.series}-{shape.each}-{many}"
        self.recorded = self.plain = 0
        for child in self.children[:many]:
            child("prepare", kind, shape, self.namespace)

    def run(self, who: str) -> Cost:
        each = self.shape.each
        if who == PLAIN:
            each = max(min(PLAIN_RUN // self.shape.series // self.many, each), 1)
        at_once = self.shape.series * each
        many = SMALL_RUN if self.options.quick else PLAIN_RUN // self.many if who == PLAIN else RUN
        times = max(1, many // at_once)
        before = server_totals(self.client)
        began = time.perf_counter()
        for child in self.children[: self.many]:
            child.start("run", who, times, each)
        cpu = sum(child.wait() for child in self.children[: self.many])
        took = time.perf_counter() - began
        commands, received, server_cpu = (
            now - then for now, then in zip(server_totals(self.client), before, strict=True)
        )
        samples = at_once * times * self.many
        self.recorded += samples * (who == "ours")
        self.plain += samples * (who == PLAIN)
        return Cost(took, cpu, commands, received, server_cpu, samples)

    def check(self) -> None:
        """Compare what Redis holds with what was sent."""
        with redismetrics.Metrics(self.url, namespace=self.namespace) as metrics:
            stored = metrics.query(f"{self.kind}_calls", aggregation="count")
        if stored != self.recorded:
            raise AssertionError(f"{self.namespace}: recorded {self.recorded}, stored {stored}")
        names = [f"plain:{at}" for at in range(self.shape.series)]
        if self.kind == "counter":
            held = sum(float(total) for total in self.client.hvals("plain"))
        else:
            with self.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.zcard(name)
                held = sum(pipeline.execute())
        if held != self.plain:
            raise AssertionError(f"{PLAIN}, {self.namespace}: sent {self.plain}, held {held}")

    def points(self) -> float:
        """Return the number of rows that one flush left in the log."""
        metric = metric_of(self.namespace, f"{self.kind}_calls")
        return float(
            sum(
                len(block_codec.unpack(data).samples)
                for data in self.client.zrange(metric.recorded.log, 0, -1)
            )
        )

    def rates(self, many: int, kind: str, shape: Shape) -> Iterator[Row]:
        self.prepare(kind, shape, many)
        runs: dict[str, list[Cost]] = {"ours": [], PLAIN: [], SUMMING: []}
        for number in range(self.options.runs + 1):
            for who, found in runs.items():
                cost = self.run(who)
                if number:
                    found.append(cost)
        self.check()
        rate = {who: [cost.samples / cost.wall for cost in found] for who, found in runs.items()}
        title = f"stored: {kind}, {shape.title}{f', {many} processes' if many > 1 else ''}"
        for peer in (PLAIN, SUMMING):
            target = shape.target if many == 1 and peer == PLAIN else None
            headline = (many, kind, shape.series, peer) in HEADLINES
            yield Row(
                title, "samples/s", rate["ours"], peer, rate[peer], True, target, headline=headline
            )

    def costs(self, kind: str, shape: Shape) -> Iterator[Row]:
        """Measure client, server and network per 1,000 samples, for one process."""
        self.prepare(kind, shape, 1)
        self.children[0]("run", "ours", 1, shape.each)
        self.recorded += shape.samples
        points = self.points() / shape.samples * 1000
        figures: dict[str, tuple[str, Callable[[Cost], float]]] = {
            "client CPU per sample": ("us", lambda cost: cost.client_cpu / cost.samples * 1e6),
            "server commands per 1,000 samples": (
                "commands",
                lambda cost: cost.commands / cost.samples * 1000,
            ),
            "bytes to the server per 1,000 samples": (
                "bytes",
                lambda cost: cost.received / cost.samples * 1000,
            ),
            "server CPU per 1,000 samples": (
                "ms",
                lambda cost: cost.server_cpu / cost.samples * 1e6,
            ),
        }
        runs: dict[str, list[Cost]] = {who: [] for who in ("ours", PLAIN, SUMMING)}
        for _ in range(self.options.runs):
            for who, costs in runs.items():
                costs.append(self.run(who))
        self.check()
        of_case = f"{kind}, {shape.title}"
        for title, (unit, figure) in figures.items():
            found = {who: list(map(figure, costs)) for who, costs in runs.items()}
            target = 10.0 if unit == "commands" and shape.series == 100 else None
            for peer in (PLAIN, SUMMING):
                headline = (
                    kind == "histogram"
                    and shape.series == 100
                    and peer == PLAIN
                    and unit in ("commands", "ms")
                )
                figures_of = (found["ours"], peer, found[peer])
                yield Row(
                    f"{title}: {of_case}", unit, *figures_of, target=target, headline=headline
                )
                target = None
        yield Row(f"stored points per 1,000 samples: {of_case}", "points", [points])

    def against(
        self, kind: str, shape: Shape, peer: str, theirs: Callable[[], float] | None, why: str
    ) -> Row:
        """Compare our rate with that of a peer."""
        self.prepare(kind, shape, 1)

        def ours() -> float:
            cost = self.run("ours")
            return cost.samples / cost.wall

        measures = {"ours": ours} | ({"theirs": theirs} if theirs is not None else {})
        found = in_turn(measures, self.options.runs)
        self.check()
        headline = (kind, shape.each > 1, peer) in {
            ("counter", True, THROUGH),
            ("gauge", True, TIME_SERIES),
            ("gauge", True, f"{CEILING}, ZADD"),
        }
        title = f"stored: {kind}, {shape.title}"
        theirs_found = found.get("theirs", [])
        return Row(
            title, "samples/s", found["ours"], peer, theirs_found, True, note=why, headline=headline
        )


# -- all cases ----------------------------------------------------------------------------------


def through(measurement: Measurement, kind: str, shape: Shape) -> Row:
    """Compare with the write-through peer, whose process measures and prints its own time."""
    python, why = peers.distributed(make=not measurement.options.quick)
    series, each = (
        shape.series,
        min(shape.each, 2 if kind == "histogram" or measurement.options.quick else 20),
    )
    script = Path(__file__).with_name("peer_distributed.py")

    def theirs() -> float:
        command = [python, script, measurement.url.removeprefix("unix://"), kind, series, each]
        done = subprocess.run(
            [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
        )
        return series * each / float(done.stdout)

    return measurement.against(kind, shape, THROUGH, theirs if python else None, why)


def ceilings(measurement: Measurement, shape: Shape) -> Iterator[Row]:
    requests = 20_000 if measurement.options.quick else 300_000
    known = peers.ceiling(measurement.url, 1_000, "PING") is not None
    why = "" if known else "redis-benchmark is not installed: it is in Debian's package redis-tools"
    of = {
        "counter": ("HINCRBYFLOAT", "ceiling", "__rand_int__", "1"),
        "gauge": ("ZADD", "ceilings:__rand_int__", "1700000000", "__rand_int__:17.5"),
    }
    for kind, command in of.items():
        theirs = partial(_ceiling, measurement.url, requests, *command)
        yield measurement.against(
            kind, shape, f"{CEILING}, {command[0]}", theirs if known else None, why
        )


def _ceiling(url: str, requests: int, *command: str) -> float:
    found = peers.ceiling(url, requests, *command)
    assert found is not None
    return found


def measure(options: Options) -> Iterator[Row]:
    shapes, costly = (
        (SMALL, SMALL) if options.quick else (WHOLE, (Shape(100, 10), Shape(10_000, 1)))
    )
    dense = Shape(100, 10) if options.quick else Shape(100, 1_000)
    began = time.perf_counter()
    with ExitStack() as stack:
        url, _ = stack.enter_context(own_server(options.server))
        madd, why = stack.enter_context(peers.time_series(options.server, make=not options.quick))
        processes = 2 if options.quick else 4
        children = [
            stack.enter_context(Child(contenders, at, url, madd)) for at in range(processes)
        ]
        measurement = Measurement(url, children, options)
        for many in (1, processes):
            for shape in shapes:
                for kind in KINDS:
                    yield from measurement.rates(many, kind, shape)
                print(
                    f"    {shape.title}, {many} processes: {time.perf_counter() - began:.0f} s",
                    file=sys.stderr,
                )
        for shape in costly:
            for kind in KINDS:
                yield from measurement.costs(kind, shape)
        for shards in (1, SHARDS):
            yield from process(url, shards, options)
        for kind in KINDS:
            yield through(measurement, kind, dense)
        for shape in (dense, shapes[-1]):

            def theirs() -> float:
                cost = measurement.run(MADD)
                return cost.samples / cost.wall

            yield measurement.against("gauge", shape, TIME_SERIES, theirs if madd else None, why)
        yield from ceilings(measurement, dense)


if __name__ == "__main__":
    main(QUESTION, measure)
