"""How much memory do exact samples, rollups and years of history take in Redis?

    python -m benchmarks storage [--quick]

Bytes are those of MEMORY USAGE key SAMPLES 0: keys, fields and the allocator's rounding are
included. They do not depend on the load of the machine, so each is measured once; the queries over
one and more days of history run five times. Rows of a closed hour, and of years:

    one sample    raw:<hour> of a closed hour, per sample
    one minute    minute:<hour> of a closed hour, per series and minute, with and without the
                  points of digests
    full history  all keys of a metric with one series, by resolution, and of 500 such metrics

The closed hour is written as in production: a client whose clock is set to the last full hour
records and flushes, every second for counters, which are stamped by the flush, else every ten. A
pass of the worker seals each minute; the downsampling, which a worker starts a minute after the
end of an hour, makes the hour. What was recorded is compared with what the keys hold.

Years cannot be written that way, because record.lua uses the server's time. Ten metrics (4
counters, 3 gauges, 3 histograms) are recorded over the last 71 hours with explicit timestamps,
sealed hour by hour, and what has ended is downsampled. Older days get copies of the hours of one
recorded day, written with `merge.downsample_rows`, `pack_table` and HSET; the downsampling merges
them into segments and makes their days; the days before are written in the same way. Processed
blocks are removed from the log, as after a minute, and one minute of flushes is left. 500 metrics
take fifty times the memory of these ten. The note says by how much the server's used_memory grows
when they are copied (COPY), which gives each hash a table of its size, as a restart does.

The peers store the same samples, of ten of the series: a member "ts:value" in a sorted set; a
field per sample, named by its time, in a hash per minute; RedisTimeSeries, if REDISTIMESERIES
names its redistimeseries.so, or it is in a common place or in .peers. Rollups are compared with a
hash per series that has one field per minute, "count:sum:min:max:last", or "count" for a counter.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

import redismetrics
from benchmarks import peers
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
    usage,
)
from redismetrics.columnar import rollup_codec, rollup_table
from redismetrics.columnar.rollup_codec import read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.sample_codec import read_samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.model.retention import Resolution
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND, slot_of
from redismetrics.store import due_slot, keys
from redismetrics.store.connection import Store
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.record_state import RecordState
from redismetrics.worker import merge

QUESTION = "How much memory do exact samples, rollups and years of history take in Redis?"
PEER_SERIES = 10
random = np.random.default_rng(20240501)


# -- the samples --------------------------------------------------------------------------------


@dataclass
class Hour:
    """The samples of one hour, ordered by time: ms since its start, series, value."""

    time: NDArray[Any]
    series: NDArray[Any]
    value: NDArray[Any]

    @classmethod
    def of(cls, time: NDArray[Any], value: NDArray[Any]) -> "Hour":
        """Build an hour from times and values of shape (series, samples)."""
        order = np.argsort(time, axis=None, kind="stable")
        series = np.repeat(np.arange(len(time)), time.shape[1])
        return cls(time.ravel()[order], series[order], value.ravel()[order])


def latencies(series: int, a_minute: int) -> Hour:
    """Return lognormal milliseconds with three decimals, each at random in its part of a minute."""
    width, n = MINUTE // a_minute, 60 * a_minute
    time = np.arange(n) * width + random.integers(0, width, (series, n))
    return Hour.of(time, np.round(random.lognormal(3, 1, (series, n)), 3))


def loop(series: int) -> NDArray[Any]:
    """Return the times of a loop that sleeps one second and is 0 to 3 ms late each time."""
    time = np.cumsum(1000 + random.integers(0, 4, (series, 3590)), axis=1) + random.integers(
        0, 1000, (series, 1)
    )
    return np.minimum(time, HOUR - 1)


def walk(shape: tuple[int, int], step: float, decimals: int) -> NDArray[Any]:
    """Return random walks: integers with steps up to 2, as a queue's depth, or percentages."""
    if not decimals:
        return np.abs(100 + np.cumsum(random.integers(-2, 3, shape), axis=1)).astype(float)
    return np.round(np.abs(40 + np.cumsum(random.normal(0, step, shape), axis=1)), decimals)


def depths(series: int, a_minute: int) -> Hour:
    return Hour.of(_gauge_times(series, a_minute), walk(_gauge_times(series, a_minute).shape, 2, 0))


def percentages(series: int, a_minute: int) -> Hour:
    return Hour.of(
        _gauge_times(series, a_minute), walk(_gauge_times(series, a_minute).shape, 0.5, 2)
    )


def _gauge_times(series: int, a_minute: int) -> NDArray[Any]:
    if a_minute == 60:
        return loop(series)
    return np.arange(60) * MINUTE + random.integers(0, MINUTE, (series, 60))


def ones(series: int, a_minute: int) -> Hour:
    """Return increments by one at random times."""
    n = 60 * a_minute
    return Hour.of(np.sort(random.integers(0, HOUR, (series, n)), axis=1), np.ones((series, n)))


@dataclass(frozen=True)
class Case:
    title: str
    kind: str
    make: Any
    a_minute: int
    # Targets in bytes, with many series.
    target_sample: float | None = None
    target_row: float | None = None
    target_summary: float | None = None
    headline: bool = False


CASES = (
    Case("latency, 60 per minute", "histogram", latencies, 60, 4, None, 20, headline=True),
    Case("latency, 200 per minute", "histogram", latencies, 200, None, 260, 20),
    Case("depth (integers), every second", "gauge", depths, 60, 1, 8),
    Case("per cent (2 decimals), every second", "gauge", percentages, 60, None, 8),
    Case("depth (integers), 1 per minute", "gauge", depths, 1, None, 8),
    Case("per cent (2 decimals), 1 per minute", "gauge", percentages, 1, None, 8),
    Case("counter of ones, 60 per minute", "counter", ones, 60, 1, 2),
    Case("counter of ones, 1 per minute", "counter", ones, 1, None, 2),
)


# -- one closed hour ----------------------------------------------------------------------------


def record(url: str, case: Case, hour: Hour, series: int, start: int) -> MetricLocation:
    """Record the samples of an hour, seal its minutes, downsample it; return the metric."""
    name = f"{case.kind}_{case.make.__name__}_{case.a_minute}"
    clock = Past(start / 1000)
    metrics = redismetrics.Metrics(
        url, namespace="hour", flush_interval=3600, log_bytes=1 << 30, clock=clock
    )
    worker = own_worker(url, "hour")
    calls = bound(metrics, case.kind, name, series)
    every = SECOND if case.kind == "counter" else 10 * SECOND
    ends = np.arange(every, HOUR + 1, every)
    times = ((hour.time + start) / 1000 + 0.0002).tolist()
    rows = list(zip(times, hour.series.tolist(), hour.value.tolist(), strict=True))
    first = 0
    for end, last in zip(ends.tolist(), np.searchsorted(hour.time, ends).tolist(), strict=True):
        for clock.now, at, value in rows[first:last]:
            calls[at](value)
        # The collector stamps counters 1 ms before the end of its interval.
        clock.now = (start + end - 0.5) / 1000
        metrics.flush(60)
        if end % MINUTE == 0:
            worker.pass_once()
        first = last
    metrics.close()
    worker.leave()
    metric = metric_of("hour", name)
    client = Store(url, 60).connect(retries=0)
    make_due(client, metric)
    client.close()
    return metric


def segments(client: redis.Redis, key: str) -> list[bytes]:
    """Return the segments of a closed hour; it must have no other fields."""
    found = client.hgetall(key)
    if any(not field.startswith(b"segment/") for field in found):
        raise AssertionError(f"{key} must have segments only, got {sorted(found)[:5]}")
    return list(found.values())


def check(case: Case, hour: Hour, held: int) -> None:
    if held != len(hour.time):
        raise AssertionError(f"{case.title}: recorded {len(hour.time)}, stored {held}")


def _bare(client: redis.Redis, key: str, found: list[Table]) -> int:
    """Return the bytes that this key would take with these tables without their points."""
    nothing = rollup_table.Points(np.zeros(0), np.zeros(0, np.int64))
    bare = [replace(table, size=np.zeros(len(table), np.int64), _points=nothing) for table in found]
    other = f"{key[:-1]}x"
    client.hset(
        other,
        mapping={
            keys.segment_field(at): rollup_codec.pack_table(table) for at, table in enumerate(bare)
        },
    )
    size = usage(client, [other])
    client.delete(other)
    return size


def weigh(
    url: str, case: Case, series: int, start: int, peer: "redis.Redis | None", why: str
) -> Iterator[Row]:
    """Measure one case: its exact samples, if it has any, and its rollups."""
    hour = case.make(series, case.a_minute)
    metric = record(url, case, hour, series, start)
    client = redis.Redis.from_url(url)
    of = f"{case.title}, {series:,} series"
    many_series = series > 1
    part = hour.series < PEER_SERIES
    few = Hour(hour.time[part], hour.series[part], hour.value[part])

    packed = segments(client, metric.data("raw", start))
    if packed:
        samples = [read_samples(data) for data in packed]
        check(case, hour, sum(each.count for each in samples))
        many = sum(len(each) for each in samples)
        mine = usage(client, [metric.data("raw", start)]) / many
        target = case.target_sample if many_series else None
        theirs = sample_peers(client, peer, case, few, start)
        for name in (ZSET, HASH, TIME_SERIES):
            said = "" if name in theirs else why
            headline = case.headline and many_series and name != HASH
            figures = [theirs[name]] if name in theirs else []
            yield Row(
                f"one sample: {of}",
                "bytes",
                [mine],
                name,
                figures,
                target=target,
                note=said,
                headline=headline,
            )
            target = None

    packed = segments(client, metric.data("minute", start))
    found = [read_table(data) for data in packed]
    check(case, hour, sum(int(table.summaries.count.sum()) for table in found))
    many = sum(len(table) for table in found)
    mine = usage(client, [metric.data("minute", start)]) / many
    points = sum(int(table.size.sum()) for table in found) / many
    note = f"{points:.0f} digest points per row" if points else ""
    target = case.target_row if many_series else None
    theirs = [rollup_peer(client, case, found)]
    yield Row(
        f"one minute of a series: {of}",
        "bytes",
        [mine],
        "hash per series, text",
        theirs,
        target=target,
        note=note,
    )
    bare = _bare(client, metric.data("minute", start), found) / many
    target = case.target_summary if many_series else 30
    yield Row(f"one minute without digest points: {of}", "bytes", [bare], target=target)
    client.flushall()
    client.close()


ZSET, HASH, TIME_SERIES = "sorted set per series", "hash per minute", "RedisTimeSeries"


# -- peers --------------------------------------------------------------------------------------


def sample_peers(
    client: redis.Redis, peer: "redis.Redis | None", case: Case, hour: Hour, start: int
) -> dict[str, float]:
    """Return the bytes per sample of each peer. A counter has one sample per flush."""
    time, series, value = hour.time + start, hour.series, hour.value
    if case.kind == "counter":
        flushes, counts = np.unique(
            np.stack([series, time // SECOND * SECOND + 999]), axis=1, return_counts=True
        )
        series, time, value = flushes[0], flushes[1], counts.astype(float)
    rows = list(zip(series.tolist(), time.tolist(), map(_number, value.tolist()), strict=True))
    sets, hashes = set(), set()
    with client.pipeline(transaction=False) as pipeline:
        for at, ms, text in rows:
            sets.add(f"zset:{at}")
            hashes.add(f"hash:{at}:{ms // MINUTE}")
            pipeline.zadd(f"zset:{at}", {f"{ms}:{text}": ms})
            pipeline.hset(f"hash:{at}:{ms // MINUTE}", str(ms), text)
        pipeline.execute()
    held = sum(client.zcard(name) for name in sets)
    found = {ZSET: usage(client, sorted(sets)) / held, HASH: usage(client, sorted(hashes)) / held}
    if peer is not None:
        with peer.pipeline(transaction=False) as pipeline:
            for at, ms, text in rows:
                pipeline.execute_command("TS.ADD", f"ts:{at}", ms, text)
            pipeline.execute()
        names = sorted({f"ts:{at}" for at, _, _ in rows})
        found[TIME_SERIES] = usage(peer, names) / len(rows)
        peer.flushall()
    return found


def rollup_peer(client: redis.Redis, case: Case, found: list[Table]) -> float:
    """Return the bytes per series and minute as text in a hash per series."""
    names, many = set(), 0
    with client.pipeline(transaction=False) as pipeline:
        for table in found:
            some = table.rows(np.flatnonzero(table.series < PEER_SERIES))
            sums = some.summaries
            columns = (sums.count, sums.total, sums.low, sums.high, sums.last)
            for slot, series, *numbers in zip(
                some.slot.tolist(),
                some.series.tolist(),
                *(column.tolist() for column in columns),
                strict=True,
            ):
                kept = numbers[:1] if case.kind == "counter" else numbers
                pipeline.hset(
                    f"rows:{series}",
                    str(slot // 1000),
                    ":".join(_number(round(each, 3)) for each in kept),
                )
                names.add(f"rows:{series}")
                many += 1
        pipeline.execute()
    return usage(client, sorted(names)) / many


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


# -- years --------------------------------------------------------------------------------------

TEN = (
    [f"counter_{n}" for n in range(4)]
    + [f"gauge_{n}" for n in range(3)]
    + [f"histogram_{n}" for n in range(3)]
)
TAGS = {"service": "api"}
METRICS = 500
HOURS = 71
# The windows of the queries.
DAYS = (1, 7, 30, 90, 365, 1800)
DATA = ("raw", "minute", "hour", "day")


class Years:
    """Ten metrics with one series each and their full history."""

    def __init__(self, url: str, a_minute: int) -> None:
        self.url, self.namespace, self.a_minute = url, f"years{a_minute}", a_minute
        self.client = Store(url, 60).connect(retries=0)
        self.now_ms = int(self.client.time()[0]) * 1000
        self.recording = redismetrics.Metrics(
            url,
            namespace=self.namespace,
            flush_interval=3600,
            max_age=HOURS * 3600,
            log_bytes=1 << 30,
        )
        self.worker = own_worker(url, self.namespace)
        self.metrics = [metric_of(self.namespace, name) for name in TEN]

    def record(self) -> None:
        """Record the last 71 hours, seal them, and downsample what has ended."""
        began = self.now_ms - HOURS * HOUR + 15 * MINUTE
        methods = {
            name: getattr(self.recording, name) for name in ("increment", "gauge", "histogram")
        }
        recorded = 0
        for start in range(slot_of(began, HOUR), self.now_ms, HOUR):
            for name in TEN:
                kind = name.split("_")[0]
                call, hour = methods["increment" if kind == "counter" else kind], self._hour(kind)
                for ms, value in zip(
                    (hour.time + start).tolist(), hour.value.tolist(), strict=True
                ):
                    if began <= ms < self.now_ms:
                        call(name, value, tags=TAGS, timestamp=ms / 1000 + 0.0002)
                        recorded += 1
            self.recording.flush(60)
            self.worker.pass_once()
        if self.worker.counts.samples != recorded or self.worker.counts.late:
            raise AssertionError(f"recorded {recorded}, sealed {self.worker.counts.as_dict()}")
        for metric in self.metrics:
            make_due(self.client, metric, self.now_ms)

    def _hour(self, kind: str) -> Hour:
        if kind == "gauge":
            return depths(1, self.a_minute)
        if kind == "histogram":
            return latencies(1, self.a_minute)
        # In two of three seconds: the increments of one second are one sample.
        seconds = np.sort(random.choice(3600, 40 * self.a_minute, replace=False))
        return Hour.of(seconds[None, :] * SECOND + 999, np.ones((1, len(seconds))))

    def make_older(self, metric: MetricLocation) -> None:
        """Write older hours and days, as far back as their retention."""
        minutes, hours, days = metric.retention.resolutions
        first = slot_of(self.now_ms - HOURS * HOUR, DAY) + DAY
        segment = keys.segment_field(0)
        day = [
            read_table(self.client.hget(metric.data("minute", at), segment))
            for at in range(first, first + DAY, HOUR)
        ]
        whole = rollup_table.concat(
            [merge.downsample_rows(table, int(table.slot[0]), hours.points) for table in day]
        )
        oldest = first
        while not days.is_expired(slot_of(oldest - DAY, days.partition), self.now_ms):
            oldest -= DAY
            if hours.is_expired(oldest, self.now_ms):
                cells = {
                    oldest: merge.downsample_rows(_moved(whole, oldest, DAY), oldest, days.points)
                }
                self._put(metric, days, cells)
            else:
                starts = range(oldest, oldest + DAY, minutes.partition)
                moved = [_moved(table, at, HOUR) for at, table in zip(starts, day, strict=True)]
                cells = {
                    at: merge.downsample_rows(table, at, hours.points)
                    for at, table in zip(starts, moved, strict=True)
                }
                self._put(metric, hours, cells)
        # Queries begin to look at the oldest slot.
        self.client.hset(metric.worked.state, "oldest", oldest // SECOND)
        make_due(self.client, metric, self.now_ms)

    def _put(self, metric: MetricLocation, level: Resolution, cells: dict[int, Table]) -> None:
        """Write cells of one key, and what the commits that write them leave in other keys."""
        fields: dict[Any, Any] = {
            keys.cell_field(at, 0): rollup_codec.pack_table(table) for at, table in cells.items()
        }
        span = slot_of(min(cells), level.partition)
        self.client.hset(metric.data(level.name, span), mapping=fields)
        self.client.hincrby(
            metric.worked.held, keys.data_name(level.name, span), sum(map(len, fields.values()))
        )
        for name, width in due_slot.coarser(metric.retention, level):
            due = slot_of(min(cells), width) + width
            slot = DueSlot(name, due - width, 0)
            self.client.hset(metric.worked.due, slot.field, due)
            self.client.zadd(
                keys.pending(self.namespace, 0),
                {slot.pending_member(metric.name): due},
            )

    def last_minute(self) -> None:
        """Leave the log as it usually is: the processed flushes of one minute, for subscribers."""
        for metric in self.metrics:
            self.client.zremrangebyscore(
                metric.recorded.log, "-inf", self.client.hget(metric.worked.state, "sealed")
            )
            recorded = keys.shard(self.namespace, 0).recorded
            state = RecordState.unpack(self.client.hget(recorded, metric.name))
            self.client.hset(recorded, metric.name, state._replace(log_bytes=0).pack())
        for _ in range(self.a_minute):
            for name in TEN:
                self.recording.record(name, 1, tags=TAGS)
            self.recording.flush(60)
        self.worker.pass_once()
        self.recording.close()
        self.worker.leave()

    def names(self, metric: MetricLocation, *levels: str) -> list[str]:
        """Return the keys of a metric, of these resolutions if any are given."""
        head = f"rm:{{{self.namespace}:0}}:{metric.name}:"
        found = [name.decode() for name in self.client.keys(f"{head}*")]
        return [name for name in found if not levels or name[len(head) :].split(":")[0] in levels]

    def copy(self, many: int) -> None:
        """Copy the ten metrics *many* times, including their entries in shared keys."""
        pending, catalogue = (
            keys.pending(self.namespace, 0),
            keys.shard(self.namespace, 0).catalogue,
        )
        for metric in self.metrics:
            names = self.names(metric)
            definition = self.client.hget(catalogue, metric.name)
            due = [field.decode() for field in self.client.hkeys(metric.worked.due)]
            with self.client.pipeline(transaction=False) as pipeline:
                for number in range(many // len(TEN)):
                    name = f"{metric.name}_{number:03}"
                    for old in names:
                        pipeline.copy(old, old.replace(f":{metric.name}:", f":{name}:"))
                    pipeline.zadd(pending, {f"{field} {name}": self.now_ms for field in due})
                    pipeline.hset(catalogue, name, definition)
                pipeline.execute()


def _moved(table: Table, start: int, width: int) -> Table:
    """Return the rows moved so that the first slot of *width* begins at *start*."""
    by, old = start - slot_of(int(table.slot[0]), width), table.summaries
    moved = Summaries(old.count, old.total, old.m2, old.low, old.high, old.last, old.last_ms + by)
    return replace(table, slot=table.slot + by, summaries=moved)


def queries(url: str, kept: Years) -> Iterator[Row]:
    """Measure a query over more and more days, by a client without a cache."""
    metrics = redismetrics.Metrics(url, namespace=kept.namespace, cache_bytes=0, socket_timeout=60)
    name = TEN[7]

    def query(days: int) -> float:
        began = time.perf_counter()
        metrics.query(name, aggregation="p95", window=timedelta(days=days))
        return (time.perf_counter() - began) * 1000

    held = [metrics.query(name, aggregation="count", window=timedelta(days=days)) for days in DAYS]
    for (days, count), (more_days, more) in pairwise(zip(DAYS, held, strict=True)):
        if not 0.9 < more / count / (more_days / days) < 1.1:
            raise AssertionError(
                f"{name}: in {days} days {count} samples, in {more_days} days {more}"
            )
    measures = {
        f"p95 of a histogram, {kept.a_minute} per minute, over {_days(days)}": partial(query, days)
        for days in DAYS
    }
    for case, figures in in_turn(measures, 5).items():
        yield Row(case, "ms", figures)
    metrics.close()


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def years(url: str, a_minute: int) -> Iterator[Row]:
    kept = Years(url, a_minute)
    kept.record()
    for metric in kept.metrics:
        kept.make_older(metric)
    kept.last_minute()
    client = redis.Redis.from_url(url)
    load = f"{a_minute} per minute"
    names = kept.names(kept.metrics[0], "hour", "day")
    if (
        sum(":hour:" in name for name in names) < 90
        or sum(":day:" in name for name in names) < 5 * 365 / 32
    ):
        raise AssertionError(f"expected 90 days of hours and 5 years of days, got {sorted(names)}")
    hours_and_days = usage(client, names) / 1000
    yield Row(
        f"90 days of hours, 5 years of days: a counter, {load}", "kB", [hours_and_days], target=120
    )
    for at in (0, 4, 7):
        metric = kept.metrics[at]
        names = kept.names(metric)
        parts = {level: usage(client, kept.names(metric, level)) / 1000 for level in DATA}
        note = ", ".join(f"{level} {size:.0f} kB" for level, size in parts.items())
        what = f"full history of a {TEN[at].split('_')[0]}, {load}"
        whole = usage(client, names) / 1000
        yield Row(
            what,
            "kB",
            [whole],
            note=f"{len(names)} keys: {note}, other {whole - sum(parts.values()):.0f} kB",
        )
    yield from queries(url, kept)
    before, keys_before = client.info("memory")["used_memory"], client.dbsize()
    ten = sum(usage(client, kept.names(metric)) for metric in kept.metrics)
    kept.copy(METRICS - len(TEN))
    share = METRICS / (METRICS - len(TEN))
    grown, more = client.info("memory")["used_memory"] - before, client.dbsize() - keys_before
    note = (
        f"{round(more * share):,} keys; "
        f"the server's memory grows by {grown * share / 1e6:.0f} MB when they are copied"
    )
    megabytes = ten * METRICS / len(TEN) / 1e6
    yield Row(
        f"full history of {METRICS} metrics, {load}",
        "MB",
        [megabytes],
        note=note,
        headline=a_minute == 60,
    )
    client.flushall()
    client.close()


def measure(options: Options) -> Iterator[Row]:
    """Measure each case once: bytes do not depend on the load of the machine."""
    rows: list[Row] = []
    with (
        own_server(options.server) as (url, _),
        peers.time_series(options.server, make=not options.quick) as (ts, why),
    ):
        client, peer = redis.Redis.from_url(url), None if ts is None else redis.Redis.from_url(ts)
        for case in CASES[::4] if options.quick else CASES:
            for series in (20,) if options.quick else (1_000 if case.headline else 200, 1):
                start = slot_of(int(client.time()[0]) * 1000, HOUR) - HOUR
                rows += weigh(url, case, series, start, peer, why)
        yield from sorted(rows, key=lambda row: row.case.split(":")[0], reverse=True)
        for a_minute in () if options.quick else (60, 1):
            yield from years(url, a_minute)
        client.close()


if __name__ == "__main__":
    main(QUESTION, measure)
