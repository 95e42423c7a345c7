"""Slices of the logs that are read while metrics are recorded, and old blocks are removed."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.record_state import RecordState
from redismetrics.stream.catch_up import LogSlice, read_slice
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
    """And not for ever: metrics that are recorded all the time lose blocks all the time."""
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
