"""Drivers of a feed: perform its steps over a connection, in a thread or in an event loop."""

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import redis
import redis.asyncio

from redismetrics.store.connection import Store
from redismetrics.store.driver import AsyncClient, Client, arun, run, translated
from redismetrics.store.loop_clients import LoopClients

from .delivery import ThreadQueue
from .steps import (
    Connect,
    Disconnect,
    Pause,
    Ping,
    PubSubStep,
    Read,
    Renew,
    Run,
    Step,
    Steps,
    Subscribe,
    SubscribePatterns,
)

T = TypeVar("T")


class Transport:
    """Drives a feed in a thread."""

    def __init__(self, store: Store, queue: ThreadQueue) -> None:
        self._store = store
        self._queue = queue
        self._client: Client | None = None
        self._pubsub: Any = None

    def drive(self, steps: Steps[T]) -> T:
        """Perform *steps* until they end; return their result, or raise their error."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step)
                except BaseException as error:  # noqa: BLE001  # the feed decides
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def _perform(self, step: Step) -> Any:
        match step:
            case Connect(timeout):
                self._client = self._store.connect(retries=0, timeout=timeout)
                self._pubsub = self._client.pubsub()
                return self._store.database
            case Run(operation):
                return run(self._store.client(), operation)
            case Pause(seconds):
                self._queue.pause(seconds)
            case Disconnect():
                self._disconnect()
            case Renew():
                self._store.renew()
            case _:
                with translated():
                    return _call(self._pubsub, step)
        return None

    def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with suppress(redis.RedisError, OSError):
            if pubsub is not None:
                pubsub.close()
        with suppress(redis.RedisError, OSError):
            if client is not None:
                client.close()


class AsyncTransport:
    """Drives a feed in a task of an event loop."""

    def __init__(self, store: Store, loops: LoopClients) -> None:
        self._store = store
        self._loops = loops
        self._client: AsyncClient | None = None
        self._pubsub: Any = None

    async def drive(self, steps: Steps[T]) -> T:
        """Perform *steps* until they end; return their result, or raise their error.

        Cancelling the task throws CancelledError into the steps, which then disconnect.
        """
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._perform(step)
                except BaseException as error:  # noqa: BLE001  # the feed decides
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _perform(self, step: Step) -> Any:
        match step:
            case Connect(timeout):
                self._client = await self._store.aconnect(retries=0, timeout=timeout)
                self._pubsub = self._client.pubsub()
                return self._store.database
            case Run(operation):
                return await arun(await self._loops.client(), operation)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Disconnect():
                await self._disconnect()
            case Renew():
                self._store.renew()
            case _:
                with translated():
                    return await _call(self._pubsub, step)
        return None

    async def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with suppress(redis.RedisError, OSError):
            if pubsub is not None:
                await pubsub.aclose()
        with suppress(redis.RedisError, OSError):
            if client is not None:
                await client.aclose(close_connection_pool=True)


def _call(pubsub: Any, step: PubSubStep) -> Any:
    """Call the method of redis-py's *pubsub* for *step*: the blocking and asyncio ones agree."""
    match step:
        case Read(timeout):
            return pubsub.get_message(timeout=timeout)
        case Ping():
            return pubsub.ping()
        case Subscribe(channels):
            return pubsub.subscribe(*channels)
        case SubscribePatterns(patterns):
            return pubsub.psubscribe(*patterns)
