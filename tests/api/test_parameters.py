"""Query-string parameters: invalid requests get a message that names the parameter."""

import re
import time
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")


httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import error_message, running


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/query?aggregation=mean", "name must be given"),
        ("/api/query?name=x", "aggregation must be given"),
        ("/api/query?name=x&name=y&aggregation=sum", "name must be given once, got it 2 times"),
        (
            "/api/query?name=x&aggregation=sum&nmae=y",
            "unknown parameter 'nmae'; did you mean 'name'",
        ),
        ("/api/query?name=x&aggregation=avg", "unknown aggregation 'avg'; did you mean 'mean'"),
        ("/api/query?name=a%20b&aggregation=sum", "invalid metric name 'a b'"),
        (
            "/api/query?name=x&aggregation=sum&window=soon",
            "window must be last_hour, .*, got 'soon'",
        ),
        (
            "/api/query?name=x&aggregation=sum&window=1h&since=2h",
            "window must not be combined with since or until",
        ),
        (
            "/api/query?name=x&aggregation=sum&since=yesterday",
            "since must be Unix seconds, ISO 8601 .*, got 'yesterday'",
        ),
        (
            "/api/query?name=x&aggregation=sum&since=2025-01-01T00:00:00",
            "since must be .* with a time zone",
        ),
        (
            "/api/query?name=x&aggregation=sum&tag=shop",
            "tag must be KEY=VALUE, or !KEY .*, got 'shop'",
        ),
        (
            "/api/query?name=x&aggregation=sum&tag=a%3D1&tag=a%3D2",
            "tag must have one value for 'a', got '1' and '2'",
        ),
        ("/api/query?name=x&aggregation=sum&group_by=sum", "group_by must not contain 'sum'"),
        (
            "/api/query?name=x&aggregation=sum&window=400d",
            "window must be at most .* s long \\(limit window_seconds\\), got 3.456e.07 s",
        ),
        ("/api/query?name=x&aggregation=sum&until=1700000000", "window must be at most"),
        (
            "/api/time_series?name=x&interval=1s&window=30d",
            "interval must yield at most 50000 intervals",
        ),
        ("/api/time_series?name=x&fill=yes", "fill must be true or false, got 'yes'"),
        ("/api/time_series?name=x&interval=fortnight", "interval must be minute"),
        ("/api/metrics?limit=10001", "limit must be a whole number from 0 to 10000, got '10001'"),
        ("/api/metrics?limit=-1", "limit must be"),
        (
            "/api/metrics?type=timer",
            "type must be counter, gauge, histogram, summary, info or stateset, got 'timer'",
        ),
        ("/api/stream?name=a%20b", ".*name.*'a b'"),
        ("/api/stream?every=0", "every must be a number from 0.1 to 3600, got '0'"),
        ("/api/stream?every=nan", "every must be a number"),
        ("/healthz?x=1", "unknown parameter 'x' .allowed: none"),
    ],
)
def test_invalid_query_gets_a_message(refusing: Any, path: str, expected: str) -> None:
    assert re.match(expected, error_message(refusing.get(path), 400))


def test_repeated_parameters_are_limited(refusing: Any) -> None:
    many = "&".join(f"aggregation=p{n}" for n in range(33))
    assert (
        "aggregation must be given at most 32 times (limit max_repeats), got it 33 times"
        in error_message(refusing.get(f"/api/rollup?name=x&{many}"), 400)
    )
    assert "a query string must have at most 1000 parameters" in error_message(
        refusing.get("/api/query?" + "x&" * 1_001), 400
    )


@pytest.mark.parametrize(
    "query",
    [
        "since=999999999999e99",
        "since=1_790_000_000",
        "since=%201790000000",
        "since=1e-9",
        "until=99999999999999",
        "window=999999999w",
        f"window={'9' * 5000}d",
    ],
)
def test_huge_times_and_windows_are_rejected(refusing: Any, query: str) -> None:
    error_message(refusing.get(f"/api/query?name=x&aggregation=sum&{query}"), 400)


@pytest.mark.parametrize(
    "time", ["2026", "20261129", "202611291200", "1790000000000", "-1", "1", "nan", "inf", "1e99"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/api/query?name=x&aggregation=sum&since=",
        "/api/query?name=x&aggregation=sum&until=",
        "/api/time_series?name=x&since=",
        "/api/rollup?name=x&since=",
        "/api/metrics?since=",
        "/api/metrics?until=",
    ],
)
def test_an_implausible_time_is_rejected(refusing: Any, path: str, time: str) -> None:
    # As on the command line.
    assert "must be Unix seconds from 1000000000 (2001) to a year from now, or 0" in error_message(
        refusing.get(path + time), 400
    )


def test_a_recorded_time_is_read_as_in_a_query(refusing: Any) -> None:
    message = error_message(
        refusing.post("/api/record", json={"name": "x", "timestamp": "20261129"}), 400
    )
    assert message.startswith("sample 0: timestamp must be Unix seconds from 1000000000 (2001)")


def test_ages_count_back_from_the_clock_of_the_client(url: str, namespace: str) -> None:
    now = [time.time()]
    with (
        Metrics(url, namespace=namespace, flush_interval=3600, clock=lambda: now[0]) as metrics,
        running(create_app(metrics)) as at,
    ):
        for age in (30, 90, 150):
            metrics.increment("jobs", timestamp=now[0] - age)
        now[0] += 60

        def total(**window: str) -> Any:
            query = {"name": "jobs", "aggregation": "sum", **window}
            return httpx.get(f"{at}/api/query", params=query, **PATIENT).json()["results"]

        assert total(since="100s") == 1
        assert total(since="3m") == 2
        assert total(since="1h", until="2m") == 2
        assert total(since="last_hour") == 3
