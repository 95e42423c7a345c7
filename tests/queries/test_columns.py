"""Time series and rollups as columns: the values of rows, of the largest groups."""

from typing import Any

import pytest

from redismetrics import InvalidQuery, Metrics, OutsideRetention, TooManyRows
from redismetrics.queries.columns import Largest, rollup_columns, time_series_columns
from redismetrics.queries.query import Query
from tests.fixtures.queries import DAY, HOUR, at

WINDOW = (at(0), at(600))
QUEUES = {"web": 9, "mail": 30, "audio": 2, None: 4}


@pytest.fixture
def filled(metrics: Metrics) -> Metrics:
    for number in range(300):
        for queue, factor in QUEUES.items():
            tags = {} if queue is None else {"queue": queue}
            seconds = number * 2 if number < 250 else 8000 + number
            metrics.increment("jobs", factor * (number % 7), tags=tags, timestamp=at(seconds))
            metrics.histogram("took", number / factor, tags=tags, timestamp=at(seconds))
    metrics.flush()
    return metrics


def run(metrics: Metrics, read: Any, query: Query, **largest: Any) -> dict[str, Any]:
    internals = metrics.internals
    found: dict[str, Any] = internals.run(
        read(internals.query_context, query, Largest(**largest)), flush=True
    )
    return found


def names(found: dict[str, Any]) -> list[Any]:
    return [group["tags"]["queue"] for group in found["groups"]]


@pytest.mark.parametrize(
    ("name", "aggregations"),
    [("jobs", ("sum", "rate", "last", "count")), ("took", ("p95", "mean", "count", "max"))],
)
@pytest.mark.parametrize("fill", [True, False])
def test_columns_have_the_values_of_rows(
    filled: Metrics, name: str, aggregations: tuple[str, ...], fill: bool
) -> None:
    options: dict[str, Any] = {"aggregations": aggregations, "group_by": "queue", "window": WINDOW}
    query = Query(name, interval="minute", fill=fill, **options)
    found = run(filled, time_series_columns, query)
    assert (found["interval"], found["left_off"]) == (60, 0)
    assert found["times"] == list(range(round(at(0)), round(at(600)), 60))
    assert names(found) == [None, "audio", "mail", "web"]
    rows = filled.time_series(name, interval="minute", fill=fill, **options)
    by_cell = {(round(row["timestamp"].timestamp()), row["queue"]): row for row in rows}
    for group in found["groups"]:
        for at_, time in enumerate(found["times"]):
            row = by_cell.get((time, group["tags"]["queue"]))
            for each in aggregations:
                value = group["values"][each][at_]
                expected = None if row is None else row[each]
                assert value == (
                    expected if expected is None else pytest.approx(expected, rel=1e-5)
                )
    query = Query(name, keys="tuple", **options)
    whole = run(filled, rollup_columns, query)
    rollup = filled.rollup(name, keys="tuple", **options)
    assert {(group["tags"]["queue"],): group["values"] for group in whole["groups"]} == rollup


def test_largest_groups_come_first_and_others_are_counted(filled: Metrics) -> None:
    series = Query("jobs", interval="minute", aggregation="rate", group_by="queue", window=WINDOW)
    rollup = Query("jobs", aggregations="rate", group_by="queue", window=WINDOW, keys="text")
    for read, query in ((time_series_columns, series), (rollup_columns, rollup)):
        found = run(filled, read, query, order="sum", top=3)
        assert (names(found), found["left_off"]) == (["mail", "web", None], 1)
        # Also an aggregation that is not returned, and one of points.
        assert names(run(filled, read, query, order="p99", top=9))[0] == "mail"
        assert names(run(filled, read, query, order="count")) == [None, "audio", "mail", "web"]
        every = {str(each["tags"]): each for each in run(filled, read, query)["groups"]}
        assert all(each == every[str(each["tags"])] for each in found["groups"])
    found = run(filled, rollup_columns, Query("took", keys="text", aggregations="p50"), top=1)
    assert found["groups"][0]["tags"] == {}


def test_nothing_recorded_has_times_and_no_groups(filled: Metrics) -> None:
    for name in ("nobody", "jobs"):
        query = Query(name, interval="minute", aggregation="sum", window=(at(4000), at(4120)))
        found = run(filled, time_series_columns, query, order="sum", top=3)
        assert (len(found["times"]), found["groups"], found["left_off"]) == (3, [], 0)
    query = Query(
        "jobs",
        interval="minute",
        aggregations=("sum", "max"),
        window=(at(3600), at(3720)),
        fill=True,
    )
    found = run(filled, time_series_columns, query)
    assert found["groups"] == [{"tags": {}, "values": {"sum": [0, 0], "max": [None, None]}}]
    empty = Query("nobody", keys="text", aggregations="sum")
    assert run(filled, rollup_columns, empty) == {"groups": [], "left_off": 0}


def test_limits_hold_for_the_groups_that_are_returned(filled: Metrics) -> None:
    filled.internals.limit_rows(30)
    series = Query("jobs", interval="minute", aggregation="sum", group_by="queue", window=WINDOW)
    assert len(run(filled, time_series_columns, series, order="sum", top=3)["groups"]) == 3
    with pytest.raises(TooManyRows):
        run(filled, time_series_columns, series)
    filled.internals.limit_rows(2)
    rollup = Query("jobs", aggregations="sum", group_by="queue", keys="text")
    assert len(run(filled, rollup_columns, rollup, order="sum", top=2)["groups"]) == 2
    with pytest.raises(TooManyRows):
        run(filled, rollup_columns, rollup)
    old = Query("jobs", interval="minute", aggregation="sum", window=(at(-30 * DAY), at(HOUR)))
    with pytest.raises(OutsideRetention):
        run(filled, time_series_columns, old)
    with pytest.raises(InvalidQuery):
        Query("jobs", interval="minute", aggregation="sum", group_by="timestamp")
