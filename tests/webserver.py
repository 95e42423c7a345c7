"""The HTTP application on a real uvicorn, in a thread, on a free loopback port."""

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
