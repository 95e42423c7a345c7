"""Clients of the stream that reconnect with Last-Event-ID: a real uvicorn and Redis."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENCE, PATIENT, Server, wait_until
from tests.fixtures.webserver import Events, error_message, running

LIMITS = Limits(heartbeat_seconds=0.05)


@pytest.fixture
def web(metrics: Metrics) -> Iterator[Any]:
    with (
        running(create_app(metrics, limits=LIMITS)) as at,
        httpx.Client(base_url=at, **PATIENT) as client,
    ):
        yield client


def record(metrics: Metrics, *values: int) -> None:
    for value in values:
        metrics.histogram("took", value, tags={"n": str(value)})
        metrics.gauge("depth", value)
    metrics.flush()


def follow(web: Any, path: str, last_id: str = "") -> Events:
    events = Events(web, path, {"Last-Event-ID": last_id} if last_id else {})
    assert events.open.wait(PATIENCE)
    return events


def leave(events: Events) -> str:
    events.leave.set()
    assert events.ended.wait(PATIENCE)
    return events.last_id


def received(events: Events, name: str = "took") -> list[int]:
    return [sample["value"] for sample in events.samples() if sample["name"] == name]


def test_reconnected_client_gets_missed_samples_once(metrics: Metrics, web: Any) -> None:
    events = follow(web, "/api/stream?name=took&name=dep*")
    record(metrics, 1, 2)
    wait_until(lambda: len(received(events)) == 2 and received(events, "depth"), "the first")
    last_id = leave(events)
    record(metrics, 3)
    record(metrics, 4, 5)
    events = follow(web, "/api/stream?name=took&name=dep*", last_id)
    record(metrics, 6)
    wait_until(lambda: 6 in received(events) and 6 in received(events, "depth"), "all others")
    last_id = leave(events)
    assert received(events) == [3, 4, 5, 6]
    assert [kind for kind, _ in events.found if kind != "sample"] == []
    # A third time, with nothing in between.
    events = follow(web, "/api/stream?name=took&name=dep*", last_id)
    record(metrics, 7)
    wait_until(lambda: 7 in received(events), "the last")
    leave(events)
    assert received(events) == [7]
    assert {kind for kind, _ in events.found} == {"sample"}


def test_client_that_received_nothing_yet_misses_nothing(metrics: Metrics, web: Any) -> None:
    record(metrics, 1)
    events = follow(web, "/api/stream?name=took")
    wait_until(lambda: events.last_id, "an id")
    last_id = leave(events)
    record(metrics, 2)
    events = follow(web, "/api/stream?name=took", last_id)
    wait_until(lambda: received(events) == [2], "what came in between")
    leave(events)
    assert {kind for kind, _ in events.found} == {"sample"}


def test_client_that_left_within_a_batch_gets_a_gap(metrics: Metrics, web: Any) -> None:
    events = follow(web, "/api/stream?name=took")
    record(metrics, 1, 2, 3)
    wait_until(lambda: len(received(events)) == 3, "all of the batch")
    leave(events)
    second = events.ids[-2]
    assert events.ids[-1].endswith(":3")
    assert second.endswith(":2")
    events = follow(web, "/api/stream?name=took", second)
    record(metrics, 4)
    wait_until(lambda: received(events) == [4], "the next")
    leave(events)
    # It is not repeated, but reported.
    assert [kind for kind, _ in events.found] == ["gap", "sample"]


def test_summaries_cover_samples_in_between(metrics: Metrics, web: Any) -> None:
    path = "/api/stream?name=took&every=0.1"

    def count(events: Events) -> int:
        return sum(each["count"] for kind, each in events.found if kind == "summary")

    events = follow(web, path)
    record(metrics, 1, 2)
    wait_until(lambda: count(events) == 2, "the first")
    seen = len(events.ids)
    wait_until(lambda: len(events.ids) > seen, "an id after them")
    last_id = leave(events)
    record(metrics, 3, 4, 5)
    events = follow(web, path, last_id)
    wait_until(lambda: count(events) == 3, "what came in between")
    leave(events)
    assert {kind for kind, _ in events.found} == {"summary"}


def test_lost_data_is_a_gap(metrics: Metrics, web: Any, server: Server) -> None:
    events = follow(web, "/api/stream?name=took")
    record(metrics, 1)
    wait_until(lambda: received(events) == [1], "the first")
    last_id = leave(events)
    shard, clock, count = last_id.split(":")
    # The server does not know this batch: it was restored from an older backup.
    future = f"{shard}:{int(clock) + 10**12}:{count}"
    events = follow(web, "/api/stream?name=took", future)
    record(metrics, 2)
    wait_until(lambda: received(events) == [2], "the next")
    leave(events)
    assert [kind for kind, _ in events.found] == ["gap", "sample"]


@pytest.mark.parametrize("text", ["x", "0:1", "0:1:2:3", "0:1:-2", "0:1:2,", "9" * 5_000])
def test_other_ids_are_rejected(web: Any, text: str) -> None:
    answer = web.get("/api/stream", headers={"Last-Event-ID": text})
    assert "Last-Event-ID must be an id" in error_message(answer, 400)
