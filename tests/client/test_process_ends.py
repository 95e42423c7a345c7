"""Gauges per process, while processes live, end, are killed and come back."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from redismetrics import InvalidQuery, Metrics
from redismetrics.columnar.process_values import BEAT_SECONDS, Process
from redismetrics.model.options import MERGE_MODES
from redismetrics.model.time import monotonic
from redismetrics.recording import own_values
from redismetrics.recording.this_process import host_name, this_place, this_process
from redismetrics.store import keys
from tests.client.process_helpers import GONE, beat, declare, pass_time, rows, send, set_in, shown
from tests.fixtures.clients import NEVER, MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, Server

ROOT = Path(__file__).parents[2]


# -- processes that live ------------------------------------------------------------------------


def test_an_idle_process_repeats_its_values(clients: list[Metrics], moving_server: Server) -> None:
    declare(clients, "livesum")
    set_in(clients[0], 3)
    set_in(clients[1], 4)
    samples = clients[0].query("jobs", aggregation="count")
    for _ in range(4):
        moving_server.advance(BEAT_SECONDS)
        beat(clients[0])
    # The other one is silent.
    assert shown(clients[2]) == {(): 3}
    assert clients[0].query("jobs", aggregation="count") == samples
    # It comes back.
    beat(clients[1])
    assert shown(clients[2]) == {(): 7}


def test_values_are_not_repeated_while_they_change(clients: list[Metrics]) -> None:
    declare(clients, "livesum")
    set_in(clients[0], 3)
    batches = clients[0].stats()["batches"]
    pass_time(clients[0], BEAT_SECONDS - 1)
    set_in(clients[0], 4)
    pass_time(clients[0], BEAT_SECONDS - 1)
    send(clients[0])
    assert clients[0].stats()["batches"] == batches + 1
    pass_time(clients[0], 1)
    send(clients[0])
    send(clients[0])
    assert clients[0].stats()["batches"] == batches + 2


@pytest.mark.slow
def test_many_values_are_repeated_in_several_batches(
    clients: list[Metrics], moving_server: Server
) -> None:
    for metrics in clients[:2]:
        for number in range(3_500):
            metrics.declare("jobs", "gauge", per="process", merge="livesum")
            metrics.gauge("jobs", 1, tags={"a": number % 70, "b": number // 70})
        metrics.flush()
    moving_server.advance(GONE)
    assert shown(clients[2]) == {}
    batches = clients[0].stats()["batches"]
    beat(clients[0])
    assert clients[0].stats()["batches"] == batches + 3
    assert list(shown(clients[2]).values()) == [1] * 3_500
    # Nothing is left to send.
    send(clients[0])
    assert clients[0].stats()["batches"] == batches + 3
    beat(clients[1])
    assert list(shown(clients[2]).values()) == [2] * 3_500
    for left in (1, 0):
        clients[left].close()
        assert list(shown(clients[2]).values()) == [left] * 3_500 * (left > 0)


@pytest.mark.slow
def test_threads_of_an_idle_client_repeat_its_values(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.declare("jobs", "gauge", per="process", merge="livesum")
    set_in(metrics, 3)
    live = keys.metric(namespace, 0, "jobs").totals
    before = admin.hgetall(live)
    pass_time(metrics, BEAT_SECONDS)
    deadline = monotonic() + PATIENCE
    while admin.hgetall(live) == before:
        assert monotonic() < deadline
    assert admin.hgetall(live).keys() == before.keys()


def test_a_repeated_value_does_not_bring_back_a_deleted_series(
    clients: list[Metrics], moving_server: Server
) -> None:
    declare(clients, "livesum")
    for queue in ("mail", "audio"):
        set_in(clients[0], 3, queue=queue)
        set_in(clients[1], 4, queue=queue)
    assert clients[2].delete_series("jobs", {"queue": "mail"}) == 1
    for metrics in clients[:2]:
        beat(metrics)
        # Once more, since it was refused at first.
        beat(metrics)
    assert shown(clients[2]) == {("audio",): 7}
    assert clients[2].tag_values("jobs", "queue") == ["audio"]
    set_in(clients[0], 5, queue="mail")
    assert shown(clients[2]) == {("audio",): 7, ("mail",): 5}


def test_a_repeated_value_does_not_bring_back_a_deleted_metric(clients: list[Metrics]) -> None:
    declare(clients, "livesum")
    set_in(clients[0], 3)
    assert clients[1].delete_metric("jobs")
    beat(clients[0])
    beat(clients[0])
    assert clients[1].list_metrics() == []
    assert clients[0]._sink.sender.own.due() == []


@pytest.mark.timeout(PATIENCE)
def test_values_of_a_metric_with_another_type_are_not_resent_forever(
    clients: list[Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    declare(clients[:1], "livesum")
    set_in(clients[0], 3)
    assert clients[1].delete_metric("jobs")
    clients[1].increment("jobs")
    clients[1].flush()
    batches = clients[0].stats()["batches"]
    for _ in range(3):
        beat(clients[0])
    assert clients[0].stats()["batches"] <= batches + 5
    clients[0].close()
    assert clients[1].query("jobs", aggregation="sum") == 1


def test_values_come_back_after_the_server_has_lost_its_data(
    clients: list[Metrics], moving_server: Server, namespace: str
) -> None:
    declare(clients, "livesum")
    set_in(clients[0], 3, queue="mail")
    set_in(clients[0], 4, queue="audio")
    with moving_server.client() as admin:
        admin.flushall()
    for _ in range(2):
        beat(clients[0])
    assert shown(clients[0]) == {("mail",): 3, ("audio",): 4}
    assert clients[0].stats()["pending"] == 0


# -- processes that end -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_values_of_a_process_that_ends(
    clients: list[Metrics], moving_server: Server, mode: str
) -> None:
    declare(clients, mode)
    set_in(clients[0], 3)
    moving_server.advance(1)
    set_in(clients[1], 4)
    clients[1].close()
    alone = {"all": 3, "sum": 7, "min": 3, "max": 4, "mostrecent": 4}
    expected = 3 if mode.startswith("live") else alone[mode]
    assert shown(clients[2]) == {(): expected}
    clients[0].close()
    found = shown(clients[2])
    assert found == ({} if mode.startswith("live") else {(): 3 if mode == "all" else alone[mode]})


def test_no_field_of_an_ended_process_remains(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    reader = make_metrics()
    for mode in MERGE_MODES:
        reader.declare(mode, "gauge", per="process", merge=mode)
    for number in range(40):
        metrics = make_metrics()
        for mode in MERGE_MODES:
            metrics.declare(mode, "gauge", per="process", merge=mode)
            metrics.gauge(mode, number)
        metrics.close()
    fields = {mode: admin.hlen(keys.metric(namespace, 0, mode).totals) for mode in MERGE_MODES}
    assert fields == dict.fromkeys(MERGE_MODES, 1) | {"all": 40}
    expected = {"sum": sum(range(40)), "min": 0, "max": 39, "mostrecent": 39}
    assert {mode: shown(reader, mode)[()] for mode in expected} == expected


def test_a_value_that_is_set_after_the_end_counts_once(clients: list[Metrics]) -> None:
    declare(clients, "sum")
    set_in(clients[0], 3)
    clients[0]._sink.sender.own.end(1)
    send(clients[0])
    set_in(clients[0], 5)
    send(clients[0])
    assert shown(clients[1]) == {(): 5}


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_values_of_a_process_that_was_killed(
    clients: list[Metrics], moving_server: Server, mode: str
) -> None:
    declare(clients, mode)
    set_in(clients[0], 3)
    moving_server.advance(GONE)
    assert shown(clients[1]) == ({} if mode.startswith("live") else {(): 3})


def test_live_values_of_a_dead_process_end_at_once(
    clients: list[Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(clients, "livesum")
    declare(clients, "sum", "kept")
    places = {
        4: (5, this_place(), host_name()),
        5: (5, b"elsewher", "db"),
        6: (6, b"elsewher", "db"),
    }
    for metrics, (value, process) in zip(clients, places.items(), strict=True):
        monkeypatch.setattr(own_values, "this_process", lambda process=process: Process(*process))
        set_in(metrics, value)
        set_in(metrics, value, "kept")
    reader = clients[0]
    assert shown(reader) == {(): 15}
    assert reader.mark_process_dead(5) == 1
    assert shown(reader) == {(): 11}
    assert reader.mark_process_dead(5) == 0
    assert reader.mark_process_dead(6) == 0
    assert reader.mark_process_dead(6, host="db") == 1
    assert shown(reader) == {(): 5}
    assert shown(reader, "kept") == {(): 15}
    # It was alive.
    beat(clients[2])
    assert shown(reader) == {(): 11}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0,), "pid must be the id of a process, a positive integer, got 0"),
        (("7",), "pid must be .*, got '7'"),
        ((True,), "pid must be .*, got True"),
        ((7, 8), "host must be a name, or None for this host, got 8"),
    ],
)
def test_wrong_arguments_of_mark_process_dead_raise(
    metrics: Metrics, arguments: tuple[Any, ...], says: str
) -> None:
    with pytest.raises(InvalidQuery, match=says):
        metrics.mark_process_dead(*arguments)


# -- real processes -----------------------------------------------------------------------------

PROGRAM = """
import os, sys
import redismetrics
metrics = redismetrics.Metrics(sys.argv[1], namespace=sys.argv[2])
for mode in ("liveall", "livesum", "sum", "max"):
    metrics.declare(mode, "gauge", per="process", merge=mode)
def record(value):
    for mode in ("liveall", "livesum", "sum", "max"):
        metrics.gauge(mode, value)
    metrics.flush()
record(5)
child = os.fork()
if not child:
    for mode in ("liveall", "livesum", "sum", "max"):
        redismetrics.Gauge(mode, metrics=metrics).add(1)
    metrics.flush()
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_forked_children_ends_and_kills(
    make_metrics: MakeMetrics, url: str, namespace: str
) -> None:
    reader = make_metrics()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, url, namespace],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pids = {int(process.stdout.readline().split()[1]) for _ in range(2)}
        (child,) = pids - {process.pid}
        # A child begins with no value of its own.
        assert rows(reader, "liveall") == {str(process.pid): 5, str(child): 1}
        assert (shown(reader, "livesum"), shown(reader, "sum")) == ({(): 6}, {(): 6})
        os.kill(child, signal.SIGKILL)
        assert reader.mark_process_dead(child) == 2
        assert (shown(reader, "livesum"), shown(reader, "sum")) == ({(): 5}, {(): 6})
        process.stdin.close()
        assert process.wait(PROCESS_PATIENCE) == 0
    assert shown(reader, "livesum") == {}
    assert rows(reader, "liveall") == {}
    assert (shown(reader, "sum"), shown(reader, "max")) == ({(): 6}, {(): 5})


def test_this_process_differs_from_all_others() -> None:
    assert this_process() == Process(os.getpid(), this_place(), host_name())
    assert len(this_place()) == 8


# -- a cluster ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_of_a_cluster(cluster: Cluster, namespace: str) -> None:
    made = [Metrics(cluster.url, namespace=namespace, flush_interval=NEVER) for _ in range(2)]
    names = [f"jobs_{number}" for number in range(20)]
    for metrics in made:
        for name in names:
            metrics.declare(name, "gauge", per="process", merge="livesum")
            metrics.gauge(name, 2)
        metrics.flush()
    assert [shown(made[0], name) for name in names] == [{(): 4}] * 20
    beat(made[1])
    made[1].close()
    assert [shown(made[0], name) for name in names] == [{(): 2}] * 20
    assert made[0].mark_process_dead(os.getpid()) == 20
    assert [shown(made[0], name) for name in names] == [{}] * 20
    made[0].close()
