"""Responses that nobody reads, headers and compression: a real uvicorn and raw sockets."""

import asyncio
import gzip
import json
import selectors
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.sending import SendingMiddleware
from tests.fixtures.servers import PATIENCE, PATIENT, wait_until
from tests.fixtures.webserver import error_message, running


def request_without_reading(at: str, path: str) -> socket.socket:
    """Send a request, and take as little of the response as possible."""
    place = urlsplit(at)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((place.hostname, place.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def record_much(metrics: Metrics) -> None:
    """Record samples whose JSON is larger than what sockets hold: 9 MB."""
    for number in range(3_000):
        metrics.histogram("took", number, metadata={"text": "x" * 3_000})
        # Few at once: the metadata of one flush is limited.
        if number % 100 == 99:
            metrics.flush()


@pytest.mark.slow
def test_unread_responses_hold_their_slots_and_are_given_up(metrics: Metrics) -> None:
    record_much(metrics)
    limits = Limits(send_seconds=2, unsent_bytes=12 << 20)
    app = create_app(metrics, limits=limits)
    service = app.state.service
    with (
        running(app) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
        request_without_reading(at, "/api/metrics?limit=3000"),
    ):
        wait_until(lambda: service.unsent.held > 8_000_000, "the response is made")
        assert len(service.large_queries) == 1
        # A second large response is more than may wait; small ones pass.
        refused = web.get("/api/metrics?limit=3000", headers={"Accept-Encoding": "identity"})
        assert "limit unsent_bytes" in error_message(refused, 503)
        assert web.get("/api/names").status_code == 200
        wait_until(lambda: service.unsent.held == 0, "it is given up")
        assert len(service.large_queries) == 0
        answer = web.get("/api/metrics?limit=3000", headers={"Accept-Encoding": "identity"})
        assert answer.json()["count"] == 3_000


@pytest.mark.slow
def test_unread_stream_gives_up_its_slot(metrics: Metrics) -> None:
    app = create_app(metrics, limits=Limits(send_seconds=1, max_streams=1))
    streams = app.state.service.open_streams
    with running(app) as at, request_without_reading(at, "/api/stream"):
        wait_until(lambda: len(streams) == 1, "the stream is open")

        def ended() -> bool:
            record_much(metrics)
            return len(streams) == 0

        wait_until(ended, "the stream ends")


def test_responses_are_compressed_and_have_security_headers(metrics: Metrics) -> None:
    for number in range(50):
        metrics.increment("jobs", tags={"queue": f"queue {number}"})
    with running(create_app(metrics)) as at, httpx.Client(base_url=at, **PATIENT) as web:
        for path in "/metrics", "/api/query?name=jobs&aggregation=sum&group_by=queue":
            plain = web.get(path, headers={"Accept-Encoding": "identity"})
            small = web.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
            assert "content-encoding" not in plain.headers
            assert small.headers["content-encoding"] == "gzip"
            assert int(small.headers["content-length"]) < int(plain.headers["content-length"])
            assert "queue 49" in plain.text
            assert "queue 49" in small.text
            for answer in plain, small:
                assert "Accept-Encoding" in answer.headers["vary"]
        assert "content-encoding" not in web.get("/openapi.json", headers=refusing_gzip()).headers
        for answer in web.get("/healthz"), web.get("/nowhere"), web.get("/metrics"):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def refusing_gzip() -> dict[str, str]:
    return {"Accept-Encoding": "gzip;q=0, *"}


def raw_answer(at: str, head: bytes) -> bytes:
    """Send bytes; return all that comes back until the server closes the connection."""
    place = urlsplit(at)
    answer = b""
    with socket.create_connection((place.hostname, place.port or 0), PATIENCE) as client:
        client.sendall(head)
        while part := client.recv(1 << 16):
            answer += part
    return answer


def test_connection_is_closed_after_a_request_with_two_lengths(metrics: Metrics) -> None:
    body = json.dumps({"name": "jobs"}).encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = (
        b"POST /api/record HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(create_app(metrics, allow_write=True)) as at:
        answer = raw_answer(at, head + chunked + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def test_gzip_of_a_response_is_what_a_client_without_it_gets(metrics: Metrics) -> None:
    with running(create_app(metrics)) as at:
        head = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        plain: Any = raw_answer(at, head + b"\r\n").partition(b"\r\n\r\n")[2]
        small = raw_answer(at, head + b"Accept-Encoding: gzip\r\n\r\n").partition(b"\r\n\r\n")[2]
    assert gzip.decompress(small) == plain


@pytest.mark.parametrize("size", [10, 100_000], ids=["stream", "large"])
def test_a_piece_that_is_not_accepted_ends_the_response(size: int) -> None:
    """Under any ASGI server: a stream has no time limit as a whole, but each piece has one."""
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        finally:
            ended.append(True)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def serve() -> None:
        sending = SendingMiddleware(app, send_seconds=0.01)
        await asyncio.wait_for(sending({"type": "http", "headers": []}, None, send), PATIENCE)  # type: ignore[arg-type]

    asyncio.run(serve())
    assert ended == [True]


class JumpingSelector(selectors.DefaultSelector):
    """Advances the time of an event loop to its next timer when there is nothing else to do."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


@pytest.mark.parametrize(("pause", "complete"), [(0.3, True), (0.9, False)])
def test_a_response_must_be_read_at_a_rate_as_a_whole(pause: float, complete: bool) -> None:
    """Each piece is read within the time limit of a piece. 1 MB may take 10 s longer."""
    size, sent, ended = 1_000_000, [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(pause)
            sent.append(len(message["body"]))

    async def serve() -> None:
        await SendingMiddleware(app, send_seconds=1)({"type": "http", "headers": []}, None, send)  # type: ignore[arg-type]
        ended.append(selector.now)

    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(serve())
    assert (sum(sent) == size) == complete
    assert ended == [pytest.approx(0.3 * 31 if complete else 11, abs=0.01)]
