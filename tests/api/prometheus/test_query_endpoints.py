"""`query` and `query_range`: results, parameters, limits and errors."""

import gzip
import time
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.api.prometheus.answers import BASE, data, error
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import running


@pytest.mark.slow
def test_instant_query_returns_a_vector(prometheus: Any, recorded: Metrics) -> None:
    found = data(prometheus.get("/query", params={"query": "jobs_total", "time": BASE + 3600}))
    assert found == {
        "resultType": "vector",
        "result": [
            {
                "metric": {"__name__": "jobs_total", "job": "api", "queue": queue},
                "value": [BASE + 3600, "360"],
            }
            for queue in "ab"
        ],
    }


def test_scalars_and_strings_are_results(prometheus: Any) -> None:
    found = data(prometheus.get("/query", params={"query": "1 / 3", "time": "1.5"}))
    assert found == {"resultType": "scalar", "result": [1.5, "0.3333333333333333"]}
    found = data(prometheus.get("/query", params={"query": "'text'", "time": 0}))
    assert found == {"resultType": "string", "result": [0, "text"]}


def test_range_query_returns_a_matrix(prometheus: Any, recorded: Metrics) -> None:
    parameters = {
        "query": "sum by (queue) (increase(jobs_total[10m]))",
        "start": BASE + 600,
        "end": BASE + 1800,
        "step": "10m",
    }
    found = data(prometheus.get("/query_range", params=parameters))
    times = [BASE + 600, BASE + 1200, BASE + 1800]
    assert found == {
        "resultType": "matrix",
        "result": [
            {"metric": {"queue": queue}, "values": [[time, "60"] for time in times]}
            for queue in "ab"
        ],
    }


def test_form_in_the_body_is_read_like_the_query_string(prometheus: Any, recorded: Metrics) -> None:
    form = {"query": "sum(depth)", "time": BASE + 3600, "unknown": "ignored"}
    by_get = data(prometheus.get("/query", params=form))
    assert data(prometheus.post("/query", data=form)) == by_get
    # The body comes first, as in Prometheus.
    assert data(prometheus.post("/query?query=1&time=5", data=form)) == by_get
    packed = gzip.compress(b"query=sum(depth)&time=%d" % (BASE + 3600))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
    assert data(prometheus.post("/query", content=packed, headers=headers)) == by_get


def test_histogram_is_answered_both_ways(prometheus: Any, recorded: Metrics) -> None:
    at = BASE + 3600
    classic = "histogram_quantile(0.5, sum by (le) (increase(took_seconds_bucket[1h])))"
    own = "histogram_quantile(0.5, sum(increase(took_seconds[1h])))"
    (found,) = data(prometheus.get("/query", params={"query": classic, "time": at}))["result"]
    # The highest bound: the median is above it.
    assert float(found["value"][1]) == pytest.approx(1.8, abs=0.2)
    (found,) = data(prometheus.get("/query", params={"query": own, "time": at}))["result"]
    exact = recorded.query("took_seconds", aggregation="median", window=(BASE, at))
    assert float(found["value"][1]) == pytest.approx(exact)
    whole = {"query": "increase(took_seconds[1h])", "time": at}
    for each in data(prometheus.get("/query", params=whole))["result"]:
        assert each["histogram"][0] == at
        assert each["histogram"][1]["count"] == "180"
        assert 0 < len(each["histogram"][1]["buckets"]) <= 160


def test_query_includes_unsent_samples_of_this_process(prometheus: Any, metrics: Metrics) -> None:
    metrics.increment("clicks", 5)
    later = {"query": "clicks_total", "time": time.time() + 60}
    (found,) = data(prometheus.get("/query", params=later))["result"]
    assert found["value"][1] == "5"


def test_limit_truncates_with_a_warning(prometheus: Any, recorded: Metrics) -> None:
    at = BASE + 3600
    for path, times in (
        ("/query", {"time": at}),
        ("/query_range", {"start": at, "end": at, "step": 1}),
    ):
        parameters = {"query": "jobs_total", "limit": 1, **times}
        response = prometheus.get(path, params=parameters)
        assert len(data(response)["result"]) == 1
        assert response.json()["warnings"] == ["results truncated due to limit"]
        response = prometheus.get(path, params={**parameters, "limit": 2})
        assert "warnings" not in response.json()


def test_hints_are_infos(prometheus: Any, recorded: Metrics) -> None:
    response = prometheus.get("/query", params={"query": "jobs"})
    assert data(response)["result"] == []
    assert "did you mean `jobs_total`?" in response.json()["infos"][0]


def test_lookback_delta_decides_how_old_a_sample_may_be(prometheus: Any, recorded: Metrics) -> None:
    parameters = {"query": "depth", "time": BASE + 3593 + 400}
    assert data(prometheus.get("/query", params=parameters))["result"] == []
    parameters["lookback_delta"] = "10m"
    assert len(data(prometheus.get("/query", params=parameters))["result"]) == 2


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("/query", {}, "query must be given"),
        ("/query", {"query": ""}, "no expression found"),
        ("/query", {"query": "sum("}, 'invalid parameter "query": 1:4: parse error: unclosed'),
        ("/query", {"query": "1", "time": "soon"}, "time must be Unix seconds or RFC 3339"),
        ("/query", {"query": "1", "timeout": "-"}, "timeout must be a number of seconds"),
        ("/query", {"query": "1", "limit": "-1"}, "limit must be a whole number of at least 0"),
        ("/query", {"query": "1", "lookback_delta": "0"}, "must be above 0"),
        ("/query", {"query": 'a{b=~"("}'}, "regex"),
        ("/query_range", {"query": "1", "end": 1, "step": 1}, "start must be given"),
        ("/query_range", {"query": "1", "start": 2, "end": 1, "step": 1}, "must not be before"),
        ("/query_range", {"query": "1", "start": 0, "end": 1, "step": 0}, "zero or negative"),
        ("/query_range", {"query": "1", "start": 0, "end": 11_000, "step": 1}, "11,000 points"),
        ("/query_range", {"query": "a[5m]", "start": 0, "end": 1, "step": 1}, "range vector"),
    ],
)
def test_invalid_parameter_gets_a_message(
    prometheus: Any, path: str, parameters: dict[str, Any], message: str
) -> None:
    assert message in error(prometheus.get(path, params=parameters), 400, "bad_data")
    assert message in error(prometheus.post(path, data=parameters), 400, "bad_data")


def test_expression_that_cannot_be_evaluated_is_an_execution_error(
    prometheus: Any, recorded: Metrics
) -> None:
    parameters = {"query": "depth * on (job) depth", "time": BASE + 3600}
    error(prometheus.get("/query", params=parameters), 422, "execution")


def test_errors_of_other_layers_are_in_the_envelope(prometheus: Any) -> None:
    assert error(prometheus.get("/nothing"), 404, "not_found")
    assert error(prometheus.delete("/query"), 405, "bad_data")
    response = prometheus.get("/query?query=1", headers={"Sec-Fetch-Site": "cross-site"})
    assert "cross-site" in error(response, 403, "forbidden")


def test_token_and_host_are_checked_as_for_all_paths(metrics: Metrics) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    with (
        running(create_app(metrics, token="secret")) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        assert "Bearer" in error(web.get("/api/v1/query?query=1"), 401, "unauthorized")
        headers = {"Authorization": "Bearer secret"}
        assert data(web.get("/api/v1/query?query=1", headers=headers))
        assert web.get("/federate?match[]=a").status_code == 401
        assert web.get("/-/healthy").status_code == 200
        assert web.get("/-/ready").status_code == 200
    with (
        running(create_app(metrics, localhost_only=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        response = web.get("/api/v1/query?query=1", headers={"Host": "example.org"})
        assert "Host" in error(response, 403, "forbidden")


@pytest.mark.parametrize(
    ("limits", "code", "kind"),
    [
        (Limits(promql_series=3), 422, "execution"),
        (Limits(promql_samples=3), 422, "execution"),
        (Limits(promql_seconds=1e-6), 503, "timeout"),
    ],
    ids=["series", "samples", "seconds"],
)
def test_limits_stop_expensive_queries(
    metrics: Metrics, limits: Limits, code: int, kind: str
) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    for number in range(4):
        metrics.gauge("depth", number, tags={"queue": str(number)})
    metrics.flush()
    app = create_app(metrics, limits=limits)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
        error(web.get("/api/v1/query", params={"query": "depth"}), code, kind)
        # Its place is free again.
        assert not len(app.state.service.queries)


def test_timeout_of_a_request_stops_the_work(prometheus: Any) -> None:
    # Two halves, each of which takes far longer: time is looked at in between at the latest.
    half = "quantile_over_time(0.9, vector(1)[5m:1s])"
    slow = {"query": f"{half} + 2 * {half}", "start": 0, "end": 10_000, "step": 1}
    message = error(
        prometheus.post("/query_range", data={**slow, "timeout": "2ms"}), 503, "timeout"
    )
    assert "0.002 s" in message


def test_response_is_compressed_for_clients_that_accept_it(
    prometheus: Any, recorded: Metrics
) -> None:
    parameters = {"query": "depth", "start": BASE, "end": BASE + 3600, "step": 10}
    response = prometheus.get("/query_range", params=parameters)
    assert response.headers["content-encoding"] == "gzip"
    assert len(data(response)["result"]) == 2
