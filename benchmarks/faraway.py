"""A server that is further away: a proxy in a process of its own that holds back what it carries, in both directions.

What comes meanwhile isn't held up more, as on a real line: only latency is added, not a limit of bytes a second.
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
    """The URL of a way to the server at the unix socket of *url* that takes *each_way* seconds more, there and back."""
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
    """Carry bytes one way, to the end."""
    held: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def take() -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            held.put((time.perf_counter() + seconds, data))

    def give() -> None:
        try:
            while (found := held.get())[1]:
                if (left := found[0] - time.perf_counter()) > 0:
                    time.sleep(left)
                sink.sendall(found[1])
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # that side is gone

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()
