"""The dashboards that ask us directly are built from their source, and all have answers."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter as monotonic
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations.request_metrics import RequestMetrics
from tests.fixtures.servers import PATIENT

httpx = pytest.importorskip("httpx", reason="needs httpx")
yaml = pytest.importorskip("yaml", reason="needs PyYAML")
pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

ROOT = Path(__file__).parents[3]
GRAFANA = ROOT / "deploy" / "grafana"
DIRECT = GRAFANA / "direct"
DASHBOARD = json.loads((DIRECT / "dashboards" / "redismetrics.json").read_text())
SOURCE = yaml.safe_load((DIRECT / "provisioning" / "datasources" / "redismetrics.yml").read_text())[
    "datasources"
][0]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

TARGETS = [
    target["expr"]
    for panel in DASHBOARD["panels"]
    if panel["type"] != "row"
    for target in panel["targets"]
]
VARIABLES = {
    each["name"]: (each["query"], each.get("regex", "")) for each in DASHBOARD["templating"]["list"]
}


def test_dashboards_are_those_that_the_source_builds() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk")
    spec = importlib.util.spec_from_file_location("build_dashboards", GRAFANA / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    files = {path.name: path.read_text() for path in (DIRECT / "dashboards").glob("*.json")}
    assert files == {name: f"{text}\n" for name, text in build.texts().items()}


def test_every_panel_and_variable_uses_the_provisioned_source() -> None:
    used = {
        json.dumps(each["datasource"], sort_keys=True)
        for panel in DASHBOARD["panels"]
        if panel["type"] != "row"
        for each in [panel, *panel["targets"]]
    }
    used |= {
        json.dumps(each["datasource"], sort_keys=True) for each in DASHBOARD["templating"]["list"]
    }
    assert used == {json.dumps({"type": "prometheus", "uid": SOURCE["uid"]})}


def test_profile_reads_with_a_token_from_a_secret_file() -> None:
    ours, grafana = (COMPOSE["services"][name] for name in ("promql", "grafana_direct"))
    assert ours["profiles"] == grafana["profiles"] == ["grafana"]
    (secret,) = ours["secrets"]
    assert grafana["secrets"] == [secret]
    assert "ports" not in ours
    command = ours["command"]
    assert command[command.index("--token-file") + 1] == f"/run/secrets/{secret}"
    assert SOURCE["jsonData"]["httpHeaderName1"] == "Authorization"
    header = SOURCE["secureJsonData"]["httpHeaderValue1"]
    assert header == f"Bearer $__file{{/run/secrets/{secret}}}"
    port = command[command.index("--port") + 1]
    assert SOURCE["url"] == f"http://promql:{port}"
    assert SOURCE["jsonData"]["timeInterval"] == "1m"
    assert COMPOSE["secrets"][secret]["file"].endswith("./deploy/redismetrics_token}")
    assert "deploy/redismetrics_token" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.fixture
def web(metrics: Metrics) -> Iterator[Any]:
    """A client of the API over what the middleware records, and a gauge."""
    from redismetrics.api.app import create_app
    from tests.fixtures.webserver import running

    requests = RequestMetrics(metrics, "http")
    for number in range(20):
        status = 500 if number == 7 else 200
        requests.finish(monotonic() - number / 100, "GET", "/items/{id}", status)
    metrics.gauge("queue_depth", 3, tags={"queue": "mail"})
    metrics.flush()
    with (
        running(create_app(metrics, external_labels={"job": "redismetrics"})) as at,
        httpx.Client(base_url=f"{at}/api/v1", **PATIENT) as client,
    ):
        yield client


def values_of(web: Any, name: str) -> list[str]:
    """Return the values of a variable, as Grafana asks for them."""
    query, regex = VARIABLES[name]
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found is not None
    response = web.get(f"/label/{found[2]}/values", params={"match[]": found[1]})
    assert response.status_code == 200, response.text
    values = response.json()["data"]
    if regex:
        matches = [re.search(regex.strip("/"), value) for value in values]
        values = [match[1] for match in matches if match]
    return list(values)


def test_variables_list_the_metrics_of_their_type(web: Any) -> None:
    assert values_of(web, "counter") == ["http_requests_total"]
    assert values_of(web, "gauge") == ["queue_depth"]
    assert values_of(web, "histogram") == ["http_request_duration_seconds"]


@pytest.mark.parametrize("expression", TARGETS)
def test_every_expression_has_an_answer(web: Any, metrics: Metrics, expression: str) -> None:
    for name in VARIABLES:
        value = values_of(web, name)[0]
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    now = metrics.internals.clock() + 60
    for interval, step in (("4m", 60), ("61m", 3600)):
        filled = expression.replace("$__rate_interval", interval)
        assert "$" not in filled
        form = {"query": filled, "start": now - 3600, "end": now, "step": step}
        response = web.post("/query_range", data=form)
        assert response.status_code == 200, response.text
        assert response.json()["data"]["result"], filled
        assert "warnings" not in response.json()
