"""Summaries: count and sum on the page, and in queries all that a histogram answers."""

import math
import random
import statistics

import pytest

from redismetrics import Metrics, TypeMismatch
from redismetrics.export import export
from redismetrics.testing import Captured
from tests.export.pages import at, both_formats, page
from tests.fixtures.clients import MakeWorker
from tests.fixtures.exposition import needs_promtool, promtool


@both_formats
def test_page_has_count_and_sum(metrics: Metrics, openmetrics: bool) -> None:
    took = metrics.summary("took")
    took.record(0.5)
    took.record(2)
    took.record(-1.5, queue="mail")
    took.with_tags(queue="mail").record(4, shop="de")
    metrics.flush()
    expected = {
        at("took_sum"): 2.5,
        at("took_count"): 2,
        at("took_sum", queue="mail"): -1.5,
        at("took_count", queue="mail"): 1,
        at("took_sum", queue="mail", shop="de"): 4,
        at("took_count", queue="mail", shop="de"): 1,
    }
    if openmetrics:
        # OpenMetrics allows no negative sum.
        del expected[at("took_sum", queue="mail")]
    assert page(metrics, openmetrics=openmetrics) == expected
    assert "# TYPE took summary\n" in export(metrics=metrics, openmetrics=openmetrics)


@needs_promtool
def test_promtool_accepts_a_summary(metrics: Metrics) -> None:
    metrics.declare("took_seconds", "summary", unit="seconds", help="How long")
    metrics.summary("took_seconds").record(0.5, quantile="0.5")
    metrics.flush()
    text = export(metrics=metrics)
    assert 'took_seconds_sum{tag_quantile="0.5"} 0.5\n' in text
    promtool(text)


def test_queries_return_the_same_as_for_a_histogram(
    metrics: Metrics, make_worker: MakeWorker
) -> None:
    generator = random.Random(3)
    values = [round(generator.expovariate(1), 3) for _ in range(50)]
    took = metrics.summary("took")
    for value in values:
        took.record(value, queue="mail")
    metrics.flush()
    for sealed in (False, True):
        if sealed:
            make_worker().pass_once()
        found = metrics.query("took", aggregation="p95")
        assert found == pytest.approx(statistics.quantiles(values, n=20, method="inclusive")[18])
        assert metrics.query("took", aggregation="sum") == pytest.approx(math.fsum(values))
        assert metrics.query("took", aggregation="count", group_by="queue") == [
            {"queue": "mail", "count": 50}
        ]
        assert [sample.value for sample in metrics.query("took")] == values
        (listed,) = metrics.list_metrics()
        assert (listed["type"], listed["series"]) == ("summary", 1)


def test_worker_and_script_fold_summaries(metrics: Metrics, make_worker: MakeWorker) -> None:
    took, worker = metrics.summary("took"), make_worker()
    for number in range(60):
        # More than 16 changes: the script folds.
        took.record(0.1, queue=str(number % 20))
        metrics.flush()
    (family,) = metrics.live("took")
    assert [each.count for each in family.series] == [3] * 20
    assert {round(each.value, 9) for each in family.series} == {0.3}
    for _ in range(3):
        took.record(1.0, queue="0")
        metrics.flush()
        worker.pass_once()
    (family,) = metrics.live("took")
    newest = max(family.series, key=lambda each: each.count)
    assert (newest.count, round(newest.value, 9)) == (6, 3.3)
    assert family.skipped == 0


def test_type_is_kept(metrics: Metrics, other: Metrics) -> None:
    metrics.summary("took").record(1)
    metrics.flush()
    with pytest.raises(TypeMismatch, match="'took' is a summary; got a histogram"):
        metrics.histogram("took", 1)
    # A guessed type yields to that in Redis.
    other.record("took", 2.5)
    other.flush()
    assert other.query("took", aggregation="sum") == 3.5
    (family,) = other.live("took")
    assert [(each.count, each.value) for each in family.series] == [(2, 3.5)]
    other.record("size", 2, type="summary", tags={"a": "b"})
    other.flush()
    assert other.live("size")[0].definition.type == "summary"


def test_bodies_are_timed(metrics: Metrics) -> None:
    with metrics.summary("took").time("s"):
        pass
    metrics.flush()
    assert metrics.query("took", aggregation="count") == 1
    (listed,) = metrics.list_metrics()
    assert listed["unit"] == "seconds"


def test_captured(captured: Captured) -> None:
    with Metrics("none://") as metrics:
        metrics.summary("took").record(1.5, queue="mail")
    assert captured.summary("took", queue="mail").recorded(1.5)
    with pytest.raises(AssertionError, match=r"summary took: expected 2 values, got 1.5"):
        captured.summary("took").recorded_times(2)
