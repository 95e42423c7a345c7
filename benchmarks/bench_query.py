"""How long do queries over a day take, and does the number of samples matter?

    python -m benchmarks query [--quick]

A "cold" client has cache_bytes=0. A "warm" one has made the same query before. "after a commit" is
a warm one; before each query a worker commits to the open minute.

    10 histograms in 3 groups, 10 thousand to 10 million samples per day: mean, p95, an hourly
    series, a rollup, the newest ten. "growth" is the time at the most samples divided by that at
    100 thousand
    1,000 gauges in 8 groups, set every 15 s, and 1,000 counters: a series of the day's minutes
    (larger than the default cache of 32 MB, so warm is half cold there), and a mean by group

A run is five queries, and its figure their median. The peer is slow and gets one query per run.

Results are compared with the samples: counts, minima and maxima exactly, means to nine digits,
percentiles to half a rank in a hundred; for cold and warm clients, before and after the rounds. A
note says how many of the newest ten have their exact time and value; the others have that of their
minute.

The day is not recorded but packed: batches of samples skip the recording threads and go to the
sender, so that record.lua, the worker's passes and the downsampling leave Redis as they would
otherwise: hours and days are made, the open hour is in single minutes, each merged twelve times,
and the last three seconds are not processed. Before each query the time since is filled at the
same rate. The number of open minutes is printed: it affects percentiles, so compare runs that
begin at the same minute of an hour.

The peer has the same samples in one sorted set per series, "ms:number:value" by ms. It reads 24
hours of each in one pipeline and uses numpy; the newest ten come from ZREVRANGE. All take turns.

Two more rows: by how much a process grows that queries, and how a flush slows down while another
process queries all the time.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

import redismetrics
from benchmarks.children import Child
from benchmarks.common import (
    Options,
    Row,
    bound,
    in_turn,
    main,
    make_due,
    metric_of,
    own_server,
    own_worker,
)
from redismetrics.columnar.block_codec import MAX_ROWS
from redismetrics.columnar.samples import Samples
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND, slot_of
from redismetrics.model.validation import pack_tags
from redismetrics.recording.batch import MetricBatch
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from redismetrics.worker import Worker, seal

QUESTION = "How long do queries over a day take, and does the number of samples matter?"
NAMESPACE = "query"
# How often a minute is merged: a worker runs every 5 s.
MERGES = 12
UNSEALED = 3 * SECOND
PEER_UP_TO = 1_000_000
NEWEST = 10
# Queries per run.
REPEATS = 5
PEER = "numpy over sorted sets"
random = np.random.default_rng(20240501)


# -- the samples --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """A metric: its series, the values of their tag *by*, and its samples per day."""

    name: str
    kind: str
    series: int
    by: str
    groups: int
    a_day: int

    @property
    def tags(self) -> list[dict[str, str]]:
        return [
            {"host": f"web-{at:04}", self.by: f"{self.by}-{at % self.groups}"}
            for at in range(self.series)
        ]

    def draw(self, since: int, until: int) -> Samples:
        """Return the samples of [since, until) ms: histograms at random, others in turn."""
        first, last = (-(-ms * self.a_day // DAY) for ms in (since, until))
        n = last - first
        if self.kind == "histogram":
            at = np.sort(random.integers(since, until, n))
            series = random.integers(0, self.series, n)
            value = np.round(random.lognormal(3 + 0.3 * (series % self.groups), 1), 3)
        else:
            at = since + (np.arange(n) * DAY + (first * DAY - since * self.a_day)) // self.a_day
            series = np.arange(first, last) % self.series
            value = np.rint(100 + 50 * np.sin(at / DAY + series) + random.normal(0, 5, n))
        weight = np.ones(n, np.int64)
        if self.kind == "counter":
            value, weight = np.ones(n), 1 + random.poisson(14, n)
        return Samples(series, at, value, weight, np.zeros(n, np.uint8))


def latency(a_day: int) -> Load:
    return Load(f"latency_{a_day}", "histogram", 10, "route", 3, a_day)


def each_15_s(name: str, kind: str, series: int) -> Load:
    return Load(name, kind, series, "region", 8, series * DAY // (15 * SECOND))


class Filled:
    """A metric with more than a day of samples in Redis, and these samples."""

    def __init__(self, url: str, worker: Worker, load: Load) -> None:
        self.load, self.metric, self.worker = load, metric_of(NAMESPACE, load.name), worker
        self.client = Store(url, 60).connect(retries=0)
        # A batch here is longer than a flush: do not compress before the worker does.
        self.recording = redismetrics.Metrics(
            url,
            namespace=NAMESPACE,
            max_age=27 * 3600,
            samples_per_flush=10_000,
            log_bytes=1 << 30,
            socket_timeout=60,
        )
        known = self.recording._recorder.metric(load.name, load.kind, explicit=True)
        nothing = load.draw(0, 0)
        self.batch = MetricBatch(
            load.name, known.definition, True, list(map(pack_tags, load.tags)), nothing, 0
        )
        self.samples: list[Samples] = []
        self.until = self._fill()

    def _fill(self) -> int:
        """Fill the day before now and up to two hours more; return the end."""
        now = self._now()
        for hour in range(slot_of(now - DAY, HOUR) - HOUR, now, HOUR):
            found = self._keep(self.load.draw(hour, min(hour + HOUR, now)))
            # In a closed hour the number of merges makes no difference.
            merges = MERGES if hour + HOUR > now else 1
            turn = found.time % MINUTE * merges // MINUTE
            for number in range(merges):
                self._send(_rows(found, np.flatnonzero(turn == number)))
                self._pass()
        make_due(self.client, self.metric, now)
        return now

    def catch_up(self) -> None:
        """Fill the time since, and process all but the last flushes."""
        now = self._now()
        edges = [max(self.until, now - ms) for ms in range(UNSEALED, -1, -SECOND)]
        self._send(self._keep(self.load.draw(self.until, edges[0])))
        self._pass()
        for since, until in pairwise(edges):
            self._send(self._keep(self.load.draw(since, until)))
        self.until = now

    def seal_more(self) -> None:
        """Fill the time since, and seal it into the open minute."""
        now = self._now()
        self._send(self._keep(self.load.draw(self.until, now)))
        self.until = now
        run(self.client, seal.seal(self.metric))
        self._check_sealed()

    def _pass(self) -> None:
        self.worker.pass_once()
        self._check_sealed()

    def _check_sealed(self) -> None:
        if (
            self.client.execute_command("ZSCORE", keys.shard(NAMESPACE, 0).dirty, self.load.name)
            is not None
        ):
            raise AssertionError(f"{self.load.name}: blocks are left: {self.worker.counts}")

    def _now(self) -> int:
        seconds, microseconds = map(int, self.client.execute_command("TIME"))
        return seconds * 1000 + microseconds // 1000

    def _keep(self, samples: Samples) -> Samples:
        self.samples.append(samples)
        return samples

    def _send(self, samples: Samples) -> None:
        sink = self.recording._sink
        for begin in range(0, len(samples), MAX_ROWS):
            piece = _rows(samples, np.arange(begin, min(begin + MAX_ROWS, len(samples))))
            present, piece.series = np.unique(piece.series, return_inverse=True)
            canonicals = [self.batch.canonicals[series] for series in present.tolist()]
            sink.send_queue.put(
                [
                    replace(
                        self.batch,
                        canonicals=canonicals,
                        samples=piece,
                        budget=10_000,
                    )
                ]
            )
            sink.sender.send_all()
        stats = sink.stats()
        if stats["stored"] != stats["recorded"]:
            raise AssertionError(f"{self.load.name}: {stats}")

    def since(self, since: int, until: int = 1 << 60) -> Samples:
        """Return the samples of [since, until), in no order."""
        parts = [
            _rows(each, (each.time >= since) & (each.time < until))
            for each in self.samples
            if len(each)
        ]
        columns = ("series", "time", "value", "weight", "flags")
        return Samples(
            *(np.concatenate([getattr(part, column) for part in parts]) for column in columns)
        )

    def close(self) -> None:
        self.recording.close()
        self.client.close()


def _rows(samples: Samples, rows: NDArray[Any]) -> Samples:
    return Samples(
        *(getattr(samples, each)[rows] for each in ("series", "time", "value", "weight", "flags"))
    )


# -- queries ------------------------------------------------------------------------------------

Query = Callable[[redismetrics.Metrics, Load], Any]


def mean(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.query(load.name, aggregation="mean", group_by=load.by, window="last_24h")


def p95(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.query(load.name, aggregation="p95", group_by=load.by, window="last_24h")


def hourly(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.time_series(load.name, interval="hour", aggregation="mean", group_by=load.by)


def minutely(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.time_series(load.name, interval="minute", aggregation="mean", group_by=load.by)


def rollup(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.rollup(load.name, group_by=load.by, aggregations=("mean", "count"))


def newest(metrics: redismetrics.Metrics, load: Load) -> Any:
    return metrics.get_metrics(name=load.name, limit=NEWEST)


QUERIES: dict[str, Query] = {
    "mean by group": mean,
    "p95 by group": p95,
    "hourly mean by group": hourly,
    "rollup by group": rollup,
    f"newest {NEWEST}": newest,
}
# Milliseconds for p95 by group at 10 million samples per day.
TARGETS = {"cold": 10.0, "warm": 3.0}


class SortedSets:
    """The peer: one sorted set per series, read completely."""

    def __init__(self, url: str, filled: Filled) -> None:
        self.load, self.until = filled.load, filled.until
        self.client = redis.Redis.from_url(url)
        self.names = [f"sets:{filled.load.name}:{at}" for at in range(filled.load.series)]
        samples = filled.since(0, filled.until)
        rows = zip(
            samples.series.tolist(), samples.time.tolist(), samples.value.tolist(), strict=True
        )
        with self.client.pipeline(transaction=False) as pipeline:
            for number, (series, ms, value) in enumerate(rows):
                pipeline.zadd(self.names[series], {f"{ms}:{number}:{value}": ms})
                if number % 10_000 == 9_999:
                    pipeline.execute()
            pipeline.execute()

    def read(self, since: int | None = None) -> dict[str, list[list[bytes]]]:
        """Return the members of each group's series, of the last 24 hours or from *since* on."""
        low = time.time() * 1000 - DAY if since is None else since
        with self.client.pipeline(transaction=False) as pipeline:
            for name in self.names:
                pipeline.zrangebyscore(name, low, "+inf")
            found = pipeline.execute()
        groups: dict[str, list[list[bytes]]] = {}
        for tags, members in zip(self.load.tags, found, strict=True):
            groups.setdefault(tags[self.load.by], []).append(members)
        return groups

    @staticmethod
    def values(parts: list[list[bytes]]) -> NDArray[Any]:
        return np.array(
            [float(member.rpartition(b":")[2]) for members in parts for member in members]
        )

    def answer(self, query: str, since: int | None = None) -> Any:
        if query == f"newest {NEWEST}":
            return self._newest()
        groups = self.read(since)
        if query == "hourly mean by group":
            return {group: self._hourly(parts) for group, parts in groups.items()}
        columns = {group: self.values(parts) for group, parts in groups.items()}
        if query == "p95 by group":
            return {group: float(np.percentile(column, 95)) for group, column in columns.items()}
        return {group: (float(column.mean()), len(column)) for group, column in columns.items()}

    def _hourly(self, parts: list[list[bytes]]) -> dict[int, float]:
        hours = (
            np.array([int(member.partition(b":")[0]) for members in parts for member in members])
            // HOUR
        )
        first = int(hours.min())
        count = np.bincount(hours - first)
        sums = np.bincount(hours - first, self.values(parts))
        return {(first + at) * HOUR: sums[at] / count[at] for at in np.flatnonzero(count).tolist()}

    def _newest(self) -> list[dict[str, Any]]:
        with self.client.pipeline(transaction=False) as pipeline:
            for name in self.names:
                pipeline.zrevrange(name, 0, NEWEST - 1)
            found = pipeline.execute()
        rows = []
        for tags, members in zip(self.load.tags, found, strict=True):
            for member in members:
                ms, _, value = member.split(b":")
                rows.append({"timestamp": int(ms), "value": float(value), "tags": tags})
        return sorted(rows, key=lambda row: -row["timestamp"])[:NEWEST]


# -- checks -------------------------------------------------------------------------------------


def check(filled: Filled, clients: list[redismetrics.Metrics]) -> None:
    """Compare each client's results with the samples from the minute 24 hours ago on."""
    load = filled.load
    since = slot_of(filled._now() - DAY, MINUTE)
    samples = filled.since(since)
    group = samples.series % load.groups
    names = ("count", "mean", "min", "max", "p95")
    for metrics in clients:
        found = metrics.rollup(
            load.name, group_by=load.by, aggregations=names, window=(since / 1000, None)
        )
        if len(found) != load.groups:
            raise AssertionError(f"{load.name}: expected {load.groups} groups, got {found}")
        for number in range(load.groups):
            of_group = group == number
            check_group(
                load,
                found[f"{load.by}-{number}"],
                samples.value[of_group],
                samples.weight[of_group],
            )
    for interval, width in (("hour", HOUR), ("minute", MINUTE)):
        slot, first = samples.time // width, since // width
        span = int(slot.max()) - first + 1
        cell = group * span + slot - first
        count, total = (
            np.bincount(cell, each) for each in (samples.weight, samples.value * samples.weight)
        )
        for metrics in clients:
            rows = metrics.time_series(
                load.name,
                interval=interval,
                aggregations=("count", "sum"),
                group_by=load.by,
                window=(since / 1000, None),
            )
            slots = np.array(
                [round(row["timestamp"].timestamp() * 1000) // width - first for row in rows]
            )
            at = np.array([int(row[load.by].split("-")[1]) for row in rows]) * span + slots
            if sorted(at.tolist()) != np.flatnonzero(count).tolist():
                raise AssertionError(
                    f"{load.name}, {interval}: expected {(count > 0).sum()} rows, got {len(rows)}"
                )
            same = np.array([row["count"] for row in rows]) == count[at]
            same &= np.isclose([row["sum"] for row in rows], total[at], rtol=1e-9, atol=0)
            if not same.all():
                wrong = int(np.argmin(same))
                raise AssertionError(
                    f"{load.name}: filled {count[at[wrong]]}, {total[at[wrong]]}, got {rows[wrong]}"
                )


def check_group(load: Load, got: dict[str, Any], value: NDArray[Any], weight: NDArray[Any]) -> None:
    expected = {
        "count": int(weight.sum()),
        "min": float(value.min()),
        "max": float(value.max()),
        "mean": float((value * weight).sum() / weight.sum()),
    }
    close = abs(got["mean"] - expected["mean"]) <= 1e-9 * expected["mean"]
    if any(got[name] != expected[name] for name in ("count", "min", "max")) or not close:
        raise AssertionError(f"{load.name}: expected {expected}, got {got}")
    below, up_to = (
        float(weight[mask].sum() / weight.sum())
        for mask in (value < got["p95"], value <= got["p95"])
    )
    if not below - 0.005 <= 0.95 <= up_to + 0.005:
        raise AssertionError(f"{load.name}: {below:.2%} to {up_to:.2%} are below p95")


def exact_of_newest(filled: Filled, metrics: redismetrics.Metrics) -> int:
    """Count how many of the newest ten are the last samples, by time and value."""
    rows = newest(metrics, filled.load)["metrics"]
    if len(rows) != NEWEST:
        raise AssertionError(f"{filled.load.name}: expected the newest {NEWEST}, got {len(rows)}")
    got = {
        (round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000), row["value"])
        for row in rows
    }
    samples = filled.since(filled.until - DAY)
    late = samples.time >= np.sort(samples.time)[-NEWEST]
    return len(
        got & set(zip(samples.time[late].tolist(), samples.value[late].tolist(), strict=True))
    )


def check_peer(filled: Filled, peer: SortedSets) -> None:
    since = slot_of(filled.until - DAY, MINUTE) + MINUTE
    samples = filled.since(since, peer.until)
    found = peer.answer("rollup by group", since)
    for number in range(filled.load.groups):
        value = samples.value[samples.series % filled.load.groups == number]
        average, many = found[f"{filled.load.by}-{number}"]
        if many != len(value) or abs(average - value.mean()) > 1e-9 * average:
            raise AssertionError(
                f"sorted sets: expected {len(value)}, {value.mean()}, got {many}, {average}"
            )


# -- timing -------------------------------------------------------------------------------------


class Clients:
    """A cold and a warm client for one metric, so that metrics do not share a cache."""

    def __init__(self, url: str, filled: Filled) -> None:
        self.cold = redismetrics.Metrics(url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60)
        self.warm = redismetrics.Metrics(url, namespace=NAMESPACE, socket_timeout=60)
        self.filled = filled

    def check(self) -> None:
        """Check both clients; the warm one twice, before and after it has cached."""
        check(self.filled, [self.cold, self.warm, self.warm])

    def close(self) -> None:
        self.filled.close()
        self.cold.close()
        self.warm.close()


def timed(
    query: Callable[[], Any], repeats: int = REPEATS, before: Callable[[], None] | None = None
) -> float:
    """Return the median of a run's queries, in ms."""
    taken = []
    for _ in range(repeats):
        if before is not None:
            before()
        began = time.perf_counter()
        query()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def grow(clients: dict[int, Clients], peers: dict[int, SortedSets], runs: int) -> Iterator[Row]:
    """Measure the same queries at all sizes."""
    large = max(clients)
    small = 100_000 if 100_000 in clients else min(clients)
    for title, query in QUERIES.items():
        runs_of: dict[Any, Callable[[], float]] = {}
        for size, both in clients.items():
            both.filled.catch_up()
            runs_of[size, "cold"] = partial(timed, partial(query, both.cold, both.filled.load))
            runs_of[size, "warm"] = partial(timed, partial(query, both.warm, both.filled.load))
            if size in peers:
                runs_of[size, PEER] = partial(timed, partial(peers[size].answer, title), 1)
        taken = in_turn(runs_of, runs)
        for size, both in clients.items():
            note = ""
            if query is newest:
                both.filled.catch_up()
                exact = exact_of_newest(both.filled, both.cold)
                note = f"{exact} of {NEWEST} have their exact time and value"
            theirs = taken.get((size, PEER), [])
            for state in ("cold", "warm"):
                target = TARGETS[state] if query is p95 and size == 10_000_000 else None
                what = f"{title}, {size:,} samples per day, {state}"
                headline = bool(theirs) and size == max(peers) and state == "cold"
                headline = headline and query in (mean, p95, newest)
                peer = PEER if theirs else ""
                yield Row(
                    what,
                    "ms",
                    taken[size, state],
                    peer,
                    theirs,
                    target=target,
                    note=note,
                    headline=headline,
                )
                note = ""
        for state in ("cold", "warm"):
            growth = [a / b for a, b in zip(taken[large, state], taken[small, state], strict=True)]
            what = f"{title}, {state}: growth from {small:,} to {large:,} samples per day"
            yield Row(what, "times", growth, target=1.5, headline=query is p95 and state == "cold")


def after_commits(both: Clients, runs: int, repeats: int) -> Row:
    """Measure the p95 of a warm client with a commit to the open minute before each query."""

    def commit() -> None:
        time.sleep(0.05 + 2 * DAY / both.filled.load.a_day / SECOND)
        both.filled.seal_more()

    once = partial(timed, partial(p95, both.warm, both.filled.load), repeats, commit)
    what = f"p95 by group, {both.filled.load.a_day:,} samples per day, after a commit"
    return Row(what, "ms", in_turn({what: once}, runs)[what], target=TARGETS["warm"])


def of_many(both: Clients, runs: int) -> Iterator[Row]:
    """Measure queries over many series."""
    load = both.filled.load
    for title, query in (("mean by minute and group", minutely), ("mean by group", mean)):
        both.filled.catch_up()
        runs_of = {
            "cold": partial(timed, partial(query, both.cold, load), 2),
            "warm": partial(timed, partial(query, both.warm, load), 2),
        }
        for state, found in in_turn(runs_of, runs).items():
            target = 100 if query is minutely and state == "cold" else None
            yield Row(f"{title}, {load.series:,} {load.kind}s, {state}", "ms", found, target=target)


# -- in a process of its own --------------------------------------------------------------------


def peak() -> float:
    """Return the peak memory of this process, in MB."""
    try:
        # On Linux getrusage includes the peak of the parent.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


class Querier:
    """A client without a cache, in a child process."""

    def __init__(self, url: str) -> None:
        self.metrics = redismetrics.Metrics(
            url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60
        )
        # Import before the measurement: imports are not part of a query's memory.
        self.metrics.query("nothing", aggregation="p95")

    def grow(self, query: str, load: Load) -> float:
        """Return the MB by which a query raises the peak of this process."""
        before = peak()
        MEMORY[query](self.metrics, load)
        return peak() - before

    def repeat(self, seconds: float, load: Load) -> int:
        """Repeat the largest query; return how often it ran."""
        until, count = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            minutely(self.metrics, load)
            count += 1
        return count


MEMORY: dict[str, Query] = {"p95 by group": p95, "mean by minute and group": minutely}


def querier(url: str) -> Callable[..., Any]:
    found = Querier(url)
    return lambda method, *args: getattr(found, method)(*args)


def memory(url: str, query: str, load: Load) -> Row:
    with Child(querier, url) as child:
        grown = child("grow", query, load)
    what = f"peak memory of {query}, {load.series:,} {load.kind}s, {load.a_day:,} samples per day"
    return Row(what, "MB", [grown], note="growth of a new process during its first query")


def writes(url: str, load: Load, options: Options) -> Row:
    """Measure a flush of 1,000 samples of 100 series, alone and during repeated queries."""
    metrics = redismetrics.Metrics(url, namespace="writes", flush_interval=3600)
    calls = bound(metrics, "gauge", "depth", 100)
    flushes = 5 if options.quick else 50

    def flush() -> float:
        began = time.perf_counter()
        for call in calls:
            for value in range(10):
                call(value)
        metrics.flush(60)
        return (time.perf_counter() - began) * 1000

    def several() -> float:
        return statistics.median(flush() for _ in range(flushes))

    with Child(querier, url) as child:

        def during() -> float:
            child.start("repeat", 0.2 if options.quick else 1.5, load)
            time.sleep(0.05)
            took = several()
            if not child.wait():
                raise AssertionError("no query ran during the flushes")
            return took

        taken = in_turn({"alone": several, "during": during}, options.runs)
    metrics.close()
    query = f"mean by minute and group of {load.series:,} {load.kind}s in a loop"
    what = f"flush of 1,000 samples, during {query}"
    return Row(what, "ms", taken["during"], "the same without queries", taken["alone"])


def measure(options: Options) -> Iterator[Row]:
    sizes, series, repeats = (10_000, 100_000, 1_000_000, 10_000_000), 1_000, REPEATS
    if options.quick:
        sizes, series, repeats = (2_000, 200_000), 20, 1
    with own_server(options.server) as (url, _):
        worker = own_worker(url, NAMESPACE)  # only one: several would share the metrics
        clients = {size: Clients(url, Filled(url, worker, latency(size))) for size in sizes}
        peers = {
            size: SortedSets(url, clients[size].filled) for size in sizes if size <= PEER_UP_TO
        }
        for size, peer in peers.items():
            check_peer(clients[size].filled, peer)
        for both in clients.values():
            both.filled.catch_up()
            both.check()
        now = clients[max(sizes)].filled.until
        print(
            f"open minutes {now % HOUR // MINUTE}, today's hours {now % DAY // HOUR}",
            file=sys.stderr,
        )
        yield from grow(clients, peers, options.runs)
        yield after_commits(clients[max(sizes)], options.runs, repeats)
        yield memory(url, "p95 by group", clients[max(sizes)].filled.load)
        for both in clients.values():
            both.check()
            both.close()
        for kind in ("gauge",) if options.quick else ("gauge", "counter"):
            both = Clients(url, Filled(url, worker, each_15_s(f"{kind}_15s", kind, series)))
            both.filled.catch_up()
            both.check()
            yield from of_many(both, options.runs)
            if kind == "gauge":
                yield memory(url, "mean by minute and group", both.filled.load)
                yield writes(url, both.filled.load, options)
            both.check()
            both.close()
        worker.leave()


if __name__ == "__main__":
    main(QUESTION, measure)
