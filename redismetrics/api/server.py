"""The application on uvicorn, until it is stopped: `redismetrics serve`."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from redismetrics.errors import InvalidSetting, MissingExtra
from redismetrics.store.urls import host_in_url

TOKEN = "REDISMETRICS_TOKEN"
_LONGEST_TOKEN = 4096
_CONNECTIONS = (
    1_000  # h11 holds up to 64 KiB of headers for each; uvicorn's other reader has no bound
)


def read_token(file: Path | None) -> str | None:
    """The token of a file, or of the environment variable REDISMETRICS_TOKEN; None when there is neither.

    Raises:
        InvalidSetting: the file is not readable, or there is nothing in it.
    """
    if file is None:
        return os.environ.get(TOKEN, "").strip() or None
    try:
        with file.open(encoding="ascii") as opened:
            token = opened.read(_LONGEST_TOKEN + 1).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise InvalidSetting(f"token file {file}: {reason}") from error
    if not 0 < len(token) <= _LONGEST_TOKEN:
        raise InvalidSetting(
            f"token file {file}: wanted 1 to {_LONGEST_TOKEN} characters, got {len(token)}"
        )
    return token


def make_server(
    app: Any, listening: socket.socket, *, ready: Callable[[str], None] | None = None
) -> Any:
    """A `uvicorn.Server` that ends open streams when it is told to end; *ready* is called with its address once it answers.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("serving needs: pip install 'redismetrics[server]'") from error
    host, port = listening.getsockname()[:2]

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if ready is not None and self.started:
                ready(f"http://{host_in_url(host)}:{port}")

        async def shutdown(self, sockets: Any = None) -> None:
            app.state.service.streams.close()  # else their connections would hold up the end
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app, host, port, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10,
        lifespan="on", ws="none", http="h11", limit_concurrency=_CONNECTIONS,
    )  # fmt: skip
    return Server(config)


def serve(app: Any, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Answer until SIGINT or SIGTERM; port 0 takes a free one. Raises OSError where it can't listen; see `make_server`."""
    with (
        listen(host, port) as listening,
        suppress(KeyboardInterrupt),
    ):  # uvicorn raises the signal again at its end
        make_server(app, listening, ready=ready).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)
