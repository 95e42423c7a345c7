"""`labels`, `label/<name>/values`, `series` and `metadata`."""

from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.api.prometheus.catalog_endpoints import unescape
from tests.api.prometheus.answers import data, error

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


def test_escaped_names_of_labels() -> None:
    assert unescape("queue") == "queue"
    assert unescape("U__http_2e_status") == "http.status"
    assert unescape("U__a__b") == "a_b"
    assert unescape("U___1F600_") == "\N{GRINNING FACE}"
