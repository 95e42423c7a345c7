"""Connect to ClickHouse."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError
from clickhouse_connect.driver.httpclient import HttpClient

from redismetrics.errors import InvalidSetting, MissingExtra, shown
from redismetrics.model.safe_url import safe_url
from redismetrics.model.validation import did_you_mean

from .target import ArchiveError

# What the driver logs is in the errors that it raises. Without a handler, Python would print it.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())


class Connection:
    """Makes a client when it is first needed, and a new one in a forked child.

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
        self._made: tuple[int, Any] | None = None

    def client(self) -> Any:
        """Return the client of this process.

        Raises:
            InvalidSetting: If an option of the URL has no valid value.
            MissingExtra: If the URL names the engine chDB, which is not installed.
            ClickHouseError: If the server does not answer or refuses the login.
        """
        if self._made is None or self._made[0] != os.getpid():
            # A child must not use the sockets of its parent.
            self._made = os.getpid(), self._connect()
        return self._made[1]

    def _connect(self) -> Any:
        parts, options = urlsplit(self._url), options_of(self._url)
        if options.get("interface") == "chdb":
            return _open_chdb(options.get("path"), unquote(parts.path.strip("/")))
        # Arguments of `get_client` that it does not read from a URL.
        secure, interface = options.pop("secure", "false"), options.pop("interface", None)
        try:
            client = clickhouse_connect.get_client(
                dsn=parts._replace(query=urlencode(options)).geturl(),
                interface=interface,
                secure=secure,
                connect_timeout=max(round(self._timeout), 1),
                client_name=self._name,
                # Statements of one session cannot run at the same time.
                autogenerate_session_id=False,
                dedicated_pool=True,
            )
        except (ProgrammingError, TypeError, ValueError) as error:
            raise InvalidSetting(
                f"the archive must be a valid URL, got {safe_url(self._url)!r}: {error}"
            ) from error
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


def options_of(url: str) -> dict[str, str]:
    """Return the options of a ``clickhouse://`` URL.

    Raises:
        InvalidSetting: If one is unknown.
    """
    options = dict(parse_qsl(urlsplit(url).query))
    known = {"interface", "path", "secure", *signature(HttpClient).parameters}
    for name in options:
        if name not in known:
            raise InvalidSetting(
                f"an option of the archive's URL must be one of clickhouse_connect.get_client, "
                f"got {shown(name, 80)}{did_you_mean(name, sorted(known))}"
            )
    return options


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
