"""Shared by the feeds of a client: a relay, decoded blocks, and descriptions of metrics.

There is one hub for the threads of a process, and one per event loop.
"""

import asyncio
import logging
import os
import threading
from asyncio import AbstractEventLoop
from typing import Any
from weakref import WeakKeyDictionary

from redismetrics.model.time import monotonic
from redismetrics.store.catalog import Described
from redismetrics.store.connection import Store
from redismetrics.store.driver import arun, run
from redismetrics.store.loop_clients import LoopClients

from .descriptions import Descriptions
from .driving import adrive, drive
from .inbox import Inbox
from .messages import DecodedBlocks
from .relay import Relay
from .steps import Compute, Describe, Disconnect
from .wire import AsyncWire, Wire

# Seconds that a connection that is no longer needed may take to close by itself.
_PATIENCE = 0.5

# Seconds of small computations in an event loop before other tasks get their turn.
_PAUSE_AFTER = 0.005

log = logging.getLogger("redismetrics")


class Hub:
    """Shared by the feeds in the threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._describing = threading.Lock()
        self._blocks, self._descriptions = DecodedBlocks(), Descriptions()
        self._relay: Relay | None = None
        self._wire: Wire | None = None

    def listen(self, store: Store, inbox: Inbox) -> None:
        """Subscribe for *inbox*; connect if no feed is connected."""
        with self._lock:
            if self._relay is None or not self._relay.join(inbox):
                relay, wire = Relay(self._blocks), Wire(store)
                self._descriptions.clear()
                relay.join(inbox)
                thread = threading.Thread(
                    target=_run, args=(relay, wire), name="redismetrics-relay", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # "can't start new thread"
                    wire.perform(Disconnect())
                    raise
                # Only now: feeds that join a relay without a thread would wait for ever.
                self._relay, self._wire = relay, wire
            elif self._wire is not None:
                self._wire.wake()

    def leave(self, inbox: Inbox) -> None:
        """Stop delivering to *inbox*; disconnect after the last one."""
        with self._lock:
            if self._relay is not None and self._wire is not None:
                self._relay.leave(inbox)
                self._wire.wake()
                if self._relay.ended:
                    self._relay = self._wire = None

    def describe(self, store: Store, step: Describe) -> list[Described]:
        """Return the descriptions; threads that need the same ones read them once."""
        known = self._descriptions.get(step)
        if known is None:
            with self._describing:
                known = run(store.client(), self._descriptions.read(step))
        return known


def _run(relay: Relay, wire: Wire) -> None:
    try:
        drive(relay.run(), wire.perform)
    except Exception:
        log.exception("BUG: the connection of a live stream ended")


class LoopHub:
    """Shared by the feeds in one event loop."""

    def __init__(self) -> None:
        self._describing = asyncio.Lock()
        self._computing = asyncio.Lock()
        self._paused = 0.0
        self._blocks, self._descriptions = DecodedBlocks(), Descriptions()
        self._relay: Relay | None = None
        self._wire: AsyncWire | None = None
        self._task: asyncio.Task[None] | None = None

    def listen(self, store: Store, inbox: Inbox) -> None:
        """Subscribe for *inbox*; connect if no feed is connected."""
        if self._relay is None or not self._relay.join(inbox):
            self._relay, self._wire = Relay(self._blocks), AsyncWire(store)
            self._descriptions.clear()
            self._relay.join(inbox)
            self._task = asyncio.create_task(
                _arun(self._relay, self._wire), name="redismetrics-relay"
            )
        elif self._wire is not None:
            self._wire.wake()

    async def leave(self, inbox: Inbox) -> None:
        """Stop delivering to *inbox*; after the last one, disconnect before returning."""
        relay, wire, task = self._relay, self._wire, self._task
        if relay is None or wire is None or task is None:
            return
        relay.leave(inbox)
        wire.wake()
        if relay.ended:
            if self._relay is relay:
                self._relay = self._wire = self._task = None
            await asyncio.wait([task], timeout=_PATIENCE)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def describe(self, loops: LoopClients, step: Describe) -> list[Described]:
        """Return the descriptions; tasks that need the same ones read them once."""
        known = self._descriptions.get(step)
        if known is None:
            async with self._describing:
                known = await arun(await loops.client(), self._descriptions.read(step))
        return known

    async def compute(self, step: Compute) -> Any:
        """Return the result of *step*. Large steps run in a thread, one at a time.

        Between many small ones, other tasks have their turn.
        """
        if not step.is_large:
            if monotonic() - self._paused > _PAUSE_AFTER:
                await asyncio.sleep(0)
                self._paused = monotonic()
            return step.function()
        async with self._computing:
            return await asyncio.to_thread(step.function)


async def _arun(relay: Relay, wire: AsyncWire) -> None:
    try:
        await adrive(relay.run(), wire.perform)
    except Exception:
        log.exception("BUG: the connection of a live stream ended")


# By process, so that a forked child creates its own. Setting a default is atomic. A hub does not
# reference a client while nobody listens, so it ends with its client.
_hubs: WeakKeyDictionary[Store, dict[int, Hub]] = WeakKeyDictionary()
_loop_hubs: WeakKeyDictionary[LoopClients, WeakKeyDictionary[AbstractEventLoop, LoopHub]] = (
    WeakKeyDictionary()
)


def hub_of(store: Store) -> Hub:
    """Return the hub of the threads of this process for the client of *store*."""
    hubs = _hubs.setdefault(store, {})
    return hubs.get(os.getpid()) or hubs.setdefault(os.getpid(), Hub())


def loop_hub_of(loops: LoopClients) -> LoopHub:
    """Return the hub of the running event loop for the client of *loops*."""
    hubs = _loop_hubs.setdefault(loops, WeakKeyDictionary())
    loop = asyncio.get_running_loop()
    return hubs.get(loop) or hubs.setdefault(loop, LoopHub())
