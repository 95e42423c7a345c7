"""What the feeds of a client share: a relay, decoded blocks, and descriptions of metrics.

There is one hub for the threads of a process, and one for each event loop.
"""

import asyncio
import logging
import os
import threading
from asyncio import AbstractEventLoop
from typing import Any
from weakref import WeakKeyDictionary

from redismetrics.store.catalog import MetricDescription
from redismetrics.store.connection import Store
from redismetrics.store.driver import arun, run
from redismetrics.store.loop_clients import LoopClients

from .driving import adrive, drive
from .inbox import Inbox
from .messages import DecodedBlocks
from .relay import Relay
from .steps import Compute, Describe
from .wire import AsyncWire, Wire

# Seconds for which a connection that nobody needs any more may take to close by itself.
_PATIENCE = 0.5

log = logging.getLogger("redismetrics")


class Descriptions:
    """The descriptions of metrics that were read last, by metric."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], MetricDescription] = {}

    def get(self, step: Describe) -> MetricDescription | None:
        """Return the description of a metric, if it is enough."""
        known = self._known.get(step.metric)
        return known if known is not None and step.is_enough(known) else None

    def put(self, metric: tuple[str, str], description: MetricDescription) -> MetricDescription:
        """Keep and return a description."""
        if description.definition is None:
            # Anybody who may publish can invent names.
            self._known.pop(metric, None)
        else:
            self._known[metric] = description
        return description

    def clear(self) -> None:
        """Forget all: a server that lost its data numbers its series from 0 again."""
        self._known.clear()


class Hub:
    """What the feeds in the threads of a process share."""

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
                self._relay, self._wire = Relay(self._blocks), Wire(store)
                self._descriptions.clear()
                self._relay.join(inbox)
                arguments = (self._relay, self._wire)
                threading.Thread(
                    target=_run, args=arguments, name="redismetrics-relay", daemon=True
                ).start()
            elif self._wire is not None:
                self._wire.wake()

    def leave(self, inbox: Inbox) -> None:
        """Put nothing more into *inbox*; disconnect after the last one."""
        with self._lock:
            if self._relay is not None and self._wire is not None:
                self._relay.leave(inbox)
                self._wire.wake()
                if self._relay.ended:
                    self._relay = self._wire = None

    def describe(self, store: Store, step: Describe) -> MetricDescription:
        """Return the description of a metric; threads that need the same one read it once."""
        known = self._descriptions.get(step)
        if known is None:
            with self._describing:
                known = self._descriptions.get(step)
                if known is None:
                    found = run(store.client(), step.read())
                    known = self._descriptions.put(step.metric, found)
        return known


def _run(relay: Relay, wire: Wire) -> None:
    try:
        drive(relay.run(), wire.perform)
    except Exception:
        log.exception("BUG: the connection of a live stream ended")


class LoopHub:
    """What the feeds in one event loop share."""

    def __init__(self) -> None:
        self._describing = asyncio.Lock()
        self._computing = asyncio.Lock()
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
        """Put nothing more into *inbox*; disconnect after the last one, before this returns."""
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

    async def describe(self, loops: LoopClients, step: Describe) -> MetricDescription:
        """Return the description of a metric; tasks that need the same one read it once."""
        known = self._descriptions.get(step)
        if known is None:
            async with self._describing:
                known = self._descriptions.get(step)
                if known is None:
                    found = await arun(await loops.client(), step.read())
                    known = self._descriptions.put(step.metric, found)
        return known

    async def compute(self, step: Compute) -> Any:
        """Return the result of *step*. Large ones run in a thread, one at a time."""
        if not step.is_large:
            return step.function()
        async with self._computing:
            return await asyncio.to_thread(step.function)


async def _arun(relay: Relay, wire: AsyncWire) -> None:
    try:
        await adrive(relay.run(), wire.perform)
    except Exception:
        log.exception("BUG: the connection of a live stream ended")


# By the process, so that a forked child makes its own. Setting a default is atomic. A hub refers to
# no client while nobody listens, so it ends with its client.
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
