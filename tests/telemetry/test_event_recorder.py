"""Events become samples in Redis."""

from typing import Any

import pytest

from redismetrics import (
    Metrics,
    attach_telemetry,
)
from redismetrics.telemetry import execute
from redismetrics.telemetry.event_metric import EventMetric
from tests.telemetry.helpers import COMPLETED, only_sample


def test_events_are_stored_with_the_attached_type(metrics: Metrics) -> None:
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
        name: (
            only_sample(metrics, name).type,
            only_sample(metrics, name).value,
            only_sample(metrics, name).tags,
        )
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
def test_usual_measurement_is_the_value_by_default(
    metrics: Metrics, kind: Any, measurements: dict[str, Any], value: float
) -> None:
    attach_telemetry([(("it",), kind)], metrics=metrics)
    execute(("it",), measurements)
    assert only_sample(metrics, "it").value == value


def test_measurements_of_one_event_become_several_metrics(metrics: Metrics) -> None:
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
def test_values_are_converted_to_the_declared_unit(
    metrics: Metrics, unit: Any, value: float, stored: float, declared: str
) -> None:
    attach_telemetry(
        [EventMetric(("db", "query"), "histogram", "duration", name="db_time", unit=unit)],
        metrics=metrics,
    )
    execute(("db", "query"), {"duration": value})
    assert only_sample(metrics, "db_time").value == pytest.approx(stored, rel=1e-12)
    assert metrics.list_metrics()[0]["unit"] == declared


def test_declared_metric_keeps_its_definition(metrics: Metrics) -> None:
    metrics.declare("db_time", "histogram", unit="ms", buckets=(1, 10), help="Queries")
    attach_telemetry(
        [EventMetric(("q",), "histogram", name="db_time", unit=("ns", "ms"))], metrics=metrics
    )
    execute(("q",), {"duration": 5e6})
    assert only_sample(metrics, "db_time").value == 5
    assert metrics.list_metrics()[0]["help"] == "Queries"


METADATA = {
    "tenant": "cns",
    "queue_name": "mail",
    "status": 200,
    "trace_id": "t-1",
    "payload": ["not", "a", "tag"],
}


@pytest.mark.parametrize(
    ("tags", "expected"),
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
def test_metadata_become_tags_as_selected(
    metrics: Metrics, tags: Any, expected: dict[str, str], keep: Any
) -> None:
    attach_telemetry([EventMetric(COMPLETED, "counter", tags=tags, keep=keep)], metrics=metrics)
    execute(COMPLETED, {"count": 2}, METADATA)
    sample = only_sample(metrics, "work_job_completed")
    assert sample.tags == expected
    assert sample.metadata == {False: {}, True: METADATA, ("tenant",): {"tenant": "cns"}}[keep]


def test_invalid_events_are_counted_logged_once_and_stay_attached(
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
    # The first message was logged once, for two events.
    assert len(caplog.records) == 6
    execute(COMPLETED, {"bytes": 5})
    assert metrics.query("work_job_completed_bytes", aggregation="sum") == 5
