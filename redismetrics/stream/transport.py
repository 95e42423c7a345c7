"""Drivers for feeds: perform their steps in a thread or an event loop."""

import asyncio
from typing import Any

from redismetrics.store.connection import Store
from redismetrics.store.driver import arun, run
from redismetrics.store.loop_clients import LoopClients

from .delivery import ThreadQueue
from .driving import adrive, drive
from .hub import LoopHub, hub_of, loop_hub_of
from .inbox import LoopInbox, ThreadInbox
from .steps import (
    Compute,
    Confirmed,
    Database,
    Describe,
    FeedStep,
    Leave,
    Listen,
    Next,
    Pause,
    Renew,
    Run,
    Steps,
    T,
)


class Transport:
    """Drives a feed in a thread."""

    def __init__(self, store: Store, queue: ThreadQueue) -> None:
        self._store = store
        self._queue = queue
        self._hub = hub_of(store)
        self._inbox: ThreadInbox | None = None

    def drive(self, steps: Steps[T]) -> T:
        """Perform *steps* until they end; return their result, or raise their error."""
        return drive(steps, self._perform)

    def _perform(self, step: FeedStep) -> Any:
        match step:
            case Database():
                return self._store.database
            case Listen(interest, ping_after):
                before, self._inbox = self._inbox, ThreadInbox(interest, ping_after)
                self._hub.listen(self._store, self._inbox)
                if before is not None:
                    self._hub.leave(before)
            case Confirmed(timeout):
                assert self._inbox is not None
                return self._inbox.wait_confirmed(timeout)
            case Next(timeout):
                assert self._inbox is not None
                return self._inbox.get(timeout)
            case Leave():
                inbox, self._inbox = self._inbox, None
                if inbox is not None:
                    self._hub.leave(inbox)
            case Run(operation):
                return run(self._store.client(), operation)
            case Describe():
                return self._hub.describe(self._store, step)
            case Compute(function):
                return function()
            case Pause(seconds):
                self._queue.pause(seconds)
            case Renew():
                self._store.renew()
        return None


class AsyncTransport:
    """Drives a feed in a task of an event loop."""

    def __init__(self, store: Store, loops: LoopClients) -> None:
        self._store = store
        self._loops = loops
        self._inbox: LoopInbox | None = None

    async def drive(self, steps: Steps[T]) -> T:
        """Perform *steps* until they end; return their result, or raise their error.

        Cancelling the task throws CancelledError into the steps, which then leave.
        """
        hub = loop_hub_of(self._loops)
        return await adrive(steps, lambda step: self._perform(hub, step))

    async def _perform(self, hub: LoopHub, step: FeedStep) -> Any:
        match step:
            case Database():
                return await asyncio.to_thread(lambda: self._store.database)
            case Listen(interest, ping_after):
                before, self._inbox = self._inbox, LoopInbox(interest, ping_after)
                hub.listen(self._store, self._inbox)
                if before is not None:
                    await hub.leave(before)
            case Confirmed(timeout):
                assert self._inbox is not None
                return await self._inbox.wait_confirmed(timeout)
            case Next(timeout):
                assert self._inbox is not None
                return await self._inbox.get(timeout)
            case Leave():
                inbox, self._inbox = self._inbox, None
                if inbox is not None:
                    await hub.leave(inbox)
            case Run(operation):
                return await arun(await self._loops.client(), operation)
            case Describe():
                return await hub.describe(self._loops, step)
            case Compute():
                return await hub.compute(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Renew():
                self._store.renew()
        return None
