"""The live stream over HTTP: a real uvicorn and Redis; slow clients are simulated by ASGI calls."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import AsyncMetrics, Metrics
from redismetrics.api import sse
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENCE, PATIENT, Server, wait_until
from tests.fixtures.webserver import Events, running

NEVER = 3600.0
FAST_HEARTBEAT = Limits(heartbeat_seconds=0.05)


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as made:
        yield made


def subscribers(server: Server) -> int:
    with server.client() as client:
        return len(client.client_list(_type="pubsub"))


def leave(events: Events) -> None:
    # The client leaves at the next line that it receives.
    events.leave.set()
    assert events.ended.wait(PATIENCE)


def test_a_sum_too_large_for_a_float_is_null_and_the_stream_continues(metrics: Metrics) -> None:
    app = create_app(metrics, limits=FAST_HEARTBEAT)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
        events = Events(web, "/api/stream?every=0.1")
        assert events.open.wait(PATIENCE)
        metrics.histogram("huge", 1.7e308)
        metrics.histogram("huge", 1.7e308)
        metrics.flush()
        wait_until(lambda: events.of("summary"), "a summary comes")
        (huge,) = events.of("summary")
        assert (huge["sum"], huge["mean"], huge["max"]) == (None, None, 1.7e308)
        metrics.gauge("depth", 1)
        metrics.flush()
        wait_until(lambda: len(events.of("summary")) == 2, "the next summary comes")
        assert events.of("summary")[1]["name"] == "depth"
        leave(events)


def test_stream_sends_samples_and_ends_with_its_client(metrics: Metrics, server: Server) -> None:
    app = create_app(metrics, limits=FAST_HEARTBEAT)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
        events = Events(web, "/api/stream?name=job*&tag=queue%3Dmail")
        assert events.open.wait(PATIENCE)
        metrics.increment("jobs", 2, tags={"queue": "mail"}, metadata={"line": "a\nb"})
        metrics.increment("jobs", tags={"queue": "audio"})
        metrics.gauge("depth", 1, tags={"queue": "mail"})
        metrics.flush()
        wait_until(events.samples, "a sample comes")
        (sample,) = events.samples()
        assert sample.pop("timestamp")
        assert sample == {
            "name": "jobs",
            "type": "counter",
            "value": 2,
            "count": 1,
            "tags": {"queue": "mail"},
            "metadata": {"line": "a\nb"},
            "approximate": False,
        }
        wait_until(lambda: events.comments > 2, "comments keep the stream open")
        assert subscribers(server) == len(app.state.service.open_streams) == 1
        assert not [
            thread for thread in threading.enumerate() if thread.name == "redismetrics-stream"
        ]
        leave(events)
        wait_until(lambda: subscribers(server) == 0, "the subscription is closed")
        wait_until(lambda: len(app.state.service.open_streams) == 0, "its place is free")


def test_stream_sends_summaries(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, limits=FAST_HEARTBEAT)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        events = Events(web, "/api/stream?name=took&every=0.2")
        assert events.open.wait(PATIENCE)
        for number in range(10):
            metrics.histogram("took", number, tags={"queue": "mail"})
        metrics.flush()
        wait_until(lambda: sum(each["count"] for _, each in events.found) == 10, "all values")
        leave(events)
    kinds = {kind for kind, _ in events.found}
    assert kinds == {"summary"}
    assert sum(each["sum"] for _, each in events.found) == 45
    assert min(each["min"] for _, each in events.found) == 0
    assert max(each["max"] for _, each in events.found) == 9
    _, first = events.found[0]
    assert set(first) == {
        "name",
        "type",
        "tags",
        "since",
        "until",
        "count",
        "sum",
        "mean",
        "min",
        "max",
        "last",
    }
    assert (first["name"], first["type"], first["tags"]) == ("took", "histogram", {"queue": "mail"})


def test_stream_sends_one_summary_for_each_metric(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, limits=FAST_HEARTBEAT)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        events = Events(web, "/api/stream?every=0.2&by=name")
        assert events.open.wait(PATIENCE)
        for number in range(30):
            metrics.increment("jobs", number, tags={"queue": f"q{number}"})
        metrics.flush()
        wait_until(lambda: sum(each["count"] for _, each in events.found) == 30, "all values")
        leave(events)
    assert all((each["name"], each["tags"]) == ("jobs", {}) for _, each in events.found)
    assert sum(each["sum"] for _, each in events.found) == 435
    assert len({each["until"] for _, each in events.found}) == len(events.found)


def test_streams_end_with_the_server_and_are_limited(
    metrics: Metrics, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # uvicorn would wait that long for open connections.
    monkeypatch.setattr("redismetrics.api.server._GRACEFUL_SECONDS", 3_600)
    app = create_app(metrics, limits=Limits(max_streams=1))
    with httpx.Client(**PATIENT) as web:
        # One application may be served more than once.
        for _ in range(2):
            with running(app) as at:
                events = Events(web, f"{at}/api/stream")
                assert events.open.wait(PATIENCE)
                refused = web.get(f"{at}/api/stream")
                assert refused.status_code == 503
                assert "1 are open (limit max_streams)" in refused.json()["message"]
            assert events.ended.wait(PATIENCE)
    wait_until(lambda: subscribers(server) == 0, "the subscription is closed")


def test_application_of_an_async_client(url: str, namespace: str) -> None:
    ametrics = AsyncMetrics(url, namespace=namespace, flush_interval=0.05)
    with (
        running(create_app(ametrics, limits=FAST_HEARTBEAT)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        events = Events(web, "/api/stream")
        assert events.open.wait(PATIENCE)
        ametrics.increment("jobs", 4)
        wait_until(events.samples, "a sample comes")
        assert web.get("/api/query?name=jobs&aggregation=sum").json()["results"] == 4
        assert "jobs_total 4" in web.get("/metrics").text
        leave(events)
    # The application leaves the client open.
    ametrics.increment("jobs")
    assert asyncio.run(ametrics.query("jobs", aggregation="sum")) == 5
    asyncio.run(ametrics.aclose())


def test_stream_catches_up_after_a_restart_of_redis(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    metrics = Metrics(server.url, flush_interval=NEVER)
    with (
        metrics,
        running(create_app(metrics, limits=FAST_HEARTBEAT)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        events = Events(web, "/api/stream?name=depth")
        assert events.open.wait(PATIENCE)
        for number in range(30):
            if number in (10, 20):
                server.kill()
                server.restart()
            metrics.gauge("depth", number)
            wait_until(lambda: flushed(metrics), "the store is there again")
        wait_until(lambda: len(events.samples()) >= 30, "all samples")
        leave(events)
    assert [sample["value"] for sample in events.samples()] == list(range(30))
    assert {kind for kind, _ in events.found} == {"sample"}


def flushed(metrics: Metrics) -> bool:
    try:
        metrics.flush(1)
    except Exception:  # noqa: BLE001  it is away still
        return False
    return True


def test_failed_stream_gets_an_error_and_frees_its_slot(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=0.5) as metrics:
        app = create_app(metrics, limits=Limits(max_streams=1))
        with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
            server.kill()
            for _ in range(2):
                refused = web.get("/api/stream")
                assert refused.status_code == 503
                assert refused.headers["content-type"] == "application/json"
                assert refused.json()["error"] == "StoreUnavailable"
            assert len(app.state.service.open_streams) == 0


# -- clients that do not read -------------------------------------------------------------------


class Client:
    """The server's side of one ASGI response: reads if `reads` is set, leaves if `gone` is set."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.reads, self.gone = asyncio.Event(), asyncio.Event()
        self.ended = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.sent.append(message["body"].decode())
            self.ended = not message.get("more_body", False)
            await self.reads.wait()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def events(self) -> list[tuple[str, Any]]:
        texts = [text for text in "".join(self.sent).split("\n\n") if text.startswith("event")]
        found = [re.fullmatch(r"event: (\w+)\ndata: (.*)", text) for text in texts]
        assert all(found)
        return [(match[1], json.loads(match[2])) for match in found if match]


Scene = Callable[[Client, sse.OpenStreams, "asyncio.Task[None]"], Awaitable[None]]


def play(metrics: Metrics, scene: Scene, *, queue: int = 3) -> Client:
    """Run a stream for a client that does not read at first, and *scene* with it."""

    async def scenario() -> Client:
        client, streams, ametrics = Client(), sse.OpenStreams(1), AsyncMetrics(metrics=metrics)
        feed = sse.EventStream(streams, ametrics.subscribe("jobs", queue=queue), NEVER)
        serving = asyncio.create_task(feed({"type": "http"}, client.receive, client.send))
        await until(lambda: client.sent)
        await scene(client, streams, serving)
        await serving
        assert len(streams) == 0
        assert {task.get_name() for task in asyncio.all_tasks()} & {"redismetrics-stream"} == set()
        await ametrics.aclose()
        return client

    return asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, "the stream goes on")


async def record(metrics: Metrics, *values: int) -> None:
    for value in values:
        metrics.increment("jobs", value, metadata={"n": value})
    await asyncio.to_thread(metrics.flush)


def test_slow_client_gets_missed_where_samples_are_missing(
    metrics: Metrics, server: Server
) -> None:
    async def scene(client: Client, streams: sse.OpenStreams, _: Any) -> None:
        await record(metrics, *range(10))
        await wait_until_received(metrics, server)
        client.reads.set()
        await until(lambda: len(client.events) == 4)
        await record(metrics, 99)
        await until(lambda: len(client.events) == 5)
        client.gone.set()

    found = play(metrics, scene).events
    assert [kind for kind, _ in found] == ["missed", "sample", "sample", "sample", "sample"]
    assert found[0][1]["count"] == 7
    assert found[0][1]["since"] <= found[0][1]["until"] <= found[1][1]["timestamp"]
    assert [data["value"] for _, data in found[1:]] == [7, 8, 9, 99]


async def wait_until_received(metrics: Metrics, server: Server) -> None:
    """Wait until a stream that started later has received a sample: then the client's has, too."""
    async with AsyncMetrics(metrics=metrics).subscribe("probe") as later:
        metrics.increment("probe")
        await asyncio.to_thread(metrics.flush)
        assert await later.get(PATIENCE) is not None
    await asyncio.sleep(0)


def test_client_that_does_not_read_can_disconnect(metrics: Metrics) -> None:
    async def scene(
        client: Client, streams: sse.OpenStreams, serving: "asyncio.Task[None]"
    ) -> None:
        await record(metrics, 1)
        client.gone.set()
        client.reads.set()

    play(metrics, scene)


@pytest.mark.slow
def test_client_that_does_not_read_does_not_delay_shutdown(metrics: Metrics) -> None:
    async def scene(
        client: Client, streams: sse.OpenStreams, serving: "asyncio.Task[None]"
    ) -> None:
        await record(metrics, 1)
        streams.close()
        # It would wait for ever.
        await asyncio.wait([serving], timeout=PATIENCE)
        assert serving.done()

    client = play(metrics, scene)
    assert client.ended
