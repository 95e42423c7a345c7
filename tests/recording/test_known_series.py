"""Batches whose series are all known: what is sent for them, and what Redis stores."""

import struct
import time
from typing import Any

import pytest
import redis

from redismetrics import Gauge, Metrics
from redismetrics.model.definition import define
from redismetrics.model.validation import pack_tags
from redismetrics.recording import write
from redismetrics.recording.known_series import KnownSeries
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.replies import STAMP_BYTES
from tests.fixtures.clients import MakeWorker
from tests.fixtures.recorded import recorded_state


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """The commands of all batches that are sent from now on."""
    found: list[Command] = []
    record = write.record

    def recording(sent: write.WriteRequest, *others: Any) -> Operation[write.WriteReply]:
        found.append(sent.command)
        return (yield from record(sent, *others))

    monkeypatch.setattr(write, "record", recording)
    return found


def keys_of(command: Command) -> list[str]:
    return list(command[3 : 3 + command[2]])


def test_only_a_batch_with_new_series_has_the_definition_and_the_keys_of_tags(
    metrics: Metrics, commands: list[Command], namespace: str
) -> None:
    shard, of = keys.shard(namespace, 0), keys.metric(namespace, 0, "jobs")
    for tag in ("a", "a", "b"):
        metrics.histogram("jobs", 1, tags={"tag": tag})
        metrics.flush()
    assert [keys_of(command) for command in commands] == [
        [*shard, of.totals, of.log, of.series, of.values],
        [*shard, of.totals, of.log],
        [*shard, of.totals, of.log, of.series, of.values],
    ]
    definition = metrics.internals.definition("jobs")
    assert definition is not None
    assert [definition.pack() in command for command in commands] == [True, False, True]
    assert metrics.query("jobs", aggregation="count", group_by="tag") == [
        {"tag": "a", "count": 2},
        {"tag": "b", "count": 1},
    ]


def test_all_blocks_end_in_the_stamp_of_the_metric(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for value in (1, 2):
        metrics.gauge("depth", value)
        metrics.flush()
    Gauge("depth", metrics=metrics).add(3)
    metrics.flush()
    stamp = admin.hget(keys.shard(namespace, 0).catalogue, "depth")[-STAMP_BYTES:]
    blocks = admin.zrange(keys.metric(namespace, 0, "depth").log, 0, -1)
    assert [block[-STAMP_BYTES:] for block in blocks] == [stamp] * 3
    assert sorted(sample.value for sample in metrics.query("depth")) == [1, 2, 5]


def test_score_of_a_dirty_metric_is_the_clock_rounded_up_to_a_second(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    shard = keys.shard(namespace, 0)
    # The clock is one behind that of the batch.
    clock, score = int(admin.get(shard.clock)) - 1, int(admin.zscore(shard.dirty, "jobs"))
    assert score % 1_000_000 == 0
    assert clock < score <= clock + 1_000_000
    (listed,) = metrics.list_metrics()
    assert listed["last_seen"].timestamp() <= time.time()


def test_changes_of_a_gauge_wait_for_the_worker_but_not_for_ever(
    metrics: Metrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str
) -> None:
    def waiting() -> int:
        state = recorded_state(admin, namespace, "depth")
        return state.next_change - state.first_change

    def flush(count: int) -> None:
        for value in range(count):
            metrics.gauge("depth", value)
            metrics.flush()

    flush(20)
    # Without a worker the script folds.
    assert waiting() < 16
    make_worker().pass_once(alone=True)
    assert waiting() == 0
    flush(40)
    assert waiting() == 40
    # It folds what waits before a change of the shared value.
    Gauge("depth", metrics=metrics).add(0.5)
    metrics.flush()
    assert waiting() == 0
    flush(300)
    assert waiting() <= 256
    (family,) = metrics.live("depth")
    assert [series.value for series in family.series] == [299]


def test_cached_packed_ids_match_series_and_order() -> None:
    known, definition = KnownSeries(), define("jobs", "counter")
    canonicals = [pack_tags({"n": str(number)}) for number in range(100)]

    def ids(of: list[bytes]) -> list[int] | None:
        packed = known.packed_ids(of)
        return None if packed is None else list(struct.unpack(f"<{len(of)}I", packed))

    def learn(first: int, epoch: int) -> None:
        known.learn(canonicals, range(first, first + 100), epoch, b"stamp", definition)

    learn(0, 1)
    some = canonicals[:50]
    swapped = [some[0], *reversed(some[1:])]
    for _ in range(2):
        assert ids(canonicals) == list(range(100))
        assert ids(swapped) == [0, *range(49, 0, -1)]
        assert ids([*some, b"new"]) is None
        assert ids(some) == list(range(50))
    learn(1_000, 2)
    assert ids(some) == list(range(1_000, 1_050))
    known.forget(canonicals[0])
    assert ids(some) is None
    assert ids(canonicals[1:]) == list(range(1_001, 1_100))
    known.forget()
    assert ids(canonicals[1:]) is None
