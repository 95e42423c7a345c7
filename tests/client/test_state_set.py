"""State sets: one state is 1 and all others are 0, whatever process set it last."""

import re

import pytest

from redismetrics import InvalidTags, InvalidValue, Metrics, TypeMismatch
from redismetrics.export import export
from redismetrics.testing import Captured
from tests.export.pages import at, both_formats, page
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.exposition import needs_promtool, promtool

STATES = ["starting", "running", "stopped"]


def states_of(found: dict, name: str, **labels: str) -> dict[str, float]:  # type: ignore[type-arg]
    return {state: found[at(name, **labels, **{name: state})] for state in STATES}


@both_formats
def test_exactly_one_state_is_1(
    metrics: Metrics, make_metrics: MakeMetrics, make_worker: MakeWorker, openmetrics: bool
) -> None:
    jobs = metrics.state_set("job", STATES)
    jobs.set("starting", queue="mail")
    jobs.set("running", queue="mail")
    jobs.set("stopped", queue="audio", host="a")
    metrics.flush()
    # A process that does not know the states.
    other = make_metrics()
    other.state_set("job").set("stopped", queue="mail")
    other.flush()
    for _ in range(2):
        found = page(metrics, openmetrics=openmetrics)
        assert len(found) == 6
        assert states_of(found, "job", queue="mail") == {"starting": 0, "running": 0, "stopped": 1}
        assert states_of(found, "job", queue="audio", host="a")["stopped"] == 1
        make_worker().pass_once()
    kind = "stateset" if openmetrics else "gauge"
    assert f"# TYPE job {kind}\n" in export(metrics=metrics, openmetrics=openmetrics)


def test_queries_see_states_as_a_tag(metrics: Metrics) -> None:
    jobs = metrics.state_set("job", STATES)
    jobs.set("starting")
    jobs.set("running")
    metrics.flush()
    assert metrics.query("job", aggregation="last", group_by="job") == [
        {"job": "running", "last": 1},
        {"job": "starting", "last": 0},
        {"job": "stopped", "last": 0},
    ]
    (listed,) = metrics.list_metrics()
    assert (listed["type"], listed["series"]) == ("stateset", 3)


def test_states_that_are_not_declared_are_those_that_were_set(metrics: Metrics) -> None:
    metrics.record("job", "running", type="stateset")
    metrics.record("job", "stopped")
    metrics.flush()
    assert page(metrics) == {at("job", job="running"): 0, at("job", job="stopped"): 1}
    metrics.state_set("job", STATES)
    metrics.record("job", "starting")
    metrics.flush()
    assert states_of(page(metrics), "job") == {"starting": 1, "running": 0, "stopped": 0}


def test_states_of_a_set_are_together_on_the_page(metrics: Metrics) -> None:
    jobs = metrics.state_set("job", STATES)
    for queue in ("mail", "audio"):
        jobs.set("running", queue=queue)
    metrics.flush()
    text = export(metrics=metrics, openmetrics=True)
    found = re.findall(r'queue="(\w+)"', text)
    assert found == ["audio"] * 3 + ["mail"] * 3
    # Its parser refuses any other order.
    assert len(page(metrics, openmetrics=True)) == 6


def test_overflow_leaves_a_valid_page(make_metrics: MakeMetrics) -> None:
    metrics = make_metrics(max_series=2)
    for number in range(4):
        metrics.state_set("job").set("running", queue=str(number))
        metrics.flush()
    (row,) = metrics.cardinality()
    assert row["overflow"]
    for openmetrics in (False, True):
        found = page(metrics, openmetrics=openmetrics)
        assert found == {at("job", job="running", queue=queue): 1 for queue in "01"}


@needs_promtool
def test_names_that_are_not_labels(metrics: Metrics) -> None:
    metrics.declare("job:state.now", "stateset", states=["a b", 'c"\n'], help="State")
    metrics.state_set("job:state.now").set("a b", job_state_now="x")
    metrics.flush()
    expected = {
        at("job_state_now", job_state_now="a b", tag_job_state_now="x"): 1,
        at("job_state_now", job_state_now='c"\n', tag_job_state_now="x"): 0,
    }
    for openmetrics in (False, True):
        assert page(metrics, openmetrics=openmetrics) == expected
    assert promtool(export(metrics=metrics)) == (0, "")


def test_wrong_states_raise_and_record_nothing(metrics: Metrics) -> None:
    jobs = metrics.state_set("job", STATES)
    with pytest.raises(InvalidValue, match="must be one of starting, running, stopped, got 'x'"):
        jobs.set("x")
    with pytest.raises(InvalidValue, match="got 1"):
        metrics.record("job", 1)
    with pytest.raises(InvalidTags, match="'job' holds the state"):
        jobs.set("running", job="x")
    with pytest.raises(TypeMismatch):
        metrics.histogram("job", 1.0)
    with pytest.raises(InvalidValue, match="1 to 100 different names"):
        metrics.state_set("other", [])
    assert metrics.stats()["recorded"] == 0


def test_captured(captured: Captured) -> None:
    with Metrics("none://") as metrics:
        jobs = metrics.state_set("job", STATES)
        jobs.set("running", queue="mail")
        jobs.set("stopped", queue="mail")
    assert captured.state_set("job", queue="mail").is_now("stopped")
    with pytest.raises(AssertionError, match="expected running, got stopped"):
        captured.state_set("job").is_now("running")
    assert captured.state_set("job", queue="audio").state is None
