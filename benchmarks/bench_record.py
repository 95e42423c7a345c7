"""What does a recording call cost, with Redis there and with Redis stopped?

    python benchmarks/bench_record.py [--json] [--quick]

One result a line: microseconds a call (median and best of rounds) beside prometheus_client's bound counter and histogram in the
same run; then, with the server paused (SIGSTOP) for 10 s and 50,000 calls a second, the longest calls, and that nothing is lost
once it is back.
"""

import os
import signal
import sys
import time
import timeit
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import prometheus_client
from common import arguments, machine, median, own_server, rounds, show

import redismetrics

TAGS = {"method": "GET", "status": "200"}


def cost(statement: str, names: dict[str, Any], drain: Any, times: int) -> list[float]:
    """Microseconds a call in each round; what is recorded is drained between the rounds."""
    calls = 100_000

    def once() -> float:
        seconds = timeit.timeit(statement, globals=names, number=calls)
        drain()
        return seconds / calls * 1e6

    return rounds(once, times)


def call_costs(url: str, times: int) -> list[dict[str, Any]]:
    metrics = redismetrics.Metrics(url, namespace="calls", flush_interval=3600)
    registry = prometheus_client.CollectorRegistry()
    names = {
        "metrics": metrics,
        "tags": TAGS,
        "counter": redismetrics.Counter("requests", TAGS, metrics=metrics),
        "gauge": redismetrics.Gauge("depth", TAGS, metrics=metrics),
        "histogram": redismetrics.Histogram("latency", TAGS, metrics=metrics),
        "none": redismetrics.Metrics("none://"),
        "peer": prometheus_client.Counter("r", "r", list(TAGS), registry=registry).labels(*TAGS.values()),
        "peer_histogram": prometheus_client.Histogram("l", "l", list(TAGS), registry=registry).labels(*TAGS.values()),
        "peer_unbound": prometheus_client.Counter("u", "u", list(TAGS), registry=registry),
    }
    cases = [
        ("bound increment()", "counter.increment()", "peer.inc()"),
        ("bound histogram record()", "histogram.record(1.5)", "peer_histogram.observe(1.5)"),
        ("bound gauge set()", "gauge.set(1.5)", None),
        ("unbound increment, two tags", "metrics.increment('unbound', tags=tags)", "peer_unbound.labels(**tags).inc()"),
        ("unbound histogram, two tags", "metrics.histogram('unbound_ms', 1.5, tags=tags)", None),
        ("unbound increment, none://", "none.increment('unbound', tags=tags)", None),
    ]
    rows = []
    for title, statement, peer in cases:
        ours = cost(statement, names, lambda: metrics.flush(60), times)
        row = {"call": title, "median us": median(ours), "best us": ours[0]}
        if peer is not None:
            theirs = cost(peer, names, lambda: None, times)
            row |= {"prometheus_client us": median(theirs), "ratio": median(theirs) / median(ours)}
        rows.append(row)
    metrics.close()
    return rows


def while_paused(url: str, pid: int, seconds: float) -> dict[str, Any]:
    """Call times at 50,000 calls a second with the server stopped, and the balance when it is back."""
    metrics = redismetrics.Metrics(url, namespace="paused")
    counter = redismetrics.Counter("requests", metrics=metrics)
    histogram = redismetrics.Histogram("latency", metrics=metrics)
    counter.increment()
    histogram.record(1.0)
    metrics.flush()
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
    stored = metrics.query("requests", aggregation="sum") + metrics.query("latency", aggregation="count")
    metrics.close()
    durations.sort()
    return {
        "call": f"server stopped {took:.0f} s, {total / took:,.0f} calls/s",
        "median us": median(durations) * 1e6,
        "p99.9 us": durations[int(total * 0.999)] * 1e6,
        "longest ms": durations[-1] * 1e3,
        "recorded": total + 2,
        "stored": stored,
        "dropped": sum(stats["dropped"].values()),
    }


def main() -> None:
    options = arguments(__doc__ or "")
    with own_server(options.server) as (url, process):
        rows = call_costs(url, 3 if options.quick else 9)
        rows.append(while_paused(url, process.pid, 1 if options.quick else 10))
        show(options, machine(url), rows)


if __name__ == "__main__":
    main()
