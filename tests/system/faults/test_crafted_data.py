"""Few bytes in Redis cannot make a reader hold much memory, and spoil only their own metric."""

import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import redis

from redismetrics import FormatMismatch, Metrics
from redismetrics.columnar.batch_stamp import BatchStamp, pack_stamp
from redismetrics.columnar.column_codec import pack_real, pack_whole
from redismetrics.columnar.rollup_codec import unpack_tables
from redismetrics.columnar.sample_codec import unpack_samples
from redismetrics.export import export
from redismetrics.store import keys
from tests.columnar.sample_columns import block, columns
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.recorded import change_recorded
from tests.fixtures.servers import PATIENCE

# What an attacker writes, in bytes, and what a reader may allocate for it.
SIZE, MEMORY = 22_000, 24 << 20


@contextmanager
def bounded(most: int = MEMORY) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def _of(rows: int, summaries: int = 0) -> Callable[[int], bytes]:
    """Return a function that makes a small block of equal rows and equal summaries."""

    def craft(clock_us: int) -> bytes:
        time_ms = clock_us // 1000
        stamp = pack_stamp(BatchStamp(clock_us, clock_us, clock_us, "attacker"))
        head = stamp + struct.pack("<dddIII", rows, time_ms, 0, 1, 0, 0)
        parts = [
            struct.pack("<BIIIq", 1, rows, summaries, 0, time_ms),
            *(pack_whole(np.full(rows, number)) for number in (0, 0)),
            pack_real(np.ones(rows)),
            *(pack_whole(np.full(rows, number)) for number in (1, 0)),
            *(pack_whole(np.full(summaries, number)) for number in (0, 0, 1)),
            *(pack_real(np.ones(summaries)) for _ in range(5)),
            pack_whole(np.full(summaries, time_ms)),
        ]
        return head + b"".join(parts)

    return craft


def _as_many_rows_as_fit(clock_us: int) -> bytes:
    """Return a block that every reader must accept."""
    return block(columns([1.0] * 60, time=clock_us // 1000), clock_us=clock_us, ids=[0])


CRAFTED = {
    "1,100 rows": _of(1_100),
    "20,000 rows": _of(20_000),
    "summaries": _of(16_384, 16_384),
    "as many rows as fit": _as_many_rows_as_fit,
}


def _add_blocks(admin: redis.Redis, namespace: str, craft: Callable[[int], bytes]) -> int:
    """Add crafted blocks to the log of the metric bad; return their number."""
    of, now_us, size, found = keys.metric(namespace, 0, "bad"), round(time.time() * 1e6), 0, {}
    while size < SIZE:
        data = craft(now_us + len(found))
        found[data] = now_us + len(found)
        size += len(data)
    admin.zadd(of.log, found)
    change_recorded(admin, namespace, "bad", waiting=now_us)
    admin.set(keys.shard(namespace, 0).clock, now_us + len(found))
    return len(found)


@pytest.fixture
def filled(make_metrics: MakeMetrics) -> Metrics:
    metrics = make_metrics()
    for name in ("bad", "good"):
        metrics.histogram(name, 1.0)
    metrics.flush()
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_blocks_take_little_memory_in_queries(
    filled: Metrics, admin: redis.Redis, namespace: str, kind: str
) -> None:
    count = _add_blocks(admin, namespace, CRAFTED[kind])
    asks: list[Callable[[], object]] = [
        lambda: filled.query("bad", aggregation="p95"),
        lambda: filled.query("bad"),
        lambda: filled.digest("bad"),
        lambda: filled.time_series("bad", interval="minute", aggregation="mean"),
        lambda: filled.get_metrics(name="bad"),
    ]
    for ask in asks:
        with bounded():
            if kind == "as many rows as fit":
                ask()
            else:
                with pytest.raises(FormatMismatch, match="numbers fit"):
                    ask()
    if kind == "as many rows as fit":
        assert filled.query("bad", aggregation="count") == 60 * count + 1
    with bounded():
        assert filled.query("good", aggregation="count") == 1
        assert "good" in {row["name"] for row in filled.get_metrics(limit=30_000)["metrics"]}
        assert "good" in export(metrics=filled)


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_blocks_take_little_memory_in_a_worker(
    filled: Metrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str, kind: str
) -> None:
    _add_blocks(admin, namespace, CRAFTED[kind])
    worker = make_worker()
    with bounded():
        worker.pass_once(alone=True)
    left = {name.decode() for name in admin.zrange(keys.shard(namespace, 0).dirty, 0, -1)}
    assert left <= {"bad"}
    assert worker.counts.samples >= 2
    assert filled.query("good", aggregation="count") == 1


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_messages_take_little_memory_in_a_stream(
    filled: Metrics, admin: redis.Redis, namespace: str, kind: str
) -> None:
    now_us, sent = round(time.time() * 1e6), 0
    with filled.subscribe(["bad", "good"]) as subscription, bounded():
        while sent < SIZE:
            data = CRAFTED[kind](now_us + sent)
            sent += len(data)
            admin.publish(keys.channel(namespace, "bad"), data)
        filled.histogram("good", 2.0)
        filled.flush()
        while True:
            try:
                sample = subscription.get(PATIENCE)
            except FormatMismatch:
                continue
            assert sample is not None, "the sample of the other metric did not arrive"
            if getattr(sample, "name", None) == "good":
                break


def _crafted_table(rows: int) -> bytes:
    """Return a small table of many equal rows."""
    whole = [np.full(rows, number) for number in (0, 0, 0, 1, 5)]
    parts = [*(pack_whole(each, dense=True) for each in whole), pack_real(np.ones(rows))]
    return struct.pack("<BIIq", 1, rows, 0, 60_000) + b"".join(parts)


@pytest.mark.parametrize("rows", [300, 1_100, 16_384])
def test_crafted_tables_take_little_memory(rows: int) -> None:
    one = _crafted_table(rows)
    with bounded(), pytest.raises(FormatMismatch, match="numbers fit"):
        unpack_tables([one] * (SIZE // len(one)))


def test_crafted_exact_samples_take_little_memory() -> None:
    whole = [pack_whole(np.full(16_384, number), dense=True) for number in (0, 0, 1, 1)]
    data = struct.pack("<BIIq", 1, 16_384, 0, 60_000) + b"".join(whole)
    with bounded(1 << 20), pytest.raises(FormatMismatch, match="numbers fit"):
        unpack_samples(data)
