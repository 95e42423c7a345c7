"""Summaries per interval, in place of samples."""

import itertools
from typing import Any

from redismetrics import (
    Metrics,
    Summary,
)
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE


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
