"""A server that is further away: a proxy in its own process that delays bytes in both directions.

Bytes that arrive meanwhile are not delayed further, as on a real line: the proxy adds latency, but
does not limit the rate.
"""

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from benchmarks.children import Child

CHUNK = 1 << 18


@contextmanager
def further(url: str, each_way: float) -> Iterator[str]:
    """Yield the URL of a proxy to the server at *url* that adds *each_way* seconds each way."""
    with tempfile.TemporaryDirectory(prefix="rm-line-") as folder:
        path = str(Path(folder) / "s")
        with Child(_serve, url.removeprefix("unix://"), path, each_way):
            yield f"unix://{path}"


def _serve(target: str, path: str, each_way: float) -> Callable[[], None]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(target)
            _carry(client, server, each_way)
            _carry(server, client, each_way)

    threading.Thread(target=accept, daemon=True).start()
    return lambda: None


def _carry(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    """Carry the bytes of one direction until the source ends."""
    delayed: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def receive() -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            delayed.put((time.perf_counter() + seconds, data))

    def send() -> None:
        try:
            while (found := delayed.get())[1]:
                if (left := found[0] - time.perf_counter()) > 0:
                    time.sleep(left)
                sink.sendall(found[1])
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has closed

    for work in (receive, send):
        threading.Thread(target=work, daemon=True).start()
