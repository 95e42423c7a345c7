"""How long do questions over a day take, and does it matter how many samples are behind them?

    python -m benchmarks query [--quick]

"cold" is a client with cache_bytes=0, "warm" one that has asked the same before, "re-sealed" a warm one with a worker's commit on
the open minute before each question.

    10 histograms in 3 groups, at 10 thousand to 10 million samples a day: mean, p95, an hourly series, a rollup, the newest ten;
    "growth" is the time at the most samples by that at 100 thousand
    1,000 gauges in 8 groups, set each 15 s, and 1,000 counters: a series of the day's minutes (more than the default cache of
    32 MB holds: so warm is half cold there), and a mean by group

A run is five questions, and its figure their median; the peer, which is slow, is asked once a run.

What was filled and what is answered is compared: counts, lows and highs exactly, means to nine digits, percentiles to half a rank
in a hundred; by cold clients and warm ones, before the rounds and after. How many of the newest ten came with their own time and
value is told; the others come with their minute.

A day isn't recorded but packed: batches of samples go past the recording threads into the sender, so that record.lua, the
worker's passes and commits.make leave the store as they would have: hours and days made, the open hour in loose minutes, each
merged twelve times, the last three seconds unsealed. Before each question the time since is filled at the same rate. How many
minutes are open is printed: it weighs on percentiles, so runs begun at the same minute of an hour compare best.

The peer in the same run holds the same samples in one sorted set a series, "ms:number:value" by ms; it reads 24 hours of each in
one pipeline, and answers with numpy; the newest ten by ZREVRANGE. All take turns.

Two lines more: what a process grows by that asks, and what a flush beside a process that asks all the time feels of it.
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

QUESTION = (
    "How long do questions over a day take, and does it matter how many samples are behind them?"
)
NAMESPACE = "query"
MERGES = 12  # of a minute, as a worker does it each 5 s
UNSEALED = 3 * SECOND
PEER_UP_TO = 1_000_000
NEWEST = 10
ASKED = 5  # questions a run
PEER = "numpy over sorted sets"
random = np.random.default_rng(20240501)


# -- what is asked about ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """A metric: so many series, their tag *by* with so many values, so many samples a day."""

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
        """The samples of [since, until) ms, by time: histograms at random, the others every series in turn."""
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
    """A metric with more than a day of samples, and those samples."""

    def __init__(self, url: str, worker: Worker, load: Load) -> None:
        self.load, self.metric, self.worker = load, metric_of(NAMESPACE, load.name), worker
        self.client = Store(url, 60).connect(retries=0)
        # Nothing is compacted before the worker does: a batch here is longer than a flush.
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
        """The day before now and up to two hours more; returns up to when."""
        now = self._now()
        for hour in range(slot_of(now - DAY, HOUR) - HOUR, now, HOUR):
            found = self._keep(self.load.draw(hour, min(hour + HOUR, now)))
            merges = (
                MERGES if hour + HOUR > now else 1
            )  # of a closed hour the same points are left either way
            turn = found.time % MINUTE * merges // MINUTE
            for number in range(merges):
                self._send(_rows(found, np.flatnonzero(turn == number)))
                self._pass()
        make_due(self.client, self.metric, now)
        return now

    def catch_up(self) -> None:
        """Fill the time since, and leave all sealed but the last flushes."""
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
            raise AssertionError(f"{self.load.name}: not all was sealed: {self.worker.counts}")

    def _now(self) -> int:
        seconds, microseconds = map(int, self.client.execute_command("TIME"))
        return seconds * 1000 + microseconds // 1000

    def _keep(self, samples: Samples) -> Samples:
        self.samples.append(samples)
        return samples

    def _send(self, samples: Samples) -> None:
        flusher = self.recording._flusher
        for begin in range(0, len(samples), MAX_ROWS):
            piece = _rows(samples, np.arange(begin, min(begin + MAX_ROWS, len(samples))))
            present, piece.series = np.unique(piece.series, return_inverse=True)
            canonicals = [self.batch.canonicals[series] for series in present.tolist()]
            flusher.send_queue.put(
                [
                    replace(
                        self.batch,
                        canonicals=canonicals,
                        samples=piece,
                        due_ms=self._now(),
                        budget=10_000,
                    )
                ]
            )
            flusher.sender.send_all()
        stats = flusher.stats()
        if stats["stored"] != stats["recorded"]:
            raise AssertionError(f"{self.load.name}: {stats}")

    def since(self, since: int, until: int = 1 << 60) -> Samples:
        """What was filled of [since, until), in no order."""
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


# -- questions ----------------------------------------------------------------------------------------------------

Ask = Callable[[redismetrics.Metrics, Load], Any]


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


QUESTIONS: dict[str, Ask] = {
    "mean by group": mean,
    "p95 by group": p95,
    "hourly mean by group": hourly,
    "rollup by group": rollup,
    f"newest {NEWEST}": newest,
}
WANTED = {"cold": 10.0, "warm": 3.0}  # ms of p95 by group, 10 million samples a day


class SortedSets:
    """The peer: one sorted set a series, read whole."""

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
        """The members of each group's series; of the last 24 hours, or from *since* on."""
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

    def answer(self, question: str, since: int | None = None) -> Any:
        if question == f"newest {NEWEST}":
            return self._newest()
        groups = self.read(since)
        if question == "hourly mean by group":
            return {group: self._hourly(parts) for group, parts in groups.items()}
        columns = {group: self.values(parts) for group, parts in groups.items()}
        if question == "p95 by group":
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


# -- are they right? ----------------------------------------------------------------------------------------------


def check(filled: Filled, clients: list[redismetrics.Metrics]) -> None:
    """Compare each client's answers with what was filled from the minute 24 hours ago on."""
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
            raise AssertionError(f"{load.name}: wanted {load.groups} groups, got {found}")
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
                    f"{load.name}: by {interval} wanted {(count > 0).sum()} rows, got {len(rows)}"
                )
            same = np.array([row["count"] for row in rows]) == count[at]
            same &= np.isclose([row["sum"] for row in rows], total[at], rtol=1e-9, atol=0)
            if not same.all():
                wrong = int(np.argmin(same))
                raise AssertionError(
                    f"{load.name}: filled {count[at[wrong]]}, {total[at[wrong]]}, got {rows[wrong]}"
                )


def check_group(load: Load, got: dict[str, Any], value: NDArray[Any], weight: NDArray[Any]) -> None:
    wanted = {
        "count": int(weight.sum()), "min": float(value.min()), "max": float(value.max()),
        "mean": float((value * weight).sum() / weight.sum()),
    }  # fmt: skip
    close = abs(got["mean"] - wanted["mean"]) <= 1e-9 * wanted["mean"]
    if any(got[name] != wanted[name] for name in ("count", "min", "max")) or not close:
        raise AssertionError(f"{load.name}: filled {wanted}, answered {got}")
    below, up_to = (
        float(weight[mask].sum() / weight.sum())
        for mask in (value < got["p95"], value <= got["p95"])
    )
    if not below - 0.005 <= 0.95 <= up_to + 0.005:
        raise AssertionError(f"{load.name}: {below:.2%} to {up_to:.2%} are below p95")


def exact_of_newest(filled: Filled, metrics: redismetrics.Metrics) -> int:
    """How many of the newest ten are those that were filled last, by time and value."""
    rows = newest(metrics, filled.load)["metrics"]
    if len(rows) != NEWEST:
        raise AssertionError(f"{filled.load.name}: wanted the newest {NEWEST}, got {len(rows)}")
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
                f"sorted sets: filled {len(value)}, {value.mean()}, answered {many}, {average}"
            )


# -- timing -------------------------------------------------------------------------------------------------------


class Clients:
    """Of each metric a cold and a warm one: so none's pages push out another's."""

    def __init__(self, url: str, filled: Filled) -> None:
        self.cold = redismetrics.Metrics(url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60)
        self.warm = redismetrics.Metrics(url, namespace=NAMESPACE, socket_timeout=60)
        self.filled = filled

    def check(self) -> None:
        """The answers of both: the warm one's as read, and as remembered."""
        check(self.filled, [self.cold, self.warm, self.warm])

    def close(self) -> None:
        self.filled.close()
        self.cold.close()
        self.warm.close()


def timed(
    ask: Callable[[], Any], asked: int = ASKED, before: Callable[[], None] | None = None
) -> float:
    """One run, the question asked so often: the median in ms."""
    taken = []
    for _ in range(asked):
        if before is not None:
            before()
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def grow(clients: dict[int, Clients], peers: dict[int, SortedSets], runs: int) -> Iterator[Row]:
    """The same questions at all sizes."""
    large = max(clients)
    small = 100_000 if 100_000 in clients else min(clients)
    for title, ask in QUESTIONS.items():
        asks: dict[Any, Callable[[], float]] = {}
        for size, both in clients.items():
            both.filled.catch_up()
            asks[size, "cold"] = partial(timed, partial(ask, both.cold, both.filled.load))
            asks[size, "warm"] = partial(timed, partial(ask, both.warm, both.filled.load))
            if size in peers:
                asks[size, PEER] = partial(timed, partial(peers[size].answer, title), 1)
        taken = in_turn(asks, runs)
        for size, both in clients.items():
            note = ""
            if ask is newest:
                both.filled.catch_up()
                note = f"{exact_of_newest(both.filled, both.cold)} of {NEWEST} came with their own time and value"
            theirs = taken.get((size, PEER), [])
            for state in ("cold", "warm"):
                wanted = WANTED[state] if ask is p95 and size == 10_000_000 else None
                what = f"{title}, {size:,} samples a day, {state}"
                headline = bool(theirs) and size == max(peers) and state == "cold"
                headline = headline and ask in (mean, p95, newest)
                peer = PEER if theirs else ""
                yield Row(
                    what,
                    "ms",
                    taken[size, state],
                    peer,
                    theirs,
                    wanted=wanted,
                    note=note,
                    headline=headline,
                )
                note = ""
        for state in ("cold", "warm"):
            growth = [a / b for a, b in zip(taken[large, state], taken[small, state], strict=True)]
            what = f"{title}, {state}: growth from {small:,} to {large:,} samples a day"
            yield Row(what, "times", growth, wanted=1.5, headline=ask is p95 and state == "cold")


def resealed(both: Clients, runs: int, asked: int) -> Row:
    """The p95 of a warm client, with a commit on the open minute before each."""

    def commit() -> None:
        time.sleep(0.05 + 2 * DAY / both.filled.load.a_day / SECOND)
        both.filled.seal_more()

    once = partial(timed, partial(p95, both.warm, both.filled.load), asked, commit)
    what = f"p95 by group, {both.filled.load.a_day:,} samples a day, re-sealed"
    return Row(what, "ms", in_turn({what: once}, runs)[what], wanted=WANTED["warm"])


def of_many(both: Clients, runs: int) -> Iterator[Row]:
    """Questions over many series."""
    load = both.filled.load
    for title, ask in (("mean by minute and group", minutely), ("mean by group", mean)):
        both.filled.catch_up()
        asks = {
            "cold": partial(timed, partial(ask, both.cold, load), 2),
            "warm": partial(timed, partial(ask, both.warm, load), 2),
        }
        for state, found in in_turn(asks, runs).items():
            wanted = 100 if ask is minutely and state == "cold" else None
            yield Row(f"{title}, {load.series:,} {load.kind}s, {state}", "ms", found, wanted=wanted)


# -- beside it ----------------------------------------------------------------------------------------------------


def peak() -> float:
    """The most memory in MB that this process ever had."""
    try:
        status = Path(
            "/proc/self/status"
        ).read_text()  # what getrusage tells on Linux is also the parent's
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


class Asker:
    """In a child: a client that has cached nothing."""

    def __init__(self, url: str) -> None:
        self.metrics = redismetrics.Metrics(
            url, namespace=NAMESPACE, cache_bytes=0, socket_timeout=60
        )
        self.metrics.query(
            "nothing", aggregation="p95"
        )  # what is imported is none of a question's memory

    def grow(self, question: str, load: Load) -> float:
        """MB that this process takes more at its peak, once it has asked."""
        before = peak()
        MEMORY[question](self.metrics, load)
        return peak() - before

    def ask_for(self, seconds: float, load: Load) -> int:
        """Ask the largest question again and again; return how often."""
        until, asked = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            minutely(self.metrics, load)
            asked += 1
        return asked


MEMORY: dict[str, Ask] = {"p95 by group": p95, "mean by minute and group": minutely}


def asker(url: str) -> Callable[..., Any]:
    found = Asker(url)
    return lambda verb, *args: getattr(found, verb)(*args)


def memory(url: str, question: str, load: Load) -> Row:
    with Child(asker, url) as child:
        grown = child("grow", question, load)
    what = f"peak memory of {question}, {load.series:,} {load.kind}s, {load.a_day:,} samples a day"
    return Row(what, "MB", [grown], note="what a process grows by that has asked nothing before")


def writes(url: str, load: Load, options: Options) -> Row:
    """How long a flush of 1,000 samples of 100 series takes, with nothing beside it and with that question in a loop."""
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

    with Child(asker, url) as child:

        def beside() -> float:
            child.start("ask_for", 0.2 if options.quick else 1.5, load)
            time.sleep(0.05)
            took = several()
            if not child.wait():
                raise AssertionError("nothing was asked meanwhile")
            return took

        taken = in_turn({"alone": several, "beside": beside}, options.runs)
    metrics.close()
    what = f"a flush of 1,000 samples, beside mean by minute and group of {load.series:,} {load.kind}s in a loop"
    return Row(what, "ms", taken["beside"], "the same with nothing beside it", taken["alone"])


def measure(options: Options) -> Iterator[Row]:
    sizes, series, asked = (10_000, 100_000, 1_000_000, 10_000_000), 1_000, ASKED
    if options.quick:
        sizes, series, asked = (2_000, 200_000), 20, 1
    with own_server(options.server) as (url, _):
        worker = own_worker(url, NAMESPACE)  # one: several would share the metrics among them
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
        yield resealed(clients[max(sizes)], options.runs, asked)
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
