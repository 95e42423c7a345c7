"""Sorting of `top`."""

from redismetrics.cli.top.board import MetricRow
from redismetrics.cli.top.view import View


def test_unknown_values_come_last_in_every_order() -> None:
    lines = [
        MetricRow("b", "gauge", 1, p95=None),
        MetricRow("a", "histogram", 1, p95=2.0),
        MetricRow("c", "histogram", 3, p95=5.0),
    ]
    view = View("p95")
    assert [row.name for row in view.select(lines)] == ["c", "a", "b"]
    view.press("p")
    assert [row.name for row in view.select(lines)] == ["a", "c", "b"]
    view.press("s")
    assert [row.name for row in view.select(lines)] == ["c", "a", "b"]
