"""A small HTTP server for a page of metrics, with one thread per request and no access log.

For anything more than such a page, use a production server.
"""

import argparse
import re
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

App = Callable[..., Iterable[bytes]]

_ADDRESS = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>\d{1,5})\Z", re.ASCII
)


def parse_address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT, [IPV6]:PORT or :PORT, which means localhost. For argparse."""
    found = _ADDRESS.match(text)
    if not found or int(found["port"]) > 65_535:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, [IPV6]:PORT or :PORT, got {text!r}")
    return found["ipv6"] or found["host"] or "127.0.0.1", int(found["port"])


def listen(host: str, port: int, app: App) -> WSGIServer:
    """Return a server that listens. Port 0 takes a free one, which `server_port` tells.

    Raises OSError if it cannot listen there.
    """

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing: a scrape every few seconds would fill the log."""

    class Server(ThreadingMixIn, WSGIServer):
        # A request that hangs must not delay the end of the process.
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, port), Handler)
    server.set_app(app)
    return server
