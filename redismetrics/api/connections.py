"""Connections of `redismetrics serve`: limited in number, and in time for headers and for writing.

uvicorn itself waits forever for slow request headers, and for a client that does not read.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def connection_class(
    max_connections: int, send_seconds: float, head_seconds: float
) -> type[H11Protocol]:
    """Return the protocol class for one server.

    A connection is aborted if the headers of a request take longer than *head_seconds*, or if
    written data is not read within *send_seconds*. Beyond *max_connections*, the one that has
    waited longest for headers is aborted, so that slow clients don't shut out others.
    """
    # Connections that wait for request headers, oldest first.
    waiting: dict[Any, None] = {}

    class BoundedConnection(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # `pause_writing` is called whenever something is not sent at once.
            transport.set_write_buffer_limits(high=0)
            if len(self.connections) > max_connections and waiting:
                oldest = next(iter(waiting))
                oldest.abort()
            self._wait_for_head()

        def abort(self) -> None:
            waiting.pop(self, None)
            self.connections.discard(self)
            self.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._wait_for_head()
            else:
                self._stop_waiting()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            # Between requests, uvicorn's own timeout applies until the next byte.
            if self.cycle.response_complete and not self.transport.is_closing():
                waiting[self] = None

        def _wait_for_head(self) -> None:
            waiting[self] = None
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(head_seconds, self.abort)

        def _stop_waiting(self) -> None:
            waiting.pop(self, None)
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._write_timer is None:
                self._write_timer = self.loop.call_later(send_seconds, self.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_write_timer()

        def _stop_write_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self._stop_write_timer()
            super().connection_lost(exc)

    return BoundedConnection
