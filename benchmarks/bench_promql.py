"""How long do PromQL queries take, beside Prometheus on the same data?

    python -m benchmarks promql [--quick]

    jobs      1,000 counters in 8 groups, 14 increments on average every 15 s, for a day
    visits    50 such counters, for 30 days
    latency   10 histograms in 3 groups, 1,000,000 samples a day, for a day

Redis has the last day as record.lua and the worker leave it (see bench_query.py), and of the days
before the hours, since exact samples have ended by their retention. Prometheus has the running
totals and buckets every 15 s, in blocks that `promtool tsdb create-blocks-from` made.

All are asked over HTTP, in turn; a run is the best of three. "cold" is a server with
cache_bytes=0, "warm" one that has answered the query before; Prometheus is the same in both, and
reads from the page cache. The sums of the results are compared: Prometheus extrapolates, so within
2 %, and the percentiles of its buckets are far less exact. "CPU" is that of the server and of
Redis, which other load on the machine changes less than times.

Three more figures: from recording a new series until a query finds it, where Prometheus scrapes
every 15 s; from the start of a server to its first answer; and its memory after all queries.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, start_http_server

import redismetrics
from benchmarks.bench_query import NAMESPACE, Filled, Load, each_15_s
from benchmarks.common import Options, Row, in_turn, main, own_server, own_worker
from benchmarks.promql_data import make_blocks, older_hours, total
from benchmarks.promql_servers import Server, cpu_of, memory_of, prometheus, serving
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND
from redismetrics.promql.prepare import prepare

QUESTION = "How long do PromQL queries take?"

PEER = "Prometheus 2.42"
MISSING = "Prometheus is not installed (Debian package: prometheus)"
HAS_PEER = all(map(shutil.which, ("prometheus", "promtool")))
RATES = "sum by (region) (rate(jobs_total[5m]))"
BUCKETS = "histogram_quantile(0.95, sum by (route, le) (rate(latency_bucket[5m])))"
DIGESTS = "histogram_quantile(0.95, sum by (route) (rate(latency[5m])))"


@dataclass(frozen=True)
class Case:
    """A query over *width* ms; an instant query without *step*.

    Attributes:
        theirs: How Prometheus is asked, if otherwise.
        tolerance: By how much the sums of the results may differ.
        shares: Targets as shares of Prometheus' time, cold and warm.
        limit: Target of a cold query in ms.
    """

    name: str
    query: str
    width: int = 0
    step: int = 0
    theirs: str = ""
    tolerance: float = 0.02
    shares: tuple[float, float] | None = None
    limit: float | None = None
    headline: bool = False

    def request(self, query: str, until: int) -> Callable[[Server], tuple[float, Any]]:
        """Return a function that asks a server."""
        at = until / SECOND
        if not self.step:
            return lambda server: server.ask("query", query=query, time=at)
        begin, step = (until - self.width) / SECOND, self.step // SECOND
        return lambda server: server.ask("query_range", query=query, start=begin, end=at, step=step)


CASES = (
    Case(
        "rates of 1,000 series by group, 24 h by 60 s",
        RATES,
        DAY,
        MINUTE,
        shares=(0.6, 0.25),
        headline=True,
    ),
    Case("rates of 1,000 series by group, 1 h by 60 s", RATES, HOUR, MINUTE),
    Case("rates of 1,000 series, 1 h by 60 s", "rate(jobs_total[5m])", HOUR, MINUTE),
    Case("rates of 1,000 series by group, one moment", RATES),
    Case("totals of 1,000 series, one moment", "jobs_total"),
    Case("increase of 1,000 series over 24 h", "sum by (region) (increase(jobs_total[24h]))"),
    Case(
        "rates of 50 series by group, 30 d by 1 h",
        "sum by (region) (rate(visits_total[1h]))",
        30 * DAY,
        HOUR,
        shares=(0.2, 0.2),
        headline=True,
    ),
    Case("increase of 50 series over 30 d", "sum by (region) (increase(visits_total[30d]))"),
    Case(
        "p95 of 10 histograms in 3 groups, 24 h by 5 min",
        DIGESTS,
        DAY,
        5 * MINUTE,
        theirs=BUCKETS,
        tolerance=0.25,
        limit=100,
        headline=True,
    ),
)


class Servers(NamedTuple):
    """Ours without and with a cache, and Prometheus if it is installed."""

    cold: Server
    warm: Server
    theirs: Server | None
    redis_pid: int


def measure(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        url, redis_process = stack.enter_context(own_server(options.server))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-")))
        until = fill(stack, url, folder, options)
        page = CollectorRegistry()
        theirs = None
        if HAS_PEER:
            scraped, thread = start_http_server(0, "127.0.0.1", page)
            stack.callback(thread.join)
            stack.callback(scraped.shutdown)
            theirs = stack.enter_context(prometheus(folder, f"127.0.0.1:{scraped.server_port}"))
        servers = Servers(
            stack.enter_context(serving(url, 0)),
            stack.enter_context(serving(url, 256 << 20)),
            theirs,
            redis_process.pid,
        )
        for case in CASES:
            yield from compare(case, until, servers, options)
        yield from parsing(servers, options)
        starts = [[each.start_ms] for each in (servers.warm, servers.theirs) if each]
        yield row("start to first answer", "ms", *starts)
        yield first_point(url, page, servers, options)
        yield from memory(servers)


def fill(stack: ExitStack, url: str, folder: Path, options: Options) -> int:
    """Fill Redis, and make Prometheus' blocks of the same; return the last time of queries."""
    quick = options.quick
    loads = (
        each_15_s("jobs", "counter", 100 if quick else 1_000),
        each_15_s("visits", "counter", 5 if quick else 50),
        Load("latency", "histogram", 10, "route", 3, 100_000 if quick else 1_000_000),
    )
    worker = own_worker(url, NAMESPACE)
    jobs, visits, latency = (Filled(url, worker, load) for load in loads)
    older = older_hours(visits, 30)
    for filled in (jobs, visits, latency):
        stack.callback(filled.close)
        filled.catch_up()
    until = min(each.until for each in (jobs, visits, latency)) // (5 * MINUTE) * 5 * MINUTE
    if HAS_PEER:
        make_blocks(folder, until, [(jobs, []), (visits, older)], latency)
    return until


def row(case: str, unit: str, ours: list[float], theirs: Sequence[float] = (), **more: Any) -> Row:
    """Return a row beside Prometheus, which has no figures if it is not installed."""
    note = "; ".join(filter(None, [more.pop("note", ""), "" if theirs else MISSING]))
    return Row(case, unit, ours, more.pop("peer", PEER), list(theirs), note=note, **more)


def compare(case: Case, until: int, servers: Servers, options: Options) -> Iterator[Row]:
    """Ask all three in turn."""
    if case.width == 30 * DAY:
        # Whole hours, as a dashboard aligns them.
        until = until // HOUR * HOUR
    ours, theirs = (case.request(each, until) for each in (case.query, case.theirs or case.query))
    asks = {"cold": partial(ours, servers.cold), "warm": partial(ours, servers.warm)}
    if servers.theirs:
        asks["theirs"] = partial(theirs, servers.theirs)
    sums = {name: total(ask()[1]["result"]) for name, ask in asks.items()}
    expected = sums.get("theirs", sums["cold"])
    if not expected or not np.allclose(list(sums.values()), expected, rtol=case.tolerance):
        raise AssertionError(f"{case.name}: the sums of the results differ: {sums}")

    def best(ask: Callable[[], tuple[float, Any]]) -> float:
        return min(ask()[0] for _ in range(1 if options.quick else 3))

    pids = {name: [getattr(servers, name).pid, servers.redis_pid] for name in ("cold", "warm")}
    if servers.theirs:
        pids["theirs"] = [servers.theirs.pid]

    def used(name: str) -> float:
        before = cpu_of(*pids[name])
        asks[name]()
        return cpu_of(*pids[name]) - before

    yield from rows(
        case, "", in_turn({name: partial(best, ask) for name, ask in asks.items()}, options.runs)
    )
    if case.headline:
        found = in_turn({name: partial(used, name) for name in asks}, options.runs)
        yield from rows(case, ": CPU", found)


def rows(case: Case, what: str, found: dict[str, list[float]]) -> Iterator[Row]:
    """Return the rows of cold and warm."""
    theirs = found.get("theirs", [])
    for number, kind in enumerate(("cold", "warm")):
        target = case.limit if kind == "cold" else None
        if case.shares and theirs:
            target = case.shares[number] * statistics.median(theirs)
        name, headline = f"{case.name}, {kind}{what}", case.headline and not what
        yield row(name, "ms", found[kind], theirs, target=target, headline=headline)


def parsing(servers: Servers, options: Options) -> Iterator[Row]:
    """Measure what is done before data is read."""
    times, numbers = 10 if options.quick else 1_000, count()

    def new() -> str:
        return f"{BUCKETS} + {next(numbers)}"

    def prepared(text: Callable[[], str]) -> float:
        texts = [text() for _ in range(times)]
        began = time.perf_counter()
        for each in texts:
            prepare(each, 0, DAY, MINUTE)
        return (time.perf_counter() - began) / times * 1e6

    both = {"new": partial(prepared, new), "known": partial(prepared, lambda: BUCKETS)}
    for name, figures in in_turn(both, options.runs).items():
        yield Row(f"parse and plan, {name} expression", "us", figures, note=BUCKETS)

    def formatted(server: Server) -> float:
        return min(server.ask("format_query", query=new())[0] for _ in range(5))

    asks = {"ours": partial(formatted, servers.warm)}
    if servers.theirs:
        asks["theirs"] = partial(formatted, servers.theirs)
    found = in_turn(asks, options.runs)
    yield row("parse and format, over HTTP", "ms", found["ours"], found.get("theirs", ()))


def first_point(url: str, page: CollectorRegistry, servers: Servers, options: Options) -> Row:
    """Measure how long it takes until a query finds a series that was just recorded."""
    counter = Counter("news", "", ["number"], registry=page)
    metrics = redismetrics.Metrics(url, namespace=NAMESPACE)
    numbers = count()

    def until_found(server: Server, record: Callable[[str], object]) -> float:
        number = str(next(numbers))
        began = time.perf_counter()
        record(number)
        query = f'news_total{{number="{number}"}}'
        while not server.ask("query", query=query)[1]["result"]:
            time.sleep(0.02)
        return time.perf_counter() - began

    def ours(number: str) -> None:
        metrics.increment("news", tags={"number": number})

    def theirs(number: str) -> None:
        counter.labels(number).inc()

    asks = {"ours": partial(until_found, servers.cold, ours)}
    if servers.theirs:
        asks["theirs"] = partial(until_found, servers.theirs, theirs)
    found = in_turn(asks, options.runs, warm=0)
    metrics.close()
    case, peer = "from recording a series to a query that finds it", f"{PEER}, every 15 s"
    return row(case, "s", found["ours"], found.get("theirs", ()), peer=peer)


def memory(servers: Servers) -> Iterator[Row]:
    """Compare what the processes hold after all queries."""
    theirs = [servers.theirs.memory()] if servers.theirs else []
    cold, warm = servers.cold.memory(), servers.warm.memory()
    for name, held in (
        ("memory of the server that answers, cold", cold),
        ("memory of the server that answers, warm", warm),
        ("memory of that server and of Redis", warm + memory_of(servers.redis_pid)),
    ):
        yield row(name, "MB", [held], theirs, note="anonymous memory after all queries")


if __name__ == "__main__":
    main(QUESTION, measure)
