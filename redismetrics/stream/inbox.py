"""The interest of a feed, and the messages waiting for it.

A relay adds messages, and never waits for a feed. A feed that falls behind loses its messages, and
reads them from the logs, as after a lost connection.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from redismetrics.errors import StoreError, StoreUnavailable
from redismetrics.model.loop_timer import call_later
from redismetrics.model.time import monotonic

from .messages import Message, batch_length

# Maximum number of messages waiting for a feed, and their bytes; a larger single message may wait
# alone. All feeds of a client share the bytes of a message.
MAX_MESSAGES, MAX_BYTES = 10_000, 4 << 20


class FellBehind(StoreUnavailable):
    """Too many messages were waiting for a feed; they are in the logs."""


@dataclass(frozen=True, slots=True)
class Interest:
    """What a feed wants to receive: the channels *names*, or those that match a pattern.

    *selects* returns whether a channel that matches a pattern is wanted. It is called by the relay.
    """

    names: frozenset[bytes]
    is_pattern: bool
    selects: Callable[[bytes], bool]

    def has(self, pattern: bytes | None, channel: bytes) -> bool:
        """Return whether messages for *pattern*, or for the channel itself, are wanted."""
        if pattern is None:
            return not self.is_pattern and channel in self.names
        return self.is_pattern and pattern in self.names and self.selects(channel)


class Inbox:
    """The messages waiting for one feed."""

    def __init__(self, interest: Interest, ping_after: float) -> None:
        self.interest = interest
        self.ping_after = ping_after
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._confirmed = False
        self._error: StoreError | None = None

    def put(self, message: Message) -> None:
        """Add a message. If there are too many, drop all of them and fail."""
        if self._error is not None:
            return
        self._bytes += len(message.data)
        self._messages.append(message)
        count = len(self._messages)
        if count > MAX_MESSAGES or (self._bytes > MAX_BYTES and count > 1):
            self._messages.clear()
            self.fail(FellBehind(f"a stream fell behind by {count} messages"))

    def confirm(self) -> None:
        """Note that Redis has confirmed the subscription."""
        self._confirmed = True

    def fail(self, error: StoreError) -> None:
        """Make the feed receive *error* after the waiting messages. The first error counts."""
        if self._error is None:
            self._error = error

    @property
    def _changed(self) -> bool:
        return bool(self._messages) or self._error is not None

    def _take(self) -> list[Message]:
        if not self._messages:
            self._raise_error()
            return []
        count = batch_length(len(each.data) for each in self._messages)
        taken = [self._messages.popleft() for _ in range(count)]
        self._bytes -= sum(len(each.data) for each in taken)
        return taken

    def _raise_error(self) -> None:
        # Each feed raises a separate error, because a traceback belongs to one thread.
        if self._error is not None:
            raise type(self._error)(*self._error.args) from self._error


class ThreadInbox(Inbox):
    """An inbox between threads."""

    def __init__(self, interest: Interest, ping_after: float) -> None:
        super().__init__(interest, ping_after)
        self._condition = threading.Condition(threading.RLock())

    def put(self, message: Message) -> None:
        with self._condition:
            super().put(message)
            self._condition.notify_all()

    def confirm(self) -> None:
        with self._condition:
            super().confirm()
            self._condition.notify_all()

    def fail(self, error: StoreError) -> None:
        with self._condition:
            super().fail(error)
            self._condition.notify_all()

    def get(self, timeout: float) -> list[Message]:
        """Return the next messages, none after *timeout* s; raise the error it failed with."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed, timeout)
            return self._take()

    def wait_confirmed(self, timeout: float) -> bool:
        """Wait at most *timeout* s; return whether it is confirmed, or raise its error."""
        with self._condition:
            self._condition.wait_for(lambda: self._confirmed or self._error is not None, timeout)
            if not self._confirmed:
                self._raise_error()
            return self._confirmed


class LoopInbox(Inbox):
    """An inbox within one event loop."""

    def __init__(self, interest: Interest, ping_after: float) -> None:
        super().__init__(interest, ping_after)
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: Message) -> None:
        super().put(message)
        self._wake()

    def confirm(self) -> None:
        super().confirm()
        self._wake()

    def fail(self, error: StoreError) -> None:
        super().fail(error)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self, timeout: float) -> list[Message]:
        """Return the next messages, none after *timeout* s; raise the error it failed with."""
        await self._wait(lambda: self._changed, timeout)
        return self._take()

    async def wait_confirmed(self, timeout: float) -> bool:
        """Wait at most *timeout* s; return whether it is confirmed, or raise its error."""
        await self._wait(lambda: self._confirmed or self._error is not None, timeout)
        if not self._confirmed:
            self._raise_error()
        return self._confirmed

    async def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait until *condition* holds, at most *timeout* s. There is one reader: the feed."""
        loop = asyncio.get_running_loop()
        until = monotonic() + timeout
        while not condition() and (left := until - monotonic()) > 0:
            self._waiter = loop.create_future()
            cancel = call_later(loop, left, self._wake)
            try:
                await self._waiter
            finally:
                cancel()
                self._waiter = None
