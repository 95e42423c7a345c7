"""Clients for a primary behind Redis sentinels.

Each new connection asks the sentinels for the current primary.
"""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.connection import SSLConnection


class _Sentinels(redis.sentinel.Sentinel):
    """Closes the connections to the sentinels after each reply."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            raise _without_passwords(error, self.sentinel_kwargs) from None
        finally:
            for sentinel in self.sentinels:
                sentinel.connection_pool.disconnect(inuse_connections=False)


class _AsyncSentinels(redis.asyncio.sentinel.Sentinel):
    """`_Sentinels` for asyncio."""

    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except redis.ConnectionError as error:
            raise _without_passwords(error, self.sentinel_kwargs) from None
        finally:
            for sentinel in self.sentinels:
                await sentinel.connection_pool.disconnect(inuse_connections=False)


def watch(
    client: redis.Redis, sentinels: list[tuple[str, int]], service: str, login: dict[str, str]
) -> redis.Redis:
    """Connect *client* to the primary of *service*; *login* is for the sentinels themselves.

    The host of *client* is ignored; its options apply to the primary and the sentinels.
    """
    options = client.connection_pool.connection_kwargs
    secure = issubclass(client.connection_pool.connection_class, SSLConnection)
    manager: Any = _Sentinels
    sentinel = manager(sentinels, sentinel_kwargs=_options_of_sentinels(options, secure) | login)
    client.connection_pool = redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service, sentinel, **_options_of_primary(options), ssl=secure
    )
    return client


def awatch(
    client: redis.asyncio.Redis,
    sentinels: list[tuple[str, int]],
    service: str,
    login: dict[str, str],
) -> redis.asyncio.Redis:
    """`watch` for asyncio.

    The client keeps its pool, which waits for a free connection, while the sentinels' pool would
    raise. The sentinels' pool is only used to find the address.
    """
    pool: Any = client.connection_pool
    secure = issubclass(pool.connection_class, redis.asyncio.SSLConnection)
    manager: Any = _AsyncSentinels
    sentinel = manager(
        sentinels, sentinel_kwargs=_options_of_sentinels(pool.connection_kwargs, secure) | login
    )
    finder = redis.asyncio.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service, sentinel, **_options_of_primary(pool.connection_kwargs), ssl=secure
    )
    pool.connection_class = finder.connection_class
    pool.connection_kwargs = {**finder.connection_kwargs, "connection_pool": finder}
    return client


def _without_passwords(
    error: redis.ConnectionError, options: dict[str, Any]
) -> redis.ConnectionError:
    """Remove passwords from a message: before redis-py 7, it has all options of each client."""
    text = str(error)
    for name, value in options.items():
        if "password" in name and value:
            text = text.replace(value, "***")
    return redis.ConnectionError(text)


def _options_of_primary(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("host", "port")}


def _options_of_sentinels(options: dict[str, Any], secure: bool) -> dict[str, Any]:
    """Return the options for connections to sentinels: timeouts and TLS."""
    same = {
        name: value
        for name, value in options.items()
        if name.startswith(("socket_", "ssl_")) or name == "retry"
    }
    return same | ({"ssl": True} if secure else {}) | {"protocol": 2}
