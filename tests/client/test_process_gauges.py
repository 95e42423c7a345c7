"""Gauges per process: how values are merged, and what sets them."""

import os
from typing import Any

import pytest

from redismetrics import Gauge, InvalidMetric, InvalidValue, Metrics, TypeMismatch
from redismetrics.columnar.process_values import Process
from redismetrics.export import export
from redismetrics.model.options import MERGE_MODES
from redismetrics.recording import own_values
from redismetrics.recording.this_process import this_place
from redismetrics.testing import Captured
from tests.client.process_helpers import declare, rows, set_in, shown
from tests.fixtures.exposition import needs_promtool, promtool
from tests.fixtures.servers import Server

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


# -- in tests ------------------------------------------------------------------------------------


def test_a_capture_has_the_values_that_were_set(metrics: Metrics, captured: Captured) -> None:
    gauge = metrics.gauge("jobs", per="process", merge="livesum")
    gauge.set(3.0)
    gauge.add(2.0)
    assert captured.gauge("jobs").values == [3, 5]
    assert captured.gauge("jobs").is_now(5)
