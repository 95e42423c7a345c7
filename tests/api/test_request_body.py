"""Request bodies: bounded in bytes, seconds and decompression steps."""

import asyncio
import gzip
import socket
import time
import zlib
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from starlette.exceptions import HTTPException
from starlette.requests import Request

from redismetrics import Metrics
from redismetrics.api import request_body
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.request_body import Bodies
from tests.fixtures.servers import PATIENCE, PATIENT, wait_until
from tests.fixtures.webserver import error_message, running


def gunzip(data: bytes, most: int = 1_000) -> bytes:
    return request_body.RequestBody(data, is_gzip=True).decompress(most)


def test_gzip_is_decompressed_in_steps_up_to_the_limit() -> None:
    text = b"0123456789" * 20_000
    assert gunzip(gzip.compress(text), len(text)) == text
    # Level 0: the compressed body is longer than the text.
    assert gunzip(gzip.compress(text, 0), len(text)) == text
    assert (
        gunzip(gzip.compress(text[:99]) + gzip.compress(b"") + gzip.compress(text[99:500]), 500)
        == text[:500]
    )
    for data, code in (
        (gzip.compress(text), 413),
        (gzip.compress(text[:500])[:-1], 400),
        (gzip.compress(b"1") + b"no gzip", 400),
        (gzip.compress(b"") * 200, 400),
    ):
        with pytest.raises(HTTPException) as caught:
            gunzip(data)
        assert caught.value.status_code == code
    assert gunzip(b"") == b""


def test_many_small_gzip_members_are_rejected_quickly() -> None:
    member = zlib.compress(b"", wbits=31)
    began = time.process_time()
    with pytest.raises(HTTPException, match="at most 100 members"):
        gunzip(member * ((4 << 20) // len(member)))
    # 200,000 members; if each copied the rest of the body, this would take minutes.
    assert time.process_time() - began < 20


def test_bodies_are_limited_however_they_are_sent(writable: Any, metrics: Metrics) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 10_000_000, 1)
    assert len(bomb) > 2_000
    bomb = gzip.compress(b" " * 100_000)
    assert len(bomb) < 2_000
    assert "even decompressed" in error_message(
        writable.post("/api/record", content=bomb, headers=headers), 413
    )
    assert "ends early" in error_message(
        writable.post("/api/record", content=gzip.compress(b"{}")[:-4], headers=headers), 400
    )
    assert "not valid gzip" in error_message(
        writable.post("/api/record", content=b"{}", headers=headers), 400
    )
    plain = {"Content-Type": "application/json"}
    assert "Content-Encoding" in error_message(
        writable.post("/api/record", content=b"{}", headers={**plain, "Content-Encoding": "br"}),
        415,
    )
    # Chunked, without a Content-Length.
    in_parts = (b" " * 500 for _ in range(10))
    assert "at most 2000 bytes" in error_message(
        writable.post("/api/record", content=in_parts, headers=plain), 413
    )
    # What a page of another site can send without a CORS preflight.
    assert "Content-Type" in error_message(
        writable.post("/api/record", content=b'{"name": "x"}'), 415
    )
    assert "Content-Type" in error_message(writable.post("/api/record", data={"name": "x"}), 415)
    assert metrics.stats()["recorded"] == 0
    two = gzip.compress(b'[{"name": ') + gzip.compress(b'"x"}]')
    assert writable.post("/api/record", content=two, headers=headers).json() == {"recorded": 1}


def test_slow_body_times_out(metrics: Metrics) -> None:
    limits = Limits(body_seconds=0.3, max_concurrent=1, max_queued=1)
    with running(create_app(metrics, allow_write=True, limits=limits)) as at:
        place = urlsplit(at)
        assert place.hostname
        head = (
            b"POST /api/record HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n["
        )
        with socket.create_connection((place.hostname, place.port or 0), PATIENCE) as slow:
            slow.sendall(head)
            began = time.monotonic()
            answer = b""
            # Until the server closes the connection.
            while part := slow.recv(4096):
                answer += part
        # The server does not wait for the rest.
        assert time.monotonic() - began < PATIENCE
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body must arrive within 0.3 s (limit body_seconds), got 1 bytes of it" in answer
        assert httpx.post(f"{at}/api/record", json={"name": "jobs"}, **PATIENT).status_code == 202


def test_slow_bodies_do_not_block_others(metrics: Metrics) -> None:
    limits = Limits(max_concurrent=1, max_queued=1, max_bodies=20, body_buffer_bytes=50_000)
    app = create_app(metrics, allow_write=True, limits=limits)
    head = (
        b"POST /api/record HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100000\r\n\r\n["
    )
    with running(app) as at, ExitStack() as stack:
        place = urlsplit(at)
        slow = []
        for number in range(40):
            client = socket.create_connection((place.hostname, place.port or 0), PATIENCE)
            stack.enter_context(client)
            client.sendall(head + b" " * (9_000 if number % 2 else 0))
            slow.append(client)
        assert httpx.post(f"{at}/api/record", json={"name": "jobs"}, **PATIENT).status_code == 202
        # The oldest were given up for newer ones.
        answer = slow[0].recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"its buffer space was needed" in answer
        assert app.state.service.bodies.size <= limits.body_buffer_bytes
    wait_until(lambda: app.state.service.bodies.size == 0, "all bodies are released")


def test_content_length_of_many_digits_is_rejected(metrics: Metrics) -> None:
    app = create_app(metrics, allow_write=True)
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/record",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"9" * 5_000)],
        }
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 413


def test_beyond_max_bodies_the_oldest_incomplete_body_is_given_up() -> None:
    bodies = Bodies(Limits(max_bodies=2))

    def request(*parts: bytes) -> Request:
        left = list(parts)

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.Event().wait()
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(part)}

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def read(of: Request) -> bool:
        async with bodies.read(of):
            return True

    async def use() -> None:
        slow = [asyncio.ensure_future(read(request(b"x"))) for _ in range(2)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(read(request(b"x", b"")), PATIENCE)
        with pytest.raises(HTTPException, match="faster"):
            await asyncio.wait_for(slow[0], PATIENCE)
        assert not slow[1].done()
        slow[1].cancel()

    asyncio.run(use())
