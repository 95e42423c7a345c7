"""`query_exemplars`, as Grafana asks it."""

import time
from typing import Any

import pytest

from redismetrics import Metrics
from tests.api.prometheus.answers import data

BUCKETS = [0.5, 2]


@pytest.fixture
def traced(metrics: Metrics) -> Metrics:
    metrics.declare("took_seconds", "histogram", buckets=BUCKETS)
    for queue, value in (("a", 0.25), ("a", 1.0), ("b", 1.5), ("b", 3e6)):
        trace = {"trace_id": f"{queue}{value:g}"}
        metrics.histogram("took_seconds", value, tags={"queue": queue}, exemplar=trace)
    metrics.increment("jobs", 3, exemplar={"trace_id": "j"})
    metrics.gauge("depth", 1)
    metrics.flush()
    return metrics


def ask(prometheus: Any, query: str, **times: Any) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """Return labels and value of the exemplars of each series, by the labels of the series."""
    found = data(prometheus.get("/query_exemplars", params={"query": query, **times}))
    return {
        tuple(f"{name}={text}" for name, text in sorted(row["seriesLabels"].items())): [
            (each["labels"]["trace_id"], each["value"]) for each in row["exemplars"]
        ]
        for row in found
    }


def bucket(queue: str, le: str) -> tuple[str, ...]:
    return "__name__=took_seconds_bucket", "job=api", f"le={le}", f"queue={queue}"


def test_buckets_and_counters(prometheus: Any, traced: Metrics) -> None:
    rate = "histogram_quantile(0.9, sum by (le) (rate(took_seconds_bucket[5m])))"
    assert ask(prometheus, rate) == {
        bucket("a", "0.5"): [("a0.25", "0.25")],
        bucket("a", "2.0"): [("a1", "1")],
        bucket("b", "2.0"): [("b1.5", "1.5")],
        bucket("b", "+Inf"): [("b3e+06", "3000000")],
    }
    assert ask(prometheus, 'took_seconds_bucket{queue="b",le="2.0"}') == {
        bucket("b", "2.0"): [("b1.5", "1.5")]
    }
    job = ("__name__=jobs_total", "job=api")
    assert ask(prometheus, "rate(jobs_total[1m]) + jobs_total + depth") == {job: [("j", "3")]}
    own = ("__name__=took_seconds", "job=api", "queue=a")
    query = 'histogram_quantile(0.5, rate(took_seconds{queue="a"}[5m]))'
    assert ask(prometheus, query) == {own: [("a0.25", "0.25"), ("a1", "1")]}
    posted = data(prometheus.post("/query_exemplars", data={"query": "jobs_total"}))
    assert [row["seriesLabels"] for row in posted] == [{"__name__": "jobs_total", "job": "api"}]


def test_times(prometheus: Any, traced: Metrics) -> None:
    (exemplar,) = traced.exemplars("jobs")
    at = exemplar.timestamp.timestamp()
    assert len(ask(prometheus, "jobs_total", start=at - 1, end=at + 1)) == 1
    assert ask(prometheus, "jobs_total", start=at + 1, end=time.time() + 60) == {}
    assert ask(prometheus, "jobs_total", end=at - 1) == {}


def test_types_without_exemplars(prometheus: Any, traced: Metrics) -> None:
    for query in ("depth", "nothing", "1", "took_seconds_sum", "took_seconds_count"):
        assert ask(prometheus, query) == {}
    response = prometheus.get("/query_exemplars", params={"query": "sum("})
    assert response.status_code == 400
    assert "invalid parameter" in response.json()["error"]
