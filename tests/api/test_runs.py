"""`/api/runs` and `/api/tags`: they answer as the client does, within limits."""

import time
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENT
from tests.fixtures.training import start, train
from tests.fixtures.webserver import error_message, running

STEPS = range(0, 200, 10)
BEGAN = start(3600)
WINDOW = (BEGAN, BEGAN + 7200)


@pytest.fixture
def trained(metrics: Metrics) -> Metrics:
    metrics.declare("loss", "gauge", exact_samples=True)
    train(metrics, [1, 2], STEPS, BEGAN)
    train(metrics, [3], STEPS, BEGAN + 60)
    metrics.flush()
    return metrics


def ask(web: Any, path: str, **query: Any) -> Any:
    given = {"name": "loss", "since": WINDOW[0], "until": WINDOW[1], **query}
    response = web.get(f"/api/{path}", params=given)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("x", ["elapsed", "time", "metadata.step", "metadata.nothing"])
def test_runs_are_those_of_the_client(web: Any, trained: Metrics, x: str) -> None:
    answer = ask(web, "runs", group_by="run", x=x)
    expected = trained.runs("loss", group_by="run", x=x, window=WINDOW)
    for run in expected:
        run["since"], run["until"] = run["since"].isoformat(), run["until"].isoformat()
    assert answer["runs"] == expected
    assert [run["tags"]["run"] for run in expected] == ["r3", "r1", "r2"]
    assert (answer["left_off"], answer["x"], answer["group_by"]) == (0, x, ["run"])


def test_runs_are_limited(web: Any, trained: Metrics) -> None:
    answer = ask(web, "runs", group_by="run", limit=1, points=10, tag="run=r1")
    assert (len(answer["runs"]), answer["left_off"]) == (1, 0)
    assert len(answer["runs"][0]["x"]) <= 10
    assert ask(web, "runs", group_by="run", limit=2)["left_off"] == 1
    assert ask(web, "runs", name="nothing")["runs"] == []
    whole = ask(web, "runs", group_by="run", limit=1, whole="true", since=BEGAN + 1)
    assert [(run["tags"]["run"], run["count"]) for run in whole["runs"]] == [("r3", len(STEPS))]
    assert whole["left_off"] == 2
    limits = Limits(max_rows=30, max_series=2)
    with (
        running(create_app(trained, limits=limits)) as at,
        httpx.Client(base_url=at, **PATIENT) as strict,
    ):
        message = error_message(strict.get("/api/runs?name=loss&group_by=run"), 413)
        assert "limit max_series" in message
        message = error_message(strict.get("/api/tags?name=loss"), 413)
        assert "limit max_series" in message
    with (
        running(create_app(trained, limits=Limits(max_rows=30))) as at,
        httpx.Client(base_url=at, **PATIENT) as strict,
    ):
        message = error_message(strict.get("/api/runs?name=loss&group_by=run"), 413)
        assert "limit max_rows" in message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("runs?name=loss&x=step", "x must be time, elapsed, or metadata."),
        ("runs?name=loss&points=9", "points must be a whole number from 10 to 2000, got '9'"),
        ("runs?name=loss&limit=501", "limit must be a whole number from 1 to 500, got '501'"),
        ("runs?name=loss&whole=yes", "whole must be true or false, got 'yes'"),
        ("runs?x=time", "name must be given"),
        ("tags", "name must be given"),
        ("tags?name=loss&limit=0", "limit must be a whole number from 1 to 1000, got '0'"),
        ("tags?name=loss&tag=x", "tag must be KEY=VALUE"),
        ("stream?by=name", "by=name needs every"),
        ("stream?every=1&by=tag", "by must be series or name, got 'tag'"),
    ],
)
def test_wrong_parameters(web: Any, path: str, message: str) -> None:
    assert message in error_message(web.get(f"/api/{path}"), 400)


@pytest.mark.parametrize("path", ["runs?name=loss", "tags?name=loss"])
def test_token_and_host_are_checked(metrics: Metrics, path: str) -> None:
    app = create_app(metrics, token="secret", localhost_only=True)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as client:
        assert client.get(f"/api/{path}").status_code == 401
        given = {"Authorization": "Bearer secret"}
        assert client.get(f"/api/{path}", headers=given).status_code == 200
        assert client.get(f"/api/{path}", headers={**given, "Host": "a.example"}).status_code == 403


def test_tags_say_how_samples_are_spread_over_their_values(web: Any, metrics: Metrics) -> None:
    now = time.time()
    for number in range(20):
        tags = {"route": f"r{number % 4}", **({} if number % 5 else {"host": "a"})}
        metrics.histogram("took", number, tags=tags, timestamp=now - 60)
    metrics.histogram("took", 1, tags={"route": "old"}, timestamp=now - 7200)
    metrics.flush()
    answer = web.get("/api/tags?name=took&window=1h&limit=3").json()
    assert answer["samples"] == 20
    host, route = answer["tags"]
    assert host == {
        "key": "host",
        "count": 1,
        "values": [
            {"value": None, "samples": 16, "share": 0.8},
            {"value": "a", "samples": 4, "share": 0.2},
        ],
    }
    assert (route["key"], route["count"]) == ("route", 4)
    assert [each["value"] for each in route["values"]] == ["r0", "r1", "r2"]
    for each in route["values"]:
        tags = {"route": each["value"]}
        count = metrics.query("took", aggregation="count", window="1h", tags=tags)
        assert (each["samples"], each["share"]) == (count, count / 20)
    (only,) = web.get("/api/tags?name=took&window=1h&key=route&tag=host%3Da").json()["tags"]
    assert only["count"] == 4
    assert [each["samples"] for each in only["values"]] == [1, 1, 1, 1]
    assert web.get("/api/tags?name=nothing").json()["tags"] == []
