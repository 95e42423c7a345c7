"""Rates and newest values of `top`, without terminal and server."""

from datetime import UTC, datetime
from typing import Any

from redismetrics import Summary
from redismetrics.cli.top.board import Board, MetricRow


def summary(name: str, until: float, **figures: Any) -> Summary:
    given = {
        "count": 1,
        "sum": 1.0,
        "min": 0.0,
        "max": 0.0,
        "last": 0.0,
        "type": "counter",
        **figures,
    }
    kind = given.pop("type")
    moments = datetime.fromtimestamp(until - 2, UTC), datetime.fromtimestamp(until, UTC)
    return Summary(name, kind, {}, *moments, **given)


def rates(board: Board, now: float) -> dict[str, float | None]:
    return {row.name: row.rate for row in board.rows(now)}


def test_a_rate_counts_whole_intervals_of_the_last_ten_seconds() -> None:
    board = Board(2.0)
    rows = [
        {"name": name, "type": kind, "series": 1}
        for name, kind in (("jobs", "counter"), ("took", "histogram"))
    ]
    board.set_catalog(rows)
    assert rates(board, 0.0) == {"jobs": None, "took": None}
    board.add_summary(summary("jobs", 100, sum=1.0), 0.0)
    assert rates(board, 0.0) == {"jobs": None, "took": None}, (
        "the subscription began within this interval"
    )
    board.add_summary(summary("jobs", 102, sum=30.0), 2.0)
    board.add_summary(summary("jobs", 102, sum=10.0), 2.0)  # another series
    board.add_summary(summary("took", 102, count=8, sum=999.0, type="histogram"), 2.0)
    assert rates(board, 2.1) == {"jobs": 20.0, "took": 4.0}
    for number in range(2, 6):
        board.add_summary(summary("jobs", 100 + 2 * number, sum=20.0), 2.0 * number)
    assert rates(board, 10.1) == {"jobs": (40 + 4 * 20) / 10, "took": 0.8}
    board.add_summary(summary("jobs", 112, sum=20.0), 12.0)
    assert rates(board, 12.1) == {"jobs": 10.0, "took": 0.0}, "older intervals are dropped"
    assert rates(board, 15.6)["jobs"] == 8.0, "an interval without a summary is empty"
    assert rates(board, 60.0)["jobs"] == 0.0


def test_the_last_value_is_the_newest() -> None:
    board = Board(1.0)
    board.set_catalog([{"name": "depth", "type": "gauge", "series": 1}])
    board.set_row(MetricRow("depth", "gauge", 1, last=5.0))
    board.set_row(MetricRow("gone", "gauge", 1, last=5.0))
    assert [(row.name, row.last) for row in board.rows(0.0)] == [("depth", 5.0)]
    board.add_summary(summary("depth", 102, last=7.0), 0.0)
    board.add_summary(summary("depth", 101, last=6.0), 0.0)
    assert board.rows(0.0)[0].last == 7.0
    board.set_catalog([])
    assert board.rows(0.0) == []
