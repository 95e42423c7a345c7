"""`labels`, `label/<name>/values`, `series` and `metadata`."""

import time
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.api.prometheus.catalog_endpoints import unescape
from tests.api.prometheus.answers import BASE, data, error

NAMES = [
    "depth",
    "jobs_total",
    "took_seconds",
    "took_seconds_bucket",
    "took_seconds_count",
    "took_seconds_sum",
]


def test_labels_are_those_of_the_page_and_external_ones(prometheus: Any, recorded: Metrics) -> None:
    assert data(prometheus.get("/labels")) == ["__name__", "job", "le", "queue"]
    found = data(prometheus.post("/labels", data={"match[]": "depth"}))
    assert found == ["__name__", "job", "queue"]


def test_values_of_a_label(prometheus: Any, recorded: Metrics) -> None:
    assert data(prometheus.get("/label/__name__/values")) == NAMES
    assert data(prometheus.get("/label/queue/values")) == ["a", "b"]
    assert data(prometheus.get("/label/job/values")) == ["api"]
    assert data(prometheus.get("/label/le/values")) == ["+Inf", "0.5", "2.0"]
    assert data(prometheus.get("/label/nothing/values")) == []
    assert data(prometheus.get("/label/U__queue/values")) == ["a", "b"]
    match = {"match[]": '{__name__=~".+_total",queue="a"}'}
    assert data(prometheus.get("/label/__name__/values", params=match)) == ["jobs_total"]


def test_histogram_is_listed_by_its_own_name_only_if_asked_for(
    prometheus: Any, recorded: Metrics
) -> None:
    match = {"match[]": '{__name__=~"took.+"}'}
    assert data(prometheus.get("/label/__name__/values", params=match)) == NAMES[3:]
    found = data(prometheus.get("/series", params={"match[]": "took_seconds"}))
    assert found == [{"__name__": "took_seconds", "job": "api", "queue": queue} for queue in "ab"]
    found = data(prometheus.get("/series", params={"match[]": 'took_seconds_bucket{le="+Inf"}'}))
    assert [each["le"] for each in found] == ["+Inf", "+Inf"]


def test_series_of_several_selectors_are_listed_once(prometheus: Any, recorded: Metrics) -> None:
    match = {"match[]": ["depth", '{queue="a",__name__="depth"}', "jobs_total"]}
    found = data(prometheus.get("/series", params=match))
    assert [(each["__name__"], each["queue"]) for each in found] == [
        ("depth", "a"),
        ("depth", "b"),
        ("jobs_total", "a"),
        ("jobs_total", "b"),
    ]
    response = prometheus.get("/series", params={**match, "limit": 3})
    assert data(response) == found[:3]
    assert response.json()["warnings"] == ["results truncated due to limit"]


@pytest.mark.parametrize(
    "match", ["{}", '{queue=~".*"}', "depth[5m]", "sum(depth)", "depth offset 5m"]
)
def test_selector_must_be_one_and_name_something(prometheus: Any, match: str) -> None:
    for path in "/series", "/labels", "/label/queue/values":
        message = error(prometheus.get(path, params={"match[]": match}), 400, "bad_data")
        assert 'invalid parameter "match[]"' in message or "parse error" in message


def test_metadata_has_type_help_and_unit(prometheus: Any, recorded: Metrics) -> None:
    found = data(prometheus.get("/metadata"))
    assert found == {
        "took_seconds": [{"type": "histogram", "help": "Time.", "unit": "seconds"}],
        "jobs_total": [{"type": "counter", "help": "", "unit": ""}],
        "depth": [{"type": "gauge", "help": "", "unit": ""}],
    }
    assert data(prometheus.get("/metadata?metric=depth")) == {"depth": found["depth"]}
    assert data(prometheus.get("/metadata?metric=nothing")) == {}
    assert len(data(prometheus.get("/metadata?limit=1"))) == 1


def test_marks_are_listed_if_there_are_any(prometheus: Any, recorded: Metrics) -> None:
    assert "redismetrics_mark" not in data(prometheus.get("/metadata"))
    for tags, hours in (({"service": "web"}, 0), ({"service": "web"}, 1), ({"ser-vice": "db"}, 2)):
        recorded.mark("deploy", tags=tags, timestamp=BASE + 3600 * hours)
    name = {"__name__": "redismetrics_mark", "job": "api", "text": "deploy"}
    web, database = {**name, "service": "web"}, {**name, "ser_vice": "db"}
    assert data(prometheus.get("/label/__name__/values")) == sorted([*NAMES, "redismetrics_mark"])
    found = data(prometheus.get("/labels"))
    assert found == ["__name__", "job", "le", "queue", "ser_vice", "service", "text"]
    assert data(prometheus.get("/label/text/values")) == ["deploy"]
    assert data(prometheus.get("/metadata?metric=redismetrics_mark")) == {
        "redismetrics_mark": [{"type": "gauge", "help": "Events such as deploys.", "unit": ""}]
    }

    def series(match: str, **window: int) -> Any:
        return data(prometheus.get("/series", params={"match[]": match, **window}))

    assert series("redismetrics_mark") == [database, web]
    assert series('{__name__=~"redis.+",service="web",job="api"}') == [web]
    assert series('redismetrics_mark{text!="deploy"}') == []
    # Half of Grafana's suggestions have no name; queries like these do not find marks, either.
    assert series('{service="web"}') == []
    assert series("redismetrics_mark", start=BASE + 3601) == [database]
    assert series("redismetrics_mark", end=BASE + 3600) == [web]
    assert series("redismetrics_mark", start=BASE + 1, end=BASE + 3599) == []


def test_metric_of_the_name_of_marks_is_listed_in_their_place(
    prometheus: Any, metrics: Metrics
) -> None:
    metrics.mark("deploy", timestamp=BASE)
    metrics.gauge("redismetrics_mark", 1, tags={"queue": "a"})
    metrics.flush()
    found = data(prometheus.get("/series", params={"match[]": "redismetrics_mark"}))
    assert found == [{"__name__": "redismetrics_mark", "job": "api", "queue": "a"}]
    assert data(prometheus.get("/metadata"))["redismetrics_mark"][0]["help"] == ""


def test_metrics_without_a_value_at_the_start_are_not_listed(
    prometheus: Any, recorded: Metrics
) -> None:
    recorded.declare("nightly", "gauge", lookback=3 * 86_400)
    recorded.gauge("nightly", 1)
    recorded.flush()
    now = time.time()
    for start, names in (
        (now - 60, sorted([*NAMES, "nightly"])),
        # Counters are known until they were idle for a day, gauges for their lookback.
        (now + 80_000, sorted([*NAMES, "nightly"])),
        (now + 90_000, ["nightly"]),
        (now + 300_000, []),
    ):
        window = {"start": start, "end": start + 60}
        assert data(prometheus.get("/label/__name__/values", params=window)) == names
        found = data(prometheus.get("/series", params={"match[]": "depth", **window}))
        assert len(found) == (2 if "depth" in names else 0)
        labels = data(prometheus.post("/labels", data=window))
        assert ("queue" in labels) is ("depth" in names)


def test_escaped_names_of_labels() -> None:
    assert unescape("queue") == "queue"
    assert unescape("U__http_2e_status") == "http.status"
    assert unescape("U__a__b") == "a_b"
    assert unescape("U___1F600_") == "\N{GRINNING FACE}"
