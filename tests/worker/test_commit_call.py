"""Commits to several metrics of a shard in one call of commit.lua."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.store import keys, metric_keys
from redismetrics.store.driver import Command, Operation, gather, run
from redismetrics.store.namespace import open_namespace
from redismetrics.worker import seal
from redismetrics.worker.commit import Outcome, Result
from redismetrics.worker.commit_call import (
    FIELDS_OF_COMMIT,
    MAX_FIELDS,
    commit_command,
    joined,
)
from tests.fixtures.workers import Steps, contents
from tests.worker.tools import Make, of_metric, state, waiting

Sealing = Callable[[], "Steps[list[Result]]"]
NAMES = ["m0", "m1", "m2"]


@pytest.fixture
def sealing(make: Make, metrics: Metrics, namespace: str) -> Sealing:
    """Return a function that reads three metrics up to the call that commits to all of them."""

    def read() -> "Steps[list[Result]]":
        for name in NAMES:
            metrics.increment(name)
        metrics.flush()
        client = make().client()
        retention = run(client, open_namespace(namespace)).retention
        places = [metric_keys.MetricLocation(namespace, 0, name, retention) for name in NAMES]
        steps = Steps(client, joined(gather([seal.seal(place) for place in places])))
        steps.until_script()
        assert len(steps.commands) == 1
        return steps

    return read


def outcomes(results: list[Result]) -> list[Outcome]:
    return [result.outcome for result in results]


def test_metrics_are_sealed_by_one_call(
    sealing: Sealing, admin: redis.Redis, namespace: str, metrics: Metrics
) -> None:
    assert outcomes(sealing().finish()) == [Outcome.DONE] * 3
    assert waiting(admin, namespace) == []
    assert [metrics.query(name, aggregation="sum") for name in NAMES] == [1, 1, 1]


def test_a_metric_that_changed_is_left_out_alone(
    sealing: Sealing, admin: redis.Redis, namespace: str
) -> None:
    steps = sealing()
    admin.hset(keys.rollup(namespace, 0, "m1").state, "version", "7.another")
    before = of_metric(admin, namespace, "m1")
    assert outcomes(steps.finish()) == [Outcome.DONE, Outcome.AGAIN, Outcome.DONE]
    assert of_metric(admin, namespace, "m1") == before
    assert waiting(admin, namespace) == ["m1"]


@pytest.mark.parametrize("key", ["due", "held", "touched", "log", "live", "data", "recorded"])
def test_a_metric_that_fails_is_left_out_alone(
    sealing: Sealing, admin: redis.Redis, namespace: str, key: str
) -> None:
    steps = sealing()
    if key == "recorded":
        admin.hset(keys.shard(namespace, 0).recorded, "m1", b"short")
    else:
        if key == "data":
            written = next(each for each in steps.commands[0] if ":m1:minute:" in str(each))
        else:
            written = f"rm:{{{namespace}:0}}:m1:{key}"
        admin.delete(written)
        admin.set(written, "text")
    before = of_metric(admin, namespace, "m1")
    assert outcomes(steps.finish()) == [Outcome.DONE, Outcome.ALONE, Outcome.DONE]
    assert of_metric(admin, namespace, "m1") == before
    assert waiting(admin, namespace) == ["m1"]


def test_a_call_sent_twice_applies_once(
    sealing: Sealing, admin: redis.Redis, namespace: str
) -> None:
    steps = sealing()
    command = steps.commands[0]
    steps.finish()
    once = contents(admin, namespace)
    assert admin.execute_command(*command) == [b"version"] * 3
    assert contents(admin, namespace) == once


def test_a_full_server_rejects_a_whole_call(
    sealing: Sealing, admin: redis.Redis, namespace: str
) -> None:
    steps = sealing()
    before = contents(admin, namespace)
    limit = admin.config_get("maxmemory")["maxmemory"]
    admin.config_set("maxmemory", 1)
    try:
        assert outcomes(steps.finish()) == [Outcome.ALONE] * 3
    finally:
        admin.config_set("maxmemory", limit)
    assert contents(admin, namespace) == before


def test_a_failure_counts_once_and_what_was_stored_with_it_counts(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for name in NAMES:
        metrics.increment(name)
    metrics.flush()
    admin.set(keys.rollup(namespace, 0, "m1").held, "text")
    one = make()
    one.pass_once()
    assert (one.counts.samples, one.counts.failures) == (2, 1)
    assert str(one.counts.last_error).startswith("m1: ")
    assert state(admin, namespace, "m1")["sealed"] == 0


def commits(sizes: list[tuple[str, int]], calls: list[int]) -> list[list[Any]]:
    """Commit to metrics of namespaces with values of some bytes; note the commands of the trip."""

    def one(namespace: str, size: int) -> Operation[list[Any]]:
        place = metric_keys.MetricLocation(namespace, 0, "m", None)  # type: ignore[arg-type]
        return (yield [commit_command(place, [], 0, ["m", b"x" * size])])

    steps = joined(gather([one(*each) for each in sizes]))
    sent: list[Command] = next(steps)
    calls += [sum(argument == "m" for argument in command) for command in sent]
    try:
        steps.send([[b"%d" % at] * count for at, count in enumerate(calls)])
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError


def test_a_call_is_bounded_by_metrics() -> None:
    calls: list[int] = []
    most = MAX_FIELDS // FIELDS_OF_COMMIT
    replies = commits([("a", 1)] * (most + 1), calls)
    assert calls == [most, 1]
    assert replies == [[[b"0"]]] * most + [[[b"1"]]]


def test_a_call_is_bounded_by_bytes() -> None:
    calls: list[int] = []
    commits([("a", 1), ("a", 2 << 20), ("a", 1), ("a", 1)], calls)
    assert calls == [1, 1, 2]


def test_shards_have_calls_of_their_own() -> None:
    calls: list[int] = []
    replies = commits([("a", 1), ("b", 1), ("a", 1), ("b", 1)], calls)
    assert calls == [2, 2]
    assert replies == [[[b"0"]], [[b"1"]]] * 2
