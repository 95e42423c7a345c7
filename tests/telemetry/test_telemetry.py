"""Events through the bus to what is attached: metrics in a real store, and functions of any kind."""

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from redismetrics import (
    InvalidMetric,
    Metrics,
    Sample,
    TypeMismatch,
    attach_telemetry,
    detach_telemetry,
    list_handlers,
)
from redismetrics.telemetry import bus, event_span, execute
from redismetrics.telemetry.event_metric import EventMetric

COMPLETED = ("work", "job", "completed")


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=3600) as metrics:
        yield metrics


@pytest.fixture(autouse=True)
def _nothing_attached() -> Iterator[None]:
    yield
    for handler in list_handlers():
        bus.detach(handler["id"])


@pytest.fixture
def events() -> list[tuple[Any, ...]]:
    """What a plain function that is attached to every event of these tests was called with."""
    seen: list[tuple[Any, ...]] = []
    bus.attach(
        "seen",
        [COMPLETED, *(("db", "query", end) for end in ("start", "stop", "exception"))],
        lambda *given: seen.append(given),
    )
    return seen


def only(metrics: Metrics, name: str) -> Sample:
    (sample,) = metrics.query(name)
    assert isinstance(sample, Sample)
    return sample


# -- events become metrics ----------------------------------------------------------------------------------------


def test_the_original_s_example_is_stored_as_declared(metrics: Metrics) -> None:
    attach_telemetry(
        [
            (COMPLETED, "counter"),
            (("work", "job", "duration"), "histogram"),
            (("crucible", "experiment", "completed"), "histogram"),
            (("queue", "depth"), "gauge"),
        ],
        metrics=metrics,
    )
    execute(COMPLETED, {"count": 1}, {"tenant": "cns", "trace_id": "t-1"})
    execute(("work", "job", "duration"), {"duration": 1234}, {"tenant": "cns"})
    execute(("crucible", "experiment", "completed"), {"value": 3}, {"model": "llama-3.1"})
    execute(("queue", "depth"), {"depth": 4.0}, {"queue": "mail"})
    shown = {
        name: (only(metrics, name).type, only(metrics, name).value, only(metrics, name).tags)
        for name in (
            "work_job_completed",
            "work_job_duration",
            "crucible_experiment_completed",
            "queue_depth",
        )
    }
    assert shown == {
        "work_job_completed": ("counter", 1, {"tenant": "cns"}),
        "work_job_duration": ("histogram", 1234, {"tenant": "cns"}),
        "crucible_experiment_completed": ("histogram", 3, {"model": "llama-3.1"}),
        "queue_depth": ("gauge", 4, {"queue": "mail"}),
    }


@pytest.mark.parametrize(
    ("kind", "measurements", "value"),
    [
        ("counter", {}, 1),
        ("counter", {"duration": 7}, 1),
        ("counter", {"total": 5, "count": 3}, 3),
        ("counter", {"count": 0}, 0),
        ("gauge", {"active": 3, "size": 2}, 2),
        ("gauge", {"temperature": 20.5}, 20.5),
        ("histogram", {"value": 9, "latency": 8}, 8),
        ("histogram", {"loss": 0.25}, 0.25),
        ("histogram", {"duration": None, "time": 2}, 2),
    ],
)
def test_without_a_named_measurement_the_usual_one_is_the_value(
    metrics: Metrics, kind: Any, measurements: dict[str, Any], value: float
) -> None:
    attach_telemetry([(("it",), kind)], metrics=metrics)
    execute(("it",), measurements)
    assert only(metrics, "it").value == value


def test_several_measurements_of_one_event_become_several_metrics(metrics: Metrics) -> None:
    attach_telemetry([(("train", "step"), {"loss": "gauge", "tokens": "counter"})], metrics=metrics)
    execute(("train", "step"), {"loss": 2.5, "tokens": 4096, "grad": 1.0}, {"model": "small"})
    execute(("train", "step"), {"loss": 2.25, "tokens": 4096})
    assert metrics.query("train_step_loss", aggregation="last") == 2.25
    assert metrics.query("train_step_tokens", aggregation="sum") == 8192
    assert metrics.query("train_step_tokens", aggregation="sum", tags={"model": "small"}) == 4096
    assert {row["name"] for row in metrics.list_metrics()} == {
        "train_step_loss",
        "train_step_tokens",
    }


@pytest.mark.parametrize(
    ("unit", "value", "stored", "declared"),
    [
        (("ns", "ms"), 2_500_000, 2.5, "ms"),
        (("ms", "seconds"), 250, 0.25, "seconds"),
        (("min", "s"), 2, 120, "s"),
        (("KiB", "bytes"), 3, 3072, "bytes"),
        (("percent", "ratio"), 75, 0.75, "ratio"),
        ("ms", 7, 7, "ms"),
    ],
)
def test_units_convert_and_the_metric_is_declared_in_the_second(
    metrics: Metrics, unit: Any, value: float, stored: float, declared: str
) -> None:
    attach_telemetry(
        [EventMetric(("db", "query"), "histogram", "duration", name="db_time", unit=unit)],
        metrics=metrics,
    )
    execute(("db", "query"), {"duration": value})
    assert only(metrics, "db_time").value == pytest.approx(stored, rel=1e-12)
    assert metrics.list_metrics()[0]["unit"] == declared


def test_a_metric_declared_before_keeps_its_definition(metrics: Metrics) -> None:
    metrics.declare("db_time", "histogram", unit="ms", buckets=(1, 10), help="Queries")
    attach_telemetry(
        [EventMetric(("q",), "histogram", name="db_time", unit=("ns", "ms"))], metrics=metrics
    )
    execute(("q",), {"duration": 5e6})
    assert only(metrics, "db_time").value == 5
    assert metrics.list_metrics()[0]["help"] == "Queries"


METADATA = {
    "tenant": "cns",
    "queue_name": "mail",
    "status": 200,
    "trace_id": "t-1",
    "payload": ["not", "a", "tag"],
}


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (None, {"tenant": "cns", "status": "200"}),
        ((), {}),
        (["trace_id"], {"trace_id": "t-1"}),
        ({"queue_name": "queue"}, {"tenant": "cns", "status": "200", "queue": "mail"}),
        (
            {"queue_name": "queue", "tenant": None, "status": "code"},
            {"queue": "mail", "code": "200"},
        ),
        (lambda metadata: {"class": f"{metadata['status'] // 100}xx"}, {"class": "2xx"}),
    ],
    ids=["promoted", "none", "these", "renamed", "dropped", "function"],
)
@pytest.mark.parametrize("keep", [False, True, ("tenant",)], ids=["bare", "all kept", "one kept"])
def test_metadata_is_renamed_or_dropped_on_its_way_to_tags(
    metrics: Metrics, tags: Any, wanted: dict[str, str], keep: Any
) -> None:
    attach_telemetry([EventMetric(COMPLETED, "counter", tags=tags, keep=keep)], metrics=metrics)
    execute(COMPLETED, {"count": 2}, METADATA)
    sample = only(metrics, "work_job_completed")
    assert sample.tags == wanted
    assert sample.metadata == {False: {}, True: METADATA, ("tenant",): {"tenant": "cns"}}[keep]


def test_what_can_t_be_recorded_is_counted_told_once_and_stays_attached(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    attach_telemetry([(COMPLETED, {"bytes": "counter"}), (("q",), "gauge")], metrics=metrics)
    for measurements in ({}, {}, {"bytes": "many"}, {"bytes": -1}, {"bytes": float("nan")}):
        execute(COMPLETED, measurements)
    execute(COMPLETED, {"bytes": 1}, {"tenant": ["no", "tag"]})
    execute(("q",), {"height": 1, "width": 2})
    assert metrics.stats()["dropped"] == {"invalid": 7}
    assert caplog.records[0].getMessage() == (
        "work/job/completed is not recorded as work_job_completed_bytes: "
        "the event must have the measurement 'bytes', got []"
    )
    assert len(caplog.records) == 6  # the first was told once
    execute(COMPLETED, {"bytes": 5})
    assert metrics.query("work_job_completed_bytes", aggregation="sum") == 5


@pytest.mark.parametrize(
    "events",
    [
        [],
        "work",
        [COMPLETED],
        [("work.job", "counter")],
        [((), "counter")],
        [(("a", 1), "counter")],
        [(("with space",), "counter")],
        [(COMPLETED, "meter")],
        [(COMPLETED, {"duration": "meter"})],
        {COMPLETED: "counter"},
    ],
    ids=repr,
)
def test_a_wrong_list_raises_and_attaches_nothing(metrics: Metrics, events: Any) -> None:
    with pytest.raises(InvalidMetric):
        attach_telemetry(events, metrics=metrics)
    assert list_handlers() == []


@pytest.mark.parametrize(
    "options",
    [
        {"unit": ("ns", "bytes")}, {"unit": ("ns", "fortnights")}, {"unit": 3}, {"unit": ("ns",)}, {"tags": "tenant"},
        {"tags": {"a": "not a key"}}, {"keep": "tenant"}, {"measurement": 1}, {"name": "not a name"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_wrong_option_raises_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMetric, match=r"must be|invalid|use a letter"):
        EventMetric(COMPLETED, "counter", **options)


def test_a_metric_of_another_type_raises_and_attaches_nothing(metrics: Metrics) -> None:
    metrics.gauge("work_job_completed", 1)
    with pytest.raises(TypeMismatch):
        attach_telemetry([(("other",), "counter"), (COMPLETED, "counter")], metrics=metrics)
    assert list_handlers() == []
    metrics.gauge("other", 1)  # nothing was said of it either


# -- handlers -----------------------------------------------------------------------------------------------------


def test_the_same_list_is_attached_once_and_an_id_in_use_raises(
    metrics: Metrics, url: str, namespace: str
) -> None:
    def factory() -> str:
        return attach_telemetry(
            [EventMetric(COMPLETED, "counter", tags={"a": "b"})], metrics=metrics
        )

    first = factory()
    assert factory() == first
    execute(COMPLETED)
    assert metrics.query("work_job_completed", aggregation="sum") == 1
    named = attach_telemetry([(("q",), "counter")], handler_id="mine", metrics=metrics)
    assert named == "mine"
    with pytest.raises(InvalidMetric, match="'mine'"):
        attach_telemetry([(("r",), "counter")], handler_id="mine", metrics=metrics)
    with Metrics(url, namespace=namespace + "-b") as other:
        assert (
            attach_telemetry([EventMetric(COMPLETED, "counter", tags={"a": "b"})], metrics=other)
            != first
        )


def test_handlers_are_listed_and_detached(metrics: Metrics) -> None:
    mine = attach_telemetry([(COMPLETED, "counter"), (("q",), {"n": "gauge"})], metrics=metrics)
    bus.attach("print", [("q",)], print)
    assert list_handlers() == [
        {
            "id": mine,
            "events": [COMPLETED, ("q",)],
            "function": None,
            "metrics": ["work_job_completed", "q_n"],
        },
        {"id": "print", "events": [("q",)], "function": print, "metrics": []},
    ]
    assert [found["id"] for found in list_handlers(("work", "job"))] == [mine]
    assert list_handlers(("work", "other")) == []
    assert detach_telemetry("nobody") is False
    assert detach_telemetry() is True
    assert [found["id"] for found in list_handlers()] == ["print"]
    assert detach_telemetry() is False
    execute(COMPLETED)
    assert metrics.stats()["recorded"] == 0


def test_a_plain_function_gets_event_measurements_and_metadata(
    events: list[tuple[Any, ...]],
) -> None:
    execute(COMPLETED, {"count": 1}, {"tenant": "cns"})
    execute(list(COMPLETED))
    execute(("nobody", "listens"), {"count": 1})
    assert events == [(COMPLETED, {"count": 1}, {"tenant": "cns"}), (COMPLETED, {}, {})]


@pytest.mark.parametrize("event", ["work.job", ["work", 1], None, [], 5], ids=repr)
def test_an_event_that_is_none_raises(event: Any) -> None:
    with pytest.raises(InvalidMetric, match="event must be a tuple of text"):
        execute(event)


def test_a_handler_that_fails_is_detached_logged_and_not_felt(
    events: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("mine")

    bus.attach("fails", [COMPLETED], fails)
    bus.attach("after", [COMPLETED], lambda *given: events.append(given))
    with caplog.at_level(logging.ERROR, "redismetrics"):
        execute(COMPLETED)
        execute(COMPLETED)
    assert len(events) == 4
    assert [found["id"] for found in list_handlers()] == ["seen", "after"]
    (record,) = caplog.records
    assert "'fails'" in record.getMessage()
    assert "ZeroDivisionError: mine" in (record.exc_text or "")


def test_a_handler_may_attach_detach_and_execute(events: list[tuple[Any, ...]]) -> None:
    def once(*_: Any) -> None:
        bus.detach("once")
        bus.attach("later", [COMPLETED], lambda *given: events.append(("later",)))
        execute(COMPLETED, {"nested": 1})

    bus.attach("once", [COMPLETED], once)
    execute(COMPLETED)
    assert events == [(COMPLETED, {}, {}), (COMPLETED, {"nested": 1}, {}), ("later",)]


def test_threads_that_attach_and_execute_at_once_lose_no_event(metrics: Metrics) -> None:
    attach_telemetry([(COMPLETED, "counter")], metrics=metrics)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            bus.attach("churn", [COMPLETED], lambda *_: None)
            bus.detach("churn")

    threads = [
        threading.Thread(target=lambda: [execute(COMPLETED) for _ in range(2_000)])
        for _ in range(4)
    ]
    churning = threading.Thread(target=churn)
    churning.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    churning.join()
    assert metrics.query("work_job_completed", aggregation="sum") == 8_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_the_lock_is_held_can_attach() -> None:
    with bus.event_bus.lock:
        pid = os.fork()
        if pid == 0:
            done = threading.Thread(
                target=bus.attach, args=("child", [COMPLETED], print), daemon=True
            )
            done.start()
            done.join(10)
            os._exit(0 if list_handlers() else 1)
    assert os.waitpid(pid, 0)[1] == 0


# -- spans --------------------------------------------------------------------------------------------------------


def test_a_span_is_a_start_and_a_stop_with_its_duration(
    events: list[tuple[Any, ...]], metrics: Metrics
) -> None:
    attach_telemetry(
        [
            EventMetric(
                ("db", "query", "stop"),
                "histogram",
                "duration",
                name="db_query",
                unit=("ns", "ms"),
                tags=["table"],
            )
        ],
        metrics=metrics,
    )
    with event_span.span(("db", "query"), {"table": "users"}) as metadata:
        metadata["rows"] = 3
    start, stop = events
    assert start[0] == ("db", "query", "start")
    assert start[1]["system_time"] > 1e18
    assert start[2] == {"table": "users"}
    assert stop[0] == ("db", "query", "stop")
    assert stop[2] == {"table": "users", "rows": 3}
    sample = only(metrics, "db_query")
    assert sample.tags == {"table": "users"}
    assert sample.value == pytest.approx(stop[1]["duration"] / 1e6)


def test_a_span_that_fails_says_so_and_the_error_goes_on(events: list[tuple[Any, ...]]) -> None:
    with pytest.raises(KeyError), event_span.span(("db", "query"), {"table": "users"}):
        raise KeyError("gone")
    assert [event[0][-1] for event in events] == ["start", "exception"]
    assert events[1][2] == {"table": "users", "error": "KeyError"}
    assert events[1][1]["duration"] > 0


# -- cost ---------------------------------------------------------------------------------------------------------


def test_executing_takes_no_lock(events: list[tuple[Any, ...]]) -> None:
    with bus.event_bus.lock:
        thread = threading.Thread(target=execute, args=(COMPLETED,), daemon=True)
        thread.start()
        thread.join(10)
    assert events == [(COMPLETED, {}, {})]
