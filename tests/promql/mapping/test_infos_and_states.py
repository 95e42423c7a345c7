"""Infos and state sets: the newest of what was set for the same tags, at each time."""

from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.queries import BASE

HOUR = 3600


def ask(metrics: Metrics, query: str, at: float) -> list[tuple[dict[str, str], float]]:
    found: Any = metrics.promql_query(query, at)
    rows = [
        ({key: text for key, text in row["labels"].items() if key != "__name__"}, row["value"])
        for row in found
    ]
    return sorted(rows, key=lambda row: sorted(row[0].items()))


def test_info_has_the_labels_set_last(metrics: Metrics) -> None:
    for seconds, version, app in ((0, "1", "shop"), (60, "7", "mail"), (600, "2", "shop")):
        metrics.record(
            "build",
            {"value": {"version": version}, "tags": {"app": app}},
            type="info",
            timestamp=BASE + seconds,
        )
    shop = {"app": "shop"}
    assert ask(metrics, "build_info", BASE + 30) == [({**shop, "version": "1"}, 1.0)]
    later = BASE + 3 * HOUR
    mail = ({"app": "mail", "version": "7"}, 1.0)
    assert ask(metrics, "build_info", later) == [mail, ({**shop, "version": "2"}, 1.0)]
    assert ask(metrics, 'build_info{app!="shop"}', later) == [mail]
    assert ask(metrics, 'build_info{version="1"}', later) == []


def test_state_set_has_a_sample_of_each_state(metrics: Metrics) -> None:
    metrics.declare("door", "stateset", states=["open", "closed"])
    for seconds, state in ((0, "open"), (600, "closed")):
        metrics.record("door", {"value": state}, type="stateset", timestamp=BASE + seconds)
    assert ask(metrics, "door", BASE + 300) == [({"door": "closed"}, 0.0), ({"door": "open"}, 1.0)]
    assert ask(metrics, "door == 1", BASE + HOUR) == [({"door": "closed"}, 1.0)]
    assert ask(metrics, "changes(door[1h])", BASE + HOUR - 1) == [
        ({"door": "closed"}, 1.0),
        ({"door": "open"}, 1.0),
    ]


@pytest.mark.parametrize("kind", ["info", "stateset"])
def test_current_values_equal_the_page(metrics: Metrics, kind: str) -> None:
    if kind == "info":
        metrics.info("build").set({"version": "1"}, app="shop")
        metrics.info("build").set({"version": "2"}, app="shop")
    else:
        metrics.state_set("build", states=["a", "b"]).set("b", app="shop")
    metrics.flush()
    (family,) = metrics.live("build")
    expected = sorted(
        [(state.tags, state.value) for state in family.series],
        key=lambda row: sorted(row[0].items()),
    )
    name = "build_info" if kind == "info" else "build"
    assert ask(metrics, name, metrics.internals.clock() + 1) == expected
