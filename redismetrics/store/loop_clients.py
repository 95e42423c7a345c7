"""The asyncio clients of a store, one per event loop."""

import os
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from .connection import Store

if TYPE_CHECKING:
    import asyncio

    from .driver import AsyncClient


async def close_with_loop(client: "AsyncClient") -> "AsyncGenerator[AsyncClient, None]":
    """Yield *client*, and close it when this generator is closed.

    `asyncio.run` closes generators that were started in its loop when the loop ends.
    """
    try:
        yield client
    finally:
        await client.aclose(close_connection_pool=True)


class LoopClients:
    """The asyncio clients of a store: one per event loop, because connections belong to a loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clients: dict[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncGenerator[AsyncClient, None]]
        ] = {}
        _loop_clients.add(self)

    async def client(self) -> "AsyncClient":
        """Return the running loop's client for reading; it retries once."""
        import asyncio

        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            for other in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(other, None)
            client = await self._store.aconnect(retries=1)
            # Another task may have been first.
            found = self._clients.get(loop)
            if found is None:
                closer = close_with_loop(client)
                found = self._clients[loop] = client, closer
                await anext(closer)
        return found[0]

    async def aclose(self) -> None:
        """Close the client of the running loop; the next query opens another."""
        import asyncio

        found = self._clients.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found[1].aclose()

    def forget(self) -> None:
        """In a forked child, forget the parent's clients, but keep them referenced forever.

        Closing one would remove its socket from the parent's event loop, because both processes
        share the kernel's list of sockets.
        """
        _inherited.append(self._clients)
        self._clients = {}


_loop_clients: "weakref.WeakSet[LoopClients]" = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for clients in list(_loop_clients):
        clients.forget()


os.register_at_fork(after_in_child=_after_fork)
