"""The small HTTP server of pages: real sockets."""

import http.client
import logging
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from redismetrics.exposition import http_server
from tests.fixtures.servers import PATIENCE, wait_until


def page(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"page"]


@contextmanager
def served(
    app: Any = page, host: str = "127.0.0.1", **options: Any
) -> Iterator[http_server.PageServer]:
    with http_server.listen(host, 0, app, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def get(server: http_server.PageServer, **headers: str) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", "/", headers=names)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def connect(server: http_server.PageServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), PATIENCE)


def test_loopback_address_answers_only_requests_for_localhost() -> None:
    with served() as server:
        port = server.server_port
        for own in f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "[::1]:1":
            assert get(server, Host=own)[:2] == (200, "page")
        for other in "evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "x y", "":
            status, text, _ = get(server, Host=other)
            assert status == 403
            assert "Host must be localhost" in text
    with served(host="0.0.0.0") as server:
        assert get(server, Host="worker:9465")[:2] == (200, "page")


def test_pages_of_other_sites_are_rejected_and_headers_are_added() -> None:
    with served() as server:
        status, text, _ = get(server, Sec_Fetch_Site="cross-site")
        assert status == 403
        assert "cross-site" in text
        status, _, headers = get(server, Sec_Fetch_Site="same-origin")
        assert status == 200
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_slow_clients_do_not_block_others() -> None:
    before = threading.active_count()
    with served(max_connections=5) as server, ExitStack() as stack:
        slow = []
        for _ in range(40):
            client = stack.enter_context(connect(server))
            client.sendall(b"GET / HTTP/1.1\r\nX-")
            slow.append(client)
        assert get(server)[:2] == (200, "page")
        # The oldest was closed for a newer one, and its thread has ended.
        assert slow[0].recv(1) == b""
        wait_until(lambda: threading.active_count() <= before + 1 + 5, "the threads end")


def test_busy_server_closes_new_connections() -> None:
    release = threading.Event()

    def busy(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        release.wait(PATIENCE)
        return page(environ, start_response)

    with served(busy, max_connections=2) as server:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(get(server)[0])) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.responding == 2, "both requests are read")
        with connect(server) as third:
            assert third.recv(1) == b""
        release.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert answers == [200, 200]


def test_whole_request_must_arrive_in_time() -> None:
    with served(connection_seconds=0.3) as server, connect(server) as client:
        client.settimeout(0.05)
        ended = False
        # A byte now and then does not buy time.
        while not ended:
            try:
                client.sendall(b"X")
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True


def test_response_must_be_read_in_time() -> None:
    ended = threading.Event()

    def large(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            for _ in range(1_000):
                yield b"x" * (1 << 16)
        finally:
            ended.set()

    with served(large, connection_seconds=0.3) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(PATIENCE)
        wait_until(lambda: server.responding == 0, "the connection is closed")


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost", b"\x16\x03\x01\x02", b"G" * 70_000, b"\r\n"]
)
def test_reset_connections_print_nothing(
    sent: bytes, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with served() as server:
        for _ in range(5):
            with connect(server) as client:
                client.sendall(sent)
                # Close by a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert get(server)[:2] == (200, "page")
        wait_until(lambda: server.reading == 0, "all connections have ended")
    assert capsys.readouterr() == ("", "")
    assert caplog.text == ""


def test_error_of_the_application_is_logged_and_answered(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: dict[str, Any], __: Any) -> Iterable[bytes]:
        raise ValueError("broken")

    caplog.set_level(logging.ERROR)
    with served(broken) as server:
        assert get(server)[0] == 500
    assert "BUG: a request failed" in caplog.text
    assert capsys.readouterr() == ("", "")
