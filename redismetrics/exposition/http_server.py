"""A small HTTP server for pages of our own: a thread a request, no log. For more than a page use a real one."""

import argparse
import re
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

App = Callable[..., Iterable[bytes]]

_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>\d{1,5})\Z", re.ASCII
)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or :PORT, which means localhost; for argparse."""
    found = _ADDRESS.match(text)
    if not found or int(found["port"]) > 65_535:
        raise argparse.ArgumentTypeError(f"wanted HOST:PORT, [IPV6]:PORT or :PORT, got {text!r}")
    return found["six"] or found["host"] or "127.0.0.1", int(found["port"])


def listen(host: str, port: int, app: App) -> WSGIServer:
    """A server that listens; port 0 takes a free one, `server_port` tells which. Raises OSError where it can't."""

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: Any, **kwargs: Any) -> None:
            """Say nothing: a scrape every few seconds would fill the log."""

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True  # a request that hangs doesn't hold up the end
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, port), Handler)
    server.set_app(app)
    return server
