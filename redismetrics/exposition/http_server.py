"""A small HTTP server for a metrics page, with one thread per request and no access log.

Connections are limited in number and time. For anything more than such a page, use a production
server.
"""

import argparse
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from time import monotonic
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from redismetrics.store.urls import is_loopback

from .access import CROSS_SITE_MESSAGE, is_cross_site, names_localhost
from .compression import SECURITY_HEADERS

log = logging.getLogger("redismetrics")

App = Callable[..., Iterable[bytes]]

# Maximum number of concurrent requests, each with a thread. Prometheus sends one every few seconds.
MAX_CONNECTIONS = 32
# Seconds that a client may take for its whole request, and to read the whole response.
CONNECTION_SECONDS = 30.0
# The longest request line, as in the standard library.
_MAX_LINE = 65_536

_ADDRESS = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>\d{1,5})\Z", re.ASCII
)


def parse_address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT, [IPV6]:PORT or :PORT, which means localhost. For argparse."""
    found = _ADDRESS.match(text)
    if not found or int(found["port"]) > 65_535:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, [IPV6]:PORT or :PORT, got {text!r}")
    return found["ipv6"] or found["host"] or "127.0.0.1", int(found["port"])


class _WSGIHandler(SimpleHandler):
    """Runs the application for one request."""

    # Close the connection after each response.
    http_version = "1.0"

    def log_exception(self, exc_info: Any) -> None:
        """Log an error of the application, but not one of the connection, such as a timeout."""
        if not isinstance(exc_info[1], OSError):
            log.error("BUG: a request failed", exc_info=exc_info)


class _RequestHandler(WSGIRequestHandler):
    server: "PageServer"

    def setup(self) -> None:
        self.request.settimeout(self.server.connection_seconds)
        super().setup()

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_MAX_LINE + 1)
        if len(self.raw_requestline) > _MAX_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        # It sends the error itself.
        if not self.parse_request():
            return
        self.server.start_response_time(self.connection)
        reader: Any = self.rfile
        writer: Any = self.wfile
        handler = _WSGIHandler(
            reader, writer, self.get_stderr(), self.get_environ(), multithread=True
        )
        handler.run(self.server.checked_app)

    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a scrape every few seconds would flood the log."""


class PageServer(ThreadingMixIn, WSGIServer):
    """Serves one WSGI application; see `listen`."""

    # A hanging request must not delay the exit of the process.
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        app: App,
        *,
        max_connections: int,
        connection_seconds: float,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.connection_seconds = connection_seconds
        self._localhost_only = is_loopback(host)
        self._max_connections = max_connections
        self._lock = threading.Lock()
        # When each connection must end; those with incomplete requests first, oldest first.
        self._reading: dict[Any, float] = {}
        self._responding: dict[Any, float] = {}
        super().__init__((host, port), _RequestHandler)
        self.set_app(app)

    @property
    def reading(self) -> int:
        """Number of connections with an incomplete request."""
        return len(self._reading)

    @property
    def responding(self) -> int:
        """Number of connections that are waiting for or reading their response."""
        return len(self._responding)

    # -- connections ------------------------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; if there are too many, close a slow one."""
        with self._lock:
            if len(self._reading) + len(self._responding) >= self._max_connections:
                # A client that has not sent its request yet, otherwise the new one.
                victim = next(iter(self._reading), request)
                self._reading.pop(victim, None)
                _disconnect(victim)
                if victim is request:
                    request.close()
                    return
            self._reading[request] = monotonic() + self.connection_seconds
        super().process_request(request, client_address)

    def start_response_time(self, request: Any) -> None:
        """Note that a request is complete: its response has a separate time limit."""
        with self._lock:
            if self._reading.pop(request, None) is not None:
                self._responding[request] = monotonic() + self.connection_seconds

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._reading.pop(request, None)
            self._responding.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections whose time is up, even if a byte arrives now and then."""
        now = monotonic()
        with self._lock:
            for connections in self._reading, self._responding:
                for request, until in list(connections.items()):
                    if until < now:
                        _disconnect(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log our own errors; slow or disconnecting clients are not errors."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("BUG: a request failed", exc_info=error)

    # -- requests ---------------------------------------------------------------------------------

    def checked_app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Run the application if the request is accepted; add headers to its response."""

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            names = {name.lower() for name, _ in headers}
            added = [each for each in SECURITY_HEADERS if each[0].lower() not in names]
            return start_response(status, [*headers, *added], *rest)

        message = self._refusal(environ)
        if message is None:
            app = self.get_app()
            assert app is not None, "BUG: a server without an application"
            return app(environ, start)
        body = f"{message}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        start("403 Forbidden", [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _refusal(self, environ: dict[str, Any]) -> str | None:
        """Return why a request is rejected, or None."""
        hosts = [environ["HTTP_HOST"]] if "HTTP_HOST" in environ else []
        if self._localhost_only and not names_localhost(hosts):
            return "Host must be localhost or a loopback address; listen on 0.0.0.0 to use others"
        if is_cross_site(environ.get("HTTP_SEC_FETCH_SITE", "").split(",")):
            return CROSS_SITE_MESSAGE
        return None


def _disconnect(request: Any) -> None:
    """Shut down a connection while its thread uses it, so that its reads and writes fail."""
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has ended by itself.
        return


def listen(
    host: str,
    port: int,
    app: App,
    *,
    max_connections: int = MAX_CONNECTIONS,
    connection_seconds: float = CONNECTION_SECONDS,
) -> PageServer:
    """Return a listening server. Port 0 picks a free one; see `server_port`.

    On a loopback address, it only accepts requests for localhost.

    Raises:
        OSError: If it cannot listen there; it names the address.
    """
    try:
        return PageServer(
            host, port, app, max_connections=max_connections, connection_seconds=connection_seconds
        )
    # UnicodeError: an impossible host name (`a..b`).
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"cannot listen on {host}:{port}: {reason}") from error
