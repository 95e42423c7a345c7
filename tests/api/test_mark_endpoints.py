"""The endpoints of marks."""

from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

from redismetrics import Metrics
from tests.fixtures.webserver import error_message


def test_marks_are_posted_listed_and_deleted(writable: Any, metrics: Metrics) -> None:
    posted = {"text": "deploy", "tags": {"service": "web"}, "timestamp": "1h"}
    first = writable.post("/api/marks", json=posted)
    assert first.status_code == 200, first.text
    second = writable.post("/api/marks", json={"text": "rollback"}).json()
    found = writable.get("/api/marks").json()["marks"]
    assert found == [second, first.json()] == [each.to_dict() for each in metrics.marks()]
    assert writable.get("/api/marks?since=30m").json()["marks"] == [second]
    assert writable.get("/api/marks?until=30m").json()["marks"] == [first.json()]
    assert writable.get("/api/marks?limit=1").json()["marks"] == [second]
    assert writable.delete(f"/api/marks/{second['id']}").json() == {}
    message = error_message(writable.delete(f"/api/marks/{second['id']}"), 404)
    assert message.startswith("there is no mark")
    assert writable.get("/api/marks").json()["marks"] == [first.json()]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "body must be an object with text"),
        ([], "body must be an object with text"),
        ({"text": "x", "more": 1}, "body must be an object with text"),
        ({"text": ""}, "text of a mark must have 1 to 200 characters, got ''"),
        ({"text": "x", "tags": {"a b": "c"}}, "invalid tag key 'a b'"),
        ({"text": "x", "timestamp": "yesterday"}, "timestamp must be"),
    ],
)
def test_invalid_marks_are_rejected(
    writable: Any, metrics: Metrics, body: Any, message: str
) -> None:
    assert error_message(writable.post("/api/marks", json=body), 400).startswith(message)
    assert metrics.marks() == []


def test_readers_cannot_record_marks(web: Any, metrics: Metrics) -> None:
    mark = metrics.mark("deploy")
    assert web.get("/api/marks").json()["marks"] == [mark.to_dict()]
    assert web.post("/api/marks", json={"text": "x"}).status_code == 405
    assert web.delete(f"/api/marks/{mark.id}").status_code == 404
    assert metrics.marks() == [mark]
