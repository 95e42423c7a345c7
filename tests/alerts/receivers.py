"""A receiver of notifications: a real HTTP server that answers as a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fixtures.servers import PATIENCE


class Receiver:
    """What was posted, by path; *status* is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.posts: list[tuple[str, Any, dict[str, str]]] = []
        self.came = threading.Condition()
        # While it is not set, requests are not answered.
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""

    @property
    def bodies(self) -> list[Any]:
        return [body for _, body, _ in self.posts]

    def wait_for(self, count: int, timeout: float = PATIENCE) -> None:
        """Wait until *count* requests have arrived."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.posts) >= count, timeout), self.posts


def _handler(receiver: Receiver) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.came:
                receiver.posts.append((self.path, json.loads(body), dict(self.headers)))
                status = receiver.status
                receiver.came.notify_all()
            receiver.answers.wait(60)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port of the loopback."""
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        server.shutdown()
        server.server_close()
