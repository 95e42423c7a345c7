"""Slices of the logs that are read while metrics are recorded, and old blocks are removed."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import redis

from redismetrics import AsyncMetrics, Gap, Metrics, Sample, Summary
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.record_state import RecordState
from redismetrics.stream import catch_up, feed
from redismetrics.stream.catch_up import LogSlice, read_slice
from redismetrics.stream.positions import PositionMark
from tests.fixtures.servers import PATIENCE
from tests.fixtures.streams import send


def run_with(
    client: redis.Redis, operation: Operation[LogSlice], meanwhile: Callable[[], None]
) -> tuple[LogSlice, int]:
    """Return the slice, and how often it was read; call *meanwhile* each time."""
    reads = 0
    commands: list[Command] = next(operation)
    while True:
        replies: list[Any] = []
        for command in commands:
            if command[0] == "ZRANGEBYSCORE":
                reads += 1
                assert reads < 10
                meanwhile()
            # As the store's clients do, not as redis-py: without its callbacks.
            replies.append(client.execute_command(*command))
        try:
            commands = operation.send(replies)
        except StopIteration as done:
            return done.value, reads


@pytest.fixture
def raw(metrics: Metrics) -> redis.Redis:
    client = metrics._store.client()
    assert isinstance(client, redis.Redis)
    return client


@pytest.mark.parametrize(("is_in_slice", "times"), [(False, 1), (True, 3)])
def test_a_slice_is_read_once_more_only_if_blocks_of_it_are_removed(
    raw: redis.Redis, namespace: str, metrics: Metrics, is_in_slice: bool, times: int
) -> None:
    """And not forever: metrics that are recorded all the time lose blocks all the time."""
    for value in range(3):
        send(metrics, "jobs", value)
    log, recorded = keys.metric(namespace, 0, "jobs").log, keys.shard(namespace, 0).recorded
    clocks = [int(score) for score in raw.execute_command("ZRANGE", log, 0, -1, "WITHSCORES")[1::2]]
    cut = clocks[0] - 1000 if not is_in_slice else clocks[0]

    def remove() -> None:
        nonlocal cut
        cut += 1
        state = RecordState.unpack(raw.hget(recorded, "jobs"))
        raw.hset(recorded, "jobs", state._replace(cut=cut).pack())

    reading = read_slice(namespace, 0, ["jobs"], clocks[0], clocks[-1])
    found, reads = run_with(raw, reading, remove)
    assert reads == times
    assert [name for name, _ in found.blocks] == ["jobs"] * 3
    assert found.cuts == {"jobs": cut}


def test_a_reader_that_was_away_for_a_day_reads_no_slices_without_blocks(
    raw: redis.Redis, namespace: str, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "SLICE_BLOCKS", 10)
    send(metrics, "jobs")
    log, recorded = keys.metric(namespace, 0, "jobs").log, keys.shard(namespace, 0).recorded
    now = RecordState.unpack(raw.hget(recorded, "jobs")).oldest
    raw.delete(log)
    raw.zadd(log, {f"block {number}": now + number * 1000 for number in range(100)})
    since, until, sizes = now - 86_400_000_000, now + 99_000, []
    while since <= until:
        found, _ = run_with(raw, read_slice(namespace, 0, ["jobs"], since, until), lambda: None)
        sizes.append(len(found.blocks))
        since = found.until + 1
    assert sum(sizes) == 100
    assert min(sizes) > 0
    assert max(sizes) <= 10


def test_a_reader_that_resumes_reads_a_bounded_part_of_the_logs_and_then_gets_a_gap(
    raw: redis.Redis,
    url: str,
    namespace: str,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catch_up, "SLICE_BLOCKS", 5)
    monkeypatch.setattr(feed, "_MAX_RESUME_BLOCKS", 10)
    send(metrics, "jobs", 0)
    clock = int(raw.get(keys.shard(namespace, 0).clock) or 0)
    for value in range(1, 61):
        send(metrics, "jobs", value)

    async def work() -> list[Any]:
        async with AsyncMetrics(url, namespace=namespace) as ametrics:
            stream = ametrics.subscribe("jobs")
            stream.track({0: (clock, -1)})
            found: list[Any] = []
            async with stream:
                while not any(isinstance(each, Gap) for each in found):
                    found.append(await stream.get(PATIENCE))
                await asyncio.to_thread(send, metrics, "jobs", 99)
                while not isinstance(found[-1], Sample):
                    found.append(await stream.get(PATIENCE))
        return [each for each in found if not isinstance(each, PositionMark)]

    *before, hole, last = asyncio.run(work())
    assert [each.value for each in before] == list(range(1, len(before) + 1))
    assert len(before) <= 10
    assert (hole.missed, last.value) == (None, 99)


def test_summaries_are_delivered_while_a_stream_catches_up(
    raw: redis.Redis,
    url: str,
    namespace: str,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that falls behind again and again would deliver none."""
    monkeypatch.setattr(catch_up, "SLICE_BLOCKS", 5)
    # A second passes between any two looks at the clock.
    moments = itertools.count()
    monkeypatch.setattr(feed, "monotonic", lambda: float(next(moments)))
    send(metrics, "jobs", 0)
    clock = int(raw.get(keys.shard(namespace, 0).clock) or 0)
    for value in range(60):
        send(metrics, "jobs", value)

    async def work() -> list[Any]:
        async with AsyncMetrics(url, namespace=namespace) as ametrics:
            stream = ametrics.subscribe("jobs", every=0.1)
            stream.track({0: (clock, -1)})
            found: list[Any] = []
            async with stream:
                while sum(each.count for each in found) < 60:
                    if isinstance(item := await stream.get(PATIENCE), Summary):
                        found.append(item)
        return found

    found = asyncio.run(work())
    assert len(found) > 1
    assert sum(each.sum for each in found) == sum(range(60))
