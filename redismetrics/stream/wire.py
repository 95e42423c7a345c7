"""Drivers for relays: perform their steps over a redis-py pub/sub connection."""

import asyncio
import selectors
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any

import redis
import redis.asyncio

from redismetrics.store.connection import Store
from redismetrics.store.driver import AsyncClient, Client, translated

from .steps import Connect, Disconnect, Ping, Read, Subscribe, Unsubscribe, WireStep


class Wire:
    """Performs the steps of a relay in a thread. `wake` may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: Client | None = None
        self._pubsub: Any = None
        self._sleeper, self._waker = socket.socketpair()
        self._sleeper.setblocking(False)
        self._waker.setblocking(False)

    def wake(self) -> None:
        """Interrupt the current read, or the next one."""
        # Full: it will wake up anyway. Closed: the relay has ended.
        with suppress(OSError):
            self._waker.send(b"\0")

    def perform(self, step: WireStep) -> Any:
        match step:
            case Connect(timeout):
                self._client = self._store.connect(retries=0, timeout=timeout)
                self._pubsub = self._client.pubsub()
                return None
            case Disconnect():
                return self._disconnect()
            case Read(timeout):
                with translated():
                    return (
                        self._pubsub.get_message(timeout=timeout) if self._wait(timeout) else None
                    )
            case _:
                with translated():
                    return _call(self._pubsub, step)

    def _wait(self, timeout: float) -> bool:
        """Wait for data, at most *timeout* s; return False if woken before any arrives."""
        connection = self._pubsub.connection
        if connection is None or connection.can_read(timeout=0):
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self._sleeper, selectors.EVENT_READ)
            selector.register(connection._sock, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(timeout)}
        if self._sleeper in ready:
            self._sleeper.recv(4096)
            return len(ready) > 1
        return bool(ready)

    def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with suppress(redis.RedisError, OSError):
            if pubsub is not None:
                pubsub.close()
        with suppress(redis.RedisError, OSError):
            if client is not None:
                client.close()
        self._sleeper.close()
        self._waker.close()


class AsyncWire:
    """Performs the steps of a relay in a task of an event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: AsyncClient | None = None
        self._pubsub: Any = None
        # The pending read. It is kept when the relay is woken, because cancelling it could lose the
        # first half of a message.
        self._reading: asyncio.Task[Any] | None = None
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Interrupt the current read, or the next one."""
        self._is_woken = True
        self._end_wait()

    async def perform(self, step: WireStep) -> Any:
        match step:
            case Connect(timeout):
                self._client = await self._store.aconnect(retries=0, timeout=timeout)
                self._pubsub = self._client.pubsub()
                return None
            case Disconnect():
                return await self._disconnect()
            case Read(timeout):
                with translated():
                    return await self._read(timeout)
            case _:
                with translated():
                    return await _call(self._pubsub, step)

    async def _read(self, timeout: float) -> Any:
        if self._reading is None:
            self._reading = asyncio.create_task(self._pubsub.get_message(timeout=timeout))
            self._reading.add_done_callback(lambda _: self._end_wait())
        if not self._is_woken and not self._reading.done():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        # The stack closes all of it also if this is cancelled, as when the event loop ends.
        async with AsyncExitStack() as stack:
            if client is not None:
                stack.push_async_callback(_close, client, close_connection_pool=True)
            if pubsub is not None:
                stack.push_async_callback(_close, pubsub)
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])
                if not self._reading.cancelled():
                    self._reading.exception()


async def _close(connection: Any, **options: Any) -> None:
    with suppress(redis.RedisError, OSError):
        await connection.aclose(**options)


def _call(pubsub: Any, step: WireStep) -> Any:
    """Call the method of redis-py's *pubsub* for *step*, blocking or asyncio."""
    match step:
        case Ping():
            return pubsub.ping()
        case Subscribe(names, are_patterns):
            return pubsub.psubscribe(*names) if are_patterns else pubsub.subscribe(*names)
        case Unsubscribe(names, are_patterns):
            return pubsub.punsubscribe(*names) if are_patterns else pubsub.unsubscribe(*names)
