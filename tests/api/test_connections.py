"""Connections that are slow to send the head of a request."""

import socket
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import PATIENCE
from tests.fixtures.webserver import running


def test_slow_heads_shut_out_nobody(metrics: Metrics) -> None:
    with running(create_app(metrics), max_connections=20) as at, ExitStack() as stack:
        place = urlsplit(at)
        slow = []
        for number in range(60):
            client = socket.create_connection((place.hostname, place.port or 0), PATIENCE)
            stack.enter_context(client)
            client.sendall(b"GET /healthz HTTP/1.1\r\nX-" if number % 2 else b"")
            slow.append(client)
        assert httpx.get(f"{at}/healthz").status_code == 200
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
