"""The HTTP application on a real uvicorn, in a thread, on a free loopback port; a client of its stream."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redismetrics.api.serving import listen, make_server
from tests.servers import PATIENCE


@contextmanager
def running(app: Any, port: int = 0) -> Iterator[str]:
    """Serve *app*; yields its address."""
    address: list[str] = []
    ready = threading.Event()

    def note(at: str) -> None:
        address.append(at)
        ready.set()

    with listen("127.0.0.1", port) as listening:
        server = make_server(app, listening, ready=note)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="uvicorn")
        thread.start()
        try:
            assert ready.wait(PATIENCE), "uvicorn did not start"
            yield address[0]
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "uvicorn did not end"


class Events:
    """A client of the stream, in a thread."""

    def __init__(self, web: Any, path: str) -> None:
        self.found: list[tuple[str, Any]] = []
        self.comments = 0
        self.open = threading.Event()
        self.ended = threading.Event()
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(web, path))
        self._thread.start()

    def _read(self, web: Any, path: str) -> None:
        kind = ""
        with web.stream("GET", path, timeout=PATIENCE) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            for line in response.iter_lines():
                self.open.set()
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.found.append((kind, json.loads(line.removeprefix("data: "))))
                if self.leave.is_set():
                    break
        self.ended.set()

    def samples(self) -> list[Any]:
        return [data for kind, data in self.found if kind == "sample"]
