"""Connections that are slow to send the head of a request, or to read a response."""

import asyncio
import socket
import threading
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from uvicorn.config import Config
from uvicorn.server import ServerState

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.connections import connection_class
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENCE, PATIENT
from tests.fixtures.webserver import running


def test_slow_headers_do_not_block_others(metrics: Metrics) -> None:
    with running(create_app(metrics), max_connections=20) as at, ExitStack() as stack:
        place = urlsplit(at)
        slow = []
        for number in range(60):
            client = socket.create_connection((place.hostname, place.port or 0), PATIENCE)
            stack.enter_context(client)
            client.sendall(b"GET /healthz HTTP/1.1\r\nX-" if number % 2 else b"")
            slow.append(client)
        assert httpx.get(f"{at}/healthz", **PATIENT).status_code == 200
        # The oldest was closed for the newer ones.
        with suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_head_must_arrive_in_time(metrics: Metrics, before: bytes) -> None:
    with running(create_app(metrics), head_seconds=0.3) as at:
        place = urlsplit(at)
        with socket.create_connection((place.hostname, place.port or 0), PATIENCE) as client:
            client.sendall(before)
            if before:
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            # A byte now and then does not buy time.
            client.settimeout(0.05)
            ended = False
            while not ended:
                try:
                    client.sendall(b"X")
                    ended = client.recv(4096) == b""
                except TimeoutError:
                    continue
                except OSError:
                    ended = True


def test_written_data_must_be_read_in_time(metrics: Metrics) -> None:
    """Also by an application whose responses have no time limit of their own."""
    ended = threading.Event()

    application = create_app(metrics, limits=Limits(send_seconds=0.2))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000), "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    app.state = application.state  # type: ignore[attr-defined]
    with running(app) as at:
        place = urlsplit(at)
        with socket.create_connection((place.hostname, place.port or 0), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert ended.wait(PATIENCE)


def test_a_client_that_keeps_reading_stops_the_timer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no request was sent")

    async def connect() -> None:
        made = connection_class(10, send_seconds=3_600, head_seconds=3_600)
        protocol = made(Config(app), ServerState(), {})
        ours, theirs = socket.socketpair()
        with theirs:
            await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
            timers = []
            for _ in range(2):
                protocol.pause_writing()
                timers.append(protocol._write_timer)  # type: ignore[attr-defined]
                assert not timers[-1].cancelled()
                protocol.resume_writing()
                assert timers[-1].cancelled()
            assert timers[0] is not timers[1]
            protocol.pause_writing()
            last = protocol._write_timer  # type: ignore[attr-defined]
            protocol.abort()
            await asyncio.sleep(0)
            assert last.cancelled()

    asyncio.run(connect())
