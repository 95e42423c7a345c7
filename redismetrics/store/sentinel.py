"""Clients of a primary that Redis sentinels watch: each new connection goes to the one that they name then."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.connection import SSLConnection


class _Sentinels(redis.sentinel.Sentinel):
    """Lets go of the connections to the sentinels once they have answered."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            raise _without_passwords(error, self.sentinel_kwargs) from None
        finally:
            for sentinel in self.sentinels:
                sentinel.connection_pool.disconnect(inuse_connections=False)


class _AsyncSentinels(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

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
    """Make *client*, that of any one server, one of the primary of *service*; *login* is the sentinels' own."""
    options = client.connection_pool.connection_kwargs
    secure = issubclass(client.connection_pool.connection_class, SSLConnection)
    manager: Any = _Sentinels
    knowing = manager(sentinels, sentinel_kwargs=_of_sentinels(options, secure) | login)
    client.connection_pool = redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service, knowing, **_of_primary(options), ssl=secure
    )
    return client


def awatch(
    client: redis.asyncio.Redis,
    sentinels: list[tuple[str, int]],
    service: str,
    login: dict[str, str],
) -> redis.asyncio.Redis:
    """`watch` for asyncio. The client keeps its pool, which waits where the sentinels' would raise and only tells where to go."""
    pool: Any = client.connection_pool
    secure = issubclass(pool.connection_class, redis.asyncio.SSLConnection)
    manager: Any = _AsyncSentinels
    knowing = manager(
        sentinels, sentinel_kwargs=_of_sentinels(pool.connection_kwargs, secure) | login
    )
    guide = redis.asyncio.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service, knowing, **_of_primary(pool.connection_kwargs), ssl=secure
    )
    pool.connection_class = guide.connection_class
    pool.connection_kwargs = {**guide.connection_kwargs, "connection_pool": guide}
    return client


def _without_passwords(
    error: redis.ConnectionError, options: dict[str, Any]
) -> redis.ConnectionError:
    """The message shows each sentinel's client, and before redis-py 7 that shows all its options."""
    text = str(error)
    for name, value in options.items():
        if "password" in name and value:
            text = text.replace(value, "***")
    return redis.ConnectionError(text)


def _of_primary(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("host", "port")}


def _of_sentinels(options: dict[str, Any], secure: bool) -> dict[str, Any]:
    """What connections to sentinels have of those to the primary: time-outs and TLS."""
    same = {
        name: value
        for name, value in options.items()
        if name.startswith(("socket_", "ssl_")) or name == "retry"
    }
    return same | ({"ssl": True} if secure else {}) | {"protocol": 2}
