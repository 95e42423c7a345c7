"""What does a server that is 1 ms away cost?

    python -m benchmarks network [--quick]

A proxy on the same machine delays all bytes by 0.5 ms in each direction, so a round trip takes 1
ms more (the row PING shows the real delay). Ours and the peer, redis-py pipelines of whole
batches, use the same proxy. Round trips are counted where redis-py sends: a request is one,
however many commands it has.

    recording    one call. The peer sends each sample at once, by HINCRBYFLOAT and ZADD, as one
                 does without a buffer
    flushes      recorded and stored. The peer sends the same two commands per sample, all in one
                 pipeline
    query        p95 by group over a day of 10,000 samples, by a client without a cache. The peer
                 reads sorted sets and uses numpy
    scrape       20 metrics of 50 series each. The peer reads 20 hashes and prints them
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

import redismetrics
from benchmarks.bench_query import NAMESPACE, Filled, SortedSets, latency, p95
from benchmarks.common import Options, Row, bound, in_turn, main, own_server, own_worker
from benchmarks.faraway import further
from redismetrics.export import prometheus

QUESTION = "What does 1 ms of network latency cost?"
EACH_WAY = 0.0005
PEER = "redis-py pipeline"
METRICS, SERIES = 20, 50  # on the Prometheus page
BATCHES = "a flush of many series is several batches; each is confirmed before the next is sent"
SCRAPED = (
    "ours looks up the names first and adds metrics about the store and itself; "
    "the peer knows its keys"
)


class Requests:
    """Count the requests that redis-py sends in this process during the block."""

    def __enter__(self) -> "Requests":
        self.count = 0
        self._send = redis.connection.AbstractConnection.send_packed_command
        lock = threading.Lock()

        def send(connection: Any, command: Any, check_health: bool = True) -> None:
            with lock:
                self.count += 1
            self._send(connection, command, check_health)

        redis.connection.AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        redis.connection.AbstractConnection.send_packed_command = self._send  # type: ignore[method-assign]


def compare(
    case: str, ours: Callable[[], Any], theirs: Callable[[], Any], runs: int, note: str = ""
) -> Iterator[Row]:
    """Measure both in turn: the time, and the round trips of a run."""
    trips: dict[str, list[float]] = {"ours": [], "theirs": []}

    def timed(name: str, work: Callable[[], Any]) -> float:
        with Requests() as sent:
            began = time.perf_counter()
            work()
            taken = (time.perf_counter() - began) * 1e3
        trips[name].append(sent.count)
        return taken

    found = in_turn(
        {"ours": lambda: timed("ours", ours), "theirs": lambda: timed("theirs", theirs)}, runs
    )
    yield Row(case, "ms", found["ours"], PEER, found["theirs"], note=note)
    yield Row(f"{case}: round trips", "requests", trips["ours"][1:], PEER, trips["theirs"][1:])


def send(client: redis.Redis, series: int, values: list[float]) -> None:
    """Send the peer's batch: for each sample one command for the total and one for the value."""
    sequence = time.time_ns()
    with client.pipeline(transaction=False) as pipeline:
        for number in range(series):
            for value in values:
                sequence += 1
                pipeline.hincrbyfloat("far:totals", str(number), value)
                pipeline.zadd(f"far:{number}", {f"{sequence}:{value}": time.time()})
        pipeline.execute()


def recording(url: str, client: redis.Redis, runs: int, calls: int) -> Row:
    metrics = redismetrics.Metrics(url, namespace="far-record")
    counter = redismetrics.Counter("calls", metrics=metrics)

    def ours() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            counter.increment()
        return (time.perf_counter() - began) / calls * 1e6

    def theirs() -> float:
        few = max(calls // 1000, 10)
        began = time.perf_counter()
        for _ in range(few):
            send(client, 1, [1.0])
        return (time.perf_counter() - began) / few * 1e6

    found = in_turn({"ours": ours, "theirs": theirs}, runs)
    metrics.flush()
    stored = metrics.query("calls", aggregation="sum")
    metrics.close()
    if stored != calls * (runs + 1):
        raise AssertionError(f"recorded {calls * (runs + 1)}, stored {stored}")
    return Row("recording call", "us", found["ours"], PEER, found["theirs"], headline=True)


def flushes(url: str, client: redis.Redis, series: int, each: int, runs: int) -> Iterator[Row]:
    metrics = redismetrics.Metrics(url, namespace=f"far-{series}", flush_interval=3600)
    calls = bound(metrics, "histogram", "took", series)
    values = [number * 0.25 for number in range(each)]

    def ours() -> None:
        for call in calls:
            for value in values:
                call(value)
        metrics.flush(60)

    yield from compare(
        f"flush of {series:,} series x {each:,}",
        ours,
        lambda: send(client, series, values),
        runs,
        BATCHES,
    )
    stored = metrics.query("took", aggregation="count")
    metrics.close()
    if stored != series * each * (runs + 1):
        raise AssertionError(f"recorded {series * each * (runs + 1)}, stored {stored}")


def query(near: str, far: str, runs: int, a_day: int) -> Iterator[Row]:
    worker = own_worker(near, NAMESPACE)
    filled = Filled(near, worker, latency(a_day))
    peer = SortedSets(far, filled)
    metrics = redismetrics.Metrics(far, namespace=NAMESPACE, cache_bytes=0)
    p95(metrics, filled.load)  # connect and read the namespace
    yield from compare(
        "p95 by group", lambda: p95(metrics, filled.load), lambda: peer.answer("p95 by group"), runs
    )
    metrics.close()
    peer.client.close()
    filled.close()
    worker.leave()


def scrape(near: str, far: str, client: redis.Redis, runs: int) -> Iterator[Row]:
    with redismetrics.Metrics(near, namespace="far-page", flush_interval=3600) as filling:
        for number in range(METRICS):
            for call in bound(filling, "counter", f"page_{number}", SERIES):
                call(3)
        filling.flush()
    names = [f"far:page:{number}" for number in range(METRICS)]
    for name in names:
        client.hset(name, mapping={f'series="{number}"': 3 for number in range(SERIES)})
    metrics = redismetrics.Metrics(far, namespace="far-page")

    def ours() -> bytes:
        return prometheus.negotiate(None, metrics=metrics)[0]

    def theirs() -> bytes:
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(name)
            pages = pipeline.execute()
        lines = []
        for name, found in zip(names, pages, strict=True):
            lines += [
                f"{name}{{{labels.decode()}}} {value.decode()}\n" for labels, value in found.items()
            ]
        return "".join(lines).encode()

    if (
        ours().count(b"\npage_") != METRICS * SERIES
        or theirs().count(b'series="') != METRICS * SERIES
    ):
        raise AssertionError("series are missing on a page")
    yield from compare(f"scrape of {METRICS * SERIES:,} series", ours, theirs, runs, SCRAPED)
    metrics.close()


def measure(options: Options) -> Iterator[Row]:
    runs, quick = options.runs, options.quick
    with own_server(options.server) as (near, _), further(near, EACH_WAY) as far:
        client = redis.Redis.from_url(far)
        pings = in_turn({"ping": lambda: timed_ms(client.ping)}, runs)["ping"]
        yield Row("PING", "ms", pings, note="the latency of the proxy, including its own work")
        yield recording(far, client, runs, 2_000 if quick else 200_000)
        yield from flushes(far, client, 10, 20 if quick else 1_000, runs)
        yield from flushes(far, client, 100 if quick else 1_000, 1, runs)
        yield from query(near, far, runs, 2_000 if quick else 10_000)
        yield from scrape(near, far, client, runs)
        client.close()


def timed_ms(work: Callable[[], Any], times: int = 20) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e3


if __name__ == "__main__":
    main(QUESTION, measure)
