"""Infos and state sets in PromQL: their labels, and that what was replaced ends."""

from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.clients import MakeWorker
from tests.fixtures.queries import BASE


def shown(metrics: Metrics, expr: str, minutes: float) -> list[tuple[dict[str, str], float]]:
    """Return labels, without the name, and values of an instant."""
    found: Any = metrics.promql_query(expr, BASE + 60 * minutes)
    return [
        ({key: text for key, text in each["labels"].items() if key != "__name__"}, each["value"])
        for each in found
    ]


@pytest.mark.parametrize("sealed", [False, True])
def test_replaced_values_end(metrics: Metrics, make_worker: MakeWorker, sealed: bool) -> None:
    metrics.declare("door", "stateset", states=["open", "shut"])
    for minute, version, state in ((0, "1", "open"), (2, "2", "shut")):
        at, tags = BASE + 60 * minute, {"app": "shop"}
        metrics.record("build", {"version": version}, type="info", tags=tags, timestamp=at)
        metrics.record("door", state, tags=tags, timestamp=at)
    metrics.flush()
    if sealed:
        make_worker().pass_once(alone=True)
    one, two = ({"app": "shop", "version": version} for version in "12")
    is_open, is_shut = ({"app": "shop", "door": state} for state in ("open", "shut"))
    assert shown(metrics, "build_info", 1) == [(one, 1)]
    assert shown(metrics, "build_info", 3) == [(two, 1)]
    assert shown(metrics, 'door{door="open"}', 1) == [(is_open, 1)]
    assert shown(metrics, "door == 1", 3) == [(is_shut, 1)]
    assert shown(metrics, "sum by (app) (door)", 3) == [({"app": "shop"}, 1)]
    joined = "door == 1 and on (app) build_info"
    assert shown(metrics, joined, 3) == [(is_shut, 1)]


def test_summary_has_count_and_sum(metrics: Metrics) -> None:
    for value in (0.5, 2.0):
        metrics.record("took", value, type="summary", timestamp=BASE)
    metrics.flush()
    assert shown(metrics, "took_sum", 1) == [({}, 2.5)]
    assert shown(metrics, "took_count", 1) == [({}, 2)]
