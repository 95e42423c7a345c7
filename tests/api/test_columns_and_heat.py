"""`shape=columns` and `/api/heat`: what charts ask for, equal to what the client returns."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.queries import HOUR, at
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import error_message, running

WINDOW = {"since": at(0), "until": at(HOUR)}


@pytest.fixture
def filled(metrics: Metrics) -> Metrics:
    for number in range(120):
        tags = {"queue": ("mail", "web", "audio")[number % 3]}
        metrics.histogram("took", number % 10 + 0.5, tags=tags, timestamp=at(30 * number))
        metrics.increment("jobs", number % 3, tags=tags, timestamp=at(30 * number))
    metrics.flush()
    return metrics


@pytest.fixture
def small(metrics: Metrics) -> Iterator[Any]:
    limits = Limits(max_rows=100)
    with (
        running(create_app(metrics, limits=limits)) as address,
        httpx.Client(base_url=address, **PATIENT) as client,
    ):
        yield client


def ask(web: Any, path: str, **parameters: Any) -> Any:
    response = web.get(f"/api/{path}", params={**WINDOW, **parameters})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer.pop("timestamp")
    return answer


def test_heat_is_the_heat_map_of_the_client(web: Any, filled: Metrics) -> None:
    window = (at(0), at(HOUR))
    for asked in ({}, {"buckets": 10}, {"tags": {"queue": "web"}}):
        expected = filled.heat_map("took", interval="10m", window=window, **asked)
        expected["times"] = [time.timestamp() for time in expected["times"]]
        parameters = dict(asked)
        if parameters.pop("tags", None):
            parameters["tag"] = "queue=web"
        assert ask(web, "heat", name="took", interval="10m", **parameters) == expected
    assert ask(web, "heat", name="nobody", interval="1h") == {
        "times": [at(0)],
        "interval": HOUR,
        "edges": [],
        "counts": [[]],
    }


def test_columns_have_the_values_of_rows(web: Any, filled: Metrics) -> None:
    asked = {"name": "jobs", "group_by": "queue", "aggregation": ["sum", "rate"]}
    columns = ask(web, "time_series", interval="10m", shape="columns", **asked)
    rows = filled.time_series(
        "jobs",
        interval="10m",
        group_by="queue",
        aggregations=("sum", "rate"),
        window=(at(0), at(HOUR)),
    )
    assert [
        (time, group["tags"]["queue"], values)
        for place, time in enumerate(columns["times"])
        for group in columns["groups"]
        for values in [[group["values"][each][place] for each in ("sum", "rate")]]
    ] == [
        (
            row["timestamp"].timestamp(),
            row["queue"],
            [row["sum"], pytest.approx(row["rate"], rel=1e-5)],
        )
        for row in rows
    ]
    rollup = ask(web, "rollup", shape="columns", top=2, **asked)
    assert rollup == {
        "groups": [
            {"tags": {"queue": "audio"}, "values": {"sum": 80, "rate": pytest.approx(80 / HOUR)}},
            {"tags": {"queue": "web"}, "values": {"sum": 40, "rate": pytest.approx(40 / HOUR)}},
        ],
        "left_off": 1,
    }
    by_count = ask(web, "rollup", shape="columns", top=2, order="count", **asked)
    assert [group["tags"]["queue"] for group in by_count["groups"]] == ["audio", "mail"]


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("heat?name=took&interval=1m&window=1h&buckets=3", "buckets must be a whole number from 4"),
        ("heat?name=took&interval=1m&window=1h&buckets=201", "from 4 to 200"),
        ("heat?name=took&interval=fortnight", "interval must be"),
        ("heat?name=took&aggregation=p95", "unknown parameter 'aggregation'"),
        ("heat?interval=1m", "name must be given"),
        ("time_series?name=took&shape=circle", "shape must be rows or columns"),
        ("time_series?name=took&top=3", "top must be given with shape=columns"),
        ("rollup?name=took&order=sum", "order must be given with shape=columns"),
        ("rollup?name=took&shape=columns&top=0", "top must be a whole number from 1"),
        ("rollup?name=took&shape=columns&order=average", "unknown aggregation 'average'"),
    ],
)
def test_invalid_parameters_are_refused(web: Any, query: str, part: str) -> None:
    response = web.get(f"/api/{query}")
    assert part in error_message(response, 400)


def test_limits_bound_cells_and_groups(small: Any, filled: Metrics) -> None:
    response = small.get("/api/heat?name=took&interval=1m&window=1h&buckets=10")
    message = error_message(response, 400)
    assert "at most 100 cells (limit max_rows), got 60 intervals" in message
    columns = {"name": "took", "interval": "1m", "group_by": "queue", "shape": "columns", **WINDOW}
    response = small.get("/api/time_series", params=columns)
    assert "max_rows" in error_message(response, 413)
    assert len(ask(small, "time_series", **{**columns, "top": 1})["groups"]) == 1
