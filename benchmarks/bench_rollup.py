"""How many samples per second does one worker merge, and does it slow down recording?

    python -m benchmarks rollup [--quick]

The first rows are workloads: a minute of 60 flushes, recorded by a client whose clock is set to
the last hour; only the passes of the worker are timed. "one pass" covers all of it, as after an
outage; "every 5 s" is twelve passes of five flushes each, as a worker runs, so each minute is
merged twelve times. The worker runs alone in this process. In one more run its time is split:
"decode" is for blocks and stored minutes, "merge" for numbers and digests, "pack" for the bytes
written, "read" and "commit" for the round trips, including redis-py and waiting. What was recorded
is compared with what was sealed, by the worker's count and by a query. The peer on the same server
reads the minute of each series from a sorted set of "ts:value", and writes count, sum, min, max
and three percentiles by numpy to a hash, once.

The row "downsample an hour" is one hour of histograms with digests, made from its minutes.

The last rows are a process that records 50,000 samples per second, half on a counter and half on a
histogram, with one flush per second: its calls alone, beside a worker at full load, and beside a
process that only counts, which shows the effect of the machine. At full load the passes follow
without a pause; before each one the logs of the first workloads become unsealed again, their hours
due, and a hundred writers long gone. The longest scripts come from the server's SLOWLOG.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgpack
import numpy as np
import redis

import redismetrics
from benchmarks.common import (
    Options,
    Past,
    Row,
    bound,
    in_turn,
    main,
    make_due,
    metric_of,
    own_server,
    own_worker,
)
from redismetrics.columnar import block_codec, column_codec, rollup_codec, sample_codec
from redismetrics.columnar.rollup_codec import read_table
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import driver, keys, scripts
from redismetrics.store.connection import Store
from redismetrics.store.due_slot import TRIM, DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.worker import Worker, merge

QUESTION = "How many samples per second does one worker merge, and does it slow down recording?"
FLUSHES, EVERY = 60, 5
WATCHED = ("decode", "merge", "pack", "read", "commit")
PEER_SAMPLES = 30_000
RATE = 50_000


@dataclass(frozen=True)
class Load:
    """A minute: in each flush *each* samples of each series of each metric."""

    kind: str
    metrics: int
    series: int
    each: int

    @property
    def title(self) -> str:
        many = f"{self.metrics} metrics x " if self.metrics > 1 else ""
        return f"{self.kind}, {many}{self.series:,} series x {self.each:,}"

    @property
    def samples(self) -> int:
        return FLUSHES * self.metrics * self.series * self.each

    @property
    def names(self) -> list[str]:
        return [f"{self.kind}_{self.series}_{self.each}_{number}" for number in range(self.metrics)]


LOADS = (
    Load("histogram", 1, 1000, 10),
    Load("histogram", 1, 10, 1000),
    Load("counter", 1, 10_000, 1),
    Load("gauge", 1, 1000, 10),
    Load("histogram", 200, 5, 10),
)
QUICK = (Load("histogram", 1, 20, 5), Load("counter", 1, 100, 1))
PEER = "numpy over sorted sets"


class Recording:
    """A client with its clock in the past, which records one load, flush by flush."""

    def __init__(self, url: str, namespace: str, load: Load) -> None:
        client = redis.Redis.from_url(url)
        self.start = slot_of(int(client.time()[0]) * 1000, HOUR) - HOUR
        client.close()
        self.load, self.clock = load, Past(self.start / 1000)
        self.metrics = redismetrics.Metrics(
            url,
            namespace=namespace,
            flush_interval=3600,
            log_bytes=1 << 30,
            clock=self.clock,
            socket_timeout=60,
        )
        self.values = np.round(np.random.default_rng(1).lognormal(3, 1, 100_000), 3).tolist()
        self.calls = [
            call
            for name in load.names
            for call in bound(self.metrics, load.kind, name, load.series)
        ]

    def flush(self, number: int) -> None:
        """Record and send the flush of second *number*."""
        began = self.start / 1000 + number
        if self.load.kind == "counter":
            for call in self.calls:
                for _ in range(self.load.each):
                    call()
        else:
            step = 0.99 / self.load.each
            at = number * 7919 % 50_000
            for nth in range(self.load.each):
                self.clock.now = began + step * nth
                for call in self.calls:
                    call(self.values[at])
                    at = at + 1 if at < 99_999 else 0
        self.clock.now = began + 0.9995
        self.metrics.flush(60)


# -- one worker ---------------------------------------------------------------------------------


@dataclass
class Watch:
    """Seconds by activity. Time in nested activities counts for the inner one only."""

    seconds: dict[str, float] = field(default_factory=dict)
    _running: list[list[Any]] = field(default_factory=list)

    def around(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            inner = [0.0]
            self._running.append(inner)
            try:
                return function(*args, **options)
            finally:
                took = time.perf_counter() - began
                self._running.pop()
                if self._running:
                    self._running[-1][0] += took
                what = name(*args)
                self.seconds[what] = self.seconds.get(what, 0.0) + took - inner[0]

        return watched

    @contextmanager
    def watching(self) -> Iterator[None]:
        watched = {
            "decode": [
                (block_codec, "unpack"),
                (rollup_codec, "unpack_table"),
                (sample_codec, "unpack_samples"),
                (rollup_codec, "_unpack_points"),
                (column_codec.Reader, "fill"),  # columns are decoded when they are used
            ],
            "merge": [(merge, "merge_into_cells"), (merge, "cell_keys")],
            "pack": [(rollup_codec, "pack_table"), (sample_codec, "pack_samples")],
        }
        with ExitStack() as stack:
            for what, places in watched.items():
                for module, name in places:
                    function = self.around(lambda *_, what=what: what, getattr(module, name))
                    stack.enter_context(mock.patch.object(module, name, function))
            stack.enter_context(
                mock.patch.object(driver, "_send", self.around(_read_or_commit, driver._send))
            )
            yield


def _read_or_commit(_: redis.Redis, commands: list[Any]) -> str:
    return "commit" if any(command[0] == "EVALSHA" for command in commands) else "read"


@contextmanager
def slowlog(url: str) -> Iterator[dict[str, float]]:
    """Yield the longest run of each script in the block, in ms by name; 0 if below 0.1."""
    client = redis.Redis.from_url(url)
    client.config_set("slowlog-max-len", 100_000)
    client.config_set("slowlog-log-slower-than", 100)
    client.slowlog_reset()
    longest = dict.fromkeys(scripts.NAMES, 0.0)
    names = {scripts.script(name).sha: name for name in scripts.NAMES}
    yield longest
    client.config_set("slowlog-log-slower-than", -1)
    client.response_callbacks.clear()
    for entry in client.execute_command("SLOWLOG", "GET", 100_000):
        microseconds, command = entry[2], entry[3]
        name = names.get(command[1].decode()) if command[0].upper() == b"EVALSHA" else None
        if name:
            longest[name] = max(longest[name], microseconds / 1000)
    client.close()


def check(url: str, namespace: str, load: Load, worker: Worker, start: int) -> None:
    """Compare the samples in the hour with those recorded."""
    with redismetrics.Metrics(url, namespace=namespace, socket_timeout=60) as metrics:
        window = (start / 1000, (start + HOUR) / 1000)
        found = sum(metrics.query(name, aggregation="count", window=window) for name in load.names)
    if not load.samples == found == worker.counts.samples or worker.counts.late:
        raise AssertionError(
            f"{load.title}: recorded {load.samples}, stored {found}, sealed {worker.counts.samples}"
        )


def minute(url: str, load: Load, every: int, watch: Watch | None = None) -> float:
    """Seal a minute with a pass after every *every* flushes; return the seconds of all passes."""
    recording, worker = Recording(url, "minute", load), own_worker(url, "minute")
    took = 0.0
    for number in range(FLUSHES):
        recording.flush(number)
        if number % every == every - 1:
            with watch.watching() if watch is not None else nullcontext():
                began = time.perf_counter()
                worker.pass_once()
                took += time.perf_counter() - began
    recording.metrics.close()
    check(url, "minute", load, worker, recording.start)
    worker.leave()
    _flush(url)
    return took


def _flush(url: str) -> None:
    client = redis.Redis.from_url(url)
    client.flushall()
    client.close()


def naive(url: str, load: Load) -> float:
    """Return the samples per second of a simple worker, on about 30,000 samples."""
    client = redis.Redis.from_url(url)
    per_series = FLUSHES * load.each
    names = [f"naive:{number}" for number in range(max(PEER_SAMPLES // per_series, 1))]
    values = np.round(np.random.default_rng(1).lognormal(3, 1, per_series), 3).tolist()
    for name in names:
        client.zadd(name, {f"{ms}:{value}": ms for ms, value in enumerate(values)})
    began = time.perf_counter()
    for first in range(0, len(names), 100):
        some = names[first : first + 100]
        with client.pipeline(transaction=False) as pipeline:
            for name in some:
                pipeline.zrangebyscore(name, 0, 59_999)
            found = pipeline.execute()
            for name, members in zip(some, found, strict=True):
                column = np.array([float(member.partition(b":")[2]) for member in members])
                middle, high, higher = np.percentile(column, (50, 95, 99))
                row = {
                    "count": len(column),
                    "sum": float(column.sum()),
                    "min": float(column.min()),
                    "max": float(column.max()),
                    "p50": float(middle),
                    "p95": float(high),
                    "p99": float(higher),
                }
                pipeline.hset(f"{name}:0", mapping=row)
            pipeline.execute()
    took = time.perf_counter() - began
    client.flushall()
    client.close()
    return len(names) * per_series / took


def seal(url: str, load: Load, runs: int) -> Iterator[Row]:
    def rate(every: int) -> Callable[[], float]:
        return lambda: load.samples / minute(url, load, every)

    ways = {"one pass": FLUSHES, "every 5 s": EVERY}
    measures = {title: rate(every) for title, every in ways.items()} | {
        PEER: lambda: naive(url, load)
    }
    taken = in_turn(measures, runs)
    for title, every in ways.items():
        watch = Watch()
        with slowlog(url) as longest:
            whole = minute(url, load, every, watch)
        parts = ", ".join(f"{what} {watch.seconds.get(what, 0) / whole:.0%}" for what in WATCHED)
        note = f"{parts}; longest commit {longest['commit']:.1f} ms"
        headline = load == LOADS[0] and every == EVERY
        case = f"one worker: {load.title}, {title}"
        yield Row(
            case,
            "samples/s",
            taken[title],
            PEER,
            taken[PEER],
            True,
            1e6,
            note=note,
            headline=headline,
        )


# -- an hour ------------------------------------------------------------------------------------


def hour(url: str, series: int, each: int) -> Iterator[Row]:
    """Measure the downsampling of an hour of histograms, *each* samples per minute."""
    load = Load("histogram", 1, series, each)
    recording, worker = Recording(url, "hour", load), own_worker(url, "hour")
    for minute in range(60):
        recording.flush(minute * 60 + 30)
        worker.pass_once()
    recording.metrics.close()
    if worker.counts.samples != 60 * series * each:
        raise AssertionError(f"recorded {60 * series * each}, sealed {worker.counts.samples}")
    metric = metric_of("hour", load.names[0])
    client = Store(url, 60).connect(retries=0)
    with slowlog(url) as longest:
        taken = make_due(client, metric)
    found = client.hgetall(metric.data("hour", slot_of(recording.start, 24 * HOUR)))
    stored = sum(int(read_table(data).summaries.count.sum()) for data in found[1::2])
    if stored != 60 * series * each:
        raise AssertionError(f"recorded {60 * series * each}, in the hour {stored}")
    worker.leave()
    client.close()
    _flush(url)
    title = f"downsample an hour: {series:,} series x {each} per minute"
    yield Row(title, "s", [sum(taken)], note=f"{len(taken)} commits, longest {max(taken):.2f} s")
    yield Row(f"{title}, longest commit on the server", "ms", [longest["commit"]])


# -- recording at the same time -----------------------------------------------------------------


def write(url: str, seconds: float, result: Any) -> None:
    """Record 50,000 samples per second; put the sorted call times and the rate into *result*."""
    metrics = redismetrics.Metrics(url, namespace="busy")
    counter = redismetrics.Counter("requests", metrics=metrics)
    histogram = redismetrics.Histogram("latency", metrics=metrics)
    counter.increment()
    histogram.record(1.0)
    metrics.flush()
    total = int(RATE * seconds)
    durations = [0.0] * total
    clock = time.perf_counter
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
    metrics.flush(60)
    stats = metrics.stats()
    metrics.close()
    if stats["stored"] != total + 2:
        raise AssertionError(
            f"recorded {total + 2}, stored {stats['stored']}, dropped {stats['dropped']}"
        )
    durations.sort()
    result.put((durations, total / took))


def work(url: str, ready: Any, done: Any) -> None:
    """Run a worker at full load until the writer is done."""
    worker = own_worker(url, "busy")
    client = redis.Redis.from_url(url)
    metrics = [metric_of("busy", name) for load in LOADS[:4] for name in load.names]
    worker.pass_once()  # afterwards hours are due
    undo(client, metrics)
    ready.set()
    began, before = time.perf_counter(), worker.counts.samples
    while not (worker.counts.slots and done.is_set()):
        worker._pruned_ms = 0
        worker.pass_once()
        undo(client, metrics)
    took = time.perf_counter() - began
    print(
        f"the worker: {(worker.counts.samples - before) / took:,.0f} samples/s, "
        f"{worker.counts.slots} slots made, {worker.counts.writers_pruned} writers pruned "
        f"in {took:.1f} s, {worker.counts.failures} failures",
        file=sys.stderr,
    )
    if worker.counts.failures or not worker.counts.writers_pruned:
        raise AssertionError(worker.counts.as_dict())


def undo(client: redis.Redis, metrics: list[MetricLocation]) -> None:
    """Make all logs unsealed and all hours due, and add writers that are long gone."""
    of_shard, pending = keys.shard("busy", 0), keys.pending("busy", 0)
    clock = float(client.get(of_shard.clock) or 0)
    with client.pipeline(transaction=False) as pipeline:
        for metric in metrics:
            pipeline.hset(metric.worked.state, "sealed", 0)
            pipeline.zadd(of_shard.dirty, {metric.name: clock})
            due = [DueSlot.parse(field) for field in client.hkeys(metric.worked.due)]
            for slot in [each for each in due if each.resolution == "hour"] + [TRIM]:
                pipeline.zadd(pending, {slot.pending_member(metric.name): 1})
        for number in range(100):
            pipeline.hset(
                of_shard.writers, f"gone{number}", msgpack.packb([1, 1, b""], use_bin_type=False)
            )
        pipeline.execute()


def count(ready: Any, done: Any) -> None:
    """Keep a core busy."""
    ready.set()
    while not done.is_set():
        sum(range(10_000))


def beside(
    url: str, title: str, seconds: float, other: Callable[..., None] | None, *args: Any
) -> Iterator[Row]:
    """Measure the calls of the writer while another process runs."""
    spawn = multiprocessing.get_context("spawn")
    ready, done, result = spawn.Event(), spawn.Event(), spawn.Queue()
    process = None
    if other is work:
        for load in LOADS[:4]:
            recording = Recording(url, "busy", load)
            for number in range(FLUSHES):
                recording.flush(number)
            recording.metrics.close()
    with slowlog(url) as longest:
        if other is not None:
            process = spawn.Process(target=other, args=(*args, ready, done))
            process.start()
            ready.wait(300)
        writer = spawn.Process(target=write, args=(url, seconds, result))
        writer.start()
        durations, rate = result.get(timeout=seconds + 120)
        writer.join()
        done.set()
        if process is not None:
            process.join(120)
    if writer.exitcode or (process is not None and process.exitcode):
        raise AssertionError(f"{title}: a process failed")
    _flush(url)
    total = len(durations)
    what = f"recording call at {RATE:,}/s {title}"
    yield Row(f"{what}: median", "us", [statistics.median(durations) * 1e6])
    yield Row(f"{what}: p99.9", "us", [durations[int(total * 0.999)] * 1e6])
    note = (
        f"{rate:,.0f}/s reached; longest scripts: "
        f"record {longest['record']:.1f} ms, commit {longest['commit']:.1f} ms"
    )
    yield Row(f"{what}: longest", "ms", [durations[-1] * 1e3], note=note)


def measure(options: Options) -> Iterator[Row]:
    loads, seconds = (QUICK, 0.5) if options.quick else (LOADS, 8)
    runs = 1 if options.quick else min(options.runs, 3)  # runs are long and ratios large
    with own_server(options.server) as (url, _):
        for load in loads:
            yield from seal(url, load, runs)
        yield from hour(url, *((20, 20) if options.quick else (1_000, 150)))
        yield from beside(url, "alone", seconds, None)
        if not options.quick:
            yield from beside(url, "beside a worker at full load", seconds, work, url)
        yield from beside(url, "beside a busy loop", seconds, count)


if __name__ == "__main__":
    main(QUESTION, measure)
