"""The OpenAPI document is correct: schemathesis sends what it allows and what it forbids.

The responses must conform to it.
"""

import json
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")
schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
import hypothesis
from hypothesis import HealthCheck, Phase, given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.webserver import running

TOKEN = "t0ken"
# Has no end; tested in test_sse.py.
ENDLESS = "/api/stream"
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.ignored_auth,
]
# Schemathesis can generate neither protobuf nor PromQL, nor ids that exist, nor times to come.
NOT_GENERATED = {
    "/api/marks/{id}",
    "/api/v2/silence/{id}",
    "/api/v2/silences",
    "/v1/metrics",
    "/federate",
    *(f"/api/v1/{name}" for name in ("query", "query_range", "query_exemplars", "series")),
    *(f"/api/v1/{name}" for name in ("format_query", "parse_query")),
}
SETTINGS = hypothesis.settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def at(server: Any) -> Iterator[str]:
    with Metrics(server.url, namespace="openapi", flush_interval=0.05) as metrics:
        for number in range(3):
            metrics.histogram(
                "score", number / 2, tags={"model": f"m{number}"}, metadata={"n": number}
            )
            metrics.increment("jobs", number, tags={"queue": "mail"})
        metrics.flush()
        with running(
            create_app(metrics, token=TOKEN, allow_write=True, limits=Limits(max_batch=20))
        ) as address:
            yield address


def schema_of(at: str) -> Any:
    schema = schemathesis.openapi.from_url(
        f"{at}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    rejection = schema.config.checks.negative_data_rejection
    # A request beyond a limit gets 413, not 400.
    rejection.expected_statuses = [*rejection.expected_statuses, "413"]
    return schema


OPERATIONS = [
    ("GET", "/api/metrics"),
    ("GET", "/api/query"),
    ("GET", "/api/time_series"),
    ("GET", "/api/rollup"),
    ("GET", "/api/heat"),
    ("GET", "/api/names"),
    ("GET", "/api/overview"),
    ("GET", "/api/runs"),
    ("GET", "/api/tags"),
    ("GET", "/api/info"),
    ("GET", "/api/marks"),
    ("POST", "/api/marks"),
    ("DELETE", "/api/marks/{id}"),
    ("GET", "/api/doctor"),
    ("GET", "/api/cardinality"),
    ("GET", "/api/exemplars"),
    ("GET", "/api/stats"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("POST", "/api/record"),
    ("POST", "/v1/metrics"),
    ("POST", "/api/v1/write"),
    ("GET", "/api/v2/alerts"),
    ("GET", "/api/v2/silences"),
    ("POST", "/api/v2/silences"),
    ("GET", "/api/v2/silence/{id}"),
    ("DELETE", "/api/v2/silence/{id}"),
    ("GET", "/federate"),
    ("GET", "/-/healthy"),
    ("GET", "/-/ready"),
    ("GET", "/api/v1/label/{name}/values"),
    *(
        ("GET", f"/api/v1/{name}")
        for name in (
            *("metadata", "rules", "alerts", "status/buildinfo", "status/runtimeinfo"),
            *("status/flags", "status/config", "status/tsdb"),
        )
    ),
    *(
        (method, f"/api/v1/{name}")
        for name in (
            *("query", "query_range", "labels", "series", "query_exemplars"),
            *("format_query", "parse_query"),
        )
        for method in ("GET", "POST")
    ),
]


@pytest.mark.slow
def test_every_operation_is_tested(at: str) -> None:
    paths = schema_of(at).raw_schema["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == {*OPERATIONS, ("GET", ENDLESS)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"),
    # Of this one schemathesis can't even make an invalid body.
    [each for each in OPERATIONS if each != ("POST", "/api/v1/write")],
)
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"]
)
def test_responses_conform_to_the_document(at: str, method: str, path: str, mode: Any) -> None:
    operation = schema_of(at)[path][method]
    takes = operation.definition.raw.get("parameters") or "requestBody" in operation.definition.raw
    if mode is GenerationMode.NEGATIVE and not takes:
        pytest.skip("it has no parameters that could be invalid")

    codes: Tally[int] = Tally()

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        # As in Prometheus and Alertmanager, unknown parameters are ignored.
        is_lenient = path.startswith("/api/v1/") or path == "/federate"
        is_lenient = is_lenient or (path.startswith("/api/v2/") and method != "POST")
        some = [each for each in CHECKS if each is not checks.negative_data_rejection]
        response = case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, checks=some if is_lenient else CHECKS
        )
        codes[response.status_code] += 1

    check()
    assert codes
    if mode is GenerationMode.POSITIVE and path not in NOT_GENERATED:
        assert codes[200] + codes[202] > 0, codes


def test_client_made_from_the_document_gets_results(at: str) -> None:
    operation = schema_of(at)["/api/query"]["GET"]
    case = operation.Case(
        query={"name": "score", "aggregation": "p95", "group_by": ["model"], "tag": ["model=m1"]}
    )
    response = case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)
    assert json.loads(response.content)["results"] == [{"model": "m1", "p95": 0.5}]
