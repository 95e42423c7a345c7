"""Run the application on uvicorn until a signal stops it: `redismetrics serve`."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redismetrics.errors import InvalidSetting, MissingExtra
from redismetrics.store.urls import host_in_url

from .log_limits import limit_uvicorn_log
from .memory import return_memory_early

TOKEN_VARIABLE = "REDISMETRICS_TOKEN"
WRITE_TOKEN_VARIABLE = "REDISMETRICS_WRITE_TOKEN"
_MAX_TOKEN_LENGTH = 4096
# h11 buffers up to 64 KiB of headers per connection; uvicorn's other parser has no bound.
MAX_CONNECTIONS = 1_000
# Seconds for the headers of a request to arrive.
HEAD_SECONDS = 10.0
# Seconds that uvicorn waits for open requests at shutdown.
_GRACEFUL_SECONDS = 10


def read_token(file: Path | None, variable: str = TOKEN_VARIABLE) -> str | None:
    """Return the token from *file* or from this environment variable, or None.

    Raises:
        InvalidSetting: If the file cannot be read, is empty or is too long, or the variable is
            blank.
    """
    if file is None:
        value = os.environ.get(variable)
        if value is None:
            return None
        # A blank value is a mistake, such as a missing secret: do not serve without a token.
        if not (token := value.strip()):
            raise InvalidSetting(
                f"{variable} must be a token, got a blank value; unset it to serve without a token"
            )
        return token
    try:
        with file.open(encoding="ascii") as opened:
            token = opened.read(_MAX_TOKEN_LENGTH + 1).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise InvalidSetting(f"token file {file}: {reason}") from error
    if not 0 < len(token) <= _MAX_TOKEN_LENGTH:
        raise InvalidSetting(
            f"token file {file} must hold 1 to {_MAX_TOKEN_LENGTH} characters, got {len(token)}"
        )
    return token


def make_server(
    app: Any,
    listening: socket.socket,
    *,
    ready: Callable[[str], None] | None = None,
    max_connections: int = MAX_CONNECTIONS,
    head_seconds: float = HEAD_SECONDS,
) -> Any:
    """Return a `uvicorn.Server` that closes open streams when it shuts down.

    *ready* is called with the server's URL once it accepts requests.

    Raises:
        MissingExtra: If uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("serving needs: pip install 'redismetrics[server]'") from error
    from .connections import connection_class

    limit_uvicorn_log()
    host, port = listening.getsockname()[:2]

    class StreamClosingServer(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if ready is not None and self.started:
                ready(f"http://{host_in_url(host)}:{port}")

        async def shutdown(self, sockets: Any = None) -> None:
            # Otherwise uvicorn waits for their connections.
            app.state.service.open_streams.close()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        host,
        port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        lifespan="on",
        ws="none",
        http=connection_class(max_connections, app.state.service.limits.send_seconds, head_seconds),
        # Only if none of them can be closed in favour of another.
        limit_concurrency=max_connections + 1,
    )
    return StreamClosingServer(config)


def serve(app: Any, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve *app* until SIGINT or SIGTERM; port 0 selects a free one. *ready* as in `make_server`.

    Raises:
        MissingExtra: If uvicorn is not installed.
        OSError: If the address cannot be used.
    """
    return_memory_early()
    # uvicorn raises the signal again after shutting down.
    with listen(host, port) as listening, suppress(KeyboardInterrupt):
        make_server(app, listening, ready=ready).run(sockets=[listening])


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt once, and ignore repeats, during the block.

    uvicorn raises the signal again after shutting down. By default, that would end the process
    before the client is closed. Has no effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)
