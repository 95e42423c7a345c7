"""Summaries per interval, in place of samples."""

import itertools
from typing import Any

import numpy as np
import pytest

from redismetrics import (
    Gap,
    InvalidQuery,
    Metrics,
    Summary,
)
from redismetrics.columnar import block_codec
from redismetrics.stream.delivery import DeliveryQueue
from redismetrics.stream.feed import Feed
from redismetrics.stream.steps import Compute
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE
from tests.fixtures.streams import crafted


def test_summaries_count_every_sample_once(metrics: Metrics, make_metrics: MakeMetrics) -> None:
    other = make_metrics(samples_per_flush=20)
    with metrics.subscribe(["took", "jobs"], tags={"queue": "mail"}, every=0.2) as stream:
        for number in range(1_000):
            other.histogram("took", number, tags={"queue": "mail"})
            other.histogram("took", number, tags={"queue": "audio"})
            other.increment("jobs", 2, tags={"queue": "mail"})
            if number % 250 == 249:
                other.flush()
        found: list[Any] = []
        while sum(each.count for each in found) < 2_000:
            found.append(stream.get(PATIENCE))
            assert isinstance(found[-1], Summary), found[-1]
    took, jobs = ([each for each in found if each.name == name] for name in ("took", "jobs"))
    assert (sum(each.sum for each in took), sum(each.sum for each in jobs)) == (
        sum(range(1_000)),
        2_000,
    )
    assert (min(each.min for each in took), max(each.max for each in took)) == (0, 999)
    assert (took[-1].last, took[-1].type, took[-1].tags, jobs[0].mean) == (
        999,
        "histogram",
        {"queue": "mail"},
        2,
    )
    for of_metric in (took, jobs):
        assert all(one.until <= two.since for one, two in itertools.pairwise(of_metric))
        assert all(each.since < each.until for each in of_metric)
        assert all(round(each.until.timestamp() * 1000) % 200 == 0 for each in of_metric)


def test_summaries_by_name_are_of_all_series_together(metrics: Metrics) -> None:
    with metrics.subscribe(tags={"queue": "mail"}, every=0.2, by="name") as stream:
        for number in range(100):
            tags = {"queue": "mail", "host": f"h{number % 10}"}
            metrics.histogram("took", number, tags=tags)
            metrics.increment("jobs", 2, tags=tags)
            metrics.increment("jobs", 1, tags={"queue": "audio"})
        metrics.flush()
        found: list[Any] = []
        while sum(each.count for each in found) < 200:
            found.append(stream.get(PATIENCE))
    assert {(each.name, each.type) for each in found} == {
        ("took", "histogram"),
        ("jobs", "counter"),
    }
    assert all(each.tags == {} for each in found)
    # One of each metric and interval.
    assert len({(each.name, each.until) for each in found}) == len(found)
    took = [each for each in found if each.name == "took"]
    assert (sum(each.sum for each in took), min(each.min for each in took)) == (4950, 0)
    assert (max(each.max for each in took), took[-1].last) == (99, 99)
    assert sum(each.sum for each in found if each.name == "jobs") == 200


def test_samples_and_unknown_forms_cannot_be_summarised_by_name(metrics: Metrics) -> None:
    with pytest.raises(InvalidQuery, match=r"^by=name needs every"):
        metrics.subscribe(by="name")  # type: ignore[call-overload]
    for every in (None, 1.0):
        with pytest.raises(InvalidQuery, match=r"^by must be series or name, got 'tag'"):
            metrics.subscribe(every=every, by="tag")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("metrics", "rows", "is_large"), [(3, 10, False), (100, 1, True), (1, 2_000, True)]
)
def test_the_summaries_of_many_metrics_or_rows_are_made_outside_the_event_loop(
    metrics: int, rows: int, is_large: bool
) -> None:
    feed = Feed("ns", every=1.0, queue=1_000)
    summaries, queue = feed._summaries, DeliveryQueue(1_000)
    assert summaries is not None
    # One series for each row.
    tags: list[dict[str, str] | None] = [{"n": str(number)} for number in range(rows)]
    block = block_codec.unpack(crafted(rows))
    block.samples.series = np.arange(rows)
    for number in range(metrics):
        summaries.add(f"jobs_{number}", "counter", block, tags)
    steps = feed._deliver_summaries(queue)
    step = next(steps)
    assert isinstance(step, Compute)
    assert step.is_large == is_large
    with pytest.raises(StopIteration):
        steps.send(step.function())
    found = [queue.take() for _ in range(min(metrics * rows, 1_000))]
    assert all(isinstance(each, Summary | Gap) for each in found)
