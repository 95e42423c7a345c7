"""Clients of a primary that Redis sentinels watch: each new connection goes to the one that they name then."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.connection import SSLConnection


class _Pool(redis.sentinel.SentinelConnectionPool):
    """Lets go of the connections to the sentinels once they have answered."""

    def get_master_address(self) -> Any:
        try:
            return super().get_master_address()  # type: ignore[no-untyped-call]
        finally:
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.connection_pool.disconnect(inuse_connections=False)


class _AsyncPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """The same for asyncio. It makes no connections itself: it tells those of another pool where to go."""

    async def get_master_address(self) -> Any:
        try:
            return await super().get_master_address()  # type: ignore[no-untyped-call]
        finally:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect(inuse_connections=False)


def watch(client: redis.Redis, sentinels: list[tuple[str, int]], service: str, login: dict[str, str]) -> redis.Redis:
    """Make *client*, that of any one server, one of the primary of *service*; *login* is the sentinels' own."""
    options = client.connection_pool.connection_kwargs
    secure = issubclass(client.connection_pool.connection_class, SSLConnection)
    manager: Any = redis.sentinel.Sentinel
    knowing = manager(sentinels, sentinel_kwargs=_of_sentinels(options, secure) | login)
    client.connection_pool = _Pool(  # type: ignore[no-untyped-call]
        service, knowing, **_of_primary(options), ssl=secure
    )
    return client


def awatch(
    client: redis.asyncio.Redis, sentinels: list[tuple[str, int]], service: str, login: dict[str, str]
) -> redis.asyncio.Redis:
    """`watch` for asyncio. The client keeps its pool, which waits where the sentinels' would raise."""
    pool: Any = client.connection_pool
    secure = issubclass(pool.connection_class, redis.asyncio.SSLConnection)
    manager: Any = redis.asyncio.sentinel.Sentinel
    knowing = manager(sentinels, sentinel_kwargs=_of_sentinels(pool.connection_kwargs, secure) | login)
    guide = _AsyncPool(  # type: ignore[no-untyped-call]
        service, knowing, **_of_primary(pool.connection_kwargs), ssl=secure
    )
    pool.connection_class = guide.connection_class
    pool.connection_kwargs = {**guide.connection_kwargs, "connection_pool": guide}
    return client


def _of_primary(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("host", "port")}


def _of_sentinels(options: dict[str, Any], secure: bool) -> dict[str, Any]:
    """What connections to sentinels have of those to the primary: time-outs and TLS."""
    same = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl_")) or name == "retry"}
    return same | ({"ssl": True} if secure else {}) | {"protocol": 2}
