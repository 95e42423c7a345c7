"""Connect to ClickHouse."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.httputil import get_pool_manager

from redismetrics.errors import MissingExtra
from redismetrics.model.safe_url import safe_url

from .target import ArchiveError


class Connection:
    """Makes a client when it is first needed, and another one in a forked child.

    A client keeps HTTP connections of its own, and several threads may use it at a time.

    Args:
        url: ``clickhouse://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?OPTION=VALUE]``, with the
            options of ``clickhouse_connect.get_client``, such as ``secure=true``.
        name: Name of the application, for the server's logs.
        timeout: Seconds to wait for a connection.
        settings: Settings of each statement. Those that the user may not change are left out.
    """

    def __init__(self, url: str, name: str, timeout: float, settings: dict[str, Any]) -> None:
        self._url, self._name, self._timeout, self._settings = url, name, timeout, settings
        self._made: tuple[int, Any, Any] | None = None

    def client(self) -> Any:
        """Return the client of this process.

        Raises:
            MissingExtra: If the URL names the engine chDB, which is not installed.
            ClickHouseError: If the server does not answer or refuses the login.
        """
        if self._made is None or self._made[0] != os.getpid():
            # The sockets of a parent process belong to it.
            pool = get_pool_manager()
            self._made = os.getpid(), self._connect(pool), pool
        return self._made[1]

    def _connect(self, pool: Any) -> Any:
        parts = urlsplit(self._url)
        options = dict(parse_qsl(parts.query))
        if options.get("interface") == "chdb":
            return _open_chdb(options.get("path"), unquote(parts.path.strip("/")))
        # Not options of a URL for the library, but arguments.
        secure = options.pop("secure", "false")
        interface = options.pop("interface", None)
        client = clickhouse_connect.get_client(
            dsn=parts._replace(query=urlencode(options)).geturl(),
            interface=interface,
            secure=secure,
            connect_timeout=max(round(self._timeout), 1),
            client_name=self._name,
            # Statements of one session cannot run at the same time.
            autogenerate_session_id=False,
            pool_mgr=pool,
        )
        for key, value in self._settings.items():
            known = client.server_settings.get(key)
            if known is not None and not known.readonly:
                client.set_client_setting(key, value)
        return client

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what the driver raises as `ArchiveError`."""
        try:
            yield
        except ClickHouseError as error:
            text = " ".join(str(error).split())
            raise ArchiveError(f"the archive {safe_url(self._url)} failed: {text}") from error

    def close(self) -> None:
        """Close all connections. The next statement opens them again."""
        made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()
            made[2].clear()


def _open_chdb(path: str | None, database: str) -> Any:
    """Return a client of the engine chDB in this process, which the tests use."""
    try:
        client = clickhouse_connect.get_client(interface="chdb", path=path)
    except ImportError as error:
        raise MissingExtra("interface=chdb needs: pip install 'redismetrics[chdb]'") from error
    client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    client.database = database
    return client


def quoted(name: str) -> str:
    """Return the name of a table or database as SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
