"""What clients ask about the server, probes, syntax and federation."""

from typing import Any

import yaml

from redismetrics import Metrics
from tests.api.prometheus.answers import data, error


def test_build_info_names_the_version_of_prometheus(prometheus: Any) -> None:
    found = data(prometheus.get("/status/buildinfo"))
    assert found["version"].startswith("3.")
    assert found["revision"].startswith("redismetrics-")


def test_status_is_short_and_honest(prometheus: Any, recorded: Metrics) -> None:
    assert data(prometheus.get("/status/runtimeinfo"))["reloadConfigSuccess"]
    assert data(prometheus.get("/status/flags"))["query.timeout"] == "120s"
    config = yaml.safe_load(data(prometheus.get("/status/config"))["yaml"])
    assert config == {"global": {"external_labels": {"job": "api"}}}
    found = data(prometheus.get("/status/tsdb"))
    assert found["headStats"]["numSeries"] == 6
    assert {"name": "jobs", "value": 2} in found["seriesCountByMetricName"]


def test_rules_and_alerts_are_empty(prometheus: Any) -> None:
    assert data(prometheus.get("/rules")) == {"groups": []}
    assert data(prometheus.get("/alerts")) == {"alerts": []}


def test_format_query_returns_a_standard_layout(prometheus: Any) -> None:
    assert data(prometheus.get("/format_query", params={"query": "sum( a )"})) == "sum(a)"
    assert "parse error" in error(prometheus.get("/format_query?query=(("), 400, "bad_data")


def test_parse_query_returns_the_tree(prometheus: Any) -> None:
    query = 'topk by (x) (2, -rate(a{b!="c"}[5m] offset 1m)) * on (x) group_left () b'
    found = data(prometheus.post("/parse_query", data={"query": query}))
    assert (found["type"], found["op"], found["bool"]) == ("binaryExpr", "*", False)
    assert found["matching"]["card"] == "many-to-one"
    top = found["lhs"]
    assert (top["op"], top["grouping"], top["param"]["val"]) == ("topk", ["x"], "2")
    call = top["expr"]["expr"]
    assert (call["func"]["name"], call["args"][0]["range"]) == ("rate", 300_000)
    assert call["args"][0]["offset"] == 60_000
    assert {"type": "!=", "name": "b", "value": "c"} in call["args"][0]["matchers"]


def test_federation_returns_current_values_as_a_page(prometheus: Any, metrics: Metrics) -> None:
    metrics.increment("jobs", 3, tags={"queue": 'a"b\n'})
    metrics.gauge("depth", 1.5)
    metrics.flush()
    at = str(prometheus.base_url).removesuffix("api/v1/")
    response = prometheus.get(f"{at}federate", params={"match[]": ["jobs_total", "depth"]})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line.rsplit(" ", 1)[0] for line in response.text.splitlines()]
    assert lines == [
        "# TYPE depth",
        'depth{job="api"} 1.5',
        "# TYPE jobs_total",
        'jobs_total{job="api",queue="a\\"b\\n"} 3',
    ]


def test_probes_answer_in_text(prometheus: Any) -> None:
    at = str(prometheus.base_url).removesuffix("api/v1/")
    assert prometheus.get(f"{at}-/healthy").text == "redismetrics is healthy.\n"
    assert prometheus.get(f"{at}-/ready").text == "redismetrics is ready.\n"
