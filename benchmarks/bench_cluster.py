"""How fast is a cluster of three nodes, and how soon does it recover when a primary dies?

    python -m benchmarks cluster [--quick]

Throughput: four processes record to 64 metrics of ten series each (counters, gauges and
histograms in turn) and flush. All begin at once; the clock stops when the last flush of the last
process is confirmed. The peer is one node with one shard. All nodes have an append-only file. On
a machine with fewer cores than processes and nodes, three nodes cannot be faster than one: they
share the cores, and a flush is one call per shard. Then the ratio shows the cost of a cluster, not
its gain.

Recovery: three primaries and three replicas. One primary is killed (SIGKILL) while a process
records. The time runs until a flush of everything is confirmed, including the samples of its
shards. Most of it is the time that the cluster needs until a replica takes over:
cluster-node-timeout, here NODE_TIMEOUT, and the election.

Both compare what Redis counts with what was recorded.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import Options, main
from benchmarks.rows import Row
from redismetrics import Counter, Gauge, Histogram, Metrics
from redismetrics.store import keys
from tests.fixtures.clusters import Cluster, slot_of_shard
from tests.fixtures.servers import Server, wait_in_step

QUESTION = "How fast is a cluster of three nodes, and how soon does it recover when a primary dies?"
PROCESSES, METRICS, SERIES, EACH = 4, 64, 10, 10
NODE_TIMEOUT = 1.5  # seconds; of tests.fixtures.clusters
NAMESPACE = "bench"


# -- servers ------------------------------------------------------------------------------------


@contextmanager
def started(binary: str | None) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts servers; they end with the block."""
    servers: list[Server] = []
    folders: list[str] = []

    def start(**options: Any) -> Server:
        folders.append(tempfile.mkdtemp(prefix="rm-bench-", dir="/tmp"))
        servers.append(Server.start(Path(folders[-1]), Path(found) if found else None, **options))
        return servers[-1]

    found = shutil.which(binary) if binary else None
    try:
        yield start
    finally:
        for server in servers:
            server.kill()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def names() -> list[str]:
    return [f"metric_{number}" for number in range(METRICS)]


def counted(url: str, namespace: str) -> float:
    """Return the number of samples that Redis counts."""
    with Metrics(url, namespace=namespace) as metrics:
        return sum(metrics.query(name, aggregation="count") for name in names())


# -- throughput ---------------------------------------------------------------------------------


def record(url: str, namespace: str, flushes: int, barrier: Any, ended: Any) -> None:
    """Record and flush repeatedly. Runs in a process of its own."""
    with Metrics(url, namespace=namespace, flush_interval=3_600) as metrics:
        calls: list[Callable[[float], None]] = []
        for number, name in enumerate(names()):
            for series in range(SERIES):
                tags = {"process": str(os.getpid()), "series": str(series)}
                if number % 3 == 0:
                    calls.append(Counter(name, tags, metrics=metrics).increment)
                elif number % 3 == 1:
                    calls.append(Gauge(name, tags, metrics=metrics).set)
                else:
                    calls.append(Histogram(name, tags, metrics=metrics).record)
        for call in calls:
            call(1)
        metrics.flush(30)  # assigns the ids of the series
        barrier.wait()
        for _ in range(flushes):
            for call in calls:
                for value in range(1, EACH + 1):
                    call(value)
            metrics.flush(60)
        stats = metrics.stats()
        ended.put((time.monotonic(), stats["recorded"], stats["stored"], stats["dropped"]))


def throughput(url: str, run: int, flushes: int) -> float:
    """Return the samples per second that were recorded and stored."""
    namespace = f"{NAMESPACE}-{run}"
    context = multiprocessing.get_context("spawn")
    barrier, ended = context.Barrier(PROCESSES + 1), context.Queue()
    processes = [
        context.Process(target=record, args=(url, namespace, flushes, barrier, ended))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    barrier.wait(60)
    began = time.monotonic()
    found = [ended.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    took = max(end for end, *_ in found) - began
    recorded, stored = sum(each[1] for each in found), sum(each[2] for each in found)
    in_store = counted(url, namespace)
    if not recorded == stored == in_store or any(each[3] for each in found):
        raise AssertionError(
            f"recorded {recorded}, stored {stored}, in the store {in_store}: {found}"
        )
    return (recorded - PROCESSES * METRICS * SERIES) / took


# -- recovery -----------------------------------------------------------------------------------


def recovery(options: Options, run: int) -> float:
    """Return the seconds from the kill of a primary until everything recorded is confirmed."""
    namespace = f"{NAMESPACE}-{run}"
    with started(options.server) as start:
        cluster = Cluster(start, primaries=3, replicas=3)
        with Metrics(
            cluster.url, namespace=namespace, flush_interval=0.05, socket_timeout=0.5
        ) as metrics:
            recorded = 0
            for _ in range(50):
                for name in names():
                    metrics.increment(name)
                    recorded += 1
            metrics.flush(30)
            shard = keys.shard_of(names()[0], 16)
            victim = cluster.owner(slot_of_shard(namespace, shard))
            wait_in_step(cluster.nodes[victim], cluster.nodes[victim + 3])
            cluster.nodes[victim].kill()
            began = time.monotonic()
            while time.monotonic() - began < 0.5:  # before the cluster has noticed
                for name in names():
                    metrics.increment(name)
                    recorded += 1
                time.sleep(0.01)
            metrics.flush(60)
            took = time.monotonic() - began
            stats = metrics.stats()
            if (stats["stored"], stats["dropped"], stats["lost_batches"]) != (recorded, {}, 0):
                raise AssertionError(f"recorded {recorded}, but {stats}")
        in_store = counted(cluster.url, namespace)
        if in_store != recorded:
            raise AssertionError(f"recorded {recorded}, in the store {in_store}")
        return took


def measure(options: Options) -> Iterator[Row]:
    flushes = 2 if options.quick else 12
    with started(options.server) as start:
        three, one = Cluster(start).url, start(port=True).url
        ours, theirs = [], []
        for run in range(options.runs + 1):
            figures = throughput(three, run, flushes), throughput(one, run, flushes)
            if run:  # the first run warms up
                ours.append(figures[0])
                theirs.append(figures[1])
    cores = os.cpu_count() or 1
    busy = PROCESSES + 3
    note = (
        f"{PROCESSES} processes and 3 nodes on {cores} cores, "
        f"{METRICS} metrics of {SERIES} series over 16 shards and 1"
    )
    if cores < busy:
        note += ": too few cores to show what more nodes gain"
    yield Row(
        "three nodes, four processes",
        "samples/s",
        ours,
        "one node",
        theirs,
        more_is_better=True,
        note=note,
    )
    timeouts = (
        f"cluster-node-timeout {NODE_TIMEOUT:g} s; flush_interval 0.05 s, socket_timeout 0.5 s"
    )
    yield Row(
        "primary killed, until a flush is confirmed",
        "s",
        [recovery(options, run) for run in range(options.runs)],
        note=timeouts,
        headline=True,
    )


if __name__ == "__main__":
    main(QUESTION, measure)
