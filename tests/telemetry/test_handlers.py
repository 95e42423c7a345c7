"""Attach and detach lists of events."""

from typing import Any

import pytest

from redismetrics import (
    InvalidMetric,
    InvalidName,
    Metrics,
    TypeMismatch,
    attach_telemetry,
    detach_telemetry,
    list_handlers,
)
from redismetrics.telemetry import bus, execute
from redismetrics.telemetry.event_metric import EventMetric
from tests.telemetry.helpers import COMPLETED


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
def test_invalid_list_raises_and_attaches_nothing(metrics: Metrics, events: Any) -> None:
    with pytest.raises(InvalidMetric):
        attach_telemetry(events, metrics=metrics)
    assert list_handlers() == []


def test_metric_of_another_type_raises_and_attaches_nothing(metrics: Metrics) -> None:
    metrics.gauge("work_job_completed", 1)
    with pytest.raises(TypeMismatch):
        attach_telemetry([(("other",), "counter"), (COMPLETED, "counter")], metrics=metrics)
    assert list_handlers() == []
    # Nothing was declared for it either.
    metrics.gauge("other", 1)


def test_same_list_is_attached_once_and_used_id_raises(
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


def test_the_same_list_and_id_may_be_attached_again(metrics: Metrics) -> None:
    for _ in range(2):
        named = attach_telemetry([(("p", "q"), "counter")], handler_id="mine", metrics=metrics)
        assert named == "mine"
    execute(("p", "q"), {}, {})
    assert metrics.query("p_q", aggregation="sum") == 1
    with pytest.raises(InvalidName, match="is in use"):
        attach_telemetry([(("p", "q"), "counter")], handler_id="mine")
