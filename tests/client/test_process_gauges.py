"""Gauges per process: what the page shows while processes live, end, are killed and come back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from redismetrics import Gauge, InvalidMetric, InvalidQuery, InvalidValue, Metrics, TypeMismatch
from redismetrics.columnar.process_values import BEAT_SECONDS, GONE_MS, Process
from redismetrics.export import export
from redismetrics.model.options import MERGE_MODES
from redismetrics.model.time import monotonic
from redismetrics.recording import own_values
from redismetrics.recording.this_process import host_name, this_place, this_process
from redismetrics.store import keys
from redismetrics.testing import Captured
from tests.fixtures.clients import NEVER, MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.exposition import needs_promtool, promtool
from tests.fixtures.servers import Server

ROOT = Path(__file__).parents[2]
GONE = GONE_MS / 1000 + 1


@pytest.fixture
def clients(moving_server: Server, namespace: str) -> Iterator[list[Metrics]]:
    """Three clients, as in three processes, of a server whose time stands still."""
    made = [
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        )
        for _ in range(3)
    ]
    yield made
    for metrics in made:
        metrics.close(0.5)


def pass_time(metrics: Metrics, seconds: float) -> None:
    """Let time pass for a client, as far as it decides when values are repeated."""
    recorder = metrics._recorder
    now = recorder.steady_clock() + seconds
    recorder.steady_clock = lambda: now


def send(metrics: Metrics) -> None:
    """Send what is due now, as the client's threads do at their next look."""
    assert metrics._sink._send_once(monotonic() + 10)


def beat(metrics: Metrics) -> None:
    pass_time(metrics, BEAT_SECONDS)
    send(metrics)


def set_in(metrics: Metrics, value: float, name: str = "jobs", **tags: str) -> None:
    metrics.gauge(name, value, tags=tags)
    metrics.flush()


def shown(metrics: Metrics, name: str = "jobs") -> dict[tuple[str, ...], float]:
    """Return the values that the page shows, by tag values without the pid."""
    found = {}
    for family in metrics.live(name):
        for row in family.series:
            found[tuple(text for key, text in sorted(row.tags.items()) if key != "pid")] = row.value
    return found


def rows(metrics: Metrics, name: str = "jobs") -> dict[str, float]:
    """Return the values of one series by pid."""
    return {row.tags["pid"]: row.value for row in metrics.live(name)[0].series}


def declare(clients: list[Metrics], mode: str | None, name: str = "jobs") -> None:
    for metrics in clients:
        metrics.declare(name, "gauge", per="process", merge=mode)


# -- modes --------------------------------------------------------------------------------------

MERGED = {"sum": 16, "min": 1, "max": 10, "mostrecent": 1}


@pytest.mark.parametrize("mode", [mode for mode in MERGE_MODES if "all" not in mode])
def test_values_of_processes_are_merged(clients: list[Metrics], mode: str) -> None:
    declare(clients, mode)
    for metrics, value in zip(clients, (5, 10, 1), strict=True):
        set_in(metrics, value)
    assert shown(clients[0]) == {(): MERGED[mode.removeprefix("live")]}
    assert clients[0].live("jobs")[0].skipped == 0
    (*_, last) = export(metrics=clients[0]).splitlines()
    assert last == f"jobs {MERGED[mode.removeprefix('live')]}"


def test_each_process_has_a_row_if_no_mode_is_given(
    clients: list[Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(clients, None)
    for number, metrics in enumerate(clients):
        process = Process(100 + number, this_place(), "web")
        monkeypatch.setattr(own_values, "this_process", lambda process=process: process)
        set_in(metrics, number, shop="de")
    assert rows(clients[0]) == {"100": 0, "101": 1, "102": 2}
    # A container on the same kernel, with the same name.
    monkeypatch.setattr(own_values, "this_process", lambda: Process(100, b"elsewher", "web"))
    set_in(clients[1], 7, shop="de")
    assert rows(clients[0]) == {
        f"100@web-{this_place().hex()[:8]}": 0,
        f"100@web-{b'elsewher'.hex()[:8]}": 7,
        "102": 2,
    }
    # Rows are no series.
    assert [each["series"] for each in clients[0].list_metrics()] == [1]
    assert clients[0].cardinality()[0]["series"] == 1


def test_two_clients_of_one_process_have_one_row(clients: list[Metrics]) -> None:
    declare(clients, "all")
    set_in(clients[0], 3)
    set_in(clients[1], 4)
    assert rows(clients[2]) == {str(os.getpid()): 4}


def test_a_tag_pid_of_the_metric_keeps_its_name(clients: list[Metrics]) -> None:
    declare(clients, "liveall")
    set_in(clients[0], 3, pid="mine")
    (row,) = clients[0].live("jobs")[0].series
    assert row.tags == {"pid": "mine", "process_pid": str(os.getpid())}


@needs_promtool
def test_promtool_accepts_the_page(clients: list[Metrics]) -> None:
    for mode in MERGE_MODES:
        declare(clients, mode, f"jobs_{mode}")
        for metrics in clients:
            set_in(metrics, 1, f"jobs_{mode}", queue='ma"il')
    promtool(export(metrics=clients[0]))


def test_the_mode_may_be_changed(clients: list[Metrics]) -> None:
    declare(clients, "sum")
    set_in(clients[0], 3)
    set_in(clients[1], 4)
    declare(clients[:1], "max")
    set_in(clients[0], 3)
    assert shown(clients[2]) == {(): 4}


def test_a_shared_gauge_may_become_one_per_process(clients: list[Metrics]) -> None:
    set_in(clients[0], 100)
    declare(clients[:2], "sum")
    set_in(clients[0], 3)
    set_in(clients[1], 4)
    # This one learns it from Redis.
    set_in(clients[2], 5)
    assert shown(clients[2]) == {(): 12}


# -- set and add --------------------------------------------------------------------------------


def test_add_changes_the_value_of_this_process(clients: list[Metrics]) -> None:
    one = clients[0].gauge("jobs", per="process", merge="sum")
    two = Gauge("jobs", metrics=clients[1], per="process", merge="sum")
    for _ in range(3):
        one.add(1)
    clients[0].flush()
    two.add(2.5)
    one.add(-1.0)
    two.set(10.0)
    two.add(1.0)
    clients[0].flush()
    clients[1].flush()
    assert shown(clients[0]) == {(): 2 + 11}
    # In the log is what each process has set.
    assert clients[0].query("jobs", aggregation="max") == 11
    assert clients[0].query("jobs", aggregation="last") == 11
    found = [sample.value for sample in clients[0].query("jobs")]
    assert (found[:2], found[-1]) == ([3, 2], 11)


def test_a_later_set_with_an_older_time_changes_nothing(
    clients: list[Metrics], moving_server: Server
) -> None:
    declare(clients, "sum")
    set_in(clients[0], 3)
    clients[0].gauge("jobs", 99, timestamp=moving_server.time - 60)
    clients[0].flush()
    assert shown(clients[0]) == {(): 3}


def test_the_instrument_of_each_series_keeps_its_options(clients: list[Metrics]) -> None:
    gauge = clients[0].gauge("jobs", per="process", merge="livemax")
    gauge.with_tags(queue="mail").set(4.0)
    clients[0].flush()
    assert shown(clients[0]) == {("mail",): 4}
    assert clients[0].list_metrics()[0]["options"] == {"per": "process", "merge": "livemax"}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"per": "thread"}, InvalidValue, "per must be 'process', got 'thread'"),
        ({"per": "process", "merge": "total"}, InvalidValue, "merge must be .*, got 'total'"),
        ({"merge": "sum"}, InvalidValue, "merge needs per='process'"),
    ],
)
def test_wrong_arguments_raise_where_the_gauge_is_made(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Gauge("jobs", **arguments)


def test_a_value_and_an_instrument_cannot_be_asked_for_at_once(metrics: Metrics) -> None:
    with pytest.raises(InvalidMetric, match=r"takes a value or per, got the value 3 and per="):
        metrics.gauge("jobs", 3, per="process")  # type: ignore[call-overload]
    assert metrics.live("jobs") == []


def test_other_types_have_no_value_per_process(metrics: Metrics) -> None:
    with pytest.raises(TypeMismatch, match="per is for gauge metrics, got a counter"):
        metrics.declare("jobs", "counter", per="process")
    metrics.increment("jobs")
    with pytest.raises(TypeMismatch):
        metrics.gauge("jobs", per="process").set(1.0)


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


def test_threads_of_an_idle_client_repeat_its_values(
    make_metrics: MakeMetrics, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_metrics()
    metrics.declare("jobs", "gauge", per="process", merge="livesum")
    set_in(metrics, 3)
    live = keys.metric(namespace, 0, "jobs").totals
    before = admin.hgetall(live)
    pass_time(metrics, BEAT_SECONDS)
    deadline = monotonic() + 20
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


@pytest.mark.timeout(30)
def test_values_of_a_metric_that_has_another_type_now_are_not_sent_again_and_again(
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


def test_no_field_stays_of_each_process_that_ended(
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
        assert process.wait(30) == 0
    assert shown(reader, "livesum") == {}
    assert rows(reader, "liveall") == {}
    assert (shown(reader, "sum"), shown(reader, "max")) == ({(): 6}, {(): 5})


def test_this_process_is_told_from_all_others() -> None:
    assert this_process() == Process(os.getpid(), this_place(), host_name())
    assert len(this_place()) == 8


# -- elsewhere ----------------------------------------------------------------------------------


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


def test_a_capture_has_what_was_set(metrics: Metrics, captured: Captured) -> None:
    gauge = metrics.gauge("jobs", per="process", merge="livesum")
    gauge.set(3.0)
    gauge.add(2.0)
    assert captured.gauge("jobs").values == [3, 5]
    assert captured.gauge("jobs").is_now(5)
