"""How many samples a second go all the way: recorded, sent and stored?

    python benchmarks/bench_flush.py [--json] [--quick]

Each round records on bound handles and calls flush(), which returns once the store confirmed; recorded samples and what a
query then counts stand side by side. The peers, in the same run on the same server: a redis-py pipeline of one HINCRBYFLOAT and
one ZADD a sample; and one that adds up in the client first and sends one of each a series. Rounds of ours and theirs take turns.
"""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis
from common import arguments, machine, median, own_server, show

import redismetrics

KINDS: dict[str, Callable[..., Any]] = {
    "counter": redismetrics.Counter,
    "gauge": redismetrics.Gauge,
    "histogram": redismetrics.Histogram,
}


def ours(metrics: redismetrics.Metrics, kind: str, series: int, each: int) -> Callable[[], float]:
    """A round of ours: returns its seconds."""
    name = f"{kind}_{series}_{each}"
    handles = [KINDS[kind](name, {"series": str(number)}, metrics=metrics) for number in range(series)]
    values = [random.lognormvariate(3, 1) for _ in range(each)]

    def once() -> float:
        began = time.perf_counter()
        for handle in handles:
            if kind == "counter":
                call = handle.increment
                for _ in values:
                    call()
            else:
                call = handle.set if kind == "gauge" else handle.record
                for value in values:
                    call(value)
        metrics.flush(60)
        return time.perf_counter() - began

    return once


def naive(client: redis.Redis, series: int, each: int) -> Callable[[], float]:
    """One HINCRBYFLOAT and one ZADD a sample, in one pipeline."""
    values = [random.lognormvariate(3, 1) for _ in range(each)]
    sequence = iter(range(1 << 62))

    def once() -> float:
        began = time.perf_counter()
        pipeline = client.pipeline(transaction=False)
        for number in range(series):
            for value in values:
                now = time.time()
                pipeline.hincrbyfloat("naive:totals", str(number), value)
                pipeline.zadd(f"naive:{number}", {f"{next(sequence)}:{value}": now})
        pipeline.execute()
        return time.perf_counter() - began

    return once


def summing(client: redis.Redis, series: int, each: int) -> Callable[[], float]:
    """Adds up in the client first, then sends one HINCRBYFLOAT and one ZADD a series: no samples kept."""
    values = [random.lognormvariate(3, 1) for _ in range(each)]
    sequence = iter(range(1 << 62))

    def once() -> float:
        began = time.perf_counter()
        totals: dict[str, float] = {}
        names = [str(number) for number in range(series)]
        for name in names:
            for value in values:
                totals[name] = totals.get(name, 0.0) + value
        now = time.time()
        pipeline = client.pipeline(transaction=False)
        for name, total in totals.items():
            pipeline.hincrbyfloat("summing:totals", name, total)
            pipeline.zadd(f"summing:{name}", {f"{next(sequence)}:{total}": now})
        pipeline.execute()
        return time.perf_counter() - began

    return once


def compare(url: str, kind: str, series: int, each: int, times: int) -> dict[str, Any]:
    metrics = redismetrics.Metrics(url, namespace=f"flush-{kind}-{series}", flush_interval=3600)
    client = redis.Redis.from_url(url)
    runs = {
        "ours": ours(metrics, kind, series, each),
        "naive": naive(client, series, each),
        "summing": summing(client, series, each),
    }
    figures: dict[str, list[float]] = {name: [] for name in runs}
    mine = 0
    for number in range(times + 1):
        for name, once in runs.items():
            repeat = 5 if name == "ours" else 1
            seconds = sum(once() for _ in range(repeat)) / repeat
            mine += repeat if name == "ours" else 0
            if number:
                figures[name].append(seconds)
    samples = series * each
    name = f"{kind}_{series}_{each}"
    stored = metrics.query(name, aggregation="count")
    used = metrics.get_stats()["storage"]["log_bytes"]
    metrics.close()
    client.flushall()
    client.close()
    middle = {key: median(found) for key, found in figures.items()}
    return {
        "case": f"{kind}, {series:,} series x {each:,}",
        "samples/s": samples / middle["ours"],
        "best": samples / min(figures["ours"]),
        "recorded": samples * mine,
        "stored": stored,
        "bytes a sample": used / (samples * mine),
        "naive/s": samples / middle["naive"],
        "x naive": middle["naive"] / middle["ours"],
        "summing/s": samples / middle["summing"],
        "x summing": middle["summing"] / middle["ours"],
    }


def main() -> None:
    options = arguments(__doc__ or "")
    times = 2 if options.quick else 9
    with own_server(options.server) as (url, _):
        rows = [
            compare(url, kind, series, each, times)
            for series, each in ((10, 1000), (1000, 1), (1000, 10))
            for kind in KINDS
        ]
        show(options, machine(url), rows)


if __name__ == "__main__":
    main()
